"""Processes whose wall clock is wrong, or jumps while they run. Their monotonic clock is right, as in reality."""

import asyncio
import subprocess
from pathlib import Path

from msgspec import structs

from deploy.local import programs
from deploy.local.machine import Machine
from tests.support.cluster import Cluster

HOUR_S = 3600


class WrongClock:
    """A wall clock that is so many hours ahead, for the processes of `machine`. It can be set while they run."""

    def __init__(self, library: Path, directory: Path, hours: float) -> None:
        self._library = library
        self._file = directory / f"clock-{id(self)}"
        self.set(hours)

    def set(self, hours: float) -> None:
        """Let the clock be so many hours ahead from now on."""
        new = self._file.with_suffix(".new")
        new.write_text(f"{hours * HOUR_S:+.0f}\n")
        new.replace(self._file)

    def machine(self, real: Machine) -> Machine:
        """The same machine, with this clock."""
        ours = {
            "LD_PRELOAD": str(self._library),
            "FAKETIME_TIMESTAMP_FILE": str(self._file),
            "FAKETIME_NO_CACHE": "1",
            "FAKETIME_DONT_FAKE_MONOTONIC": "1",
        }
        return structs.replace(real, environ={**real.environ, **ours})

    def on(self, cluster: Cluster) -> Cluster:
        """The same cluster; its further processes have this clock."""
        return structs.replace(cluster, machine=self.machine(cluster.machine))


async def library(machine: Machine) -> Path:
    """Return the library of faketime.

    Raises:
        Missing: it is not on this machine.
    """
    program = await machine.find(programs.FAKETIME)
    shown = await asyncio.to_thread(_output, str(program), "-f", "+0", "/usr/bin/env")
    return next(Path(line.partition("=")[2]) for line in shown.splitlines() if line.startswith("LD_PRELOAD="))


def _output(*command: str) -> str:
    return subprocess.run(command, capture_output=True, text=True, timeout=30, check=True).stdout
