"""The wait of a sender ends at its deadline; the quota counts a record until the record has ended."""

import asyncio
from typing import Any

import pytest

from ingest.errors import Unavailable
from ingest.kafka.in_flight import PendingRecords, QuotaLimits, record_quota
from ingest.quota import Quota
from tests.support.waiting import until

SIZE = 100


class Results:
    """Records the calls of `on_done` and `on_overdue`."""

    def __init__(self) -> None:
        self.done: list[BaseException | None] = []
        self.overdue = 0

    def late(self) -> None:
        self.overdue += 1


@pytest.fixture
def quota() -> Quota:
    return record_quota(QuotaLimits(records_max=3, bytes_max=250))


@pytest.fixture
def results() -> Results:
    return Results()


@pytest.fixture
async def pending(quota: Quota, results: Results) -> PendingRecords:
    return PendingRecords(quota, on_done=results.done.append, on_overdue=results.late, deadline_s=0.05)


def future() -> asyncio.Future[Any]:
    return asyncio.get_running_loop().create_future()


def track(pending: PendingRecords, quota: Quota, delivered: asyncio.Future[Any]) -> asyncio.Future[None]:
    quota.take(SIZE)
    return pending.track(delivered, SIZE, asyncio.get_running_loop().time())


async def test_wait_ends_when_the_record_is_acknowledged(
    pending: PendingRecords, quota: Quota, results: Results
) -> None:
    delivered = future()
    waiter = track(pending, quota, delivered)
    assert pending
    delivered.set_result(None)
    await waiter
    assert (quota.count, quota.bytes, bool(pending), results.done) == (0, 0, False, [None])


async def test_failed_record_is_unknown(pending: PendingRecords, quota: Quota, results: Results) -> None:
    delivered = future()
    waiter = track(pending, quota, delivered)
    error = OSError("gone")
    delivered.set_exception(error)
    with pytest.raises(Unavailable, match="unknown whether written"):
        await waiter
    assert (quota.count, results.done) == (0, [error])


async def test_record_whose_wait_timed_out_counts_until_it_has_ended(
    pending: PendingRecords, quota: Quota, results: Results
) -> None:
    delivered = future()
    began_s = asyncio.get_running_loop().time()
    waiter = track(pending, quota, delivered)
    with pytest.raises(Unavailable, match="in time"):
        await waiter
    assert asyncio.get_running_loop().time() - began_s < 1
    assert (quota.count, quota.bytes, results.overdue, results.done) == (1, SIZE, 1, [])
    delivered.set_result(None)
    await asyncio.sleep(0)
    assert (quota.count, quota.bytes, results.done) == (0, 0, [None])


async def test_cancelled_sender_cancels_neither_the_record_nor_its_count(
    pending: PendingRecords, quota: Quota, results: Results
) -> None:
    delivered = future()

    async def wait() -> None:
        await track(pending, quota, delivered)

    task = asyncio.create_task(wait())
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert not delivered.done()
    assert quota.count == 1
    await until(lambda: results.overdue)  # reported even without a sender
    assert (quota.count, results.overdue) == (1, 1)
    delivered.set_result(None)
    await asyncio.sleep(0)
    assert (quota.count, results.done) == (0, [None])


async def test_each_wait_ends_at_its_own_deadline(pending: PendingRecords, quota: Quota) -> None:
    clock = asyncio.get_running_loop().time
    waits = []
    for _ in range(2):
        waits.append((clock(), track(pending, quota, future())))
        await asyncio.sleep(0.03)
    for began_s, waiter in waits:
        with pytest.raises(Unavailable):
            await waiter
        assert 0.045 <= clock() - began_s < 1


async def test_cancel_all_ends_waiting_and_abandoned_records(
    pending: PendingRecords, quota: Quota, results: Results
) -> None:
    waiting, abandoned = future(), future()
    track(pending, quota, abandoned).cancel()
    await until(lambda: results.overdue)
    waiter = track(pending, quota, waiting)
    pending.cancel_all()
    with pytest.raises(Unavailable):
        await waiter
    assert (quota.count, quota.bytes, bool(pending), len(results.done)) == (0, 0, False, 2)


async def test_quota_limits_records_and_bytes_in_flight(quota: Quota) -> None:
    for size in (1, 1, 1):
        quota.take(size)
    with pytest.raises(Unavailable):
        quota.take(1)
    quota.release(1)
    with pytest.raises(Unavailable):
        quota.take(249)
    quota.take(248)
    assert (quota.count, quota.bytes) == (3, 250)
