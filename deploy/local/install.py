"""Install the programs that the local stack and the tests need besides Python packages.

    python -m deploy.local.install              as root on Debian: missing programs with apt, then Kafka's jars
    python -m deploy.local.install --dry-run    print missing programs; change nothing

`.ci/run` calls it before the tests. It exits with 1 if the stack still lacks a program; a program that only the tests
need is reported.
"""

import asyncio
import os
from typing import Annotated

import typer
from msgspec import structs

from deploy import exits
from deploy.local import programs
from deploy.local.kafka import jars
from deploy.local.machine import Machine, Missing
from deploy.local.programs import NeededProgram


def main(
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Print missing programs; change nothing.")] = False,
) -> None:
    """Install missing programs with apt (as root on Debian), and Kafka's jars with Maven."""
    machine = Machine(environ=dict(os.environ))
    if dry_run:
        asyncio.run(_print_missing(machine))
    elif not asyncio.run(install(machine)):
        raise typer.Exit(exits.FAILED)


async def install(machine: Machine) -> bool:
    """Install all missing programs. Return whether the stack can run; report on stderr those that are still missing."""
    missing = await absent(machine)
    if missing and machine.can_install:
        await machine.install(missing)
    as_it_is = structs.replace(machine, may_install=False)
    is_complete = True
    for each in (*programs.SERVERS, *programs.FOR_TESTS):
        try:
            await as_it_is.find(each)
        except Missing as error:
            typer.echo(str(error), err=True)
            is_complete = is_complete and each in programs.FOR_TESTS
    try:
        await jars.installation(as_it_is)
    except Missing as error:
        typer.echo(str(error), err=True)
        return False
    return is_complete


async def absent(machine: Machine) -> list[NeededProgram]:
    """Return the programs that are not here. A wheel does not count, because Debian's server is preferred."""
    return [each for each in programs.ALL if not await machine.is_present(each)]


async def _print_missing(machine: Machine) -> None:
    for each in await absent(machine):
        typer.echo(f"{each.what}: {each.commands[0]}")
    if not jars.is_kept(jars.cache(machine)):
        typer.echo(f"Kafka {jars.version()}: with Maven, into {jars.cache(machine)}")


if __name__ == "__main__":
    typer.run(main)
