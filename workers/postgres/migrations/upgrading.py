"""Applies the steps with Alembic: one transaction each, with the number that the database then remembers in it.

Alembic is told of the steps directly instead of by a directory of Python files: each step is plain SQL that anybody can
read, and a Python file beside each would only say so. It speaks through asyncpg, like everything else here, over a
connection that we make ourselves, so that an address means here what it means to the worker.

Two who upgrade at once wait for each other, on an advisory lock of the session. Where a pooler shares sessions out
that lock is worth nothing, and the second is stopped by Alembic's own comparison of the number: its step is undone.

A step that waits long for a lock on a table would have everybody else wait behind it. So it gives up after some
seconds, is undone, and may be tried again at a quieter time.
"""

import io
from collections.abc import Iterator, Sequence
from types import ModuleType
from typing import Any

import asyncpg
from alembic.runtime.migration import MigrationContext, MigrationStep
from alembic.script import Script
from alembic.script.revision import RevisionMap
from alembic.util import CommandError
from sqlalchemy import Connection
from sqlalchemy.exc import DBAPIError, SQLAlchemyError
from sqlalchemy.ext.asyncio import create_async_engine
from sqlalchemy.pool import NullPool

from workers.postgres import errors, migrations
from workers.postgres.migrations import CONNECT_S, EMPTY, VERSION_TABLE, Migration

WAIT_FOR_ANOTHER_S = 60  # for somebody else's upgrade to end
WAIT_FOR_TABLE_S = 5
_ONE_AT_A_TIME = 0x414E4F32  # an advisory lock; any number will do that nobody else takes
_CLIENTS = (asyncpg.PostgresError, asyncpg.InterfaceError, SQLAlchemyError, OSError, CommandError)


class NotUpgraded(Exception):
    """The upgrade ended early; `done` are the steps that were applied before, and stay."""

    def __init__(self, why: str, done: Sequence[str]) -> None:
        super().__init__(why)
        self.done = [*done]


async def upgrade(dsn: str) -> list[str]:
    """Apply the steps that the database lacks; their names. When this returns they are committed.

    Raises:
        NotUpgraded: a step cannot be applied, or the database cannot be reached; nothing of that step is there.
    """

    async def connect() -> Any:
        name = {"application_name": "alipay-notify db upgrade"}
        return await asyncpg.connect(dsn, timeout=CONNECT_S, statement_cache_size=0, server_settings=name)

    run = _Run()
    try:
        engine = create_async_engine("postgresql+asyncpg://", async_creator=connect, poolclass=NullPool)
        try:
            async with engine.connect() as connection:
                await connection.run_sync(run.upgrade)
        finally:
            await engine.dispose()
    except _CLIENTS as error:
        raise NotUpgraded(run.told(error), run.done) from error
    return run.done


def statements(seen: int) -> str:
    """What `upgrade` would run on a database with this number, for whoever applies it with another program."""
    text = io.StringIO()
    _Run().migrate(None, as_sql=True, output_buffer=text, starting_rev=_revision(seen))
    return text.getvalue()


class _Run:
    """One upgrade: which steps were begun, and which are committed."""

    def __init__(self) -> None:
        self.begun: list[str] = []
        self.done: list[str] = []

    def upgrade(self, connection: Connection) -> None:
        connection.exec_driver_sql(f"SET lock_timeout = '{WAIT_FOR_ANOTHER_S}s'")
        connection.exec_driver_sql(f"SELECT pg_advisory_lock({_ONE_AT_A_TIME})")
        connection.commit()  # the lock is the session's and stays; each step begins a transaction of its own
        self.migrate(connection)

    def migrate(self, connection: Connection | None, **more: Any) -> None:
        """Have Alembic run what is missing, or write it."""
        by_number = RevisionMap(lambda: [_script(step) for step in migrations.steps()])

        def missing(heads: Sequence[str], _: MigrationContext) -> Iterator[MigrationStep]:
            seen = max((int(head) for head in heads), default=EMPTY)
            for script in reversed([*by_number.iterate_revisions("heads", "base")]):
                assert isinstance(script, Script)
                if int(script.revision) > seen:  # a database may be ahead of this program, by numbers unknown to it
                    self.begun.append(script.doc)
                    yield MigrationStep.upgrade_from_script(by_number, script)
                    self.done.append(script.doc)  # whoever asks for the next one has committed this one

        opts = {"fn": missing, "version_table": VERSION_TABLE, "transaction_per_migration": True, **more}
        context = MigrationContext.configure(connection, dialect_name="postgresql", opts=opts)
        context.run_migrations(context=context)

    def told(self, error: Exception) -> str:
        """What went wrong, in the server's words where it has some."""
        if isinstance(error, DBAPIError) and error.orig is not None:
            error = error.orig.__cause__ if isinstance(error.orig.__cause__, Exception) else error.orig
        said = str(error) if isinstance(error, CommandError) else str(errors.translated(error))
        return f"{self.begun[-1]} could not be applied: {said}" if len(self.begun) > len(self.done) else said


def _script(step: Migration) -> Script:
    """The step as Alembic knows one."""

    def upgrade(context: MigrationContext) -> None:
        if context.as_sql:
            context.impl.static_output(step.sql.strip())
            return
        assert context.connection is not None
        # SQLAlchemy begins a transaction on the server with the first statement that it runs itself: this one.
        context.connection.exec_driver_sql(f"SET LOCAL lock_timeout = '{WAIT_FOR_TABLE_S}s'")
        # It would prepare a statement, and a file is many; so the driver runs it.
        driver: Any = context.connection.connection.dbapi_connection
        driver.run_async(lambda connection: connection.execute(step.sql))

    module: Any = ModuleType(step.name, step.name)
    module.revision, module.down_revision, module.upgrade = _revision(step.number), _revision(step.number - 1), upgrade
    return Script(module, module.revision, f"{step.name}.sql")


def _revision(number: int) -> str | None:
    return None if number == EMPTY else f"{number:04d}"
