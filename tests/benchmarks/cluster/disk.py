"""Bytes that a payment takes on disk: in Kafka's topics, in PostgreSQL, and in PostgreSQL's write-ahead log.

Each is the payment of an order of its own, so it adds all that a notification can add. Kafka's figures are of one
replica. PostgreSQL's are its tables with their indexes, before any row of the outbox is pruned.
"""

import asyncio
from pathlib import Path

import asyncpg
from msgspec import Struct

from schemas import telemetry, topics
from tests.benchmarks import sending
from tests.benchmarks.cluster import cores, corpus, servers
from tests.benchmarks.cluster.servers import Place, Servers

WITHIN_S = 120.0
LOOK_EVERY_S = 0.5


class Figures(Struct, frozen=True, kw_only=True):
    """Bytes of one payment."""

    log: float
    events: float
    states: float
    tables: float
    wal: float


class _Size(Struct, frozen=True):
    tables: int
    wal: int


async def measure(given: Servers, *, count: int) -> Figures:
    """So many payments, from the receiver to the last event."""
    place = await servers.place(given)
    requests = await corpus.requests(given.world, count, seed=1)
    before = await _size(place)
    async with (
        servers.at_work(servers.receiver(given, place), cores.REST) as receiver,
        servers.at_work(servers.worker(given, place), cores.MEASURED) as worker,
    ):
        with cores.on(cores.REST):
            await sending.run(requests, host="127.0.0.1", port=receiver.port)
            async with asyncio.timeout(WITHIN_S):
                while servers.total(await servers.metrics(worker), f"{telemetry.END_TO_END.name}_count") < count:  # noqa: ASYNC110
                    await asyncio.sleep(LOOK_EVERY_S)
    after = await _size(place)
    of_topic = {
        topic: _log_bytes(given.stack.directory.path, topics.named(topic, place.prefix)) / count
        for topic in (topics.NOTIFICATION, topics.ORDER_EVENT, topics.ORDER_STATE)
    }
    return Figures(
        log=of_topic[topics.NOTIFICATION],
        events=of_topic[topics.ORDER_EVENT],
        states=of_topic[topics.ORDER_STATE],
        tables=(after.tables - before.tables) / count,
        wal=(after.wal - before.wal) / count,
    )


def _log_bytes(directory: Path, topic: str) -> int:
    return sum(path.stat().st_size for path in directory.rglob(f"{topic}-*/*.log"))


async def _size(place: Place) -> _Size:
    connection = await asyncpg.connect(place.postgres)
    try:
        row = await connection.fetchrow(
            "SELECT (SELECT coalesce(sum(pg_total_relation_size(oid)), 0)::bigint FROM pg_class "
            "WHERE relkind = 'r' AND relnamespace = current_schema()::regnamespace), "
            "(pg_current_wal_lsn() - '0/0'::pg_lsn)::bigint"
        )
    finally:
        await connection.close()
    assert row is not None
    return _Size(*row)


def table(figures: Figures) -> str:
    """The figures as text."""
    lines = {
        "Kafka, a replica: notification": figures.log,
        "Kafka, a replica: order event": figures.events,
        "Kafka, a replica: order state": figures.states,
        "PostgreSQL, tables and indexes": figures.tables,
        "PostgreSQL, write-ahead log": figures.wal,
    }
    return "\n".join(f"{name:36}{value:9,.0f} bytes" for name, value in lines.items())
