"""The one place that knows aiokafka's producer: how it is built, what its errors mean, how it is ended for certain.

aiokafka 0.14 sends one batch per partition and one request per broker at a time. Three of its habits are fenced in
here, and two of them only by what it keeps for itself; the version is pinned, and a test names what is touched.

- Its sender may end, and says so to nobody who does not ask.
- `stop()` waits for what will never come: while brokers are away, for batches of a producer that is idempotent; and for
  a connection to take what a frozen broker does not read. So it is given a time, and what is left then is ended: its
  tasks cancelled, its connections cut, and the future of each record failed, since somebody counts them.
- Once it knows the cluster it never uses the bootstrap addresses again, so a new one is needed where all brokers moved.
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
    OutOfOrderSequenceNumber,
    ProducerClosed,
    ProducerFenced,
    TopicAuthorizationFailedError,
    UnknownProducerId,
)

from ingest.kafka.in_flight import AppendFailure, ProducerFault, Sending
from schemas.record_format import Record

MAX_BATCH_BYTES = 256 * 1024
MAX_RECORD_BYTES = 1_000_000  # below what a broker takes by default
REQUEST_TIMEOUT_S = 5.0  # how long a record may linger after its sender was refused
LOOK_WITHIN_S = 3.0
TASKS_END_WITHIN_S = 1.0


class KafkaProducer:
    """aiokafka's, for one topic. Built by `factory`."""

    def __init__(self, client: AIOKafkaProducer, topic: str, *, idempotent: bool) -> None:
        self._client = client
        self._topic = topic
        self._idempotent = idempotent
        self.partitions = 0

    @property
    def has_ended(self) -> bool:
        task = self._client._sender.sender_task
        return task is not None and task.done()

    async def start(self) -> None:
        await self._client.start()
        cluster = self._client.client.cluster
        cluster.add_listener(self._learn)
        # From here on the metadata is asked for this topic alone, whenever it is asked for.
        await self._client.client.set_topics([self._topic])
        self._learn(cluster)

    def _learn(self, cluster: Any) -> None:
        self.partitions = len(cluster.partitions_for_topic(self._topic) or ())

    def send(self, record: Record, partition: int, /) -> Sending:
        sending: Sending = self._client.send(
            self._topic, record.value, record.key, partition, None, list(record.headers)
        )
        return sending

    async def look(self) -> bool:
        try:
            async with asyncio.timeout(LOOK_WITHIN_S):
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
            # What was refused before it was sent has taken no number of the sequence, so it leaves no hole.
            case KafkaError() if self._idempotent and was_sent and not error.retriable:
                return ProducerFault.REFUSED_BATCH
        return None

    def meaning_of(self, error: BaseException) -> AppendFailure:
        """What it says. Codes that aiokafka does not know, such as INVALID_RECORD, come as its `UnknownError`."""
        match error:
            case TopicAuthorizationFailedError():
                return AppendFailure.FORBIDDEN
            case BrokerResponseError() if not error.retriable:
                return AppendFailure.REFUSED
            case KafkaError() | TimeoutError() | OSError() | asyncio.CancelledError():
                return AppendFailure.UNKNOWN
        return AppendFailure.OURS

    async def close(self, *, flush_s: float) -> None:
        try:
            async with asyncio.timeout(flush_s):
                await self._client.stop()
        except Exception:  # noqa: S110 - it is ended below all the same, and what it was told to send is unknown
            pass
        finally:
            await self._end()

    async def _end(self) -> None:
        """End what `stop` has left; nothing, as a rule."""
        tasks = _tasks_of(self._client._sender, self._client._message_accumulator, self._client.client)
        for task in tasks:
            task.cancel()
        _cut(self._client.client)
        _fail_batches(self._client._message_accumulator)
        if tasks:
            await asyncio.wait(tasks, timeout=TASKS_END_WITHIN_S)


def factory(
    connection: Mapping[str, Any], topic: str, *, client_id: str, idempotent: bool = False
) -> Callable[[], KafkaProducer]:
    """Builds producers for this topic. `connection` says where and how: bootstrap servers, security."""

    def build() -> KafkaProducer:
        client = AIOKafkaProducer(
            **{**connection, "bootstrap_servers": _shuffled(connection["bootstrap_servers"])},
            client_id=client_id,
            acks="all",
            enable_idempotence=idempotent,
            max_batch_size=MAX_BATCH_BYTES,
            max_request_size=MAX_RECORD_BYTES,
            linger_ms=0,
            compression_type="lz4",
            request_timeout_ms=int(REQUEST_TIMEOUT_S * 1000),
            retry_backoff_ms=100,
            metadata_max_age_ms=60_000,
            connections_max_idle_ms=540_000,
        )
        return KafkaProducer(client, topic, idempotent=idempotent)

    return build


def _shuffled(servers: str | list[str]) -> list[str]:
    """They are asked one after the other, and each that is silent takes seconds: not always the same one first."""
    listed = servers.split(",") if isinstance(servers, str) else list(servers)
    random.shuffle(listed)
    return listed


def _tasks_of(*owners: object) -> list[asyncio.Task[Any]]:
    """The tasks that run a method of one of these. The sender's requests are known to nobody but its own frame."""
    current = asyncio.current_task()
    return [
        task
        for task in asyncio.all_tasks()
        if task is not current
        and (frame := getattr(task.get_coro(), "cr_frame", None)) is not None
        and any(frame.f_locals.get("self") is owner for owner in owners)
    ]


def _cut(client: Any) -> None:
    """Close its connections at once: a frozen broker would never take what is still to be written to it."""
    for connection in list(client._conns.values()):
        transport = connection._writer.transport if connection._writer is not None else None
        connection.close(reason=CloseReason.SHUTDOWN)
        if transport is not None:
            transport.abort()


def _fail_batches(accumulator: Any) -> None:
    """Nothing that was handed over and is not over will be sent any more, and whoever waits for it hears so."""
    batches = [batch for waiting in accumulator._batches.values() for batch in waiting]
    accumulator.fail_all(ProducerClosed("the producer was given up"))
    for batch in batches:
        if batch._drain_waiter.done() and not batch._drain_waiter.cancelled():
            batch._drain_waiter.exception()  # often nobody waited for room in it, and that is no news to the loop
