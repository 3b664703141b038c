"""Transactions over a pool: commit, rollback, retried collisions, trouble. Servers: tests/faults/test_postgres.py."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import asyncpg
import pytest
from asyncpg import exceptions

from workers.errors import InfrastructureDown, ReadTooSlow, RecordRefused, RowsLocked, VersionConflict
from workers.postgres import database
from workers.postgres.database import OPERATORS, Database, DatabaseLimits, SqlConnection
from workers.postgres.errors import Collided


class FakeConnection:
    """A connection that records what it runs. `fail(query)` may raise in its place."""

    def __init__(self, fail: Callable[[str], None]) -> None:
        self.log: list[str] = []
        self._fail = fail

    async def execute(self, query: str, *args: Any) -> str:
        self.log.append(query.partition(";")[0])
        self._fail(query)
        return "OK"

    async def copy_records_to_table(self, table_name: str, **rows: Any) -> str:
        return await self.execute(f"COPY {table_name}")

    def is_in_transaction(self) -> bool:
        return True

    def terminate(self) -> None:
        self.log.append("cut")


class FakePool:
    """A pool of one connection."""

    def __init__(self, fail: Callable[[str], None] = lambda query: None) -> None:
        self.connection = FakeConnection(fail)

    @asynccontextmanager
    async def acquire(self, **limits: float) -> AsyncIterator[FakeConnection]:
        yield self.connection


def server_error(state: str) -> Exception:
    error: Exception = exceptions.PostgresError.new({"C": state, "M": "as the server put it"})
    return error


def failing(error: Exception, *, on: str = "work", times: int = 100) -> FakePool:
    left = [error] * times

    def fail(query: str) -> None:
        if query == on and left:
            raise left.pop()

    return FakePool(fail)


async def work(connection: SqlConnection) -> str:
    return await connection.execute("work")


def opened(pool: FakePool) -> Database:
    return Database(pool, DatabaseLimits())


async def test_write_is_one_transaction_and_read_is_none() -> None:
    pool = FakePool()
    assert await opened(pool).write(work) == "OK"
    assert await opened(pool).read(work) == "OK"
    assert await opened(pool).read(work, of_one_moment=True) == "OK"
    assert pool.connection.log[:4] == ["BEGIN", "work", "COMMIT", "work"]
    assert pool.connection.log[4:] == ["BEGIN ISOLATION LEVEL REPEATABLE READ, READ ONLY", "work", "COMMIT"]


async def test_answered_error_is_rolled_back_and_translated() -> None:
    pool = failing(server_error("22021"))
    with pytest.raises(RecordRefused, match="as the server put it"):
        await opened(pool).write(work)
    assert pool.connection.log == ["BEGIN", "work", "ROLLBACK"]


@pytest.mark.parametrize(
    "error", [server_error("57P01"), ConnectionResetError(), asyncpg.InterfaceError("closed")], ids=repr
)
async def test_connection_that_may_not_answer_is_cut(error: Exception) -> None:
    pool = failing(error)
    with pytest.raises(InfrastructureDown):
        await opened(pool).write(work)
    assert pool.connection.log == ["BEGIN", "work", "cut"]


async def test_error_of_the_work_itself_is_rolled_back_and_raised_unchanged() -> None:
    async def divide(connection: SqlConnection) -> None:
        raise ZeroDivisionError

    async def conflict(connection: SqlConnection) -> None:
        raise VersionConflict

    pool = FakePool()
    files = opened(pool)
    with pytest.raises(ZeroDivisionError):
        await files.write(divide)
    with pytest.raises(VersionConflict):
        await files.write(conflict)
    assert pool.connection.log == ["BEGIN", "ROLLBACK"] * 2
    assert files.trouble is None


async def test_collision_is_retried_and_given_up_after_five_attempts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(database, "FIRST_WAIT_S", 0)
    pool = failing(server_error("40P01"), times=2)
    assert await opened(pool).write(work) == "OK"
    assert pool.connection.log == ["BEGIN", "work", "ROLLBACK"] * 2 + ["BEGIN", "work", "COMMIT"]
    pool = failing(server_error("40001"))
    with pytest.raises(Collided):
        await opened(pool).write(work)
    assert pool.connection.log.count("work") == database.ATTEMPTS_MAX


async def test_cancelled_work_cuts_its_connection() -> None:
    begun = asyncio.Event()

    async def wait(connection: SqlConnection) -> None:
        begun.set()
        await asyncio.Event().wait()

    pool = FakePool()
    writing = asyncio.create_task(opened(pool).write(wait))
    await begun.wait()
    writing.cancel()
    with pytest.raises(asyncio.CancelledError):
        await writing
    assert pool.connection.log == ["BEGIN", "cut"]


async def test_trouble_of_a_write_stays_until_a_write_succeeds() -> None:
    pool = failing(server_error("53100"), times=1)
    files = opened(pool)
    with pytest.raises(InfrastructureDown):
        await files.write(work)
    await files.read(work)
    assert files.trouble is not None
    assert "53100" in files.trouble
    await files.write(work)
    assert files.trouble is None


async def test_trouble_of_a_read_ends_with_the_next_read() -> None:
    files = opened(failing(server_error("57P03"), times=1))
    with pytest.raises(InfrastructureDown):
        await files.read(work)
    assert files.trouble is not None
    await files.read(work)
    assert files.trouble is None


async def test_value_that_copy_cannot_send_is_the_records_fault() -> None:
    async def copy(connection: SqlConnection) -> None:
        await connection.copy_records_to_table("orders", records=[("\ud800",)], columns=["facts"])

    pool = failing(OverflowError("value out of int64 range"), on="COPY orders")
    with pytest.raises(RecordRefused, match="OverflowError"):
        await opened(pool).write(copy)
    assert pool.connection.log[-1] == "ROLLBACK"


async def test_operators_read_that_the_server_cancels_is_too_slow_and_no_trouble() -> None:
    reads = Database(failing(server_error("57014"), times=1), OPERATORS)
    with pytest.raises(ReadTooSlow, match="longer than 3 s"):
        await reads.read(work)
    assert reads.trouble is None
    assert await reads.read(work) == "OK"


async def test_batch_that_an_administrator_cancels_is_trouble() -> None:
    database = opened(failing(server_error("57014")))
    with pytest.raises(InfrastructureDown) as caught:
        await database.write(work)
    assert not isinstance(caught.value, ReadTooSlow)
    assert "57014" in (database.trouble or "")


async def test_lock_that_the_first_statements_do_not_get_is_a_tables() -> None:
    def fail(query: str) -> None:
        if query.startswith("BEGIN; LOCK TABLE"):
            raise exceptions.LockNotAvailableError("canceling statement due to lock timeout")

    pool = FakePool(fail)

    async def nothing(connection: SqlConnection) -> None: ...

    with pytest.raises(InfrastructureDown, match="a table is locked") as failed:
        await Database(pool, DatabaseLimits()).write(nothing, first="LOCK TABLE orders")
    assert not isinstance(failed.value, RowsLocked)
    assert pool.connection.log[-1] == "ROLLBACK", "the server has answered, so the connection is kept"


async def test_row_that_stays_locked_is_an_error_of_its_own_and_not_repeated() -> None:
    def fail(query: str) -> None:
        if query == "UPDATE":
            raise exceptions.LockNotAvailableError("canceling statement due to lock timeout")

    pool = FakePool(fail)
    with pytest.raises(RowsLocked):
        await Database(pool, DatabaseLimits()).write(lambda connection: connection.execute("UPDATE"))
    assert pool.connection.log.count("UPDATE") == 1
