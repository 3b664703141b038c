"""The life of a stack that a person started: up, ready, watched, down."""

import asyncio
import os
import signal
import sys
import time
from contextlib import suppress
from pathlib import Path

import msgspec
import typer

from deploy.embedded.lock import AlreadyRunning
from deploy.local import directory as directories
from deploy.local import stack
from deploy.local.machine import Machine, Missing
from deploy.local.ports import NoPort
from deploy.local.processes import DidNotStart
from deploy.local.stack import Asked, Stack

LOOK_EVERY_S = 0.5
DOWN_WITHIN_S = 60.0
STOPPED_BY = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)


class DidNotStop(Exception):
    """The stack that was asked to stop goes on."""


REFUSALS = (Missing, DidNotStart, DidNotStop, AlreadyRunning, NoPort, OSError)


async def until_told(directory: Path, machine: Machine, asked: Asked, *, fresh: bool) -> None:
    """Start the servers, say where they are, and run them until a signal comes.

    One that comes while they start ends that, in good order too; one more kills what does not stop by itself.

    Raises:
        REFUSALS: as `stack.running` does.
    """
    loop, here = asyncio.get_running_loop(), asyncio.current_task()
    assert here is not None
    for number in STOPPED_BY:
        loop.add_signal_handler(number, here.cancel)
    with suppress(asyncio.CancelledError):
        async with stack.running(directory, machine, asked, fresh=fresh) as started:
            sys.stdout.write(ready_line(started) + "\n")
            sys.stdout.flush()
            await _watch(started)


def ready_line(started: Stack) -> str:
    """What a script waits for."""
    return msgspec.json.encode({"event": "ready", **started.addresses()}).decode("utf-8")


async def _watch(started: Stack) -> None:
    """For ever; says so when a server ends without us. The others go on: somebody may have killed it to see that."""
    ended: set[str] = set()
    while True:
        await asyncio.sleep(LOOK_EVERY_S)
        for process in started.processes():
            if not process.runs and process.name not in ended:
                ended.add(process.name)
                typer.echo(process.told(f"ended with {process.code}"), err=True)


def take_down(directory: Path) -> None:
    """Ask the process that has the directory to stop. Returns when it has, or where there is none.

    Raises:
        DidNotStop: it takes too long.
    """
    holder = directories.holder(directory)
    if holder is None:
        typer.echo(f"no stack runs in {directory}", err=True)
        return
    with suppress(ProcessLookupError):
        os.kill(holder, signal.SIGTERM)
    deadline = time.monotonic() + DOWN_WITHIN_S
    while directories.holder(directory) == holder:
        if time.monotonic() >= deadline:
            raise DidNotStop(f"process {holder} did not stop within {DOWN_WITHIN_S:.0f} s")
        time.sleep(LOOK_EVERY_S / 5)
