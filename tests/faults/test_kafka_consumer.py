"""Faults under a worker's consumer, on a real broker: no record is skipped, and none is kept from other workers."""

import asyncio
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from typing import Any

import pytest
from aiokafka.structs import TopicPartition

from deploy.local.kafka.cluster import Kafka
from tests.support import log_records
from tests.support.fakes import GroupObserver
from tests.support.kafka_topics import Topic, read
from workers.errors import InfrastructureDamaged, InfrastructureDown
from workers.kafka import clients as kafka_clients
from workers.kafka.ports import MemberLimits
from workers.kafka.source import KafkaSource, ReplaceReason
from workers.settlement.plan import LogRecord, Position

TAKEOVER_S = 3.0
BACK_S = 45.0  # a broker that was killed: nine seconds until the controller lets it come back, and its start
CREATED_S = 30.0


@pytest.fixture
async def topic(kafka: str) -> Topic:
    topic = Topic(kafka)
    await topic.make()
    return topic


async def polls(source: KafkaSource, count: int) -> None:
    for _ in range(count):
        assert await source.poll(1) == ()


async def append(topic: Topic, count: int, *, partition: int = 0, first: int = 0) -> None:
    async with topic.log() as log:
        for number in range(first, first + count):
            await log.append(log_records.record(f"N{number}"), partition=partition)


def ends(batch: Sequence[LogRecord]) -> list[Position]:
    last = {logged.position.partition: logged.position for logged in batch}
    return list(last.values())


@asynccontextmanager
async def stopped(*sources: KafkaSource) -> AsyncIterator[None]:
    try:
        yield
    finally:
        await asyncio.gather(*(source.stop() for source in sources))


@asynccontextmanager
async def polled(source: KafkaSource) -> AsyncIterator[list[LogRecord]]:
    """Poll the source in the background; collects the records."""
    found: list[LogRecord] = []

    async def poll() -> None:
        while True:
            with suppress(InfrastructureDown):
                found.extend(await source.poll(500))

    task = asyncio.create_task(poll())
    try:
        yield found
    finally:
        task.cancel()
        await asyncio.wait({task})


async def until(condition: Any, within_s: float) -> float:
    """How long it took to come true."""
    begun = time.monotonic()
    async with asyncio.timeout(within_s):
        while not condition():  # noqa: ASYNC110 - the value has no event
            await asyncio.sleep(0.02)
    return time.monotonic() - begun


async def test_rebalance_during_a_batch_drops_its_commit_and_redelivers_it(topic: Topic) -> None:
    observer = GroupObserver()
    first, second = topic.source(observer=observer), topic.source()
    async with stopped(first, second):
        for partition in range(4):
            await append(topic, 5, partition=partition)
        batch = await read(first, 20)
        async with polled(second) as seconds:
            await until(lambda: second.joined and observer.rebalances > 1, 20)
            await first.commit(ends(batch))
            assert observer.dropped == ["the group has rebalanced since the batch was fetched"]
            assert await topic.committed() is None
            again = await read(first, 10)
            await until(lambda: len(seconds) == 10, 10)
        assert {each.position for each in (*again, *seconds)} == {each.position for each in batch}
        await first.commit(ends(again))
        assert len(observer.dropped) == 1


async def test_partitions_of_a_leaving_member_move_within_three_seconds(topic: Topic) -> None:
    observer = GroupObserver()
    first, second = topic.source(observer=observer), topic.source()
    async with stopped(first, second), polled(second) as seconds:
        async with polled(first):
            await until(lambda: first.joined and second.joined, 20)
            await until(lambda: len(first.lag()) == len(second.lag()) == 2, 20)
        for partition in range(4):
            await append(topic, 1, partition=partition)
        begun = time.monotonic()
        await first.stop()
        await until(lambda: len(seconds) >= 4, TAKEOVER_S)
        assert time.monotonic() - begun <= TAKEOVER_S
        assert {each.position.partition for each in seconds} == {0, 1, 2, 3}


async def test_store_from_an_older_backup_rereads_the_log(topic: Topic) -> None:
    await append(topic, 20)
    await topic.commit({0: 20})
    topic.settled.last = {0: 4}
    observer = GroupObserver()
    source = topic.source(observer=observer)
    async with stopped(source):
        found = await read(source, 20)
    assert [each.position.offset for each in found] == list(range(20))
    assert observer.rewinds == [(0, 20, 0)]


async def test_store_ahead_of_the_group_changes_no_offset(topic: Topic) -> None:
    await append(topic, 20)
    await topic.commit({0: 12})
    topic.settled.last = {0: 19}
    source = topic.source()
    async with stopped(source):
        assert [each.position.offset for each in await read(source, 8)] == list(range(12, 20))


async def test_recreated_topic_is_refused(topic: Topic) -> None:
    source = topic.source()
    async with stopped(source):
        await append(topic, 5)
        await source.commit(ends(await read(source, 5)))
    topic.settled.last = {0: 4}
    await topic.remove()
    await topic.make()
    await append(topic, 3)
    source = topic.source()
    async with stopped(source):
        with pytest.raises(InfrastructureDamaged, match="created anew"):
            await read(source, 1)
        assert source.trouble is not None
        assert "partition 0 of the log holds offsets 0 to 2" in source.trouble


async def test_unread_records_deleted_by_retention_are_reported(topic: Topic) -> None:
    await append(topic, 20)
    await topic.commit({0: 5})
    topic.settled.last = {0: 4}
    await topic.trim(0, 10)
    source = topic.source()
    async with stopped(source):
        with pytest.raises(InfrastructureDamaged, match="before 10 are deleted"):
            await read(source, 1)
        with pytest.raises(InfrastructureDamaged, match="before 10 are deleted"):
            await read(source, 1)


async def test_offset_that_vanishes_while_being_read_is_reported(topic: Topic) -> None:
    await append(topic, 20)
    clients: list[Any] = []
    source = topic.source(made=clients)
    async with stopped(source):
        await read(source, 20)
        clients[0].seek(TopicPartition(topic.name, 0), 100)
        with pytest.raises(InfrastructureDamaged, match="has no offset 100 any more; it holds 0 to 19"):
            await read(source, 1)


async def test_killed_broker_that_returns_costs_time_but_no_record(topic: Topic, local_kafka: Kafka) -> None:
    if not local_kafka.brokers:
        pytest.skip("NOT TESTED: the broker is not ours to kill")
    observer = GroupObserver()
    source = topic.source(observer=observer)
    broker = local_kafka.brokers[0].process
    async with stopped(source):
        await append(topic, 10)
        batch = await read(source, 10)
        await broker.kill()
        with pytest.raises(InfrastructureDown):
            await source.commit(ends(batch))
        begun = time.monotonic()
        await asyncio.gather(broker.start(), polled_for(source, 3.0))
        await local_kafka.ready()
        await append(topic, 10, first=10)
        rest = await read(source, 10, within_s=BACK_S)
        while {each.position.offset for each in rest} < set(range(10, 20)):
            rest += await read(source, 1, within_s=BACK_S)
        print(f"back after {time.monotonic() - begun:.1f} s, {observer.rebuilds}")
        assert {each.position.offset for each in rest} >= set(range(10, 20))
        await source.commit([Position(0, 19)])
    assert await topic.committed() == 20


async def polled_for(source: KafkaSource, seconds: float) -> None:
    async with polled(source) as found:
        await asyncio.sleep(seconds)
    assert found == []


async def test_worker_paused_beyond_the_poll_interval_keeps_its_partitions(topic: Topic) -> None:
    observer = GroupObserver()
    source = topic.source(observer=observer, max_poll_interval_ms=3000, session_timeout_ms=6000)
    await append(topic, 5)
    async with stopped(source):
        batch = await read(source, 5)
        await append(topic, 3, first=5)
        await asyncio.sleep(8)
        assert source.lag()[0].messages == 8, "its lag is known while it is idle"
        await source.commit(ends(batch))
        assert (observer.dropped, observer.rebalances) == ([], 1)
        assert [each.position.offset for each in await read(source, 3)] == [5, 6, 7]
    assert await topic.committed() == 5


async def test_worker_paused_too_long_loses_its_partitions(topic: Topic) -> None:
    observer = GroupObserver()
    limits = MemberLimits(keep_alive_every_s=0.5, busy_max_s=1.0)
    hung = topic.source(observer=observer, limits=limits, max_poll_interval_ms=2000, session_timeout_ms=6000)
    other = topic.source()
    for partition in range(4):
        await append(topic, 5, partition=partition)
    async with stopped(hung, other):
        batch = await read(hung, 20)
        # Of two members each would have two partitions: all four are given only to one that is alone.
        assert {each.position for each in await read(other, 20, within_s=30)} >= {each.position for each in batch}
        await until(lambda: len(other.lag()) == 4, 30)
        await hung.commit(ends(batch))
        assert len(observer.dropped) == 1
        await read(hung, 1)


class Wedged:
    """A consumer of the library whose fetching stands still, as it does in a known fault; everything else goes on."""

    def __init__(self, client: Any) -> None:
        self._client = client

    def __getattr__(self, name: str) -> Any:
        return getattr(self._client, name)

    async def getmany(self, *partitions: Any, timeout_ms: int = 0, max_records: int | None = None) -> Mapping[Any, Any]:
        await asyncio.sleep(timeout_ms / 1000)
        return {}


def wedge_first(number: int, client: Any) -> Any:
    return Wedged(client) if number == 0 else client


async def test_stalled_consumer_with_unread_records_is_replaced(topic: Topic) -> None:
    observer = GroupObserver()
    limits = MemberLimits(check_every_s=0.3, stalled_s=1.0, backoff_s=0.1)
    source = topic.source(observer=observer, limits=limits, made=[], wrap=wedge_first)
    await append(topic, 5)
    async with stopped(source):
        assert [each.position.offset for each in await read(source, 5)] == [0, 1, 2, 3, 4]
    assert observer.rebuilds == [ReplaceReason.STALLED]


async def test_topic_created_later_is_read(kafka: str) -> None:
    topic = Topic(kafka)
    source = topic.source()
    async with stopped(source):
        with pytest.raises(InfrastructureDown, match="there is no topic"):
            await polls(source, 100)
        await topic.make()
        await append(topic, 1)
        assert len(await read(source, 1, within_s=CREATED_S)) == 1


async def test_record_that_aiokafka_cannot_decode_is_delivered_empty(topic: Topic) -> None:
    observer = GroupObserver()
    source = topic.source(observer=observer)
    await append(topic, 3)
    await append_illegible(topic)
    await append(topic, 3, first=3)
    async with stopped(source):
        found: dict[int, LogRecord] = {}
        while len(found) < 7:
            batch = await read(source, 1)
            found.update({each.position.offset: each for each in batch})
            topic.settled.last = {0: batch[-1].position.offset}
            await source.commit(ends(batch))
    assert found[3].record.headers == ()
    assert (found[3].record.key, found[3].record.value) == (b"", b"")
    assert [found[each].record.key for each in (2, 4)] == [b"shop-sg:N2", b"shop-sg:N3"]
    assert observer.rebuilds == [ReplaceReason.FAILED, ReplaceReason.FAILED]


async def append_illegible(topic: Topic) -> None:
    """A record with a header whose name is no UTF-8, which other libraries write without a word."""
    name = "name-of-a-header"
    async with topic.log() as log:
        await log.append_with_header_name(name, b"\xff" * len(name), partition=0)


async def test_leaving_does_not_wait_for_brokers_and_leaves_no_task(topic: Topic) -> None:
    before = asyncio.all_tasks()
    source = topic.source()
    await append(topic, 1)
    await read(source, 1)
    begun = time.monotonic()
    await source.stop()
    assert time.monotonic() - begun < TAKEOVER_S
    assert asyncio.all_tasks() == before


async def test_client_that_hangs_while_leaving_is_closed_by_force(topic: Topic) -> None:
    before = asyncio.all_tasks()
    client = kafka_clients.consumer(topic.connection, group=topic.group)
    await client.start()
    client.subscribe([topic.name])
    await asyncio.sleep(1)
    coordinating, hanging = client._coordinator._coordination_task, asyncio.get_running_loop().create_future()
    client._coordinator._coordination_task = asyncio.ensure_future(waiting(hanging))
    assert not await kafka_clients.dispose(client, within_s=0.3)
    coordinating.cancel()
    await asyncio.wait({coordinating})
    assert asyncio.all_tasks() == before


async def waiting(future: "asyncio.Future[None]") -> None:
    await asyncio.shield(future)
