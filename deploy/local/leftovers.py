"""Mark running processes on disk, and end those whose parent died without stopping them.

A mark holds the process id and its start time, because ids are reused: a process that only has the id of one of ours
must not be touched. A crash between starting a process and marking it leaves an unmarked one behind. That window lasts
some microseconds, and closing it would take a helper process for each server.
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
    """One running process: its id, its start time, and the signal that stops it."""

    pid: int
    born: str
    stop_signal: int


def write(path: Path, *, pid: int, stop_signal: signal.Signals) -> None:
    """Write the mark of a process that has just been started. A process that has ended already needs none."""
    moment = born(pid)
    if moment is not None:
        path.write_bytes(msgspec.json.encode(Mark(pid=pid, born=moment, stop_signal=stop_signal)))


def read(path: Path) -> Mark | None:
    """Return the mark, or `None` if its writer died in the middle of writing it."""
    with suppress(OSError, msgspec.DecodeError):
        return msgspec.json.decode(path.read_bytes(), type=Mark)
    return None


def is_alive(mark: Mark) -> bool:
    """Return whether the marked process still runs, and not just another one with its id."""
    return born(mark.pid) == mark.born


def born(pid: int) -> str | None:
    """Return the process's start time as its system reports it, or `None` if it has ended or is a zombie."""
    if not os.path.isdir("/proc/self"):
        return _born_by_ps(pid)
    fields = _fields(pid)
    return None if not fields or fields[0] in "ZX" else fields[19]


def _fields(pid: int) -> list[str]:
    """Return the fields of /proc/PID/stat from the state on, or none if there is no such process."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return []
    # The second field is the program's name in brackets, which may contain any character.
    return stat.rpartition(")")[2].split()


def _born_by_ps(pid: int) -> str | None:
    shown = subprocess.run(["ps", "-o", "state=,lstart=", "-p", str(pid)], capture_output=True, text=True, check=False)
    state, _, moment = shown.stdout.strip().partition(" ")
    return None if not state or state.startswith("Z") else moment.strip()


def descendants(pid: int) -> list[int]:
    """Return all descendants of a process, parents first.

    Its process group does not contain them all, because PostgreSQL's children leave it.
    """
    parents = _parents()
    found = [pid]
    for parent in found:  # the list grows during the loop
        found += [child for child, its in parents.items() if its == parent]
    return found[1:]


def _parents() -> dict[int, int]:
    """Return the parent of each process."""
    if not os.path.isdir("/proc/self"):
        shown = subprocess.run(["ps", "-A", "-o", "pid=,ppid="], capture_output=True, text=True, check=False).stdout
        return {int(child): int(parent) for child, parent in (line.split() for line in shown.splitlines())}
    parents = {}
    for name in os.listdir("/proc"):
        if name.isdigit() and (fields := _fields(int(name))):
            parents[int(name)] = int(fields[1])
    return parents


async def end_all(directory: Path) -> list[str]:
    """Stop the processes that are marked in the directory, and remove the marks. Return the names of those that ran.

    They are asked to stop together. Those that do not stop in time are killed.
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
        os.kill(mark.pid, signal.SIGCONT)  # a frozen process handles no signal except SIGKILL


async def _gone(marks: list[Mark], *, within_s: float) -> None:
    deadline = time.monotonic() + within_s
    while any(is_alive(mark) for mark in marks) and time.monotonic() < deadline:
        await asyncio.sleep(POLL_S)
