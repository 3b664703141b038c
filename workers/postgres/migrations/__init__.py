"""The schema of the order store, step by step: numbered SQL files, each applied once and in one transaction.

`upgrading` applies them with Alembic, in `alipay-notify db upgrade`. No running process has Alembic loaded: a worker
only compares, at its start, the number that the database remembers with the last one that it knows.

**Expand, then contract.** The schema may be ahead of a program and never behind one, so that a fleet is upgraded
process by process while it works: first the database, then the programs. A step therefore has one of two kinds, which
is the first line of its file:

    -- expand      adds what programs that do not know it do not mind: a table, an index, a column that may be NULL or
                   has a default, a wider type. Those of the release before go on working.
    -- contract    takes away what no program asks for any more: of this release, and of the release before.

What has to change is thus changed in two releases: the first adds the new beside the old and writes both; the second
reads only the new; a step of the third takes the old away. A test reads every step and refuses one that takes away
without saying so. `deploy/docs/migrations.md` is the same for operators.

The files hold no transaction commands.
"""

import re
from importlib import resources

import asyncpg
from msgspec import Struct

from workers.postgres import errors
from workers.postgres.database import DatabaseNotUsable, SqlConnection

VERSION_TABLE = "order_store_schema"  # Alembic's own name for it may be taken by another program in the same database
EMPTY = 0
CONNECT_S = 5.0
KINDS = ("expand", "contract")
_FILE = re.compile(r"(\d{4})_\w+\.sql")

_IS_THERE = f"SELECT to_regclass('{VERSION_TABLE}') IS NOT NULL"
_SEEN = f"SELECT version_num FROM {VERSION_TABLE}"  # noqa: S608  a constant


class Migration(Struct, frozen=True):
    """One file."""

    number: int
    name: str
    sql: str

    @property
    def kind(self) -> str:
        """Whether it adds or takes away."""
        return self.sql.partition("\n")[0].removeprefix("--").strip()


def steps() -> list[Migration]:
    """All steps that this program knows, in their order."""
    files = {file.name: file for file in resources.files(__name__).iterdir() if _FILE.fullmatch(file.name)}
    return [
        Migration(int(name[:4]), name.removesuffix(".sql"), files[name].read_text("utf-8")) for name in sorted(files)
    ]


async def applied(connection: SqlConnection) -> int:
    """The number of the last step that the database has seen; `EMPTY` where it has seen none."""
    if not await connection.fetchval(_IS_THERE):
        return EMPTY
    return int(await connection.fetchval(_SEEN) or EMPTY)


async def seen(dsn: str) -> int:
    """The same of the database at this address, over a connection of its own.

    Raises:
        DatabaseNotUsable: the address is none.
        Infrastructure: it cannot be reached.
    """
    try:
        connection = await asyncpg.connect(dsn, timeout=CONNECT_S, command_timeout=CONNECT_S)
        try:
            return await applied(connection)
        finally:
            await connection.close(timeout=CONNECT_S)
    except asyncpg.ClientConfigurationError as error:
        raise DatabaseNotUsable(f"the address of PostgreSQL is none: {error}") from None
    except (asyncpg.PostgresError, asyncpg.InterfaceError, OSError) as error:
        raise errors.translated(error) from error


async def check(connection: SqlConnection) -> None:
    """Returns where the database has every step that this program needs.

    Raises:
        DatabaseNotUsable: it lacks some.
    """
    needed, seen = steps()[-1].number, await applied(connection)
    if seen < needed:
        raise DatabaseNotUsable(
            f"the order store has schema {seen}, and this program needs {needed}: run `alipay-notify db upgrade`"
        )
