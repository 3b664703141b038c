"""A publisher and its broker, with a wire between them that tests can break, and what the publisher acknowledged.

Acknowledged records are in the topic after recovery, and no append waits beyond the deadline. Clients reach the broker
through the wire, because the broker advertises the wire's address.
"""

import asyncio
import time as clock
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from itertools import count
from typing import Any

from aiokafka import AIOKafkaConsumer
from aiokafka.admin import AIOKafkaAdminClient, NewTopic

from deploy.local import ports
from deploy.local.directory import Directory
from deploy.local.kafka import cluster
from deploy.local.kafka.cluster import Kafka
from deploy.local.machine import Machine
from ingest.errors import Unavailable
from ingest.kafka import producer
from ingest.kafka.producer import KafkaProducer
from ingest.kafka.publisher import Publisher
from ingest.kafka.supervisor import SupervisorTiming
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
_numbers = count()


class Place:
    """The broker, and the port at which its clients look for it."""

    def __init__(self, kafka: Kafka, port: int) -> None:
        self.kafka = kafka
        self.port = port
        (self.broker,) = kafka.brokers

    def wire(self) -> AbstractAsyncContextManager[Wire]:
        return wire(self.broker.node.client, at=self.port)


def of_a_module(more: Mapping[str, str] | None = None) -> Iterator[Place]:
    """A broker of these tests' own, because its advertised address leads through the wire; `more` are its settings."""
    (port,) = ports.free(1)
    nodes = cluster.nodes_for(1, [port])

    @asynccontextmanager
    async def running(directory: Directory, machine: Machine) -> AsyncIterator[Place]:
        # It counts as started when it answers where its clients look, so the wire has to be laid before.
        async with AsyncExitStack() as entered:
            async with wire(nodes[0].client, at=port):
                starting = cluster.running(directory, machine, nodes=nodes, more=SHORT_SESSIONS | dict(more or {}))
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

    async def taken_again(self, within_s: float = RECOVERED_S, **record: Any) -> float:
        """How long it took until an append of such a record succeeded."""
        began_s = clock.monotonic()
        async with asyncio.timeout(within_s):
            while not await self.append(**record):  # noqa: ASYNC110 - as Alipay does
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
        """Check that every acknowledged record is there, and that every answer came in time."""
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
