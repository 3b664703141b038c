"""From `success` to the event that a consumer has: how long a payment takes through all of the engine.

A receiver and a worker on the real servers. First everything is sent as fast as answers come, and the time until the
last event is out gives the most that this machine takes through to the end; then an open loop sends at 70 % of that,
and one at 1,000 a second. At last single notifications go through the idle engine, each after a pause of another
length, so that they would meet whatever waits for the next tick of a clock.

The sender remembers when it received `success`, and reads the topic of events as any consumer does; both moments are
this one process's. An event is handed to consumers once all in-sync replicas have it, so the figure is the time until
the event is acknowledged plus its way to a consumer.

The worker has a core of its own. The receiver, the servers and the sender share the others.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from random import Random

from aiokafka import AIOKafkaConsumer
from msgspec import Struct

from deploy.load import figures, generator
from deploy.load.generator import LoadLimits, Schedule, SendAttempt, Target
from schemas import topics
from tests.benchmarks.cluster import cores, corpus, servers
from tests.benchmarks.cluster.servers import Servers

SHARE = 0.7
STEADY_PER_S = 1000.0
PAUSE_S = (0.05, 0.4)  # before each lone notification
WARMING = 1000
CONNECTIONS = 256
BEGINS_IN_S = 1.0
WITHIN_S = 60.0


class Latencies(Struct, frozen=True, kw_only=True):
    """Of notifications sent at a constant rate, a second: from due to `success`, and from `success` to the event. In
    milliseconds."""

    rate: float
    ack_p50_ms: float
    ack_p99_ms: float
    event_p50_ms: float
    event_p99_ms: float
    event_p99_9_ms: float
    sent: int
    events: int


class LoneLatencies(Struct, frozen=True, kw_only=True):
    """Of notifications that are alone in the engine: from sent to `success`, and to the event. In milliseconds."""

    count: int
    ack_p50_ms: float
    event_p50_ms: float
    event_p99_ms: float
    event_max_ms: float


class Figures(Struct, frozen=True, kw_only=True):
    """The latencies at each rate, and of notifications that were alone."""

    through_per_s_max: float
    at_70_percent: Latencies
    at_1000_per_s: Latencies
    lone: LoneLatencies


class _Consumer:
    """When each order's first event was seen."""

    def __init__(self) -> None:
        self.seen_s: dict[str, float] = {}

    async def until(self, count: int) -> None:
        """Returns when so many orders have theirs."""
        async with asyncio.timeout(WITHIN_S):
            while len(self.seen_s) < count:  # noqa: ASYNC110
                await asyncio.sleep(0.01)

    async def run(self, consumer: AIOKafkaConsumer) -> None:
        while True:
            found = await consumer.getmany(timeout_ms=200)
            now_s = time.monotonic()
            for records in found.values():
                for record in records:
                    self.seen_s.setdefault(record.key.partition(b":")[2].decode(), now_s)


async def measure(given: Servers, *, count: int, lone: int) -> Figures:
    """`count` notifications at most, as many at each rate, and `lone` ones."""
    place = await servers.place(given)
    warming = await corpus.requests(given.world, WARMING, seed=1)
    fast = await corpus.requests(given.world, count, seed=1_000_000)
    steady = await corpus.requests(given.world, count, seed=2_000_000)
    slower = await corpus.requests(given.world, count, seed=3_000_000)
    single = await corpus.requests(given.world, lone, seed=4_000_000)
    async with (
        servers.at_work(servers.receiver(given, place), cores.REST) as receiver,
        servers.at_work(servers.worker(given, place), cores.MEASURED),
        _consuming(given, topics.named(topics.ORDER_EVENT, place.prefix)) as consumer,
    ):
        with cores.on(cores.REST):
            await _send(warming, receiver.port)
            await consumer.until(WARMING)
            began_s = time.monotonic()
            await _send(fast, receiver.port)
            await consumer.until(WARMING + count)
            most = count / (max(consumer.seen_s.values()) - began_s)
            at_70_percent = await _at(most * SHARE, steady, receiver.port, consumer)
            at_1000_per_s = await _at(STEADY_PER_S, slower, receiver.port, consumer)
            alone = await _lone(single, receiver.port, consumer)
    return Figures(through_per_s_max=most, at_70_percent=at_70_percent, at_1000_per_s=at_1000_per_s, lone=alone)


async def _at(rate: float, requests: Sequence[bytes], port: int, consumer: _Consumer) -> Latencies:
    before = len(consumer.seen_s)
    attempts = await _send(requests, port, rate=rate)
    with suppress(TimeoutError):  # missing events then show in the figures
        await consumer.until(before + len(requests))
    told = {corpus.order_of(requests[one.index]): one.ended for one in attempts if one.outcome == "ok"}
    took = [consumer.seen_s[order] - at_s for order, at_s in told.items() if order in consumer.seen_s]
    sent, events = figures.summed(attempts), figures.percentiles(took)
    return Latencies(
        rate=sent.rate,
        ack_p50_ms=sent.latency_ms.p50,
        ack_p99_ms=sent.latency_ms.p99,
        event_p50_ms=events.p50,
        event_p99_ms=events.p99,
        event_p99_9_ms=events.p99_9,
        sent=len(told),
        events=len(took),
    )


async def _lone(requests: Sequence[bytes], port: int, consumer: _Consumer) -> LoneLatencies:
    """Each is sent when the one before has its event, and after a pause."""
    chance = Random(1)
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    acks: list[float] = []
    took: list[float] = []
    for request in requests:
        await asyncio.sleep(chance.uniform(*PAUSE_S))
        before, sent_s = len(consumer.seen_s), time.monotonic()
        writer.write(request)
        await reader.readuntil(b"success")
        acks.append(time.monotonic() - sent_s)
        await consumer.until(before + 1)
        took.append(consumer.seen_s[corpus.order_of(request)] - sent_s)
    writer.close()
    events = figures.percentiles(took)
    return LoneLatencies(
        count=len(took),
        ack_p50_ms=figures.percentiles(acks).p50,
        event_p50_ms=events.p50,
        event_p99_ms=events.p99,
        event_max_ms=max(took) * 1000,
    )


async def _send(requests: Sequence[bytes], port: int, *, rate: float | None = None) -> list[SendAttempt]:
    schedule = None if rate is None else Schedule(start=time.monotonic() + BEGINS_IN_S, rate=rate)
    limits = LoadLimits(connections=CONNECTIONS, timeout_s=30.0, drain_s=60.0)
    return await generator.run(requests, Target(host="127.0.0.1", port=port), schedule=schedule, limits=limits)


@asynccontextmanager
async def _consuming(given: Servers, topic: str) -> AsyncIterator[_Consumer]:
    reader = AIOKafkaConsumer(
        topic, bootstrap_servers=given.kafka, group_id=None, auto_offset_reset="earliest", fetch_max_wait_ms=100
    )
    await reader.start()
    consumer = _Consumer()
    task = asyncio.create_task(consumer.run(reader))
    try:
        yield consumer
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task
        await reader.stop()


def table(figures: Figures) -> str:
    """The figures as text."""
    lone = figures.lone
    lines = {"through to the end, most": f"{figures.through_per_s_max:,.0f}/s"}
    for at in (figures.at_70_percent, figures.at_1000_per_s):
        lines |= {
            f"at {at.rate:,.0f}/s: due to `success`": f"p50 {at.ack_p50_ms:.1f} ms, p99 {at.ack_p99_ms:.1f} ms",
            f"at {at.rate:,.0f}/s: `success` to event": (
                f"p50 {at.event_p50_ms:.1f} ms, p99 {at.event_p99_ms:.1f} ms, p99.9 {at.event_p99_9_ms:.1f} ms"
            ),
            f"at {at.rate:,.0f}/s: events of acknowledged": f"{at.events:,} of {at.sent:,}",
        }
    lines |= {
        f"{lone.count} alone: sent to `success`": f"p50 {lone.ack_p50_ms:.1f} ms",
        f"{lone.count} alone: sent to event": (
            f"p50 {lone.event_p50_ms:.1f} ms, p99 {lone.event_p99_ms:.1f} ms, most {lone.event_max_ms:.1f} ms"
        ),
    }
    return "\n".join(f"{name:36}{value}" for name, value in lines.items())
