"""Faults of Kafka under the publisher.

Acknowledged records are in the topic after recovery (I1), and no append waits beyond the deadline (I12). Clients reach
the broker through a wire that can be cut, because the broker advertises the wire's address.
"""

import asyncio
import time as clock
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from itertools import count
from typing import Any

import pytest
from aiokafka import AIOKafkaConsumer
from aiokafka.admin import AIOKafkaAdminClient, NewPartitions, NewTopic

from deploy.local import ports
from deploy.local.directory import Directory
from deploy.local.kafka import cluster
from deploy.local.kafka.cluster import Kafka
from deploy.local.machine import Machine
from ingest.errors import Unavailable
from ingest.kafka import producer
from ingest.kafka.in_flight import ProducerFault
from ingest.kafka.producer import KafkaProducer
from ingest.kafka.publisher import Publisher
from ingest.kafka.supervisor import SupervisorTiming
from schemas import topics
from schemas.record_format import Record
from tests.faults.wire import Wire, wire
from tests.support import real_servers
from tests.support.fakes import MemoryLogger, ProducerObserver

# A killed broker may not come back before its session is over; nine seconds of that would only be waited for here.
SHORT_SESSIONS = {"broker.session.timeout.ms": "3000", "broker.heartbeat.interval.ms": "500"}
DEADLINE_S = 1.5
RECOVERED_S = 10.0  # after the fault has ended
TIMING = SupervisorTiming(check_every_s=1.0)
PARTITIONS = 6
LOST_MAX = 5
_numbers = count()


class Place:
    """The broker, and the port at which its clients look for it."""

    def __init__(self, kafka: Kafka, port: int) -> None:
        self.kafka = kafka
        self.port = port
        (self.broker,) = kafka.brokers

    def wire(self) -> AbstractAsyncContextManager[Wire]:
        return wire(self.broker.node.client, at=self.port)


@pytest.fixture(scope="module")
def place() -> Iterator[Place]:
    """A broker of these tests' own, because its advertised address leads through the wire."""
    (port,) = ports.free(1)
    nodes = cluster.nodes_for(1, [port])

    @asynccontextmanager
    async def running(directory: Directory, machine: Machine) -> AsyncIterator[Place]:
        # It counts as started when it answers where its clients look, so the wire has to be laid before.
        async with AsyncExitStack() as entered:
            async with wire(nodes[0].client, at=port):
                starting = cluster.running(directory, machine, nodes=nodes, more=SHORT_SESSIONS)
                kafka = await entered.enter_async_context(starting)
            yield Place(kafka, port)

    servers = real_servers.Servers()
    try:
        yield servers.start(running)
    finally:
        servers.end()


class Kit:
    """A publisher on a topic of its own, and the acknowledged records."""

    def __init__(self, place: Place, line: Wire, *, idempotent: bool = False) -> None:
        self.place = place
        self.line = line
        self.topic = f"tests.publisher.{next(_numbers)}.v1"
        self.built: list[KafkaProducer] = []
        self.observer = ProducerObserver()
        self.logger = MemoryLogger()
        self.acknowledged: list[Record] = []
        self.refused: list[str] = []
        self.longest_s = 0.0
        self._build = producer.factory(
            {"bootstrap_servers": place.kafka.bootstrap}, self.topic, client_id="tests", idempotent=idempotent
        )
        self.publisher = Publisher(
            build=self.build, observer=self.observer, logger=self.logger, deadline_s=DEADLINE_S, timing=TIMING
        )

    def build(self) -> KafkaProducer:
        self.built.append(self._build())
        return self.built[-1]

    async def create(self, **configs: str) -> None:
        """Create the topic as soon as the broker has a controller: the test before may have frozen it."""
        async with asyncio.timeout(30):
            while True:
                async with self.admin() as admin:
                    if admin._client.cluster.controller is not None:
                        await admin.create_topics([NewTopic(self.topic, PARTITIONS, 1, topic_configs=configs)])
                        return
                await asyncio.sleep(0.1)

    @asynccontextmanager
    async def admin(self) -> AsyncIterator[AIOKafkaAdminClient]:
        admin = AIOKafkaAdminClient(bootstrap_servers=self.place.kafka.bootstrap)
        await admin.start()
        try:
            yield admin
        finally:
            await admin.close()

    async def ready(self, **configs: str) -> "Kit":
        await self.create(**configs)
        await self.publisher.start()
        await until(lambda: self.publisher.trouble is None)
        return self

    async def append(self, *, key: bytes | None = None, size: int = 600) -> bool:
        """Whether a new record was acknowledged; how long that took is kept."""
        number = next(_numbers)
        value = b"%d:" % number + b"x" * size
        record = Record(key or b"shop-sg:%d" % number, value, (("account", b"shop-sg"), ("path", b"")))
        began_s = clock.monotonic()
        try:
            await self.publisher.append(record)
        except Unavailable as error:
            self.refused.append(str(error))
            return False
        finally:
            self.longest_s = max(self.longest_s, clock.monotonic() - began_s)
        self.acknowledged.append(record)
        return True

    async def append_while(self, doing: Callable[[], Any], *, senders: int = 40) -> None:
        """Append concurrently until the block ends."""
        done = asyncio.Event()

        async def send() -> None:
            while not done.is_set():
                if not await self.append():
                    await asyncio.sleep(0.05)

        sending = [asyncio.create_task(send()) for _ in range(senders)]
        try:
            await doing()
        finally:
            done.set()
            await asyncio.gather(*sending)

    async def taken_again(self, within_s: float = RECOVERED_S) -> float:
        """How long it took until an append succeeded."""
        began_s = clock.monotonic()
        async with asyncio.timeout(within_s):
            while not await self.append():  # noqa: ASYNC110 - as Alipay does
                await asyncio.sleep(0.05)
        return clock.monotonic() - began_s

    async def written(self) -> list[Record]:
        """All records of the topic."""
        reader = AIOKafkaConsumer(
            self.topic, bootstrap_servers=self.place.kafka.bootstrap, auto_offset_reset="earliest"
        )
        await reader.start()
        try:
            ends = await reader.end_offsets(reader.assignment())
            found: list[Record] = []
            while any([await reader.position(each) < end for each, end in ends.items()]):
                for records in (await reader.getmany(timeout_ms=200)).values():
                    found += [Record(each.key, each.value, tuple(each.headers)) for each in records]
            return found
        finally:
            await reader.stop()

    async def nothing_is_missing(self) -> None:
        """I1 and I12: every acknowledged record is there, and every answer came in time."""
        assert self.acknowledged
        written = set(await self.written())
        assert [record for record in self.acknowledged if record not in written] == []
        assert self.longest_s < DEADLINE_S + 0.5


async def until(condition: Callable[[], bool], within_s: float = RECOVERED_S) -> None:
    async with asyncio.timeout(within_s):
        while not condition():  # noqa: ASYNC110 - the condition announces nothing
            await asyncio.sleep(0.01)


@asynccontextmanager
async def connected(place: Place, *, idempotent: bool = False) -> AsyncIterator[Kit]:
    async with place.wire() as line:
        kit = Kit(place, line, idempotent=idempotent)
        try:
            yield kit
        finally:
            await kit.publisher.stop()
            left = [task for task in asyncio.all_tasks() if "aiokafka" in repr(task)]
            assert left == [], "a producer that is ended leaves no task"


@pytest.fixture
async def kit(place: Place) -> AsyncIterator[Kit]:
    async with connected(place) as kit:
        yield kit


async def test_records_arrive_unchanged_in_the_partitions_of_their_keys(kit: Kit) -> None:
    await kit.ready()
    assert all(await asyncio.gather(*(kit.append() for _ in range(500))))
    assert all(await asyncio.gather(*(kit.append(key=b"shop-sg:one", size=60_000) for _ in range(40))))
    await kit.nothing_is_missing()
    assert len(kit.acknowledged) == 540
    assert kit.publisher.in_flight == 0


async def test_killed_broker_that_returns_is_used_without_a_restart(kit: Kit) -> None:
    await kit.ready()
    broker = kit.place.broker.process

    async def kill_and_start() -> None:
        await asyncio.sleep(0.3)
        await broker.kill()
        await until(lambda: kit.publisher.trouble is not None)
        await asyncio.sleep(4)
        assert kit.publisher.in_flight <= 4096
        await broker.start()

    await kit.append_while(kill_and_start)
    assert await kit.taken_again() < RECOVERED_S
    await until(lambda: kit.publisher.trouble is None)
    await until(lambda: kit.publisher.in_flight == 0, 2 * RECOVERED_S)
    assert len(kit.refused) > 100, "while it was away, refusals came fast"
    await kit.nothing_is_missing()


async def test_frozen_broker_loses_nothing(kit: Kit) -> None:
    await kit.ready()
    broker = kit.place.broker.process

    async def freeze_and_thaw() -> None:
        await asyncio.sleep(0.3)
        broker.freeze()
        try:
            await until(lambda: kit.publisher.trouble is not None)
            await asyncio.sleep(6)
        finally:
            broker.thaw()

    await kit.append_while(freeze_and_thaw)
    assert await kit.taken_again() < RECOVERED_S
    await until(lambda: kit.publisher.in_flight == 0, 2 * RECOVERED_S)
    await kit.nothing_is_missing()


@pytest.mark.parametrize("idempotent", [False, True])
async def test_lost_answer_is_unknown_and_may_leave_two_records(place: Place, idempotent: bool) -> None:
    async with connected(place, idempotent=idempotent) as kit:
        await kit.ready()
        assert await kit.append()
        # On a busy machine the client may send its batch again too late for the deadline: then one copy is left.
        for number in range(1, LOST_MAX + 1):
            kit.line.swallow_after = key = b"shop-sg:the-one-whose-answer-is-lost-%d" % number
            await kit.append(key=key)
            await kit.taken_again()
            await until(lambda: kit.publisher.in_flight == 0)
            assert kit.line.cuts == number
            copies = sum(record.key == key for record in await kit.written())
            assert copies == 1 if idempotent else copies >= 1
            if idempotent or copies > 1:
                break
        assert idempotent or copies > 1
        await kit.nothing_is_missing()


async def test_missing_topic_makes_the_publisher_unready_until_it_is_created(kit: Kit) -> None:
    await kit.publisher.start()
    await until(lambda: "no partition of the topic" in (kit.publisher.trouble or ""))
    assert not await kit.append()
    await kit.create()
    await until(lambda: kit.publisher.trouble is None)
    assert await kit.append()
    await kit.nothing_is_missing()


async def test_added_partitions_are_used(kit: Kit) -> None:
    await kit.ready()
    async with kit.admin() as admin:
        await admin.create_partitions({kit.topic: NewPartitions(total_count=2 * PARTITIONS)})
    await until(lambda: kit.built[0].partitions == 2 * PARTITIONS)
    key = next(key for key in (b"k%d" % n for n in count()) if topics.partition_of(key, 12) >= PARTITIONS)
    await until(lambda: kit.publisher.trouble is None)
    await kit.taken_again()
    assert await kit.append(key=key)
    await kit.nothing_is_missing()


async def test_sequence_gap_of_an_idempotent_producer_is_overcome(place: Place) -> None:
    async with connected(place, idempotent=True) as kit:
        await kit.ready()
        assert await kit.append()
        sequence: Any = kit.built[0]._client._txn_manager
        for partition in range(PARTITIONS):
            sequence.increment_sequence_number((kit.topic, partition), 7)
        key = kit.acknowledged[0].key
        assert not await kit.append(key=key)
        assert await kit.taken_again() < RECOVERED_S
        await until(lambda: kit.observer.faults == [ProducerFault.SEQUENCE])
        await kit.nothing_is_missing()


async def test_ended_sender_task_is_replaced(kit: Kit) -> None:
    await kit.ready()
    assert await kit.append()
    kit.built[0]._client._sender.sender_task.cancel()
    await until(lambda: kit.observer.faults == [ProducerFault.SENDER_ENDED])
    assert await kit.append()
    await kit.nothing_is_missing()


async def test_record_too_large_for_the_topic_is_refused_alone(kit: Kit) -> None:
    await kit.ready(**{"max.message.bytes": "2000", "compression.type": "uncompressed"})
    assert await kit.append()
    random = bytes(number * number % 251 for number in range(20_000))
    with pytest.raises(Unavailable):
        await kit.publisher.append(Record(b"shop-sg:large", random, ()))
    (line,) = kit.logger.of("Kafka refused records")
    assert "MessageSizeTooLarge" in line["error"]
    assert await kit.append()
    await kit.nothing_is_missing()


async def test_cancelled_append_does_not_harm_the_others(kit: Kit) -> None:
    await kit.ready()
    appending = [asyncio.create_task(kit.append(key=b"shop-sg:one")) for _ in range(100)]
    await asyncio.sleep(0)
    for task in appending[::2]:
        task.cancel()
    ends = await asyncio.gather(*appending, return_exceptions=True)
    assert [isinstance(end, asyncio.CancelledError) for end in ends] == [True, False] * 50
    assert all(end is True for end in ends[1::2])
    await until(lambda: kit.publisher.in_flight == 0)
    await kit.nothing_is_missing()


@pytest.mark.parametrize("idempotent", [False, True])
async def test_stop_with_a_frozen_broker_ends_in_time(place: Place, idempotent: bool) -> None:
    async with connected(place, idempotent=idempotent) as kit:
        await kit.ready()
        assert await kit.append()
        kit.place.broker.process.freeze()
        try:
            appending = [asyncio.create_task(kit.append(size=30_000)) for _ in range(50)]
            await asyncio.sleep(0.2)
            began_s = clock.monotonic()
            await kit.publisher.stop()
            assert clock.monotonic() - began_s < 7
            assert not any(await asyncio.gather(*appending))
            assert kit.publisher.in_flight == 0
        finally:
            kit.place.broker.process.thaw()
