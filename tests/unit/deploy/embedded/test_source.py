"""The journal as the worker's source: waits, batches, and the records that it lets the journal forget."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from deploy.embedded.journal import Journal
from deploy.embedded.source import JournalSource
from tests.support import log_records
from tests.support.log_records import Time


@pytest.fixture
async def journal(tmp_path: Path) -> AsyncIterator[Journal]:
    opened = await Journal.open(tmp_path / "journal.sqlite3", now_ms=Time())
    yield opened
    await opened.close()


async def test_poll_waits_for_the_first_record(journal: Journal) -> None:
    source = JournalSource(journal, cursor=0, poll_wait_s=5, linger_s=0)
    polling = asyncio.create_task(source.poll(10))
    await asyncio.sleep(0)
    await journal.append(log_records.record("N1"))
    (record,) = await asyncio.wait_for(polling, 5)
    assert (source.lag, source.committed) == (0, 0)
    await source.commit([record.position])
    assert source.committed == 1


async def test_poll_without_records_ends_after_its_wait(journal: Journal) -> None:
    source = JournalSource(journal, cursor=0, poll_wait_s=0.001)
    assert await source.poll(10) == ()


async def test_record_that_comes_alone_waits_for_no_others(journal: Journal) -> None:
    source = JournalSource(journal, cursor=0, poll_wait_s=60, linger_s=3600)
    polling = asyncio.create_task(source.poll(10))
    await asyncio.sleep(0)
    await journal.append(log_records.record("N1"))
    assert len(await asyncio.wait_for(polling, 60)) == 1


async def test_batch_after_a_batch_waits_for_more_unless_it_is_full(journal: Journal) -> None:
    for number in range(1, 5):
        await journal.append(log_records.record(f"N{number}"))
    source = JournalSource(journal, cursor=0, poll_wait_s=60, linger_s=3600)
    assert len(await source.poll(2)) == 2
    assert len(await source.poll(1)) == 1
    polling = asyncio.create_task(source.poll(2))
    for _ in range(20):
        await asyncio.sleep(0.001)
    assert not polling.done()
    polling.cancel()


async def test_rest_between_batches_counts_from_the_end_of_the_last_one(journal: Journal) -> None:
    """Not from an empty poll in between."""
    source = JournalSource(journal, cursor=0, poll_wait_s=0.03, linger_s=0.01)
    await journal.append(log_records.record("N1"))
    assert len(await source.poll(10)) == 1
    assert await source.poll(10) == ()
    source._linger_s = 3600
    await journal.append(log_records.record("N2"))
    assert len(await asyncio.wait_for(source.poll(10), 60)) == 1


async def test_batches_continue_after_the_cursor_up_to_the_limit(journal: Journal) -> None:
    for number in range(1, 6):
        await journal.append(log_records.record(f"N{number}"))
    source = JournalSource(journal, cursor=1, poll_wait_s=0, linger_s=0)
    assert source.lag == 4
    assert [each.position.offset for each in await source.poll(3)] == [2, 3, 4]
    assert [each.position.offset for each in await source.poll(3)] == [5]
    assert source.lag == 0


async def test_batch_that_failed_is_redelivered_after_a_rewind(journal: Journal) -> None:
    for number in range(1, 6):
        await journal.append(log_records.record(f"N{number}"))
    source = JournalSource(journal, cursor=0, poll_wait_s=0, linger_s=0)
    done = await source.poll(2)
    await source.commit([each.position for each in done])
    failed = await source.poll(2)
    source.rewind()
    assert source.lag == 3
    assert (await source.poll(2)) == failed


async def test_commit_lets_the_journal_prune_and_never_moves_back(journal: Journal) -> None:
    for number in range(1, 5):
        await journal.append(log_records.record(f"N{number}"))
    source = JournalSource(journal, cursor=0, poll_wait_s=0, linger_s=0)
    batch = await source.poll(10)
    assert await journal.prune(older_than_ms=2**60) == 0
    await source.commit([batch[1].position])
    await source.commit([batch[0].position])
    assert source.committed == 2
    assert await journal.prune(older_than_ms=2**60) == 2
