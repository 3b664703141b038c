"""`python -m deploy.local`: real servers on loopback for a person at a terminal, until a signal comes.

    python -m deploy.local --kafka 1 --redis --postgres
    python -m deploy.local --down

When all are healthy it prints one JSON line with their addresses to stdout. Everything else goes to stderr.
"""

from __future__ import annotations

import asyncio
import os
from pathlib import Path
from typing import Annotated

import typer

from deploy.cli import exits

DIRECTORY = Path(".stack")
CLIENTS = ("aiokafka", "asyncpg")  # what health checks are made with; an extra, since the embedded engine needs neither


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
    try:
        from deploy.local import serving
        from deploy.local.machine import Machine
        from deploy.local.stack import Asked
    except ModuleNotFoundError as missing:
        if missing.name not in CLIENTS:
            raise
        typer.echo(f"{missing.name} is missing; what provides it: `pip install 'alipay-notify[cluster]'`", err=True)
        raise typer.Exit(exits.FAILED) from None
    if kafka not in (0, 1, 3) or not (kafka or redis or postgres or down):
        typer.echo("say which: --kafka 1 or --kafka 3, --redis, --postgres", err=True)
        raise typer.Exit(exits.WRONG_USAGE)
    machine = Machine(environ=dict(os.environ), may_install=install)
    asked = Asked(brokers=kafka, redis=redis, postgres=postgres)
    try:
        if down:
            serving.take_down(directory)
        else:
            asyncio.run(serving.until_told(directory, machine, asked, fresh=fresh))
    except serving.REFUSALS as error:
        typer.echo(str(error), err=True)
        raise typer.Exit(exits.FAILED) from None


if __name__ == "__main__":
    typer.run(main)
