"""Process a span of the log again, for an order store that was restored from a backup or whose content is in doubt.

A replay reads beside the workers' consumer group and commits no offsets. It processes each record exactly as a worker
does. A record that already has a disposition is recognized and skipped, so a replay of a complete store changes nothing
and an interrupted replay is simply started again. Workers send the events that it writes.

It refuses one kind of span. Workers start at the group's committed offset, unless the highest processed offset of a
partition is below it: then the store is older than the group, and they go back. A replay that starts above that offset
would raise it, and every worker would skip the unprocessed records in between for good.
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

from deploy.accounts_reload import AccountsReloader
from deploy.authentication import Authenticator, FilesInUse
from deploy.cluster import connections, kafka_admin
from deploy.cluster.console import NoTopics
from deploy.cluster.settings import ClusterSettings, postgres_address
from deploy.cluster.topic_check import NotSeen
from schemas.events import Outgoing
from schemas.record_format import Record
from workers.backoff import retry_conflicts
from workers.errors import InfrastructureDown
from workers.postgres.clock import DatabaseClock
from workers.postgres.store import PostgresOrderStore
from workers.processing import Processing
from workers.settlement.plan import LogRecord, ParsedRecord, Position, WritePlan

BATCH_MAX = 500
CALL_S = 10.0
READ_S = 1.0  # for one poll
SILENT_S = 30.0  # without a record where there should be one


class Span(Struct, frozen=True, kw_only=True):
    """The offsets of one partition from `first` up to, not including, `end`; `settled` of them are processed.

    `before` counts the unprocessed records directly before `first`.
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
    """Workers would skip unprocessed records directly before a span, once the span has been replayed."""


async def replay(
    reader: "LogReader",
    spans: Sequence[Span],
    process: Callable[[Sequence[LogRecord]], Awaitable[None]],
    *,
    rate: float,
    advanced: Callable[[int], None],
) -> int:
    """Process all records of the spans, at most `rate` a second. Return their number.

    `advanced` is called after each batch with its size.

    Raises:
        TooNarrow: nothing was done.
        InfrastructureDown: Kafka or the store failed. Processed records are recognized by the next replay.
        TooManyDeadLetters: too many dead letters in a row.
    """
    check_wide_enough(spans)
    pace, done = Pace(rate), 0
    batch_max = max(1, min(BATCH_MAX, int(rate)))
    for span in spans:
        async for batch in reader.records(span, batch_max=batch_max):
            await process(batch)
            done += len(batch)
            advanced(len(batch))
            await pace.keep(len(batch))
    return done


def check_wide_enough(spans: Sequence[Span]) -> None:
    """Return if workers would skip no unprocessed record after a replay of these spans.

    Raises:
        TooNarrow: they would skip some.
    """
    if narrow := [span for span in spans if span.before]:
        raise TooNarrow(
            f"{sum(span.before for span in narrow)} unprocessed records lie directly before the span in partition "
            f"{', '.join(str(span.partition) for span in narrow)}: workers would skip them after this replay. "
            "Begin earlier, or wait until the workers have processed them"
        )


class Pace:
    """Limits the records per second, for batches of any size."""

    def __init__(self, per_s: float) -> None:
        self._per_s = per_s
        self._due_s = time.monotonic()

    async def keep(self, count: int) -> None:
        """Wait, after a batch of `count` records, until the next one may begin."""
        # Time that was lost is caught up for one second at most.
        self._due_s = max(self._due_s, time.monotonic() - 1.0) + count / self._per_s
        await asyncio.sleep(max(0.0, self._due_s - time.monotonic()))


class SettledOffsets(Protocol):
    """The part of the order store that finds processed offsets."""

    async def last_settled(self, partition: int) -> int | None:
        """Return the highest processed offset of the partition, or `None`."""

    async def settled_between(self, partition: int, first: int, end: int) -> int:
        """Return the number of processed records from `first` up to, not including, `end`."""


@asynccontextmanager
async def log_reader(connection: dict[str, Any], topic: str) -> AsyncIterator["LogReader"]:
    """Open the topic for reading, outside of any consumer group.

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
        yield LogReader(consumer, topic, found.partitions)


class LogReader:
    """Reads the log between two moments."""

    def __init__(self, consumer: AIOKafkaConsumer, topic: str, partitions: int) -> None:
        self._consumer = consumer
        self._topic = topic
        self._partitions = partitions

    async def spans(self, store: SettledOffsets, *, from_ms: int, to_ms: int) -> list[Span]:
        """Return the span of each partition that has records between the two moments.

        Raises:
            InfrastructureDown: Kafka or the store does not answer.
        """
        places = [TopicPartition(self._topic, number) for number in range(self._partitions)]
        begins = await self._call(lambda: self._consumer.beginning_offsets(places))
        ends = await self._call(lambda: self._consumer.end_offsets(places))
        firsts = await self._call(lambda: self._consumer.offsets_for_times(dict.fromkeys(places, from_ms)))
        lasts = await self._call(lambda: self._consumer.offsets_for_times(dict.fromkeys(places, to_ms)))
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
        """Yield the records of the span in their order, in batches.

        Raises:
            InfrastructureDown: Kafka delivers no record although there should be one.
        """
        place = TopicPartition(self._topic, span.partition)
        self._consumer.assign([place])
        self._consumer.seek(place, span.first)
        at, received_s = span.first, time.monotonic()
        while at < span.end:
            polled = await self._call(
                lambda: self._consumer.getmany(place, timeout_ms=int(READ_S * 1000), max_records=batch_max)
            )
            batch = [_log_record(record) for record in polled.get(place, ()) if record.offset < span.end]
            # The offsets have gaps where another program's transactions ended, so progress is read from the position.
            at = await self._call(lambda: self._consumer.position(place))
            if batch:
                received_s = time.monotonic()
                yield batch
            elif at < span.end and time.monotonic() - received_s > SILENT_S:
                raise InfrastructureDown(f"Kafka: partition {span.partition} delivers no record at offset {at}")

    async def _call(self, call: Callable[[], Awaitable[Any]]) -> Any:
        try:
            async with asyncio.timeout(CALL_S):
                return await call()
        except (KafkaError, TimeoutError, OSError) as error:
            raise InfrastructureDown(f"Kafka: {type(error).__name__}: {error}".rstrip(": ")) from error


def _log_record(record: ConsumerRecord[bytes, bytes]) -> LogRecord:
    headers = tuple((name, bytes(value or b"")) for name, value in record.headers)
    return LogRecord(
        Position(record.partition, record.offset),
        Record(record.key or b"", record.value or b"", headers),
    )


class Prepared(Struct, frozen=True):
    """An open store, the function that processes a batch, and the number of records by disposition so far."""

    store: PostgresOrderStore
    process: Callable[[Sequence[LogRecord]], Awaitable[None]]
    results: Callable[[], dict[str, int]]


class DispositionCounts:
    """Counts the dispositions that this replay writes."""

    def __init__(self) -> None:
        self.results: Counter[str] = Counter()

    def settled(self, plan: WritePlan, parsed_records: Sequence[ParsedRecord]) -> None:
        self.results.update(delivery.disposition.value for delivery in plan.deliveries)

    def emitted(self, events: Sequence[Outgoing]) -> None: ...

    def step(self, name: str, seconds: float) -> None: ...


@asynccontextmanager
async def prepared(settings: ClusterSettings) -> AsyncIterator[Prepared]:
    """Open everything that a replay needs except the log. Each signature is verified again, by the current keys.

    Raises:
        start_errors.REFUSALS: accounts, keys or the store cannot be used.
    """
    counts = DispositionCounts()
    reloader = AccountsReloader(settings.accounts)  # it does not run: one replay, one set of accounts
    accounts = reloader.in_use
    clock = DatabaseClock()
    authenticator = Authenticator(accounts, connections.receipt_keys(settings), clock=clock)
    store = await PostgresOrderStore.open(
        postgres_address(settings), holder=connections.name("replay"), has_relay=False, clock=clock
    )
    try:
        processing = Processing(
            accounts=accounts,
            authenticate=authenticator.authenticate_anew,
            store=store,
            events=NoTopics(),
            observer=counts,
            now_ms=clock.epoch_ms,
            files=FilesInUse(authenticator, reloader),
        )

        async def process(batch: Sequence[LogRecord]) -> None:
            await retry_conflicts(lambda: processing.process(batch))

        with processing.time_limit.watching():
            yield Prepared(store, process, lambda: dict(counts.results))
    finally:
        await store.close()
