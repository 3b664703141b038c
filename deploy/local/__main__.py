"""`python -m deploy.local`: real servers on loopback for a person at a terminal, until a signal comes.

    python -m deploy.local --kafka 1 --redis --postgres
    python -m deploy.local --down

When all are healthy it prints one JSON line with their addresses to stdout. Everything else goes to stderr.
"""

import asyncio
import os
import signal
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import Annotated

import msgspec
import typer

from deploy.cli import exits
from deploy.embedded.lock import AlreadyRunning
from deploy.local import directory as directories
from deploy.local import stack
from deploy.local.machine import Machine, Missing
from deploy.local.ports import NoPort
from deploy.local.processes import DidNotStart
from deploy.local.stack import Asked, Stack

DIRECTORY = Path(".stack")
LOOK_EVERY_S = 0.5
DOWN_WITHIN_S = 60.0


def main(
    kafka: Annotated[int, typer.Option(help="Kafka brokers: 1 or 3; 0 is none.")] = 0,
    redis: Annotated[bool, typer.Option("--redis", help="A Redis.")] = False,
    postgres: Annotated[bool, typer.Option("--postgres", help="A PostgreSQL.")] = False,
    directory: Annotated[Path, typer.Option(help="Where their files and logs are kept.")] = DIRECTORY,
    fresh: Annotated[bool, typer.Option("--fresh", help="Keep nothing of earlier runs, and nothing of this.")] = False,
    install: Annotated[bool, typer.Option(help="As root, install with apt what is missing.")] = True,
    down: Annotated[bool, typer.Option("--down", help="Stop the stack that runs in the directory.")] = False,
) -> None:
    """Run real servers on loopback, without containers, until SIGTERM, SIGINT or SIGHUP."""
    if down:
        raise typer.Exit(_down(directory))
    asked = Asked(brokers=kafka, redis=redis, postgres=postgres)
    if kafka not in (0, 1, 3) or asked == Asked():
        typer.echo("say which: --kafka 1 or --kafka 3, --redis, --postgres", err=True)
        raise typer.Exit(exits.WRONG_USAGE)
    machine = Machine(environ=dict(os.environ), may_install=install)
    try:
        asyncio.run(_until_told(directory, machine, asked, fresh=fresh))
    except (Missing, DidNotStart, AlreadyRunning, NoPort) as error:
        typer.echo(str(error), err=True)
        raise typer.Exit(exits.FOUND_WRONG) from None


async def _until_told(directory: Path, machine: Machine, asked: Asked, *, fresh: bool) -> None:
    """Start, say so, and wait for a signal. One that comes while the servers start ends that, in good order too."""
    loop, here = asyncio.get_running_loop(), asyncio.current_task()
    assert here is not None
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        loop.add_signal_handler(number, here.cancel)
    with suppress(asyncio.CancelledError):
        async with stack.running(directory, machine, asked, fresh=fresh) as started:
            sys.stdout.write(_ready_line(started) + "\n")
            sys.stdout.flush()
            await _watch(started)


def _ready_line(started: Stack) -> str:
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


def _down(directory: Path) -> int:
    """Ask the process that has the directory to stop, and wait until it has."""
    holder = directories.holder(directory)
    if holder is None:
        typer.echo(f"no stack runs in {directory}", err=True)
        return exits.DONE
    with suppress(ProcessLookupError):
        os.kill(holder, signal.SIGTERM)
    deadline = time.monotonic() + DOWN_WITHIN_S
    while directories.holder(directory) == holder:
        if time.monotonic() >= deadline:
            typer.echo(f"process {holder} did not stop within {DOWN_WITHIN_S:.0f} s", err=True)
            return exits.FOUND_WRONG
        time.sleep(LOOK_EVERY_S / 5)
    return exits.DONE


if __name__ == "__main__":
    typer.run(main)
