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
from ingest.kafka.batches import Builder
from ingest.kafka.in_flight import AppendFailure, ProducerFault
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


def batch(producer: KafkaProducer) -> Builder:
    """A batch of one record."""
    made = producer.new_batch()
    assert made.append(timestamp=None, key=RECORD.key, value=RECORD.value, headers=list(RECORD.headers)) is not None
    return made


async def test_send_does_not_wait_and_its_future_ends_with_the_producer(producer: KafkaProducer) -> None:
    delivered = [producer.send(batch(producer), partition) for partition in (0, 7)]
    await asyncio.sleep(0)
    assert not any(each.done() for each in delivered)
    await producer.close(flush_s=0.1)
    for each in delivered:
        with pytest.raises(errors.ProducerClosed):
            await each


async def test_second_batch_of_a_partition_is_refused_while_the_first_is_not_on_its_way(
    producer: KafkaProducer,
) -> None:
    waiting = producer.send(batch(producer), 0)
    with pytest.raises(errors.KafkaTimeoutError):
        producer.send(batch(producer), 0)
    waiting.cancel()


async def test_batch_takes_any_first_record_and_is_full_at_its_limit(producer: KafkaProducer) -> None:
    made = producer.new_batch()
    large = b"x" * 100_000
    taken = [made.append(timestamp=None, key=b"k", value=large, headers=[]) is not None for _ in range(4)]
    assert taken == [True, True, False, False]
    assert producer.new_batch().append(timestamp=None, key=b"k", value=b"x" * 300_000, headers=[]) is not None


async def test_leader_follows_the_metadata(producer: KafkaProducer) -> None:
    assert producer.leader(3) == 1
    assert producer.leader(99) is None
    producer._client.client.cluster._partitions[TOPIC][3] = PartitionMetadata(TOPIC, 3, -1, [1], [1], 0)
    assert producer.leader(3) is None


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
    delivered = producer.send(batch(producer), 3)
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
