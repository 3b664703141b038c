"""The marks that running servers leave on disk, and the end of those whose owner died without ending them.

A mark holds the process's number and the moment it was born: numbers are used again, and a process that merely has the
number of one of ours must not be touched. Between starting a process and marking it lies a moment in which a crash
leaves an unmarked one behind; it is some microseconds, and closing it would take a helper process per server.
"""

import asyncio
import os
import signal
import subprocess
import time
from contextlib import suppress
from pathlib import Path

import msgspec
from msgspec import Struct

STOP_WITHIN_S = 10.0
POLL_S = 0.02


class Mark(Struct, frozen=True, kw_only=True):
    """One running server: who it is, and the signal that asks it to stop."""

    pid: int
    born: str
    stop_signal: int


def write(path: Path, *, pid: int, stop_signal: signal.Signals) -> None:
    """Leave the mark of a process that has just been started. One that has ended already needs none."""
    moment = born(pid)
    if moment is not None:
        path.write_bytes(msgspec.json.encode(Mark(pid=pid, born=moment, stop_signal=stop_signal)))


def read(path: Path) -> Mark | None:
    """The mark, or nothing where it was only half written when its writer died."""
    with suppress(OSError, msgspec.DecodeError):
        return msgspec.json.decode(path.read_bytes(), type=Mark)
    return None


def is_alive(mark: Mark) -> bool:
    """Whether the very process that was marked still runs."""
    return born(mark.pid) == mark.born


def born(pid: int) -> str | None:
    """When the process was born, in its system's own words; nothing where there is none, or only its corpse."""
    if not os.path.isdir("/proc/self"):
        return _born_by_ps(pid)
    fields = _fields(pid)
    return None if not fields or fields[0] in "ZX" else fields[19]


def _fields(pid: int) -> list[str]:
    """What /proc tells of a process, from its state on; nothing where there is none."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return []
    # The second field is the program's name in brackets, in which anything may stand.
    return stat.rpartition(")")[2].split()


def _born_by_ps(pid: int) -> str | None:
    said = subprocess.run(["ps", "-o", "state=,lstart=", "-p", str(pid)], capture_output=True, text=True, check=False)
    state, _, moment = said.stdout.strip().partition(" ")
    return None if not state or state.startswith("Z") else moment.strip()


def descendants(pid: int) -> list[int]:
    """Its children, theirs, and so on, the elder first. A process group does not tell: PostgreSQL's leave theirs."""
    parents = _parents()
    found = [pid]
    for parent in found:  # grows while it is walked
        found += [child for child, its in parents.items() if its == parent]
    return found[1:]


def _parents() -> dict[int, int]:
    """Each process's parent."""
    if not os.path.isdir("/proc/self"):
        said = subprocess.run(["ps", "-A", "-o", "pid=,ppid="], capture_output=True, text=True, check=False).stdout
        return {int(child): int(parent) for child, parent in (line.split() for line in said.splitlines())}
    parents = {}
    for name in os.listdir("/proc"):
        if name.isdigit() and (fields := _fields(int(name))):
            parents[int(name)] = int(fields[1])
    return parents


async def end_all(directory: Path) -> list[str]:
    """End what the marks in the directory name, and remove the marks; the names of those that still ran.

    They are asked to stop together, and those that do not are killed.
    """
    marks = {path: read(path) for path in sorted(directory.glob("*.json"))}
    alive = {path: mark for path, mark in marks.items() if mark is not None and is_alive(mark)}
    for mark in alive.values():
        _send(mark, mark.stop_signal)
    await _gone(list(alive.values()), within_s=STOP_WITHIN_S)
    for mark in alive.values():
        _send(mark, signal.SIGKILL)
    await _gone(list(alive.values()), within_s=STOP_WITHIN_S)
    for path in marks:
        path.unlink(missing_ok=True)
    return [path.stem for path in alive]


def _send(mark: Mark, number: int) -> None:
    if not is_alive(mark):
        return
    with suppress(ProcessLookupError):
        os.kill(mark.pid, number)
        os.kill(mark.pid, signal.SIGCONT)  # a frozen process hears nothing but SIGKILL


async def _gone(marks: list[Mark], *, within_s: float) -> None:
    deadline = time.monotonic() + within_s
    while any(is_alive(mark) for mark in marks) and time.monotonic() < deadline:
        await asyncio.sleep(POLL_S)
