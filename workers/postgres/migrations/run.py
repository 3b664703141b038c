"""Apply the steps of the order store's schema: `alipay-notify db upgrade`.

Each step is one transaction together with its number in the version table: the database has both or neither. The table
has the name and the layout that earlier releases gave it, which upgraded with Alembic, so either program continues
where the other stopped.
"""

import asyncio
import contextlib
import random
from collections.abc import Sequence

import asyncpg

from workers.migration_files import Migration
from workers.postgres import errors, migrations
from workers.postgres.database import SqlConnection
from workers.postgres.migrations import CONNECT_S, EMPTY, VERSION_TABLE

WAIT_FOR_OTHER_UPGRADE_S = 60
WAIT_FOR_TABLE_S = 5
DEADLOCKS_MAX = 10
PAUSE_S = 0.5  # after a deadlock, at most
_UPGRADE_LOCK = 0x414E4F32  # an advisory lock: any number that no other program in this database uses

_CREATE_VERSION_TABLE = f"""CREATE TABLE IF NOT EXISTS {VERSION_TABLE} (
    version_num VARCHAR(32) NOT NULL,
    CONSTRAINT {VERSION_TABLE}_pkc PRIMARY KEY (version_num)
);

"""


class NotUpgraded(Exception):
    """The upgrade ended early. `done` are the steps that were applied before, and stay."""

    def __init__(self, why: str, done: Sequence[str]) -> None:
        super().__init__(why)
        self.done = [*done]


async def upgrade(dsn: str) -> list[str]:
    """Apply the steps that the database lacks, and return their names. When this returns, they are committed.

    Raises:
        NotUpgraded: a step cannot be applied, or the database cannot be reached. The database has nothing of that step.
    """
    done: list[str] = []
    failing = ""
    try:
        name = {"application_name": "alipay-notify db upgrade"}
        connection = await asyncpg.connect(dsn, timeout=CONNECT_S, statement_cache_size=0, server_settings=name)
        try:
            await _lock(connection)
            before = await migrations.applied(connection)
            for step in _missing(before):
                failing = f"{step.name} could not be applied: "
                if not await _apply_around_deadlocks(connection, step, before):
                    raise NotUpgraded(f"{failing}another upgrade is running. Run this one again after it", done)
                done.append(step.name)
                before, failing = step.number, ""
        finally:
            with contextlib.suppress(Exception):  # ends the session, which rolls a failed step back
                await connection.close(timeout=CONNECT_S)
    except (asyncpg.PostgresError, asyncpg.InterfaceError, OSError) as error:
        raise NotUpgraded(f"{failing}{errors.translated(error)}", done) from error
    return done


def statements(before: int) -> str:
    """Return the statements that `upgrade` would run on a database with this number, for another client."""
    text = ""
    for step in _missing(before):
        body = f"{_create(before)}-- {step.name}\n\n{step.sql.strip()}\n\n{_record(step, before)};"
        text += f"BEGIN;\n\n{body}\n\nCOMMIT;\n\n"
        before = step.number
    return text


async def _lock(connection: SqlConnection) -> None:
    """Wait until no other session upgrades. The lock belongs to the session and ends with it."""
    await connection.execute(f"SET lock_timeout = '{WAIT_FOR_OTHER_UPGRADE_S}s'")
    await connection.execute(f"SELECT pg_advisory_lock({_UPGRADE_LOCK})")


async def _apply_around_deadlocks(connection: SqlConnection, step: Migration, before: int) -> bool:
    """Apply the step as `_apply` does, again after each deadlock.

    A step locks tables in the order of its text, and workers in another. The server ends one of the two transactions:
    a worker repeats its own, and so does the upgrade.
    """
    for _ in range(DEADLOCKS_MAX - 1):
        try:
            return await _apply(connection, step, before)
        except asyncpg.DeadlockDetectedError:
            await connection.execute("ROLLBACK")
            await asyncio.sleep(PAUSE_S * random.random())  # noqa: S311 - no secret
    return await _apply(connection, step, before)


async def _apply(connection: SqlConnection, step: Migration, before: int) -> bool:
    """Apply the step and write its number, in one transaction; False if another upgrade was faster."""
    await connection.execute("BEGIN")
    # While a step waits for a lock on a table, every later query on that table waits behind it. So the step gives up
    # after some seconds, and the operator runs it again at a quieter time.
    await connection.execute(f"SET LOCAL lock_timeout = '{WAIT_FOR_TABLE_S}s'")
    await connection.execute(_create(before) + step.sql)
    # A pooler may share sessions, and the advisory lock with them: then two upgrades run at once. The second one waits
    # here until the first has committed, writes no row, and leaves its own step to be rolled back.
    written = await connection.execute(_record(step, before))
    if not written.endswith(" 1"):
        return False
    await connection.execute("COMMIT")
    return True


def _missing(before: int) -> list[Migration]:
    """The steps after this number; none if a later release has upgraded the database further."""
    return [step for step in migrations.steps() if step.number > before]


def _create(before: int) -> str:
    return _CREATE_VERSION_TABLE if before == EMPTY else ""


def _record(step: Migration, before: int) -> str:
    """The statement that replaces `before` by the step's number. It writes no row if the table holds another number."""
    if before == EMPTY:
        return (
            f"INSERT INTO {VERSION_TABLE} (version_num) SELECT '{step.number:04d}' "  # noqa: S608
            f"WHERE NOT EXISTS (SELECT FROM {VERSION_TABLE})"
        )
    return f"UPDATE {VERSION_TABLE} SET version_num = '{step.number:04d}' WHERE version_num = '{before:04d}'"  # noqa: S608
