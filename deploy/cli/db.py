"""`alipay-notify db`: the schema of the cluster engine's order store."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from deploy import exits
from deploy.cli import launch, options, terminal

if TYPE_CHECKING:
    from workers.postgres.migrations import Migration

_UPGRADE_HELP = """Apply the steps of the schema that the database lacks. What was applied before is left alone.

Do it before the processes of a new release are started; those of the release before go on working. A step that fails
is undone, those before it are kept, and doing it again begins there.

    alipay-notify db upgrade --postgres-file /etc/alipay-notify/postgres
    alipay-notify db upgrade --sql > steps.sql
"""
_STATUS_HELP = """Show which steps of the schema the database has seen, and which it lacks.

    alipay-notify db status
    alipay-notify db status --output json
"""
_EPILOG_STATUS = "Exit codes: 0 nothing is missing, 1 failed, 2 wrong usage, 3 steps are missing."

PostgresFile = Annotated[
    Path | None,
    typer.Option(
        readable=False,
        envvar="ALIPAY_NOTIFY_POSTGRES_FILE",
        help="The file with its address, where a password is in it.",
    ),
]


def register(app: typer.Typer) -> None:
    """Adds the commands to the program."""
    group = typer.Typer(help="The order store's schema in PostgreSQL.", no_args_is_help=True)
    group.command("upgrade", help=_UPGRADE_HELP, epilog=exits.EPILOG)(upgrade)
    group.command("status", help=_STATUS_HELP, epilog=_EPILOG_STATUS)(status)
    app.add_typer(group, name="db")


def upgrade(
    postgres: options.Postgres = None,
    postgres_file: PostgresFile = None,
    sql: Annotated[bool, typer.Option("--sql", help="Only print the statements that are missing.")] = False,
    output: terminal.Output = "table",
) -> None:
    """Applies what is missing, or prints it."""
    launch.need("asyncpg", extra="cluster")
    launch.need("alembic", "sqlalchemy", "greenlet", extra="cluster,migrations")
    from workers.postgres.migrations import upgrading

    dsn = _address(postgres, postgres_file)
    if sql:
        typer.echo(upgrading.statements(_seen(dsn)), nl=False)
        return
    try:
        done, failure = asyncio.run(upgrading.upgrade(dsn)), ""
    except upgrading.NotUpgraded as ended:
        done, failure = ended.done, str(ended)
    if output == "json":
        terminal.as_json({"ok": not failure, "applied": done, "failure": failure or None})
    else:
        for name in done:
            terminal.line("applied", name)
        if not done and not failure:
            typer.echo("Nothing to do: no step is missing.")
    if failure:
        launch.refuse("could not upgrade", [failure], exits.FAILED)


def status(
    postgres: options.Postgres = None, postgres_file: PostgresFile = None, output: terminal.Output = "table"
) -> None:
    """Shows the steps; ends with 3 where some are missing."""
    launch.need("asyncpg", extra="cluster")
    from workers.postgres import migrations

    seen = _seen(_address(postgres, postgres_file))
    steps = migrations.steps()
    rows = [_row(step, seen) for step in steps]
    if output == "json":
        terminal.as_json({"schema": seen, "needed": steps[-1].number, "steps": rows})
    else:
        terminal.table("", ("step", "kind", "state"), [[*row.values()] for row in rows])
        if seen > steps[-1].number:
            typer.echo(
                f"The database is at step {seen}: a later release has upgraded it, which this one does not mind."
            )
    raise typer.Exit(exits.FOUND_WRONG if seen < steps[-1].number else exits.DONE)


def _address(postgres: str | None, postgres_file: Path | None) -> str:
    from deploy.cluster import settings

    try:
        return settings.postgres_address(options.told(postgres=postgres, postgres_file=postgres_file))
    except settings.UnreadableFile as error:
        launch.refuse("cannot do that as told", [str(error)], exits.WRONG_USAGE)


def _seen(dsn: str) -> int:
    """The last step that the database has seen."""
    from workers.errors import InfrastructureDamaged, InfrastructureDown
    from workers.postgres import migrations
    from workers.postgres.database import DatabaseNotUsable

    try:
        return asyncio.run(migrations.seen(dsn))
    except (DatabaseNotUsable, InfrastructureDown, InfrastructureDamaged) as error:
        launch.refuse("could not look at the order store", [str(error)], exits.FAILED)


def _row(step: Migration, seen: int) -> dict[str, Any]:
    return {"step": step.name, "kind": step.kind, "state": "applied" if step.number <= seen else "missing"}
