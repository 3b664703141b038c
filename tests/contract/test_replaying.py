"""Replay of a range of the log, on a real Kafka and PostgreSQL: lost effects come back, once."""

import time
from collections.abc import AsyncIterator

import pytest

from deploy.cluster import replay
from deploy.cluster.replay import Span, TooNarrow
from tests.contract.engines import Cluster
from tests.support import log_records
from tests.support.kafka_topics import Topic
from tests.support.log_records import Time
from workers.errors import InfrastructureDown
from workers.postgres.store import PostgresOrderStore
from workers.queries import OrderQuery

ORDERS = 30


@pytest.fixture
async def topic(kafka: str) -> AsyncIterator[Topic]:
    topic = Topic(kafka)
    await topic.make()
    async with topic.log() as log:
        for number in range(ORDERS):
            await log.append(log_records.record(f"N{number}"))
    yield topic
    await topic.remove()


@pytest.fixture
async def store(cluster: Cluster) -> AsyncIterator[PostgresOrderStore]:
    async with cluster.store() as store:
        yield store


def now_ms() -> int:
    return int(time.time() * 1000)


async def spans(topic: Topic, store: PostgresOrderStore, *, from_ms: int = 0, to_ms: int | None = None) -> list[Span]:
    async with replay.log_reader(topic.connection, topic.name) as stretch:
        return await stretch.spans(store, from_ms=from_ms, to_ms=to_ms or now_ms() + 60_000)


async def replayed(topic: Topic, store: PostgresOrderStore, *, rate: float = 10_000) -> tuple[int, list[int]]:
    """How many records it processed, and the steps in which it advanced."""
    steps: list[int] = []
    async with replay.log_reader(topic.connection, topic.name) as stretch:
        found = await stretch.spans(store, from_ms=0, to_ms=now_ms() + 60_000)
        process = log_records.processing(store, Time()).process
        return await replay.replay(stretch, found, process, rate=rate, advanced=steps.append), steps


async def test_records_without_disposition_are_counted_first(topic: Topic, store: PostgresOrderStore) -> None:
    found = await spans(topic, store)
    assert sum(span.records for span in found) == ORDERS
    assert sum(span.unsettled for span in found) == ORDERS
    assert not (await store.order_list(OrderQuery(limit=1))).pages


async def test_replay_restores_an_emptied_store(topic: Topic, store: PostgresOrderStore) -> None:
    done, steps = await replayed(topic, store)
    assert done == sum(steps) == ORDERS
    assert len((await store.order_list(OrderQuery(limit=100))).pages) == ORDERS
    assert sum(span.unsettled for span in await spans(topic, store)) == 0


async def test_processed_records_stay_as_they_are(topic: Topic, store: PostgresOrderStore) -> None:
    await replayed(topic, store)
    before = await store.newest_event()
    done, _ = await replayed(topic, store)
    assert done == ORDERS
    assert await store.newest_event() == before, "no order changed, and no event was written"
    assert {page.order.version for page in (await store.order_list(OrderQuery(limit=100))).pages if page.order} == {1}


async def test_only_records_between_the_two_times_are_replayed(topic: Topic, store: PostgresOrderStore) -> None:
    middle = now_ms() + 1
    time.sleep(0.01)  # noqa: ASYNC251 - the clock of the records, not ours to wait for otherwise
    async with topic.log() as log:
        await log.append(log_records.record("LATE"))
    assert sum(span.records for span in await spans(topic, store, to_ms=middle)) == ORDERS
    assert sum(span.records for span in await spans(topic, store, from_ms=middle)) == 1
    assert await spans(topic, store, from_ms=now_ms() + 60_000) == []


async def test_range_that_leaves_a_gap_below_it_is_refused(topic: Topic, store: PostgresOrderStore) -> None:
    """Workers take the store to be at its highest settled offset and never look below it."""
    middle = now_ms() + 1
    time.sleep(0.01)  # noqa: ASYNC251 - as above
    async with topic.log() as log:
        await log.append(log_records.record("LATE"))
    async with replay.log_reader(topic.connection, topic.name) as stretch:
        (late,) = await stretch.spans(store, from_ms=middle, to_ms=now_ms() + 60_000)
        assert late.before > 0
        with pytest.raises(TooNarrow, match="Begin earlier"):
            await replay.replay(stretch, [late], log_records.processing(store, Time()).process, rate=1, advanced=print)
    assert not (await store.order_list(OrderQuery(limit=1))).pages
    await replayed(topic, store)
    (settled,) = await spans(topic, store, from_ms=middle)
    assert settled.before == 0


async def test_replay_keeps_its_rate(topic: Topic, store: PostgresOrderStore) -> None:
    began = time.monotonic()
    await replayed(topic, store, rate=20)
    # One second's worth may go at once, and a late replay does not catch up.
    assert time.monotonic() - began >= (ORDERS - 20) / 20


async def test_missing_topic_is_named(kafka: str) -> None:
    with pytest.raises(InfrastructureDown, match="there is no topic nowhere"):
        async with replay.log_reader({"bootstrap_servers": kafka}, "nowhere"):
            pass


async def test_silent_brokers_are_reported() -> None:
    with pytest.raises(InfrastructureDown, match="Kafka"):
        async with replay.log_reader({"bootstrap_servers": "127.0.0.1:1"}, "any"):
            pass
