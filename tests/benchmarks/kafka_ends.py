"""CPU cost of the worker's consumer and producers: `python -m tests.benchmarks.kafka_ends [RECORDS]`.

Microseconds of the client's CPU for each record read and committed, and for each event published to its topic and the
compacted state topic; beside them the cost of bare aiokafka for the same on the same broker in the same run. The least
of several rounds, because other work only ever adds. The broker's own CPU is not in these figures.
"""

import asyncio
import logging
import os
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

from aiokafka import AIOKafkaConsumer
from aiokafka.admin import NewTopic
from aiokafka.structs import TopicPartition

from deploy.local import directory as directories
from deploy.local.kafka import cluster
from deploy.local.machine import Machine
from schemas import topics
from schemas.events import Outgoing
from tests.support import log_records
from tests.support.kafka_topics import Settling, Topic, admin
from workers.kafka import clients
from workers.kafka.events import KafkaEvents
from workers.settlement.plan import Position

BATCH = 500
PARTITIONS = 12
ROUNDS = 4
VALUE_BYTES = 700  # an order event as it is as a rule
VERSIONS = 2  # of each order, in a batch


async def cost(work: Callable[[], Awaitable[int]]) -> float:
    """Microseconds of CPU for each operation: the least of the rounds."""
    least = float("inf")
    for _ in range(ROUNDS):
        begun = time.process_time()
        done = await work()
        least = min(least, (time.process_time() - begun) / done * 1e6)
    return least


async def filled(bootstrap: str, count: int) -> Topic:
    topic = Topic(bootstrap, partitions=PARTITIONS)
    await topic.make()
    producer = clients.producer(topic.connection)
    await producer.start()
    records = [log_records.record(f"N{number}") for number in range(count)]
    for start in range(0, count, 2000):
        sends = [
            await producer.send(topic.name, each.value, each.key, headers=[*each.headers])
            for each in records[start : start + 2000]
        ]
        await asyncio.gather(*sends)
    await producer.stop()
    return topic


async def read_bare(topic: Topic, count: int) -> int:
    reader: Any = AIOKafkaConsumer(
        topic.name,
        **topic.connection,
        group_id=f"bare-{time.monotonic_ns()}",
        enable_auto_commit=False,
        auto_offset_reset="earliest",
        fetch_max_wait_ms=200,
    )
    await reader.start()
    read = 0
    while read < count:
        found = await reader.getmany(timeout_ms=200, max_records=BATCH)
        ends: dict[TopicPartition, int] = {}
        for partition, records in found.items():
            read += len(records)
            ends[partition] = records[-1].offset + 1
        if ends:
            await reader.commit(ends)
    await reader.stop()
    return read


async def read_ours(topic: Topic, count: int) -> int:
    topic.group = f"ours-{time.monotonic_ns()}"
    topic.settled.last.clear()
    source = topic.source()
    settling = Settling(source, topic.settled)
    read = 0
    while read < count:
        batch = await settling.poll(BATCH)
        read += len(batch)
        ends: dict[int, Position] = {each.position.partition: each.position for each in batch}
        if ends:
            await settling.commit([*ends.values()])
    await source.stop()
    return read


def events(round_: int) -> list[Outgoing]:
    return [
        Outgoing(
            id=f"shop:R{round_}-{number // VERSIONS}:{number % VERSIONS + 1}",
            topic=topics.ORDER_EVENT,
            key=b"shop-sg:2025100922001R%d-%d" % (round_, number // VERSIONS),
            value=os.urandom(VALUE_BYTES // 2).hex().encode(),
            headers=tuple((f"ce_{name}", b"of twenty characters") for name in ("id", "type", "source", "time")),
        )
        for number in range(BATCH)
    ]


async def publish(bootstrap: str, count: int) -> tuple[float, float]:
    """Ours, and the bare library's `send`."""
    connection = {"bootstrap_servers": bootstrap}
    prefix = f"b{time.monotonic_ns()}"
    async with admin(connection) as asked:
        await asked.create_topics([NewTopic(topics.named(each, prefix), PARTITIONS, 1) for each in topics.ALL])
    ours = KafkaEvents(lambda: clients.producer(connection), named=lambda topic: topics.named(topic, prefix))
    bare = clients.producer(connection)
    await bare.start()
    batches = [events(round_) for round_ in range(max(1, count // BATCH))]
    await ours.publish(batches[0])

    async def by_us() -> int:
        for batch in batches:
            await ours.publish(batch)
        return len(batches) * BATCH

    async def by_the_library() -> int:
        for batch in batches:
            last = {event.key: event for event in batch}
            for topic, sent in ((topics.ORDER_STATE, [*last.values()]), (topics.ORDER_EVENT, batch)):
                name = topics.named(topic, prefix)
                sends = [await bare.send(name, e.value, e.key, headers=[*e.headers]) for e in sent]
                await asyncio.gather(*sends)
        return len(batches) * BATCH

    figures = await cost(by_us), await cost(by_the_library)
    await ours.stop()
    await bare.stop()
    return figures


def line(name: str, ours: float, bare: float) -> None:
    print(f"{name:<44}{ours:>8.1f} us{bare:>8.1f} us{ours / bare:>8.2f}")


async def measure(directory: Path, count: int) -> None:
    async with (
        directories.held(directory / "stack", fresh=True) as held,
        cluster.running(held, Machine(environ=dict(os.environ))) as kafka,
    ):
        print(f"{'client CPU':<44}{'ours':>11}{'bare':>11}{'ratio':>8}")
        topic = await filled(kafka.bootstrap, count)
        ours, bare = await cost(lambda: read_ours(topic, count)), await cost(lambda: read_bare(topic, count))
        line(f"a record read and committed, by {BATCH}", ours, bare)
        line(f"an event to two topics, by {BATCH}", *await publish(kafka.bootstrap, count // 2))


def main(count: int) -> None:
    logging.getLogger("aiokafka").setLevel(logging.CRITICAL)  # a topic's leaders take a moment to be known to all
    with tempfile.TemporaryDirectory() as place:
        asyncio.run(measure(Path(place), count))


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 20_000)
