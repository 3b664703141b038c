"""Operators' reads of a SQLite file: beside its writer, and no longer than they may."""

import asyncio
import sqlite3
import threading
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from deploy.embedded.migrations import Schema
from deploy.embedded.sqlite import SqliteDatabase
from deploy.embedded.sqlite_reader import SqliteReader
from workers.errors import InfrastructureDown, ReadTooSlow

SCHEMA = Schema(application_id=7, scripts=("CREATE TABLE numbers (number INTEGER PRIMARY KEY);",))
FOR_EVER = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT count(*) FROM n"


@pytest.fixture
async def database(tmp_path: Path) -> AsyncIterator[SqliteDatabase]:
    opened = await SqliteDatabase.open(tmp_path / "x.sqlite3", SCHEMA, create=True)
    yield opened
    await opened.close()


@pytest.fixture
async def reader(database: SqliteDatabase) -> AsyncIterator[SqliteReader]:
    reader = SqliteReader(database.path, deadline_s=60)
    yield reader
    await reader.close()


async def insert(database: SqliteDatabase, number: int) -> None:
    await database.write(lambda connection: connection.execute("INSERT INTO numbers VALUES (?)", (number,)))


def numbers(connection: sqlite3.Connection) -> list[int]:
    return [number for (number,) in connection.execute("SELECT number FROM numbers ORDER BY number")]


def never_end(connection: sqlite3.Connection) -> object:
    return connection.execute(FOR_EVER).fetchone()


async def test_what_is_committed_is_read(database: SqliteDatabase, reader: SqliteReader) -> None:
    for number in range(3):
        await insert(database, number)
        assert await reader.read(numbers) == list(range(number + 1))


async def test_writes_pass_a_read_that_takes_long(database: SqliteDatabase, reader: SqliteReader) -> None:
    reading = asyncio.create_task(reader.read(never_end))
    await insert(database, 1)
    assert await database.read(numbers) == [1]
    assert not reading.done()
    await reader.close()
    with pytest.raises(InfrastructureDown, match="is closed"):
        await reading


async def test_read_beyond_its_deadline_is_interrupted_and_the_next_one_is_answered(
    database: SqliteDatabase, reader: SqliteReader
) -> None:
    await insert(database, 1)
    with pytest.raises(ReadTooSlow, match=r"longer than 0\.05 s"):
        await reader.read(never_end, deadline_s=0.05)
    assert await reader.read(numbers) == [1]


async def test_wait_behind_other_reads_counts(database: SqliteDatabase, reader: SqliteReader) -> None:
    may_end = threading.Event()
    first = asyncio.create_task(reader.read(lambda _: may_end.wait(60)))
    waiting = [asyncio.create_task(reader.read(numbers, deadline_s=0.05)) for _ in range(3)]
    await asyncio.sleep(0)  # all have begun
    await asyncio.sleep(0.1)
    may_end.set()
    assert await first
    results = await asyncio.gather(*waiting, return_exceptions=True)
    assert [type(each) for each in results] == [ReadTooSlow] * 3


async def test_forgotten_read_does_not_keep_the_log_from_being_emptied(
    database: SqliteDatabase, reader: SqliteReader
) -> None:
    await insert(database, 1)
    with pytest.raises(ReadTooSlow):
        await reader.read(never_end, deadline_s=0.05)
    await insert(database, 2)
    assert await database.truncate_log()


async def test_reader_cannot_write(reader: SqliteReader) -> None:
    with pytest.raises(InfrastructureDown, match="readonly"):
        await reader.read(lambda connection: connection.execute("INSERT INTO numbers VALUES (1)"))


async def test_mistake_in_a_statement_is_told_as_such(reader: SqliteReader) -> None:
    with pytest.raises(sqlite3.OperationalError, match="no such table"):
        await reader.read(lambda connection: connection.execute("SELECT * FROM absent"))
    assert await reader.read(numbers) == []


async def test_missing_file_is_an_outage_that_ends(database: SqliteDatabase, reader: SqliteReader) -> None:
    aside = database.path.with_name("aside")
    database.path.rename(aside)
    with pytest.raises(InfrastructureDown, match="No such file"):
        await reader.read(numbers)
    aside.rename(database.path)
    assert await reader.read(numbers) == []


async def test_file_that_was_replaced_is_opened_again(tmp_path: Path) -> None:
    paths = [tmp_path / name for name in ("x.sqlite3", "y.sqlite3")]
    for number, path in enumerate(paths):
        database = await SqliteDatabase.open(path, SCHEMA, create=True)
        await insert(database, number)
        await database.close()
    reader = SqliteReader(paths[0])
    assert await reader.read(numbers) == [0]
    paths[1].rename(paths[0])
    assert await reader.read(numbers) == [1]
    await reader.close()


async def test_closed_reader_refuses(reader: SqliteReader) -> None:
    await reader.close()
    await reader.close()
    with pytest.raises(InfrastructureDown, match="is closed"):
        await reader.read(numbers)


async def test_read_whose_asker_has_gone_ends(database: SqliteDatabase, reader: SqliteReader) -> None:
    reading = asyncio.create_task(reader.read(never_end))
    await insert(database, 1)
    reading.cancel()
    assert await reader.read(numbers) == [1]
