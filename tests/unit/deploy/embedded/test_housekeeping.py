"""Housekeeping of the engine's files: pruning, emptied logs, and how trouble ends."""

import asyncio
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager

import pytest

from deploy.embedded import housekeeping
from deploy.embedded.directory import EngineFiles
from tests.support import log_records
from tests.support.log_records import NOW_MS, Time
from tests.support.waiting import until
from tests.unit.deploy.embedded.engine_files import DAY_MS, outbox, settled


@asynccontextmanager
async def running(loop: Coroutine[None, None, None]) -> AsyncIterator[None]:
    task = asyncio.create_task(loop)
    try:
        yield
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


def counted_pauses(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The pauses of the loops in housekeeping, one after each round."""
    pauses: list[float] = []
    sleep = asyncio.sleep

    async def counted(seconds: float) -> None:
        if seconds:  # a wait of the test itself is sleep(0)
            pauses.append(seconds)
        await sleep(seconds)

    monkeypatch.setattr(asyncio, "sleep", counted)
    return pauses


async def test_old_records_and_sent_events_are_pruned(files: EngineFiles, time: Time) -> None:
    await settled(files, time, "WAIT_BUYER_PAY", "TRADE_SUCCESS")
    time.now_ms = NOW_MS + 40 * DAY_MS
    await settled(files, time, "TRADE_FINISHED")
    trusted = [False]
    async with running(housekeeping.prune(files, time, lambda: trusted[0], every_s=0.01)):
        await asyncio.sleep(0.1)
        assert files.journal.first == 1
        assert len(await outbox(files)) == 3
        trusted[0] = True
        await until(lambda: files.journal.first == 3)
        async with asyncio.timeout(5):
            while len(await outbox(files)) > 1:  # noqa: ASYNC110 - the condition is in a table
                await asyncio.sleep(0)
    assert await outbox(files) == ["shop-sg:N1:3"]


async def test_write_ahead_logs_are_emptied_when_idle(
    files: EngineFiles, time: Time, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(housekeeping, "LOG_BYTES_MIN", 1)
    await settled(files, time, "TRADE_SUCCESS")
    pauses = counted_pauses(monkeypatch)
    async with running(housekeeping.truncate(files, every_s=0.001, idle_s=60)):
        await until(lambda: len(pauses) > 2)
        assert files.journal.database.log_bytes() > 0
    async with running(housekeeping.truncate(files, every_s=0.001, idle_s=0)):
        await until(lambda: files.journal.database.log_bytes() == files.store.database.log_bytes() == 0)


async def test_trouble_ends_once_its_cause_has_ended(
    files: EngineFiles, time: Time, monkeypatch: pytest.MonkeyPatch
) -> None:
    pauses = counted_pauses(monkeypatch)

    async def query_only(value: str) -> None:
        for database in housekeeping.databases(files):
            await database.read(lambda connection: connection.execute(f"PRAGMA query_only = {value}").fetchone())

    def is_in_trouble() -> bool:
        return files.store.trouble is not None

    await query_only("ON")
    async with running(housekeeping.probe(files, every_s=0.001)):
        with pytest.raises(Exception, match="readonly"):
            await settled(files, time, "TRADE_SUCCESS")
        with pytest.raises(Exception, match="readonly"):
            await files.store.mark_sent([1])
        seen = len(pauses)
        await until(lambda: len(pauses) > seen + 2)
        assert is_in_trouble(), "a successful read does not end the trouble of a write"
        await files.store.cursor()
        assert is_in_trouble()
        await query_only("OFF")
        await until(lambda: not is_in_trouble() and files.journal.trouble is None)
    await settled(files, time, "TRADE_SUCCESS")


@pytest.mark.parametrize("received_at_ms", [0, NOW_MS + 2 * DAY_MS])
async def test_impossible_receive_time_is_no_lag(files: EngineFiles, time: Time, received_at_ms: int) -> None:
    await files.journal.append(log_records.sealed(b"x", "X", received_at_ms=received_at_ms))
    assert await housekeeping._received_at_ms(files, 0, time) == NOW_MS
