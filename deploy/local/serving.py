"""The life of a stack that a person started: up, ready, watched, looked at, down."""

import asyncio
import os
import signal
import sys
import time
from collections.abc import Mapping
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path

import msgspec
import typer

from deploy.embedded.lock import AlreadyRunning
from deploy.local import addresses, background, leftovers, roles, stack, steps, summary
from deploy.local import directory as directories
from deploy.local.machine import Machine, Missing
from deploy.local.ports import NoPort
from deploy.local.processes import DidNotStart
from deploy.local.stack import Asked, Stack

LOOK_EVERY_S = 0.5
DOWN_WITHIN_S = 90.0  # ours 30 at most, then HAProxy, Prometheus and the servers 10 each
STOPPED_BY = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)


class DidNotStop(Exception):
    """The stack that was asked to stop goes on."""


REFUSALS = (Missing, DidNotStart, DidNotStop, AlreadyRunning, NoPort, OSError)


async def until_told(
    directory: Path,
    machine: Machine,
    asked: Asked,
    *,
    fresh: bool,
    announce: int | None = None,
    argv: tuple[str, ...] = roles.PROGRAM,
) -> None:
    """Start everything, say where it is, and run it until a signal comes.

    One that comes while it starts ends that, in good order too; one more kills what does not stop by itself. Where
    somebody waits at `announce`, the terminal is left as soon as all is ready.

    Raises:
        REFUSALS: as `stack.running` does.
    """
    loop, here = asyncio.get_running_loop(), asyncio.current_task()
    assert here is not None
    for number in STOPPED_BY:
        loop.add_signal_handler(number, here.cancel)
    with suppress(asyncio.CancelledError), steps.shown() as shown:
        async with stack.running(directory, machine, asked, fresh=fresh, argv=argv, steps=shown) as started:
            shown.end()
            typer.echo(summary.of(started, in_background=announce is not None), err=True)
            sys.stdout.write(ready_line(started) + "\n")
            sys.stdout.flush()
            if announce is not None:
                background.leave_terminal(started.directory.log("stack"), announce)
            await _watch(started)


def ready_line(started: Stack) -> str:
    """What a script waits for."""
    return msgspec.json.encode({"event": "ready", **started.addresses()}).decode("utf-8")


async def _watch(started: Stack) -> None:
    """For ever; says so when a process ends without us. The others go on: somebody may have killed it to see that."""
    ended: set[str] = set()
    while True:
        await asyncio.sleep(LOOK_EVERY_S)
        for process in started.processes():
            if not process.runs and process.name not in ended:
                ended.add(process.name)
                typer.echo(f"{_now()} {process.told(f'ended with {process.code}')}", err=True)


def _now() -> str:
    return datetime.now(UTC).strftime("%H:%M:%SZ")


def state(directory: Path) -> Mapping[str, bool]:
    """Each process that was started in the directory and not stopped, and whether it runs."""
    marks = {path.stem: leftovers.read(path) for path in sorted((directory / "run").glob("*.json"))}
    return {name: mark is not None and leftovers.is_alive(mark) for name, mark in marks.items()}


def is_whole(directory: Path) -> bool:
    """Says how each process is, and where the stack is found; whether it is ready, with all of them running."""
    processes, found = state(directory), addresses.read(directory)
    for name, runs in processes.items():
        typer.echo(f"{name:<14}{'runs' if runs else f'ended: see {directory}/log/{name}.log'}", err=True)
    if found is None:
        typer.echo(f"no stack is ready in {directory}", err=True)
        return False
    typer.echo(msgspec.json.encode(found).decode("utf-8"))
    return all(processes.values())


def take_down(directory: Path) -> None:
    """Ask the process that has the directory to stop, and kill it where it does not heed that.

    When it returns, nothing runs any more of what was started in the directory, also where the process that started it
    was killed.

    Raises:
        DidNotStop: something goes on all the same.
    """
    holder = directories.holder(directory)
    if holder is not None:
        with suppress(ProcessLookupError):
            os.kill(holder, signal.SIGTERM)
        if not _leaves(directory, holder):
            typer.echo(f"process {holder} does not stop: it is killed", err=True)
            with suppress(ProcessLookupError):
                os.kill(holder, signal.SIGKILL)
            if not _leaves(directory, holder):
                raise DidNotStop(f"process {holder} did not stop")
    left = [name for name, runs in state(directory).items() if runs]
    if left:
        asyncio.run(_end_leftovers(directory))
    elif holder is None:
        typer.echo(f"no stack runs in {directory}", err=True)


def _leaves(directory: Path, holder: int) -> bool:
    """Whether it leaves the directory in time."""
    deadline = time.monotonic() + DOWN_WITHIN_S
    while directories.holder(directory) == holder:
        if time.monotonic() >= deadline:
            return False
        time.sleep(LOOK_EVERY_S / 5)
    return True


async def _end_leftovers(directory: Path) -> None:
    async with directories.held(directory):  # whoever takes it ends them
        pass
