"""The files' upkeep: what is pruned, what is emptied, and how trouble ends."""

import asyncio
import sqlite3
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from deploy.embedded import directory, housekeeping
from deploy.embedded.directory import Opened
from schemas import topics
from tests.support import log_records
from tests.support.log_records import NOW_MS, Time

DAY_MS = 86_400_000


@pytest.fixture
def time() -> Time:
    return Time()


@pytest.fixture
async def opened(tmp_path: Path, time: Time) -> AsyncIterator[Opened]:
    async with directory.opened(tmp_path, now_ms=time) as files:
        yield files


@asynccontextmanager
async def running(loop: Coroutine[None, None, None]) -> AsyncIterator[None]:
    task = asyncio.create_task(loop)
    try:
        yield
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(5):
        while not condition():  # noqa: ASYNC110 - what is watched is a plain value
            await asyncio.sleep(0.01)


async def settled(opened: Opened, time: Time, *statuses: str, order: str = "N1") -> None:
    before = opened.journal.last
    for status in statuses:
        await opened.journal.append(log_records.record(order, status))
    work = log_records.processing(opened.store, time)
    await work.process(await opened.journal.read(before, 100))
    await work.emit()
    opened.journal.settled(opened.journal.last)


async def outbox(opened: Opened) -> list[str]:
    def ids(connection: sqlite3.Connection) -> list[str]:
        return [id_ for (id_,) in connection.execute("SELECT id FROM outbox ORDER BY number")]

    return await opened.store.database.read(ids)


async def test_what_is_old_enough_goes_and_the_rest_stays(opened: Opened, time: Time) -> None:
    await settled(opened, time, "WAIT_BUYER_PAY", "TRADE_SUCCESS")
    time.now_ms = NOW_MS + 40 * DAY_MS
    await settled(opened, time, "TRADE_FINISHED")
    async with running(housekeeping.prune(opened, time)):
        await until(lambda: opened.journal.first == 3)
        async with asyncio.timeout(5):
            while len(await outbox(opened)) > 1:  # noqa: ASYNC110 - what is watched is a table
                await asyncio.sleep(0.01)
    assert await outbox(opened) == ["shop-sg:N1:3"]


async def test_the_newest_event_of_an_order_stays_however_old_and_its_successor_fits(
    opened: Opened, time: Time
) -> None:
    await settled(opened, time, "WAIT_BUYER_PAY", "TRADE_SUCCESS")
    time.now_ms = NOW_MS + 400 * DAY_MS
    assert await opened.store.prune_sent(older_than_ms=time.now_ms) == 1
    assert await outbox(opened) == ["shop-sg:N1:2"]
    await settled(opened, time, "TRADE_FINISHED")
    page = await opened.store.order_page("shop-sg", "N1")
    assert page is not None
    assert [each.event.id for each in page.events] == ["shop-sg:N1:2", "shop-sg:N1:3"]


async def test_what_was_not_sent_is_not_pruned(opened: Opened, time: Time) -> None:
    await opened.journal.append(log_records.record("N1", "WAIT_BUYER_PAY"))
    await opened.journal.append(log_records.record("N1"))
    await log_records.processing(opened.store, time).process(await opened.journal.read(0, 10))
    assert await opened.store.prune_sent(older_than_ms=NOW_MS + 400 * DAY_MS) == 0


async def test_notices_are_pruned_when_they_are_old(opened: Opened, time: Time) -> None:
    await opened.journal.append(log_records.sealed(b"no form at all", "X"))
    work = log_records.processing(opened.store, time)
    await work.process(await opened.journal.read(0, 10))
    (waiting,) = await opened.store.unsent(10)
    assert waiting[1].topic == topics.HELD
    await work.emit()
    assert await opened.store.prune_sent(older_than_ms=NOW_MS + 1) == 1


async def test_the_logs_are_emptied_when_nobody_appends(
    opened: Opened, time: Time, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(housekeeping, "LOG_BYTES_WORTH_IT", 1)
    await settled(opened, time, "TRADE_SUCCESS")
    async with running(housekeeping.truncate(opened, every_s=0.01, idle_s=60)):
        await asyncio.sleep(0.1)
        assert opened.journal.database.log_bytes() > 0
    async with running(housekeeping.truncate(opened, every_s=0.01, idle_s=0)):
        await until(lambda: opened.journal.database.log_bytes() == opened.store.database.log_bytes() == 0)


async def test_trouble_ends_by_itself_when_its_cause_has(opened: Opened, time: Time) -> None:
    async def query_only(value: str) -> None:
        for database in housekeeping.databases(opened):
            await database.read(lambda connection: connection.execute(f"PRAGMA query_only = {value}").fetchone())

    def is_in_trouble() -> bool:
        return opened.store.trouble is not None

    await query_only("ON")
    async with running(housekeeping.probe(opened, every_s=0.01)):
        with pytest.raises(Exception, match="readonly"):
            await settled(opened, time, "TRADE_SUCCESS")
        with pytest.raises(Exception, match="readonly"):
            await opened.store.mark_sent([1])
        await asyncio.sleep(0.05)
        assert is_in_trouble(), "reading works, and says nothing about writing"
        await opened.store.cursor()
        assert is_in_trouble()
        await query_only("OFF")
        await until(lambda: not is_in_trouble() and opened.journal.trouble is None)
    await settled(opened, time, "TRADE_SUCCESS")
