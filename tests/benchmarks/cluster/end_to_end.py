"""From `success` to the event that a consumer has: how long a payment takes through all of the engine.

A receiver and a worker on the real servers. First everything is sent as fast as answers come, and the time until the
last event is out gives the most that this machine takes through to the end; then an open loop sends at 70 % of that.
The sender remembers when it received `success`, and reads the topic of events as any consumer does; both moments are
this one process's. An event is handed to consumers once all in-sync replicas have it, so the figure is the time until
the event is acknowledged plus its way to a consumer.

The worker has a core of its own. The receiver, the servers and the sender share the others.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress

from aiokafka import AIOKafkaConsumer
from msgspec import Struct

from deploy.load import figures, generator
from deploy.load.generator import LoadLimits, Schedule, SendAttempt, Target
from schemas import topics
from tests.benchmarks.cluster import cores, corpus, servers
from tests.benchmarks.cluster.servers import Servers

SHARE = 0.7
WARMING = 1000
CONNECTIONS = 256
BEGINS_IN_S = 1.0
WITHIN_S = 60.0


class Figures(Struct, frozen=True, kw_only=True):
    """Rates are notifications a second, latencies milliseconds."""

    through_per_s_max: float
    rate_at_70_percent: float
    ack_p50_ms: float
    ack_p99_ms: float
    event_p50_ms: float
    event_p99_ms: float
    event_p99_9_ms: float
    sent: int
    events: int


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


async def measure(given: Servers, *, count: int) -> Figures:
    """`count` notifications at most, and as many at 70 %."""
    place = await servers.place(given)
    warming = await corpus.requests(given.world, WARMING, seed=1)
    fast = await corpus.requests(given.world, count, seed=1_000_000)
    steady = await corpus.requests(given.world, count, seed=2_000_000)
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
            attempts = await _send(steady, receiver.port, rate=most * SHARE)
            with suppress(TimeoutError):  # missing events then show in the figures
                await consumer.until(WARMING + 2 * count)
    return _figures(steady, attempts, consumer, most)


def _figures(requests: Sequence[bytes], attempts: Sequence[SendAttempt], consumer: _Consumer, most: float) -> Figures:
    told = {corpus.order_of(requests[one.index]): one.ended for one in attempts if one.outcome == "ok"}
    took = [consumer.seen_s[order] - at_s for order, at_s in told.items() if order in consumer.seen_s]
    sent, events = figures.summed(attempts), figures.percentiles(took)
    return Figures(
        through_per_s_max=most,
        rate_at_70_percent=sent.rate,
        ack_p50_ms=sent.latency_ms.p50,
        ack_p99_ms=sent.latency_ms.p99,
        event_p50_ms=events.p50,
        event_p99_ms=events.p99,
        event_p99_9_ms=events.p99_9,
        sent=len(told),
        events=len(took),
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
    lines = {
        "through to the end, most": f"{figures.through_per_s_max:,.0f}/s",
        f"at {figures.rate_at_70_percent:,.0f}/s: due to `success`": (
            f"p50 {figures.ack_p50_ms:.1f} ms, p99 {figures.ack_p99_ms:.1f} ms"
        ),
        "`success` to event": (
            f"p50 {figures.event_p50_ms:.1f} ms, p99 {figures.event_p99_ms:.1f} ms, "
            f"p99.9 {figures.event_p99_9_ms:.1f} ms"
        ),
        "events of acknowledged": f"{figures.events:,} of {figures.sent:,}",
    }
    return "\n".join(f"{name:36}{value}" for name, value in lines.items())
