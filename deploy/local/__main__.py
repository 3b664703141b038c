"""`python -m deploy.local`: run real servers on loopback, and the cluster engine over them, until a signal.

    python -m deploy.local --all                      everything, in the foreground
    python -m deploy.local --all --detach             the same, returning once it is ready
    python -m deploy.local --all --kafka 1            with one broker, for a small machine
    python -m deploy.local --kafka 1 --redis --postgres
    python -m deploy.local --status
    python -m deploy.local --down

When all are healthy it prints one JSON line with their addresses to stdout. All other output goes to stderr.
"""

from __future__ import annotations

import asyncio
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from deploy import exits

if TYPE_CHECKING:
    from deploy.local.stack import StackSpec

DIRECTORY = Path(".stack")
CLIENTS = ("aiokafka", "asyncpg")  # needed for health checks; they are in the extra `cluster`


def main(
    all_: Annotated[bool, typer.Option("--all", help="The cluster engine with all its servers.")] = False,
    kafka: Annotated[
        int | None, typer.Option(help="Number of Kafka brokers: 1 or 3; 0 for none.", show_default=False)
    ] = None,
    redis: Annotated[bool, typer.Option("--redis", help="Run Redis.")] = False,
    postgres: Annotated[bool, typer.Option("--postgres", help="Run PostgreSQL.")] = False,
    directory: Annotated[Path, typer.Option(help="Directory of their files and logs.")] = DIRECTORY,
    fresh: Annotated[bool, typer.Option("--fresh", help="Delete all files, at the start and at the end.")] = False,
    install: Annotated[bool, typer.Option(help="As root, install missing programs with apt.")] = True,
    detach: Annotated[bool, typer.Option("--detach", help="Return once the stack is ready; --down stops it.")] = False,
    status: Annotated[bool, typer.Option("--status", help="Show the processes of the stack in the directory.")] = False,
    down: Annotated[bool, typer.Option("--down", help="Stop the stack in the directory.")] = False,
    announce: Annotated[int | None, typer.Option(hidden=True)] = None,
) -> None:
    """Run real servers on loopback, without containers, until SIGTERM, SIGINT or SIGHUP."""
    try:
        from deploy.local import lifecycle
        from deploy.local.machine import Machine
    except ModuleNotFoundError as missing:
        if missing.name not in CLIENTS:
            raise
        typer.echo(f"{missing.name} is missing; install it with `pip install 'alipay-notify[cluster]'`", err=True)
        raise typer.Exit(exits.FAILED) from None
    try:
        if down:
            lifecycle.take_down(directory)
            return
        if status:
            raise typer.Exit(exits.DONE if lifecycle.is_whole(directory) else exits.FOUND_WRONG)
        spec = _spec(everything=all_, kafka=kafka, redis=redis, postgres=postgres)
        if detach:
            raise typer.Exit(lifecycle.start_detached([each for each in sys.argv[1:] if each != "--detach"]))
        machine = Machine(environ=dict(os.environ), may_install=install)
        asyncio.run(lifecycle.run_until_signal(directory, machine, spec, fresh=fresh, announce=announce))
    except lifecycle.START_ERRORS as error:
        typer.echo(str(error), err=True)
        raise typer.Exit(exits.FAILED) from None


def _spec(*, everything: bool, kafka: int | None, redis: bool, postgres: bool) -> StackSpec:
    import msgspec

    from deploy.local import stack
    from deploy.local.stack import StackSpec

    if kafka not in (None, 0, 1, 3) or (everything and kafka == 0):
        raise typer.BadParameter("must be 1 or 3 brokers", param_hint="--kafka")
    if everything:
        return msgspec.structs.replace(stack.ALL, brokers=kafka or stack.ALL.brokers)
    spec = StackSpec(brokers=kafka or 0, redis=redis, postgres=postgres)
    if spec.is_nothing:
        typer.echo("choose what to run: --all, or some of --kafka 1, --kafka 3, --redis, --postgres", err=True)
        raise typer.Exit(exits.WRONG_USAGE)
    return spec


if __name__ == "__main__":
    typer.run(main)
