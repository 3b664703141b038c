"""The journal beyond its contract: shared commits, limits, deadlines, memory, pruning."""

import asyncio
import threading
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from sqlite3 import Connection

import pytest

from deploy.embedded.journal import Journal, JournalLimits
from deploy.embedded.sqlite import Damaged
from ingest.errors import Unavailable
from schemas.record_format import Record
from tests.support.log_records import NOW_MS, Time, appended
from tests.support.waiting import until
from workers.errors import InfrastructureDown


@asynccontextmanager
async def opened(
    directory: Path, limits: JournalLimits | None = None, time: Time | None = None
) -> AsyncIterator[Journal]:
    journal = await Journal.open(directory / "journal.sqlite3", now_ms=time or Time(), limits=limits)
    try:
        yield journal
    finally:
        await journal.close()


def record(number: int, size: int = 10) -> Record:
    return Record(b"shop-sg:%d" % number, b"x" * size, (("account", b"shop-sg"),))


async def commits(journal: Journal, work: Callable[[], Awaitable[object]]) -> int:
    """Run the work; return how many transactions it took."""
    started = 0
    start = journal.database.start_write

    def counted(work: Callable[[Connection], int], done: Callable[[int | None, BaseException | None], None]) -> None:
        nonlocal started
        started += 1
        start(work, done)

    journal.database.start_write = counted  # type: ignore[method-assign, assignment]
    await work()
    return started


async def test_simultaneous_appends_share_one_commit(tmp_path: Path) -> None:
    async with opened(tmp_path) as journal:
        count = await commits(journal, lambda: asyncio.gather(*(journal.append(record(n)) for n in range(100))))
        assert count == 1
        assert journal.last == 100


async def test_appends_during_a_commit_share_the_next_one(tmp_path: Path) -> None:
    async with opened(tmp_path) as journal:

        async def two_waves() -> None:
            first = [asyncio.create_task(appended(journal, record(n))) for n in range(10)]
            while not journal._writing:  # noqa: ASYNC110 - until the first wave is being written
                await asyncio.sleep(0)
            second = [asyncio.create_task(appended(journal, record(n))) for n in range(10, 30)]
            await asyncio.gather(*first, *second)

        assert await commits(journal, two_waves) == 2


async def test_full_queue_refuses_appends_at_once(tmp_path: Path) -> None:
    async with opened(tmp_path, JournalLimits(queue_records_max=3)) as journal:
        waiting = [asyncio.create_task(appended(journal, record(n))) for n in range(3)]
        await asyncio.sleep(0)
        with pytest.raises(Unavailable, match="full"):
            await journal.append(record(9))
        await asyncio.gather(*waiting)
        await journal.append(record(10))
        assert journal.last == 4


async def test_queue_full_of_bytes_refuses_appends_too(tmp_path: Path) -> None:
    async with opened(tmp_path, JournalLimits(queue_bytes_max=10_000)) as journal:
        waiting = asyncio.create_task(appended(journal, record(1, 8000)))
        await asyncio.sleep(0)
        with pytest.raises(Unavailable, match="full"):
            await journal.append(record(2, 8000))
        await waiting
        await journal.append(record(3, 8000))


async def test_append_that_takes_too_long_is_unknown_and_the_queue_goes_on(tmp_path: Path) -> None:
    async with opened(tmp_path, JournalLimits(append_deadline_s=0.1)) as journal:
        released = threading.Event()
        held = asyncio.create_task(journal.database.read(lambda _: released.wait(5)))
        first = asyncio.create_task(appended(journal, record(1)))
        await until(lambda: journal._writing)
        second = asyncio.create_task(appended(journal, record(2)))
        for each in (first, second):
            with pytest.raises(Unavailable, match="too long"):
                await each
        assert not held.done()
        released.set()
        await held
        await journal.append(record(3))
        keys = [each.record.key for each in await journal.read(0, 10)]
        assert keys[-1] == b"shop-sg:3"
        assert b"shop-sg:2" not in keys, "an expired append is not written"


async def test_offsets_have_no_gaps_after_a_commit_of_unknown_outcome(tmp_path: Path) -> None:
    async with opened(tmp_path) as journal:
        await journal.append(record(1))
        start = journal.database.start_write

        def lost(work: Callable[[Connection], int], done: Callable[[int | None, BaseException | None], None]) -> None:
            """Commit, and lose the answer."""
            start(work, lambda result, error: done(None, InfrastructureDown("no answer")))

        journal.database.start_write = lost  # type: ignore[method-assign, assignment]
        with pytest.raises(Unavailable, match="unknown"):
            await journal.append(record(2))
        journal.database.start_write = start  # type: ignore[method-assign]
        await journal.append(record(3))
        records = await journal.read(0, 10)
        assert [each.position.offset for each in records] == [1, 2, 3]
        assert [each.record for each in records] == [record(1), record(2), record(3)]


async def test_memory_forgets_settled_records_and_those_beyond_its_limit(tmp_path: Path) -> None:
    async with opened(tmp_path, JournalLimits(tail_records_max=5)) as journal:
        for number in range(1, 11):
            await journal.append(record(number))
        assert [each.position.offset for each in await journal.read(0, 3)] == [1, 2, 3]
        assert [each.position.offset for each in await journal.read(7, 9)] == [8, 9, 10]
        journal.settled(9)
        assert [each.record for each in await journal.read(9, 9)] == [record(10)]
        assert [each.record for each in await journal.read(4, 2)] == [record(5), record(6)]
        assert await journal.read(10, 5) == ()


async def test_pruning_deletes_old_settled_records_but_never_the_last(tmp_path: Path) -> None:
    time = Time()
    async with opened(tmp_path, time=time) as journal:
        for number in range(1, 7):
            await journal.append(record(number))
            time.now_ms += 1000
        assert await journal.prune(older_than_ms=time.now_ms) == 0
        journal.settled(4)
        assert await journal.prune(older_than_ms=NOW_MS + 2000) == 2
        assert await journal.prune(older_than_ms=time.now_ms) == 2
        assert (journal.first, journal.last) == (5, 6)
        journal.settled(6)
        assert await journal.prune(older_than_ms=time.now_ms) == 1
    async with opened(tmp_path) as journal:
        assert (journal.first, journal.last) == (6, 6)
        await journal.append(record(7))
        assert journal.last == 7


async def test_missing_record_is_reported_as_damage(tmp_path: Path) -> None:
    async with opened(tmp_path) as journal:
        for number in range(1, 5):
            await journal.append(record(number))
    async with opened(tmp_path) as journal:
        await journal.database.write(lambda connection: connection.execute("DELETE FROM records WHERE log_offset = 2"))
        with pytest.raises(Damaged, match="lacks records after offset 0"):
            await journal.read(0, 10)


async def test_closing_journal_finishes_waiting_appends_and_refuses_new_ones(tmp_path: Path) -> None:
    journal = await Journal.open(tmp_path / "journal.sqlite3", now_ms=Time())
    waiting = asyncio.create_task(appended(journal, record(1)))
    await asyncio.sleep(0)
    await journal.close()
    await waiting
    with pytest.raises(Unavailable, match="closing"):
        await journal.append(record(2))
