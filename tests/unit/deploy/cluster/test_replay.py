"""A replay's pace, its refusal of narrow spans, and its reading, with a consumer in memory."""

from collections.abc import AsyncIterator, Sequence
from types import SimpleNamespace
from typing import Any, cast

import pytest
from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.errors import KafkaConnectionError

from deploy.cluster import replay
from deploy.cluster.replay import LogReader, Pace, Span, TooNarrow
from workers.errors import InfrastructureDown
from workers.settlement.plan import LogRecord

TOPIC = "payments.notification.v1"


class Reader:
    """Yields empty batches of these sizes, whatever the span."""

    def __init__(self, *sizes: int) -> None:
        self.sizes = sizes

    async def records(self, span: Span, *, batch_max: int) -> AsyncIterator[Sequence[LogRecord]]:
        for size in self.sizes:
            yield cast(Sequence[LogRecord], [None] * size)


def span(*, before: int = 0) -> Span:
    return Span(partition=1, first=10, end=15, settled=2, before=before)


async def replayed(reader: Reader, *spans: Span) -> tuple[int, list[int], list[int]]:
    """Return the number of records, the batches processed, and the progress reported."""
    processed: list[int] = []
    steps: list[int] = []

    async def process(batch: Sequence[LogRecord]) -> None:
        processed.append(len(batch))

    done = await replay.replay(cast(LogReader, reader), spans, process, rate=1e6, advanced=steps.append)
    return done, processed, steps


async def test_all_batches_of_all_spans_are_processed_and_reported() -> None:
    assert await replayed(Reader(3, 2), span(), span()) == (10, [3, 2, 3, 2], [3, 2, 3, 2])


async def test_span_with_unprocessed_records_before_it_is_refused_before_any_work() -> None:
    reader = Reader(1)
    with pytest.raises(TooNarrow, match="7 unprocessed records lie directly before the span in partition 1"):
        await replayed(reader, span(), span(before=7))


def test_span_counts_its_records_and_the_unprocessed_ones() -> None:
    assert (span().records, span().unsettled) == (5, 3)


async def test_pace_spreads_batches_over_time_and_catches_up_one_second_at_most(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    now_s = 100.0
    slept: list[float] = []

    async def sleep(seconds: float) -> None:
        slept.append(round(seconds, 3))

    monkeypatch.setattr(replay, "time", SimpleNamespace(monotonic=lambda: now_s))
    monkeypatch.setattr(replay, "asyncio", SimpleNamespace(sleep=sleep))
    pace = Pace(10)
    await pace.keep(5)
    now_s = 110.0
    await pace.keep(5)
    await pace.keep(20)
    assert slept == [0.5, 0.0, 1.5]


class Consumer:
    """One partition with records at these offsets; a poll returns the next one."""

    def __init__(self, *offsets: int, end: int) -> None:
        self.offsets = [*offsets]
        self.end = end
        self.at = 0
        self.fails: Exception | None = None

    def assign(self, places: list[TopicPartition]) -> None:
        assert places == [TopicPartition(TOPIC, 0)]

    def seek(self, place: TopicPartition, offset: int) -> None:
        self.at = offset

    async def getmany(self, place: TopicPartition, **_: Any) -> dict[TopicPartition, list[Any]]:
        if self.fails is not None:
            raise self.fails
        coming = [offset for offset in self.offsets if offset >= self.at]
        self.at = coming[0] + 1 if coming else self.end
        record = SimpleNamespace(partition=0, offset=self.at - 1, key=None, value=b"v", headers=[("h", None)])
        return {place: [record]} if coming else {}

    async def position(self, place: TopicPartition) -> int:
        return self.at

    async def beginning_offsets(self, places: list[TopicPartition]) -> dict[TopicPartition, int]:
        return dict.fromkeys(places, self.offsets[0])

    async def end_offsets(self, places: list[TopicPartition]) -> dict[TopicPartition, int]:
        return dict.fromkeys(places, self.end)

    async def offsets_for_times(self, times: dict[TopicPartition, int]) -> dict[TopicPartition, Any]:
        """A record's time is its offset here."""
        found: dict[TopicPartition, Any] = {}
        for place, ms in times.items():
            later = [offset for offset in self.offsets if offset >= ms]
            found[place] = SimpleNamespace(offset=later[0]) if later else None
        return found


class Offsets:
    """A store in which the offsets up to `last` are processed."""

    def __init__(self, last: int | None) -> None:
        self._last = last

    async def last_settled(self, partition: int) -> int | None:
        return self._last

    async def settled_between(self, partition: int, first: int, end: int) -> int:
        return 0 if self._last is None else max(0, min(end, self._last + 1) - first)


def reader_of(consumer: Consumer) -> LogReader:
    return LogReader(cast(AIOKafkaConsumer, consumer), TOPIC, 1)


async def test_records_end_before_the_end_of_the_span_and_gaps_are_passed() -> None:
    reader = reader_of(Consumer(4, 5, 9, end=11))
    spans = Span(partition=0, first=5, end=11, settled=0)
    batches = [batch async for batch in reader.records(spans)]
    assert [record.position.offset for batch in batches for record in batch] == [5, 9]
    assert batches[0][0].record.key == b""
    assert batches[0][0].record.headers == (("h", b""),)


@pytest.mark.parametrize("failure", [KafkaConnectionError("gone"), TimeoutError(), OSError("reset")])
async def test_failing_poll_is_infrastructure_down(failure: Exception) -> None:
    consumer = Consumer(4, end=5)
    consumer.fails = failure
    with pytest.raises(InfrastructureDown, match="Kafka"):
        async for _ in reader_of(consumer).records(Span(partition=0, first=4, end=5, settled=0)):
            pass


@pytest.mark.parametrize(
    ("last", "settled", "before"),
    [(None, 0, 2), (3, 0, 2), (4, 0, 1), (5, 0, 0), (7, 2, 0)],
)
async def test_span_counts_unprocessed_records_between_the_store_and_its_first_offset(
    last: int | None, settled: int, before: int
) -> None:
    reader = reader_of(Consumer(4, 5, 6, 7, 8, end=9))
    (found,) = await reader.spans(Offsets(last), from_ms=6, to_ms=100)
    assert found == Span(partition=0, first=6, end=9, settled=settled, before=before)
    assert await reader.spans(Offsets(last), from_ms=100, to_ms=200) == []
