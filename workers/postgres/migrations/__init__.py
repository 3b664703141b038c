"""The schema of the order store, step by step: numbered SQL files, each applied once and in one transaction.

Steps only ever add what a running program does not mind (expand), and take away what no running program asks for any
more (contract), in a later release: so the schema may be ahead of a program, and a fleet is upgraded process by
process. It may not be behind one. What was applied is remembered in `migrations`, in the transaction that applied it;
two who upgrade at once wait for each other.

The files are plain SQL without transaction commands, so that whoever runs migrations with a tool of their own can feed
them to it, one revision a file.
"""

import re
from functools import partial
from importlib import resources

from msgspec import Struct

from workers.postgres.database import Connection, Database, NotUsable

_ONE_AT_A_TIME = 0x414E4F32  # an advisory lock; any number will do that nobody else takes
_FILE = re.compile(r"(\d{4})_\w+\.sql")

_IS_THERE = "SELECT to_regclass('migrations') IS NOT NULL"
_CREATE = """
    CREATE TABLE IF NOT EXISTS migrations (
        number integer PRIMARY KEY,
        name text NOT NULL,
        applied_at timestamptz NOT NULL DEFAULT now()
    )
"""


class Step(Struct, frozen=True):
    """One file."""

    number: int
    name: str
    sql: str


def steps() -> list[Step]:
    """All steps that this program knows, in their order."""
    files = {file.name: file for file in resources.files(__name__).iterdir() if _FILE.fullmatch(file.name)}
    return [Step(int(name[:4]), name.removesuffix(".sql"), files[name].read_text("utf-8")) for name in sorted(files)]


async def applied(connection: Connection) -> int:
    """The number of the last step that the database has seen; 0 where it is empty."""
    if not await connection.fetchval(_IS_THERE):
        return 0
    number: int = await connection.fetchval("SELECT coalesce(max(number), 0) FROM migrations")
    return number


async def upgrade(database: Database) -> list[str]:
    """Apply the steps that are missing; their names.

    Raises:
        Broken: a step cannot be applied; those before it are.
        Infrastructure: as any write.
    """
    return [step.name for step in steps() if await database.write(partial(_apply, step))]


async def check(connection: Connection) -> None:
    """Returns where the database has every step that this program needs.

    Raises:
        NotUsable: it lacks some.
    """
    needed, seen = steps()[-1].number, await applied(connection)
    if seen < needed:
        raise NotUsable(
            f"the order store has schema {seen}, and this program needs {needed}: run `alipay-notify db upgrade`"
        )


async def _apply(step: Step, connection: Connection) -> bool:
    await connection.execute("SELECT pg_advisory_xact_lock($1)", _ONE_AT_A_TIME)
    if await applied(connection) >= step.number:
        return False
    await connection.execute(_CREATE)
    await connection.execute(step.sql)
    await connection.execute("INSERT INTO migrations (number, name) VALUES ($1, $2)", step.number, step.name)
    return True
