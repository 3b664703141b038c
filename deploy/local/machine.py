"""Find the programs of `programs` on this machine, and install missing ones. Nothing here starts a server.

The order is: PATH, then the directories where Debian and others keep the program, then apt if we are root and may
install, then a Python wheel that contains it. The error for a missing program names the commands that install it.
"""

import asyncio
import importlib.util
import os
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from glob import glob
from pathlib import Path

import typer
from msgspec import Struct, field

from deploy.local.programs import NeededProgram, Wheel

APT_WITHIN_S = 600.0
# Another installation may be running. RUNLEVEL=1 makes the packages' scripts leave Debian's own services stopped.
APT_INSTALL = ("apt-get", "install", "-y", "-qq", "--no-install-recommends", "-o", "DPkg::Lock::Timeout=300")
APT_ENVIRONMENT = {"DEBIAN_FRONTEND": "noninteractive", "RUNLEVEL": "1"}


class Missing(Exception):
    """A program is neither here nor installable from here. `commands` would install it, the best one first."""

    def __init__(self, what: str, commands: tuple[str, ...], why: str = "") -> None:
        because = f" ({why})" if why else ""
        super().__init__(f"{what} is missing{because}; install it with " + ", or ".join(f"`{c}`" for c in commands))
        self.what = what
        self.commands = commands


class Machine(Struct, frozen=True, kw_only=True):
    """This machine: its environment, our user id, and whether we may install packages."""

    environ: Mapping[str, str]
    user: int = field(default_factory=os.geteuid)
    may_install: bool = True

    @property
    def is_root(self) -> bool:
        return self.user == 0

    @property
    def can_install(self) -> bool:
        return self.may_install and self.is_root and shutil.which(APT_INSTALL[0], path=self._path) is not None

    async def find(self, wanted: NeededProgram) -> Path:
        """Return the program's path, after installing it if necessary. It exists and is executable.

        Raises:
            Missing: it is not here and cannot be installed.
        """
        found, why = await self._look(wanted)
        if found is None and self.can_install:
            apt_error = await self.install([wanted])
            found, why = await self._look(wanted)
            why = apt_error or why
        if found is None and wanted.wheel is not None:
            found = in_wheel(wanted.wheel)
        if found is None:
            raise Missing(wanted.what, wanted.commands, why)
        return found

    async def is_present(self, wanted: NeededProgram) -> bool:
        """Return whether the program is here outside of Python wheels."""
        found, _ = await self._look(wanted)
        return found is not None

    async def install(self, wanted: Sequence[NeededProgram]) -> str:
        """Install these programs' packages with apt. Return apt's error, or an empty string.

        The package lists are updated only if the first attempt fails, because that takes time.
        """
        packages = [each.debian for each in wanted]
        typer.echo(f"installing {', '.join(packages)} …", err=True)
        apt_error = await self._apt(*APT_INSTALL, *packages)
        if apt_error:
            await self._apt("apt-get", "update", "-qq")
            apt_error = await self._apt(*APT_INSTALL, *packages)
        return apt_error

    async def _look(self, wanted: NeededProgram) -> tuple[Path | None, str]:
        """Return the program's path, or else why a program that was found cannot be used."""
        fault = ""
        for found in self._candidates(wanted):
            why = await asyncio.to_thread(wanted.fault, found) if wanted.fault else ""
            if not why:
                return found, ""
            fault = fault or why
        return None, fault

    def _candidates(self, wanted: NeededProgram) -> list[Path]:
        globbed = [place for pattern in wanted.places for place in sorted(glob(pattern), key=_by_version, reverse=True)]
        found = [shutil.which(program, path=where) for program in wanted.programs for where in (self._path, *globbed)]
        return [Path(path) for path in found if path]

    @property
    def _path(self) -> str:
        return self.environ.get("PATH", os.defpath)

    async def _apt(self, *argv: str) -> str:
        """Return the last line of stderr if apt fails, else an empty string."""

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
            lines = done.stderr.strip().splitlines() or [f"{argv[0]} ended with {done.returncode}"]
            return lines[-1] if done.returncode else ""

        return await asyncio.to_thread(run)


def in_wheel(wheel: Wheel) -> Path | None:
    """Return the program of the wheel if the wheel is installed. The package is found without importing it."""
    spec = importlib.util.find_spec(wheel.package)
    if spec is None or spec.origin is None:
        return None
    matches = sorted(Path(spec.origin).parent.glob(wheel.path))
    return next((path for path in matches if os.access(path, os.X_OK)), None)


def _by_version(path: str) -> tuple[int, ...]:
    """Return the numbers in a path, so that 15 sorts after 9."""
    return tuple(int(part) for part in "".join(c if c.isdigit() else " " for c in path).split())
