"""What a replay works with: the order store, and the workers' story over it, without a worker's loops.

A stretch of the log once more: for an order store that was restored from a backup, or that somebody doubts.

It reads beside the workers' group and commits nothing. Each record is brought to its disposition exactly as a worker
does it; a position that has one already is recognised and nothing is done, so a replay of what was never lost changes
nothing, and an interrupted one is simply started again. Events that it writes are sent by the workers.

One thing it may not do. Workers begin where the group has committed, unless the highest settled offset of a partition
lies below that: then the store is older than the group, and they go back to it. A replay that begins above that offset
would raise it, and what lies between would be passed over for good, by everybody. So such a stretch is refused.
"""

import asyncio
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any, Protocol

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.errors import KafkaError
from aiokafka.structs import ConsumerRecord
from msgspec import Struct

from deploy import accounts_file
from deploy.authentication import Authenticator
from deploy.cluster import connections, kafka_admin, settings
from deploy.cluster.console import NoTopics
from deploy.cluster.settings import ClusterSettings
from deploy.cluster.topic_check import NotSeen
from ingest.clock import SystemClock
from ingest.keys import Rings
from schemas.events import Outgoing
from schemas.record_format import Record
from workers.backoff import retry_conflicts
from workers.errors import InfrastructureDown
from workers.postgres.store import PostgresOrderStore
from workers.processing import Processing
from workers.settlement.plan import LogRecord, ParsedRecord, Position, WritePlan


class Prepared(Struct, frozen=True):
    """An open store, the way to process a batch, and what became of the records so far, by disposition."""

    store: PostgresOrderStore
    process: Callable[[Sequence[LogRecord]], Awaitable[None]]
    results: Callable[[], dict[str, int]]


class Counted:
    """Counts dispositions: only those that this replay gave."""

    def __init__(self) -> None:
        self.results: Counter[str] = Counter()

    def settled(self, plan: WritePlan, parsed_records: Sequence[ParsedRecord]) -> None:
        self.results.update(delivery.disposition.value for delivery in plan.deliveries)

    def emitted(self, events: Sequence[Outgoing]) -> None: ...

    def step(self, name: str, seconds: float) -> None: ...


@asynccontextmanager
async def prepared(told: ClusterSettings) -> AsyncIterator[Prepared]:
    """Everything a replay needs beside the log. Each signature is verified again, by today's keys.

    Raises:
        refusals.REFUSALS: accounts, keys or the store cannot be used.
    """
    clock, counted = SystemClock(), Counted()
    accounts = accounts_file.read(told.accounts)
    trust = Authenticator(Rings(accounts, told.accounts.parent), connections.receipt_keys(told))
    store = await PostgresOrderStore.open(
        settings.postgres_address(told), holder=connections.name("replay"), now_ms=clock.epoch_ms, has_relay=False
    )
    try:
        processing = Processing(
            accounts=accounts,
            authenticate=trust.authenticate_anew,
            store=store,
            events=NoTopics(),
            observer=counted,
            now_ms=clock.epoch_ms,
        )

        async def process(batch: Sequence[LogRecord]) -> None:
            await retry_conflicts(lambda: processing.process(batch))

        yield Prepared(store, process, lambda: dict(counted.results))
    finally:
        await store.close()


BATCH_MAX = 500
CALL_S = 10.0
READ_S = 1.0  # for one poll
SILENT_S = 30.0  # without a record where there should be one


class Span(Struct, frozen=True, kw_only=True):
    """A stretch of one partition, from `first` up to, not including, `end`; `settled` of its records have theirs.

    `before` are records without a disposition that lie right before it.
    """

    partition: int
    first: int
    end: int
    settled: int
    before: int = 0

    @property
    def records(self) -> int:
        return self.end - self.first

    @property
    def unsettled(self) -> int:
        return self.records - self.settled


class TooNarrow(Exception):
    """Records without a disposition lie right before the stretch, and would be passed over after it."""


class SettledOffsets(Protocol):
    """The order store, as far as this asks it."""

    async def last_settled(self, partition: int) -> int | None:
        """The highest offset of the partition that has a disposition."""

    async def settled_between(self, partition: int, first: int, end: int) -> int:
        """How many records of the stretch have a disposition."""


class Stretch:
    """The log between two moments, open for reading."""

    def __init__(self, consumer: AIOKafkaConsumer, topic: str, partitions: int) -> None:
        self._consumer = consumer
        self._topic = topic
        self._partitions = partitions

    async def spans(self, store: SettledOffsets, *, from_ms: int, to_ms: int) -> list[Span]:
        """What lies between the two moments, by partition, and how much of it is settled.

        Raises:
            InfrastructureDown: Kafka or the store does not say.
        """
        places = [TopicPartition(self._topic, number) for number in range(self._partitions)]
        begins = await self._told(lambda: self._consumer.beginning_offsets(places))
        ends = await self._told(lambda: self._consumer.end_offsets(places))
        firsts = await self._told(lambda: self._consumer.offsets_for_times(dict.fromkeys(places, from_ms)))
        lasts = await self._told(lambda: self._consumer.offsets_for_times(dict.fromkeys(places, to_ms)))
        spans = []
        for place in places:
            first = firsts[place].offset if firsts.get(place) else ends[place]
            end = lasts[place].offset if lasts.get(place) else ends[place]
            if first < end:
                settled = await store.settled_between(place.partition, first, end)
                last = await store.last_settled(place.partition)
                before = max(0, first - max(begins[place], -1 if last is None else last + 1))
                spans.append(Span(partition=place.partition, first=first, end=end, settled=settled, before=before))
        return spans

    async def records(self, span: Span, *, batch_max: int = BATCH_MAX) -> AsyncIterator[Sequence[LogRecord]]:
        """The records of the stretch in their order, in batches.

        Raises:
            InfrastructureDown: no record comes where one should.
        """
        place = TopicPartition(self._topic, span.partition)
        self._consumer.assign([place])
        self._consumer.seek(place, span.first)
        at, came = span.first, time.monotonic()
        while at < span.end:
            polled = await self._told(
                lambda: self._consumer.getmany(place, timeout_ms=int(READ_S * 1000), max_records=batch_max)
            )
            batch = [_logged(record) for record in polled.get(place, ()) if record.offset < span.end]
            # Gaps are where another program's transactions ended, so the position tells how far we are.
            at = await self._told(lambda: self._consumer.position(place))
            if batch:
                came = time.monotonic()
                yield batch
            elif at < span.end and time.monotonic() - came > SILENT_S:
                raise InfrastructureDown(f"Kafka: partition {span.partition} gives nothing at offset {at}")

    async def _told(self, call: Callable[[], Awaitable[Any]]) -> Any:
        try:
            async with asyncio.timeout(CALL_S):
                return await call()
        except (KafkaError, TimeoutError, OSError) as error:
            raise InfrastructureDown(f"Kafka: {type(error).__name__}: {error}".rstrip(": ")) from error


class Pace:
    """At most so many records a second, whatever the batches are."""

    def __init__(self, per_s: float) -> None:
        self._per_s = per_s
        self._due_s = time.monotonic()

    async def keep(self, count: int) -> None:
        """Returns when the next batch may begin, after one of so many."""
        self._due_s = max(self._due_s, time.monotonic() - 1.0) + count / self._per_s
        await asyncio.sleep(max(0.0, self._due_s - time.monotonic()))


async def replay(
    stretch: Stretch,
    spans: Sequence[Span],
    process: Callable[[Sequence[LogRecord]], Awaitable[None]],
    *,
    rate: float,
    advanced: Callable[[int], None],
) -> int:
    """Bring every record of the spans to its disposition; how many there were. `advanced` is told of each batch.

    Raises:
        TooNarrow: nothing was done.
        InfrastructureDown: Kafka or the store failed; what was done is done, and is recognised the next time.
        DeadRun: too many dead records in a row.
    """
    check_wide_enough(spans)
    pace, done = Pace(rate), 0
    batch_max = max(1, min(BATCH_MAX, int(rate)))
    for span in spans:
        async for batch in stretch.records(span, batch_max=batch_max):
            await process(batch)
            done += len(batch)
            advanced(len(batch))
            await pace.keep(len(batch))
    return done


def check_wide_enough(spans: Sequence[Span]) -> None:
    """Returns where no record would be passed over.

    Raises:
        TooNarrow: some would.
    """
    if narrow := [span for span in spans if span.before]:
        raise TooNarrow(
            f"{sum(span.before for span in narrow)} records lie right before the stretch and have no disposition, in "
            f"partition {', '.join(str(span.partition) for span in narrow)}: workers would pass them over after this. "
            "Begin earlier, or wait until the workers have read so far"
        )


@asynccontextmanager
async def reading(connection: dict[str, Any], topic: str) -> AsyncIterator[Stretch]:
    """The topic, open for reading beside everybody else.

    Raises:
        InfrastructureDown: Kafka does not answer, or has no such topic.
    """
    try:
        found = (await kafka_admin.look(connection, [topic])).get(topic)
    except NotSeen as error:
        raise InfrastructureDown(f"Kafka: {error}") from error
    if found is None:
        raise InfrastructureDown(f"Kafka: there is no topic {topic}")
    consumer = AIOKafkaConsumer(
        **connection,
        group_id=None,
        enable_auto_commit=False,
        auto_offset_reset="none",
        request_timeout_ms=int(CALL_S * 1000),
        client_id="alipay-notify-replay",
    )
    async with AsyncExitStack() as stack:
        try:
            async with asyncio.timeout(CALL_S):
                stack.push_async_callback(consumer.stop)
                await consumer.start()
        except (KafkaError, TimeoutError, OSError) as error:
            raise InfrastructureDown(f"Kafka: {type(error).__name__}: {error}".rstrip(": ")) from error
        yield Stretch(consumer, topic, found.partitions)


def _logged(record: ConsumerRecord[bytes, bytes]) -> LogRecord:
    headers = tuple((name, bytes(value or b"")) for name, value in record.headers)
    return LogRecord(
        Position(record.partition, record.offset),
        Record(record.key or b"", record.value or b"", headers),
    )
