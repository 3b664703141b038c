"""aiokafka, as far as it can be seen without a broker: what its errors mean, and what is left when it is ended."""

import asyncio
import gc
from collections.abc import AsyncIterator, Sequence
from typing import Any

import pytest
from aiokafka import errors
from aiokafka.cluster import ClusterMetadata
from aiokafka.structs import PartitionMetadata

from ingest.kafka import producer as kafka_producer
from ingest.kafka.in_flight import AppendFailure, ProducerFault, send_now
from ingest.kafka.producer import KafkaProducer
from schemas.record_format import Record

TOPIC = "payments.alipay.notification.v1"
RECORD = Record(b"shop-sg:N1", b"a=1&sign=x", (("account", b"shop-sg"), ("path", b"/notify/shop-sg")))


def know(cluster: ClusterMetadata, partitions: Sequence[int]) -> None:
    """As if a broker had told of these partitions of the topic."""
    cluster._partitions = {
        TOPIC: {each: PartitionMetadata(TOPIC, each, 1, [1], [1], 0) for each in partitions},
    }
    for listener in cluster._listeners:
        listener(cluster)


def built(*, idempotent: bool = False) -> KafkaProducer:
    return kafka_producer.factory({"bootstrap_servers": "a:1,b:2"}, TOPIC, client_id="tests", idempotent=idempotent)()


@pytest.fixture
async def producer() -> AsyncIterator[KafkaProducer]:
    """One that was never started, and knows its topic all the same."""
    producer = built()
    producer._client.client.cluster.add_listener(producer._learn)
    know(producer._client.client.cluster, range(12))
    yield producer
    await producer.close(flush_s=0.1)


@pytest.mark.parametrize(
    ("error", "fault", "fault_if_idempotent", "meaning"),
    [
        (errors.OutOfOrderSequenceNumber(), ProducerFault.SEQUENCE, ProducerFault.SEQUENCE, AppendFailure.REFUSED),
        (errors.UnknownProducerId(), ProducerFault.SEQUENCE, ProducerFault.SEQUENCE, AppendFailure.REFUSED),
        (errors.ProducerFenced(), ProducerFault.FENCED, ProducerFault.FENCED, AppendFailure.UNKNOWN),
        (errors.InvalidProducerEpoch(), ProducerFault.FENCED, ProducerFault.FENCED, AppendFailure.REFUSED),
        (errors.ProducerClosed(), ProducerFault.CLOSED, ProducerFault.CLOSED, AppendFailure.UNKNOWN),
        (
            errors.KafkaError("Unexpected error"),
            ProducerFault.UNEXPECTED,
            ProducerFault.UNEXPECTED,
            AppendFailure.UNKNOWN,
        ),
        (errors.MessageSizeTooLargeError(), None, ProducerFault.REFUSED_BATCH, AppendFailure.REFUSED),
        (errors.for_code(87)(), None, ProducerFault.REFUSED_BATCH, AppendFailure.REFUSED),  # INVALID_RECORD
        (errors.for_code(89)(), None, ProducerFault.REFUSED_BATCH, AppendFailure.REFUSED),  # THROTTLING_QUOTA_EXCEEDED
        (errors.TopicAuthorizationFailedError(TOPIC), None, ProducerFault.REFUSED_BATCH, AppendFailure.FORBIDDEN),
        (errors.NotEnoughReplicasError(), None, None, AppendFailure.UNKNOWN),
        (errors.NotEnoughReplicasAfterAppendError(), None, None, AppendFailure.UNKNOWN),
        (errors.NotLeaderForPartitionError(), None, None, AppendFailure.UNKNOWN),
        (errors.RequestTimedOutError(), None, None, AppendFailure.UNKNOWN),
        (errors.NodeNotReadyError(), None, None, AppendFailure.UNKNOWN),
        (errors.KafkaConnectionError(), None, None, AppendFailure.UNKNOWN),
        (errors.KafkaStorageError(), None, None, AppendFailure.UNKNOWN),
        (TimeoutError(), None, None, AppendFailure.UNKNOWN),
        (asyncio.CancelledError(), None, None, AppendFailure.UNKNOWN),
        (TypeError("a header is no pair"), None, None, AppendFailure.OURS),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, BaseException) else str(value),
)
async def test_what_each_error_of_a_record_that_was_sent_means(
    error: BaseException, fault: ProducerFault | None, fault_if_idempotent: ProducerFault | None, meaning: AppendFailure
) -> None:
    plain, idempotent = built(), built(idempotent=True)
    assert plain.fault_of(error, was_sent=True) is fault
    assert idempotent.fault_of(error, was_sent=True) is fault_if_idempotent
    assert plain.meaning_of(error) is idempotent.meaning_of(error) is meaning
    await plain.close(flush_s=0.1)
    await idempotent.close(flush_s=0.1)


@pytest.mark.parametrize("error", [errors.KafkaTimeoutError(), errors.MessageSizeTooLargeError()])
async def test_what_was_never_sent_leaves_no_hole_in_a_sequence(error: BaseException) -> None:
    idempotent = built(idempotent=True)
    assert idempotent.fault_of(error, was_sent=False) is None
    await idempotent.close(flush_s=0.1)


async def test_the_number_of_partitions_follows_the_metadata(producer: KafkaProducer) -> None:
    cluster = producer._client.client.cluster
    assert producer.partitions == 12
    know(cluster, range(24))
    assert producer.partitions == 24
    cluster._partitions = {}
    for listener in cluster._listeners:
        listener(cluster)
    assert producer.partitions == 0


async def test_a_record_is_handed_over_without_waiting_and_its_future_ends_with_the_producer(
    producer: KafkaProducer,
) -> None:
    delivered = [send_now(producer.send(RECORD, partition)) for partition in (0, 0, 7)]
    await asyncio.sleep(0)
    assert all(each is not None and not each.done() for each in delivered)
    await producer.close(flush_s=0.1)
    for each in delivered:
        assert each is not None
        with pytest.raises(errors.ProducerClosed):
            await each


async def test_where_a_batch_is_full_nothing_is_sent_at_once(producer: KafkaProducer) -> None:
    large = Record(b"k", b"x" * 100_000, ())
    accepted = [send_now(producer.send(large, 0)) for _ in range(4)]
    assert [each is None for each in accepted] == [False, False, True, True]
    (batch,) = producer._client._message_accumulator._batches[(TOPIC, 0)]
    assert batch.record_count == 2


async def test_what_is_larger_than_a_broker_takes_is_refused_before_it_is_sent(producer: KafkaProducer) -> None:
    with pytest.raises(errors.MessageSizeTooLargeError):
        send_now(producer.send(Record(b"k", b"x" * 1_000_000, ()), 0))


async def test_ending_it_leaves_no_task_and_says_nothing_to_the_loop() -> None:
    told: list[dict[str, Any]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: told.append(context))
    producer = built()
    know(producer._client.client.cluster, range(12))
    asked: list[int] = []

    async def hang(node: int, request: Any) -> None:
        asked.append(node)
        await asyncio.Event().wait()

    producer._client.client.send = hang
    await producer._client._sender.start()
    delivered = send_now(producer.send(RECORD, 3))
    assert delivered is not None
    await producer.close(flush_s=0.05)
    assert asked == [1], "a request was on its way, and would have been for ever"
    assert delivered.done()
    assert isinstance(delivered.exception(), errors.ProducerClosed)
    del producer, delivered
    await asyncio.sleep(0.01)
    gc.collect()
    assert [task for task in asyncio.all_tasks() if "aiokafka" in repr(task)] == []
    assert told == []


async def test_a_sender_that_ended_is_noticed() -> None:
    producer = built()
    before = producer.has_ended
    await producer._client._sender.start()
    started = producer.has_ended
    producer._client._sender.sender_task.cancel()
    await asyncio.sleep(0.01)
    assert (before, started, producer.has_ended) == (False, False, True)
    await producer.close(flush_s=0.1)


async def test_addresses_are_asked_in_varying_order() -> None:
    firsts = set()
    for _ in range(50):
        producer = built()
        firsts.add(producer._client.client.hosts[0][0])
        await producer.close(flush_s=0.1)
    assert firsts == {"a", "b"}
