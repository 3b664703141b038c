"""aiokafka as far as it can be tested without a broker: the meaning of its errors, and its forced end."""

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
ALL_IN_SYNC = -1  # in the request; of a topic that needs two replicas in sync, one alone acknowledges nothing
RECORD = Record(b"shop-sg:N1", b"a=1&sign=x", (("account", b"shop-sg"), ("path", b"/notify/shop-sg")))


def know(cluster: ClusterMetadata, partitions: Sequence[int]) -> None:
    """Set the topic's partitions, as metadata from a broker does."""
    cluster._partitions = {
        TOPIC: {each: PartitionMetadata(TOPIC, each, 1, [1], [1], 0) for each in partitions},
    }
    for listener in cluster._listeners:
        listener(cluster)


def built(*, idempotent: bool = False) -> KafkaProducer:
    return kafka_producer.factory({"bootstrap_servers": "a:1,b:2"}, TOPIC, client_id="tests", idempotent=idempotent)()


@pytest.fixture
async def producer() -> AsyncIterator[KafkaProducer]:
    """A producer that was never started and knows the partitions of its topic."""
    producer = built()
    producer._client.client.cluster.add_listener(producer._update_partitions)
    know(producer._client.client.cluster, range(12))
    yield producer
    await producer.close(flush_s=0.1)


@pytest.mark.parametrize("idempotent", [False, True])
async def test_record_counts_as_acknowledged_when_all_replicas_in_sync_have_it(idempotent: bool) -> None:
    producer = built(idempotent=idempotent)
    assert producer._client._sender._acks == ALL_IN_SYNC
    await producer.close(flush_s=0.1)


@pytest.mark.parametrize(
    ("error", "fault", "fault_if_idempotent", "failure"),
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
async def test_fault_and_failure_of_each_error_of_a_sent_record(
    error: BaseException, fault: ProducerFault | None, fault_if_idempotent: ProducerFault | None, failure: AppendFailure
) -> None:
    plain, idempotent = built(), built(idempotent=True)
    assert plain.fault_of(error, was_sent=True) is fault
    assert idempotent.fault_of(error, was_sent=True) is fault_if_idempotent
    assert plain.failure_of(error) is idempotent.failure_of(error) is failure
    await plain.close(flush_s=0.1)
    await idempotent.close(flush_s=0.1)


@pytest.mark.parametrize("error", [errors.KafkaTimeoutError(), errors.MessageSizeTooLargeError()])
async def test_record_refused_before_it_was_sent_leaves_no_hole_in_the_sequence(error: BaseException) -> None:
    idempotent = built(idempotent=True)
    assert idempotent.fault_of(error, was_sent=False) is None
    await idempotent.close(flush_s=0.1)


async def test_partition_count_follows_the_metadata(producer: KafkaProducer) -> None:
    cluster = producer._client.client.cluster
    assert producer.partitions == 12
    know(cluster, range(24))
    assert producer.partitions == 24
    cluster._partitions = {}
    for listener in cluster._listeners:
        listener(cluster)
    assert producer.partitions == 0


async def test_send_does_not_wait_and_its_future_ends_with_the_producer(
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


async def test_send_now_sends_nothing_if_the_batch_is_full(producer: KafkaProducer) -> None:
    large = Record(b"k", b"x" * 100_000, ())
    accepted = [send_now(producer.send(large, 0)) for _ in range(4)]
    assert [each is None for each in accepted] == [False, False, True, True]
    (batch,) = producer._client._message_accumulator._batches[(TOPIC, 0)]
    assert batch.record_count == 2


async def test_record_larger_than_the_limit_is_refused_before_it_is_sent(producer: KafkaProducer) -> None:
    with pytest.raises(errors.MessageSizeTooLargeError):
        send_now(producer.send(Record(b"k", b"x" * 1_000_000, ()), 0))


async def test_close_leaves_no_task_and_reports_nothing_to_the_event_loop() -> None:
    reported: list[dict[str, Any]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: reported.append(context))
    producer = built()
    know(producer._client.client.cluster, range(12))
    requested: list[int] = []

    async def hang(node: int, request: Any) -> None:
        requested.append(node)
        await asyncio.Event().wait()

    producer._client.client.send = hang
    await producer._client._sender.start()
    delivered = send_now(producer.send(RECORD, 3))
    assert delivered is not None
    await producer.close(flush_s=0.05)
    assert requested == [1], "a request was in flight that would never have ended"
    assert delivered.done()
    assert isinstance(delivered.exception(), errors.ProducerClosed)
    del producer, delivered
    await asyncio.sleep(0.01)
    gc.collect()
    assert [task for task in asyncio.all_tasks() if "aiokafka" in repr(task)] == []
    assert reported == []


async def test_has_ended_is_true_after_the_sender_has_ended() -> None:
    producer = built()
    before = producer.has_ended
    await producer._client._sender.start()
    started = producer.has_ended
    producer._client._sender.sender_task.cancel()
    await asyncio.wait({producer._client._sender.sender_task})
    assert (before, started, producer.has_ended) == (False, False, True)
    await producer.close(flush_s=0.1)


async def test_bootstrap_addresses_are_tried_in_random_order() -> None:
    firsts = set()
    for _ in range(50):
        producer = built()
        firsts.add(producer._client.client.hosts[0][0])
        await producer.close(flush_s=0.1)
    assert firsts == {"a", "b"}
