"""A record is appended to the partition of its key, or it is unknown whether it was."""

import asyncio
from collections.abc import Sequence
from typing import Any

import pytest
from aiokafka.errors import KafkaConnectionError, MessageSizeTooLargeError

from schemas import topics
from schemas.record_format import Record
from workers.errors import InfrastructureDown, RecordRefused
from workers.kafka.appending import KafkaAppending

RECORD = Record(b"shop:A-1", b"{}", (("account", b"shop"),))


class FakeProducer:
    """A producer that keeps what it is given."""

    def __init__(self, *, failure: Exception | None = None, is_silent: bool = False) -> None:
        self.sent: list[tuple[str, int, bytes, bytes, Sequence[tuple[str, bytes]]]] = []
        self.failure, self.is_silent = failure, is_silent
        self.starts = self.stops = 0

    async def start(self) -> None:
        self.starts += 1

    async def stop(self) -> None:
        self.stops += 1

    async def partitions_for(self, topic: str) -> set[int]:
        return set(range(12))

    async def send_and_wait(
        self, topic: str, *, value: bytes, key: bytes, partition: int, headers: Sequence[tuple[str, bytes]]
    ) -> Any:
        if self.is_silent:
            await asyncio.Event().wait()
        if self.failure is not None:
            raise self.failure
        self.sent.append((topic, partition, key, value, headers))


async def test_record_goes_to_the_partition_of_its_key_by_one_producer() -> None:
    producer = FakeProducer()
    appending = KafkaAppending(lambda: producer, topic="payments.n")
    for _ in range(2):
        await appending.append(RECORD)
    await appending.stop()
    assert (
        producer.sent == [("payments.n", topics.partition_of(RECORD.key, 12), RECORD.key, b"{}", [*RECORD.headers])] * 2
    )
    assert (producer.starts, producer.stops) == (1, 1)


async def test_failure_takes_another_producer_the_next_time() -> None:
    bad, good = FakeProducer(failure=KafkaConnectionError("gone")), FakeProducer()
    producers = iter((bad, good))
    appending = KafkaAppending(lambda: next(producers), topic="payments.n")
    with pytest.raises(InfrastructureDown, match="Kafka"):
        await appending.append(RECORD)
    assert bad.stops == 1
    await appending.append(RECORD)
    assert len(good.sent) == 1


async def test_record_too_large_for_the_topic_is_refused_and_the_producer_stays() -> None:
    producer = FakeProducer(failure=MessageSizeTooLargeError())
    appending = KafkaAppending(lambda: producer, topic="payments.n")
    with pytest.raises(RecordRefused):
        await appending.append(RECORD)
    assert producer.stops == 0


async def test_producer_that_never_answers_is_given_up() -> None:
    appending = KafkaAppending(lambda: FakeProducer(is_silent=True), topic="payments.n", append_s=0.05)
    with pytest.raises(InfrastructureDown):
        await appending.append(RECORD)
