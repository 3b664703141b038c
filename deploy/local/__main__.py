"""`python -m deploy.local`: real servers on loopback, and the cluster engine over them, until a signal comes.

    python -m deploy.local --all                      everything, in the foreground
    python -m deploy.local --all --detach             the same, returning once it is ready
    python -m deploy.local --all --kafka 1            with one broker, for a small machine
    python -m deploy.local --kafka 1 --redis --postgres
    python -m deploy.local --status
    python -m deploy.local --down

When all are healthy it prints one JSON line with their addresses to stdout. Everything else goes to stderr.
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
CLIENTS = ("aiokafka", "asyncpg")  # what health checks are made with; an extra, since the embedded engine needs neither


def main(
    all_: Annotated[bool, typer.Option("--all", help="The cluster engine, with all that is around it.")] = False,
    kafka: Annotated[int | None, typer.Option(help="Kafka brokers: 1 or 3; 0 is none.", show_default=False)] = None,
    redis: Annotated[bool, typer.Option("--redis", help="A Redis.")] = False,
    postgres: Annotated[bool, typer.Option("--postgres", help="A PostgreSQL.")] = False,
    directory: Annotated[Path, typer.Option(help="Where their files and logs are kept.")] = DIRECTORY,
    fresh: Annotated[bool, typer.Option("--fresh", help="Keep nothing of earlier runs, and nothing of this.")] = False,
    install: Annotated[bool, typer.Option(help="As root, install with apt what is missing.")] = True,
    detach: Annotated[bool, typer.Option("--detach", help="Return once it is ready; --down ends it.")] = False,
    status: Annotated[bool, typer.Option("--status", help="How each process of the directory's stack is.")] = False,
    down: Annotated[bool, typer.Option("--down", help="Stop the stack that runs in the directory.")] = False,
    announce: Annotated[int | None, typer.Option(hidden=True)] = None,
) -> None:
    """Run real servers on loopback, without containers, until SIGTERM, SIGINT or SIGHUP."""
    try:
        from deploy.local import lifecycle
        from deploy.local.machine import Machine
    except ModuleNotFoundError as missing:
        if missing.name not in CLIENTS:
            raise
        typer.echo(f"{missing.name} is missing; what provides it: `pip install 'alipay-notify[cluster]'`", err=True)
        raise typer.Exit(exits.FAILED) from None
    try:
        if down:
            lifecycle.take_down(directory)
            return
        if status:
            raise typer.Exit(exits.DONE if lifecycle.is_whole(directory) else exits.FOUND_WRONG)
        asked = _asked(everything=all_, kafka=kafka, redis=redis, postgres=postgres)
        if detach:
            raise typer.Exit(lifecycle.start([each for each in sys.argv[1:] if each != "--detach"]))
        machine = Machine(environ=dict(os.environ), may_install=install)
        asyncio.run(lifecycle.until_told(directory, machine, asked, fresh=fresh, announce=announce))
    except lifecycle.REFUSALS as error:
        typer.echo(str(error), err=True)
        raise typer.Exit(exits.FAILED) from None


def _asked(*, everything: bool, kafka: int | None, redis: bool, postgres: bool) -> StackSpec:
    import msgspec

    from deploy.local import stack
    from deploy.local.stack import StackSpec

    if kafka not in (None, 0, 1, 3) or (everything and kafka == 0):
        raise typer.BadParameter("1 or 3 brokers", param_hint="--kafka")
    if everything:
        return msgspec.structs.replace(stack.ALL, brokers=kafka or stack.ALL.brokers)
    asked = StackSpec(brokers=kafka or 0, redis=redis, postgres=postgres)
    if asked.is_nothing:
        typer.echo("say which: --all, or some of --kafka 1, --kafka 3, --redis, --postgres", err=True)
        raise typer.Exit(exits.WRONG_USAGE)
    return asked


if __name__ == "__main__":
    typer.run(main)
