"""A wait ends in time, a flight when it ends; the count follows the flight."""

import asyncio
from typing import Any

import pytest

from ingest.errors import Unavailable
from ingest.kafka.in_flight import PendingRecords, QuotaLimits, record_quota
from ingest.quota import Quota

SIZE = 100


class Ended:
    def __init__(self) -> None:
        self.landed: list[BaseException | None] = []
        self.overdue = 0

    def late(self) -> None:
        self.overdue += 1


@pytest.fixture
def places() -> Quota:
    return record_quota(QuotaLimits(records_max=3, bytes_max=250))


@pytest.fixture
def ended() -> Ended:
    return Ended()


@pytest.fixture
async def flights(places: Quota, ended: Ended) -> PendingRecords:
    return PendingRecords(places, landed=ended.landed.append, overdue=ended.late, deadline_s=0.05)


def future() -> asyncio.Future[Any]:
    return asyncio.get_running_loop().create_future()


def begin(flights: PendingRecords, places: Quota, delivered: asyncio.Future[Any]) -> asyncio.Future[None]:
    places.take(SIZE)
    return flights.begin(delivered, SIZE, asyncio.get_running_loop().time())


async def test_a_wait_ends_well_when_the_record_is_delivered(
    flights: PendingRecords, places: Quota, ended: Ended
) -> None:
    delivered = future()
    waiter = begin(flights, places, delivered)
    assert flights
    delivered.set_result(None)
    await waiter
    assert (places.count, places.bytes, bool(flights), ended.landed) == (0, 0, False, [None])


async def test_a_failure_is_unknown(flights: PendingRecords, places: Quota, ended: Ended) -> None:
    delivered = future()
    waiter = begin(flights, places, delivered)
    error = OSError("gone")
    delivered.set_exception(error)
    with pytest.raises(Unavailable, match="unknown whether written"):
        await waiter
    assert (places.count, ended.landed) == (0, [error])


async def test_a_wait_that_ended_too_early_keeps_its_place_until_the_record_is_over(
    flights: PendingRecords, places: Quota, ended: Ended
) -> None:
    delivered = future()
    began_s = asyncio.get_running_loop().time()
    waiter = begin(flights, places, delivered)
    with pytest.raises(Unavailable, match="in time"):
        await waiter
    assert asyncio.get_running_loop().time() - began_s < 1
    assert (places.count, places.bytes, ended.overdue, ended.landed) == (1, SIZE, 1, [])
    delivered.set_result(None)
    await asyncio.sleep(0)
    assert (places.count, places.bytes, ended.landed) == (0, 0, [None])


async def test_whoever_is_cancelled_cancels_neither_the_record_nor_its_count(
    flights: PendingRecords, places: Quota, ended: Ended
) -> None:
    delivered = future()

    async def wait() -> None:
        await begin(flights, places, delivered)

    task = asyncio.create_task(wait())
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert not delivered.done()
    assert places.count == 1
    await asyncio.sleep(0.1)
    assert (places.count, ended.overdue) == (1, 1), "no word in time, whoever waits for it"
    delivered.set_result(None)
    await asyncio.sleep(0)
    assert (places.count, ended.landed) == (0, [None])


async def test_each_wait_ends_at_its_own_deadline(flights: PendingRecords, places: Quota) -> None:
    clock = asyncio.get_running_loop().time
    waits = []
    for _ in range(2):
        waits.append((clock(), begin(flights, places, future())))
        await asyncio.sleep(0.03)
    for began_s, waiter in waits:
        with pytest.raises(Unavailable):
            await waiter
        assert 0.045 <= clock() - began_s < 1


async def test_what_a_producer_left_ends_with_it(flights: PendingRecords, places: Quota, ended: Ended) -> None:
    waiting, abandoned = future(), future()
    begin(flights, places, abandoned).cancel()
    await asyncio.sleep(0.08)
    waiter = begin(flights, places, waiting)
    flights.forget()
    with pytest.raises(Unavailable):
        await waiter
    assert (places.count, places.bytes, bool(flights), len(ended.landed)) == (0, 0, False, 2)


async def test_no_more_than_so_many_records_and_bytes_are_on_their_way(places: Quota) -> None:
    for size in (1, 1, 1):
        places.take(size)
    with pytest.raises(Unavailable):
        places.take(1)
    places.release(1)
    with pytest.raises(Unavailable):
        places.take(249)
    places.take(248)
    assert (places.count, places.bytes) == (3, 250)
