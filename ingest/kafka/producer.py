"""The receiver's producer on aiokafka: its settings, the meaning of its errors, and its forced end.

aiokafka 0.14 sends one batch per partition and one request per broker at a time. In `ingest`, only this module relies
on its internals; its version is pinned, and a test names the attributes that are used.
"""

import asyncio
import random
from collections.abc import Callable, Mapping
from typing import Any

from aiokafka import AIOKafkaProducer
from aiokafka.conn import CloseReason
from aiokafka.errors import (
    BrokerResponseError,
    InvalidProducerEpoch,
    KafkaError,
    KafkaTimeoutError,
    OutOfOrderSequenceNumber,
    ProducerClosed,
    ProducerFenced,
    TopicAuthorizationFailedError,
    UnknownProducerId,
)
from aiokafka.structs import TopicPartition

from ingest.kafka.batches import Builder, Delivered
from ingest.kafka.in_flight import AppendFailure, ProducerFault

BATCH_BYTES_MAX = 256 * 1024
REQUEST_BYTES_MAX = 1_000_000  # below the default limit of brokers
REQUEST_TIMEOUT_S = 5.0  # a record may stay in flight this long, although its sender is refused earlier
METADATA_WITHIN_S = 3.0
TASKS_END_WITHIN_S = 1.0


class KafkaProducer:
    """An aiokafka producer for one topic; implements `ingest.kafka.in_flight.Producer`. Built by `factory`."""

    def __init__(self, client: AIOKafkaProducer, topic: str, *, idempotent: bool) -> None:
        self._client = client
        self._topic = topic
        self._idempotent = idempotent
        self.partitions = 0

    @property
    def has_ended(self) -> bool:
        # aiokafka's sender may end without raising an error anywhere.
        task = self._client._sender.sender_task
        return task is not None and task.done()

    async def start(self) -> None:
        await self._client.start()
        cluster = self._client.client.cluster
        cluster.add_listener(self._update_partitions)
        # From now on, metadata requests name only this topic.
        await self._client.client.set_topics([self._topic])
        self._update_partitions(cluster)

    def _update_partitions(self, cluster: Any) -> None:
        self.partitions = len(cluster.partitions_for_topic(self._topic) or ())

    def new_batch(self) -> Builder:
        builder: Builder = self._client.create_batch()
        return builder

    def leader(self, partition: int, /) -> int | None:
        leader: int | None = self._client.client.cluster.leader_for_partition(TopicPartition(self._topic, partition))
        return None if leader is None or leader < 0 else leader

    def send(self, batch: Builder, partition: int, /) -> Delivered:
        sending = self._client.send_batch(batch, self._topic, partition=partition)
        try:
            sending.send(None)  # it waits only for metadata, or for an earlier batch of this partition
        except StopIteration as ended:
            delivered: Delivered = ended.value
            return delivered
        sending.close()
        raise KafkaTimeoutError("the producer knows no such partition now")

    async def refresh_metadata(self) -> bool:
        try:
            async with asyncio.timeout(METADATA_WITHIN_S):
                return bool(await self._client.client.force_metadata_update())
        except (TimeoutError, KafkaError, OSError):
            return False

    def fault_of(self, error: BaseException, *, was_sent: bool) -> ProducerFault | None:
        match error:
            case OutOfOrderSequenceNumber() | UnknownProducerId():
                return ProducerFault.SEQUENCE
            case ProducerFenced() | InvalidProducerEpoch():
                return ProducerFault.FENCED
            case ProducerClosed():
                return ProducerFault.CLOSED
            case KafkaError() if type(error) is KafkaError:
                return ProducerFault.UNEXPECTED
            # A record refused before it was sent has no sequence number, so it leaves no hole.
            case KafkaError() if self._idempotent and was_sent and not error.retriable:
                return ProducerFault.REFUSED_BATCH
        return None

    def failure_of(self, error: BaseException) -> AppendFailure:
        # Error codes that aiokafka does not know, such as INVALID_RECORD, arrive as its `UnknownError`.
        match error:
            case TopicAuthorizationFailedError():
                return AppendFailure.FORBIDDEN
            case BrokerResponseError() if not error.retriable:
                return AppendFailure.REFUSED
            case KafkaError() | TimeoutError() | OSError() | asyncio.CancelledError():
                return AppendFailure.UNKNOWN
        return AppendFailure.OURS

    async def close(self, *, flush_s: float) -> None:
        # `stop()` can wait forever: an idempotent producer for batches while brokers are away, any producer for a
        # connection whose frozen broker reads nothing. So it gets a time limit, and the rest is ended by force.
        try:
            async with asyncio.timeout(flush_s):
                await self._client.stop()
        except Exception:  # noqa: S110 - ended by force below; the records' results are unknown
            pass
        finally:
            await self._end()

    async def _end(self) -> None:
        """End by force the tasks, connections and batches that `stop` has left; usually there are none."""
        tasks = _tasks_of(self._client._sender, self._client._message_accumulator, self._client.client)
        for task in tasks:
            task.cancel()
        _abort_connections(self._client.client)
        _fail_batches(self._client._message_accumulator)
        if tasks:
            await asyncio.wait(tasks, timeout=TASKS_END_WITHIN_S)


def factory(
    connection: Mapping[str, Any], topic: str, *, client_id: str, idempotent: bool = False
) -> Callable[[], KafkaProducer]:
    """Return a function that builds producers for this topic. `connection`: bootstrap servers and security settings.

    A new producer is also the remedy when all brokers have moved, because aiokafka uses the bootstrap addresses only
    until it knows the cluster.
    """

    def build() -> KafkaProducer:
        client = AIOKafkaProducer(
            **{**connection, "bootstrap_servers": _shuffled(connection["bootstrap_servers"])},
            client_id=client_id,
            acks="all",
            enable_idempotence=idempotent,
            max_batch_size=BATCH_BYTES_MAX,
            max_request_size=REQUEST_BYTES_MAX,
            linger_ms=0,
            compression_type="snappy",  # as small as lz4, for a quarter of the CPU of its encoder in aiokafka
            request_timeout_ms=int(REQUEST_TIMEOUT_S * 1000),
            retry_backoff_ms=100,
            metadata_max_age_ms=60_000,
            connections_max_idle_ms=540_000,
        )
        return KafkaProducer(client, topic, idempotent=idempotent)

    return build


def _shuffled(servers: str | list[str]) -> list[str]:
    """Return the addresses in random order. aiokafka tries them in turn, and each silent one costs seconds."""
    listed = servers.split(",") if isinstance(servers, str) else list(servers)
    random.shuffle(listed)
    return listed


def _tasks_of(*owners: object) -> list[asyncio.Task[Any]]:
    """Return the tasks that run a method of one of these objects. The sender keeps no list of its request tasks."""
    current = asyncio.current_task()
    return [
        task
        for task in asyncio.all_tasks()
        if task is not current
        and (frame := getattr(task.get_coro(), "cr_frame", None)) is not None
        and any(frame.f_locals.get("self") is owner for owner in owners)
    ]


def _abort_connections(client: Any) -> None:
    """Close the connections at once, because a frozen broker would never read the rest of their data."""
    for connection in list(client._conns.values()):
        transport = connection._writer.transport if connection._writer is not None else None
        connection.close(reason=CloseReason.SHUTDOWN)
        if transport is not None:
            transport.abort()


def _fail_batches(accumulator: Any) -> None:
    """Fail the future of every record in flight, because the quota counts each record until its future ends."""
    batches = [batch for waiting in accumulator._batches.values() for batch in waiting]
    accumulator.fail_all(ProducerClosed("the producer is closed"))
    for batch in batches:
        if batch._drain_waiter.done() and not batch._drain_waiter.cancelled():
            batch._drain_waiter.exception()  # read the error, or asyncio logs it if no sender waited for room
