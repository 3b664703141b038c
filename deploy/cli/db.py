"""`alipay-notify db`: the schema of the cluster engine's order store."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from deploy import exits
from deploy.cli import launch, options, terminal

if TYPE_CHECKING:
    from workers.migration_files import Migration

_UPGRADE_HELP = """Apply the steps of the schema that the database lacks. Steps that it has are not applied again.

Run it before the processes of a new release are started. Processes of the release before go on working. A step that
fails is rolled back; the steps before it are kept, and the next run continues with the one that failed.

    alipay-notify db upgrade --postgres-file /etc/alipay-notify/postgres
    alipay-notify db upgrade --sql > steps.sql
"""
_STATUS_HELP = """Show which steps of the schema the database has, and which it lacks.

    alipay-notify db status
    alipay-notify db status --output json
"""
_EPILOG_STATUS = "Exit codes: 0 no step is missing, 1 failed, 2 wrong usage, 3 steps are missing."

PostgresFile = Annotated[
    Path | None,
    typer.Option(
        readable=False,
        envvar="ALIPAY_NOTIFY_POSTGRES_FILE",
        help="File with its address, if that contains a password.",
    ),
]


def register(app: typer.Typer) -> None:
    """Add the commands to the program."""
    group = typer.Typer(help="The order store's schema in PostgreSQL.", no_args_is_help=True)
    group.command("upgrade", help=_UPGRADE_HELP, epilog=exits.EPILOG)(upgrade)
    group.command("status", help=_STATUS_HELP, epilog=_EPILOG_STATUS)(status)
    app.add_typer(group, name="db")


def upgrade(
    postgres: options.Postgres = None,
    postgres_file: PostgresFile = None,
    sql: Annotated[bool, typer.Option("--sql", help="Only print the statements of the missing steps.")] = False,
    output: terminal.Output = "table",
) -> None:
    """Apply the missing steps, or print their statements."""
    launch.need("asyncpg", extra="cluster")
    from workers.postgres.migrations import run

    dsn = _address(postgres, postgres_file)
    if sql:
        typer.echo(run.statements(_applied(dsn)), nl=False)
        return
    try:
        done, failure = asyncio.run(run.upgrade(dsn)), ""
    except run.NotUpgraded as error:
        done, failure = error.done, str(error)
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
    """Show all steps; exit with 3 if some are missing."""
    launch.need("asyncpg", extra="cluster")
    from workers.postgres import migrations

    applied = _applied(_address(postgres, postgres_file))
    steps = migrations.steps()
    rows = [_row(step, applied) for step in steps]
    if output == "json":
        terminal.as_json({"schema": applied, "needed": steps[-1].number, "steps": rows})
    else:
        terminal.table("", ("step", "kind", "state"), [[*row.values()] for row in rows])
        if applied > steps[-1].number:
            terminal.text(
                f"The database is at step {applied}: a later release has upgraded it, and this release works with it."
            )
    raise typer.Exit(exits.FOUND_WRONG if applied < steps[-1].number else exits.DONE)


def _address(postgres: str | None, postgres_file: Path | None) -> str:
    from deploy.cluster import settings

    try:
        return settings.postgres_address(options.load_settings(postgres=postgres, postgres_file=postgres_file))
    except settings.UnreadableFile as error:
        launch.refuse("has wrong settings", options.with_hint([str(error)]), exits.WRONG_USAGE)


def _applied(dsn: str) -> int:
    """The number of the last step that the database has."""
    from workers.errors import InfrastructureDown
    from workers.postgres import migrations
    from workers.postgres.database import DatabaseNotUsable

    try:
        return asyncio.run(migrations.applied_at(dsn))
    except (DatabaseNotUsable, InfrastructureDown) as error:
        launch.refuse("could not read the order store", [str(error)], exits.FAILED)


def _row(step: Migration, applied: int) -> dict[str, Any]:
    return {"step": step.name, "kind": step.kind, "state": "applied" if step.number <= applied else "missing"}
