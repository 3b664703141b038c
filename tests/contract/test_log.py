"""What every log promises: an appended record is durable, and is read back exactly, in order, until it is committed."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from schemas.record_format import Record
from tests.contract.engines import ClusterLog, Embedded, LogEngine
from tests.support import log_records
from tests.support.log_records import Time
from workers.consumer import Source
from workers.settlement.plan import LogRecord


@pytest.fixture(params=["embedded", "cluster"])
def place(request: pytest.FixtureRequest, tmp_path: Path, time: Time) -> LogEngine:
    return ClusterLog(request.getfixturevalue("kafka")) if request.param == "cluster" else Embedded(tmp_path, time)


@pytest.fixture
async def engine(place: LogEngine) -> AsyncIterator[LogEngine]:
    yield place
    await place.close()


async def drained(source: Source, count: int) -> list[LogRecord]:
    """So many records, however many polls that takes."""
    found: list[LogRecord] = []
    while len(found) < count:
        found += await asyncio.wait_for(source.poll(count - len(found)), 5)
    return found


async def test_record_is_read_as_it_was_appended(engine: LogEngine) -> None:
    record = Record(
        b"shop-sg:\xff\x00", b"\x00\xff" * 100, (("account", b"shop-sg"), ("path", b"/\xfe"), ("path", b""))
    )
    async with engine.log() as log, engine.source() as source:
        await log.append(record)
        (found,) = await drained(source, 1)
    assert found.record == record


async def test_appended_record_survives_a_restart(engine: LogEngine) -> None:
    records = [log_records.record(f"N{number}") for number in range(5)]
    async with engine.log() as log:
        for record in records:
            await log.append(record)
    async with engine.log(), engine.source() as source:
        found = [logged.record for logged in await drained(source, 5)]
    assert sorted(found, key=lambda record: record.key) == records


async def test_records_of_one_key_keep_their_order(engine: LogEngine) -> None:
    async with engine.log() as log, engine.source() as source:
        for number in range(20):
            await log.append(log_records.record("N1", id_=str(number)))
        found = await drained(source, 20)
    assert [logged.record for logged in found] == [log_records.record("N1", id_=str(number)) for number in range(20)]
    assert [logged.position for logged in found] == sorted({logged.position for logged in found})


async def test_concurrent_appends_are_each_there_once(engine: LogEngine) -> None:
    records = [log_records.record(f"N{number}") for number in range(300)]
    async with engine.log() as log, engine.source() as source:
        await asyncio.gather(*(log.append(record) for record in records))
        found = await drained(source, 300)
        assert await source.poll(10) == ()
    assert {logged.record for logged in found} == set(records)
    assert len({logged.position for logged in found}) == 300


async def test_poll_returns_at_most_the_wanted_number(engine: LogEngine) -> None:
    async with engine.log() as log, engine.source() as source:
        await asyncio.gather(*(log.append(log_records.record(f"N{number}")) for number in range(30)))
        assert len(await source.poll(7)) <= 7
        assert len(await drained(source, 20)) == 20


async def test_uncommitted_records_are_redelivered(engine: LogEngine) -> None:
    async with engine.log() as log:
        for number in range(4):
            await log.append(log_records.record("N1", id_=str(number)))
        async with engine.source() as source:
            first = await drained(source, 4)
            await source.commit([first[1].position])
        async with engine.source() as source:
            assert await drained(source, 2) == first[2:]


async def test_poll_of_an_empty_log_returns_nothing_in_time(engine: LogEngine) -> None:
    async with engine.log(), engine.source() as source:
        assert await asyncio.wait_for(source.poll(10), 5) == ()
