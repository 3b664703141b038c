"""One SQLite file: transactions, translated errors, trouble. Lost and damaged files: tests/faults/test_embedded.py."""

import asyncio
import os
import sqlite3
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from deploy.embedded import sqlite
from deploy.embedded.migrations import FileNotUsable, Schema
from deploy.embedded.sqlite import Damaged, SqliteDatabase
from workers.errors import InfrastructureDown, RecordRefused

SCHEMA = Schema(application_id=7, scripts=("CREATE TABLE numbers (number INTEGER PRIMARY KEY);",))
INSERT = "INSERT INTO numbers VALUES (?)"


@pytest.fixture
async def database(tmp_path: Path) -> AsyncIterator[SqliteDatabase]:
    opened = await SqliteDatabase.open(tmp_path / "x.sqlite3", SCHEMA, create=True)
    yield opened
    await opened.close()


def insert(number: int) -> Callable[[sqlite3.Connection], object]:
    return lambda connection: connection.execute(INSERT, (number,))


async def numbers(database: SqliteDatabase) -> list[int]:
    found = await database.read(lambda connection: connection.execute("SELECT number FROM numbers").fetchall())
    return [number for (number,) in found]


async def test_settings_read_back_as_they_were_set(database: SqliteDatabase) -> None:
    for name, value in sqlite.SETTINGS.items():
        pragma = f"PRAGMA {name}"
        assert await database.read(lambda connection, p=pragma: connection.execute(p).fetchone()) == (value,)  # type: ignore[misc]


async def test_committed_rows_are_there_after_reopening(database: SqliteDatabase) -> None:
    await database.write(insert(1))
    await database.close()
    again = await SqliteDatabase.open(database.path, SCHEMA, create=False)
    assert await numbers(again) == [1]
    assert await again.check() == "ok"
    await again.close()


async def test_missing_file_is_created_only_if_asked(tmp_path: Path) -> None:
    with pytest.raises(FileNotUsable, match="is missing"):
        await SqliteDatabase.open(tmp_path / "x.sqlite3", SCHEMA, create=False)
    assert os.listdir(tmp_path) == []


async def test_failed_first_start_leaves_no_file(tmp_path: Path) -> None:
    nonsense = Schema(application_id=7, scripts=("CREATE NONSENSE;",))
    with pytest.raises(sqlite3.OperationalError):
        await SqliteDatabase.open(tmp_path / "x.sqlite3", nonsense, create=True)
    assert os.listdir(tmp_path) == []


async def test_failed_work_is_rolled_back_and_its_error_raised(database: SqliteDatabase) -> None:
    def fails(connection: sqlite3.Connection) -> None:
        connection.execute(INSERT, (1,))
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await database.write(fails)
    assert await numbers(database) == []
    assert database.trouble is None


@pytest.mark.parametrize("value", [1, 2**63, "\ud800"], ids=["key taken", "65 bits", "lone surrogate"])
async def test_value_that_the_file_cannot_hold_is_refused(database: SqliteDatabase, value: object) -> None:
    await database.write(insert(1))
    with pytest.raises(RecordRefused):
        await database.write(lambda connection: connection.execute("INSERT INTO numbers VALUES (?)", (value,)))
    assert await numbers(database) == [1]
    assert database.trouble is None


async def test_wrong_statement_is_raised_as_it_is(database: SqliteDatabase) -> None:
    with pytest.raises(sqlite3.OperationalError, match="syntax error"):
        await database.read(lambda connection: connection.execute("NONSENSE"))


async def test_trouble_of_a_write_stays_until_a_write_succeeds(database: SqliteDatabase) -> None:
    await database.read(lambda connection: connection.execute("PRAGMA query_only = ON").fetchone())
    with pytest.raises(InfrastructureDown, match="readonly"):
        await database.write(insert(1))
    assert await numbers(database) == []
    assert database.trouble is not None
    with pytest.raises(InfrastructureDown):
        await database.probe()
    await database.read(lambda connection: connection.execute("PRAGMA query_only = OFF").fetchone())
    assert database.trouble is not None
    await database.probe()
    assert database.trouble is None


async def test_replaced_file_is_damage_for_good(database: SqliteDatabase) -> None:
    await database.write(insert(1))
    other = database.path.with_name("other.sqlite3")
    other.write_bytes(database.path.read_bytes())
    other.replace(database.path)
    for _ in range(2):
        with pytest.raises(Damaged, match="was replaced while it was open"):
            await database.write(insert(2))


async def test_start_write_reports_result_and_error_on_the_loop(database: SqliteDatabase) -> None:
    ends: asyncio.Queue[tuple[object, BaseException | None]] = asyncio.Queue()
    database.start_write(lambda connection: 7, lambda result, error: ends.put_nowait((result, error)))
    assert await ends.get() == (7, None)
    database.start_write(insert(1), lambda result, error: None)
    database.start_write(insert(1), lambda result, error: ends.put_nowait((result, error)))
    result, error = await ends.get()
    assert result is None
    assert isinstance(error, RecordRefused)


async def test_start_write_reports_the_end_of_work_that_raises_no_ordinary_exception(database: SqliteDatabase) -> None:
    ends: asyncio.Queue[BaseException | None] = asyncio.Queue()
    panic = BaseException("a panic of a library in C")

    def work(connection: sqlite3.Connection) -> None:
        raise panic

    database.start_write(work, lambda result, error: ends.put_nowait(error))
    assert await ends.get() is panic
    database.start_write(insert(1), lambda result, error: ends.put_nowait(error))
    assert await ends.get() is None


async def test_truncated_log_is_empty_unless_a_reader_keeps_its_snapshot(database: SqliteDatabase) -> None:
    await database.write(insert(1))
    assert database.log_bytes() > 0
    reader = sqlite3.connect(database.path, isolation_level=None)
    reader.execute("BEGIN")
    reader.execute("SELECT * FROM numbers").fetchall()
    await database.write(insert(2))
    assert not await database.truncate_log()
    reader.close()
    assert await database.truncate_log()
    assert database.log_bytes() == 0


async def test_closed_file_takes_no_more_work(database: SqliteDatabase) -> None:
    await database.close()
    await database.close()
    with pytest.raises(InfrastructureDown, match="is closed"):
        await database.write(insert(1))
