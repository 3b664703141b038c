"""The schema of the order store: numbered SQL files, each applied once and in one transaction.

`alipay-notify db upgrade` applies them (`workers.postgres.migrations.run`). A worker only compares, at its start, the
number in the database's version table with the last number that it knows.

**Expand, then contract.** The schema may be ahead of a program, and never behind it, so that a fleet is upgraded
process by process while it works: first the database, then the programs. A step therefore has one of two kinds, on the
first line of its file:

    -- expand      adds a table, an index, a column that may be NULL or has a default, a wider type. Programs of the
                   release before do not notice it and go on working.
    -- contract    removes something that neither programs of this release nor of the release before use.

A change is thus spread over releases: the first adds the new column beside the old one and writes both; the second
reads only the new one; a step of the third removes the old one. A test reads every step and refuses an `expand` that
removes something. `deploy/docs/migrations.md` explains the same to operators.
"""

import asyncpg

from workers import migration_files
from workers.migration_files import Migration
from workers.postgres import errors
from workers.postgres.database import DatabaseNotUsable, SqlConnection

VERSION_TABLE = "order_store_schema"
EMPTY = 0
CONNECT_S = 5.0
KINDS = ("expand", "contract")

_HAS_VERSION_TABLE = f"SELECT to_regclass('{VERSION_TABLE}') IS NOT NULL"
_VERSION = f"SELECT version_num FROM {VERSION_TABLE}"  # noqa: S608  a constant


def steps() -> list[Migration]:
    """Return all steps that this program knows, in order."""
    return migration_files.load(__name__)


async def applied(connection: SqlConnection) -> int:
    """Return the number of the last step that was applied to the database; `EMPTY` if none was."""
    if not await connection.fetchval(_HAS_VERSION_TABLE):
        return EMPTY
    return int(await connection.fetchval(_VERSION) or EMPTY)


async def applied_at(dsn: str) -> int:
    """Return the number of the last step that was applied to the database at this address.

    Raises:
        DatabaseNotUsable: the address is malformed.
        InfrastructureDown: the database cannot be reached.
    """
    try:
        connection = await asyncpg.connect(dsn, timeout=CONNECT_S, command_timeout=CONNECT_S)
        try:
            return await applied(connection)
        finally:
            await connection.close(timeout=CONNECT_S)
    except asyncpg.ClientConfigurationError as error:
        raise DatabaseNotUsable(f"the address of PostgreSQL is malformed: {error}") from None
    except (asyncpg.PostgresError, asyncpg.InterfaceError, OSError) as error:
        raise errors.translated(error) from error


async def check(connection: SqlConnection) -> None:
    """Return if the database has every step that this program needs.

    Raises:
        DatabaseNotUsable: it lacks some.
    """
    needed, found = steps()[-1].number, await applied(connection)
    if found < needed:
        raise DatabaseNotUsable(
            f"the order store has schema {found}, and this program needs {needed}: run `alipay-notify db upgrade`"
        )
