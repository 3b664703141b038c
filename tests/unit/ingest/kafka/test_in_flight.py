"""The health of the producer in service, by the results of its records, and its end."""

import asyncio

import pytest

from ingest.errors import Unavailable
from ingest.kafka.batches import Append
from ingest.kafka.breaker import Breaker, BreakerPolicy
from ingest.kafka.in_flight import ActiveProducer, AppendFailure, ProducerFault, QuotaLimits, record_quota
from tests.support.kafka_clients import Fails, FakeProducer
from tests.support.kafka_publisher import RECORD
from tests.support.waiting import until

SIZE = 100


class Kit:
    """An active producer, and the failures that an operator must see."""

    def __init__(self) -> None:
        self.producer = FakeProducer()
        self.quota = record_quota(QuotaLimits())
        self.shown: list[AppendFailure] = []
        self.active = ActiveProducer(
            self.producer,
            quota=self.quota,
            breaker=Breaker(BreakerPolicy(), now_s=asyncio.get_running_loop().time),
            on_refused=lambda failure, _: self.shown.append(failure),
        )

    async def append(self, count: int = 1) -> list[Append]:
        for _ in range(count):
            self.quota.take(SIZE)
        due_s = asyncio.get_running_loop().time() + 60
        appends = [self.active.batches.append(RECORD, 0, SIZE, due_s) for _ in range(count)]
        sent = len(self.producer.under_way)
        await until(lambda: len(self.producer.under_way) > sent)
        return appends


@pytest.fixture
async def kit() -> Kit:
    return Kit()


async def test_acknowledged_records_are_counted_and_end_the_waiting(kit: Kit) -> None:
    appends = await kit.append(3)
    assert (kit.active.is_waiting_for_ack, kit.active.acknowledged) == (True, 0)
    kit.producer.under_way[0].set_result(None)
    await asyncio.gather(*appends)
    assert (kit.active.is_waiting_for_ack, kit.active.acknowledged) == (False, 3)


async def test_failed_batch_keeps_it_waiting_for_an_acknowledgement(kit: Kit) -> None:
    (append,) = await kit.append()
    kit.producer.under_way[0].set_exception(Fails())
    with pytest.raises(Unavailable):
        await append
    assert (kit.active.is_waiting_for_ack, kit.active.fault) == (True, None)


async def test_fault_and_refusal_of_a_batch_are_noted_once(kit: Kit) -> None:
    appends = await kit.append(5)
    kit.producer.under_way[0].set_exception(Fails(AppendFailure.REFUSED, ProducerFault.FENCED))
    await asyncio.gather(*appends, return_exceptions=True)
    assert (kit.active.fault, kit.shown) == (ProducerFault.FENCED, [AppendFailure.REFUSED])


async def test_close_lets_records_end_and_ends_the_rest(kit: Kit) -> None:
    (late,) = await kit.append()
    await kit.active.close(flush_s=0.02)
    with pytest.raises(Unavailable):
        await late
    assert (kit.producer.closed, kit.quota.count, kit.active.fault) == (True, 0, None)
