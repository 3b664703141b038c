"""Cost of a record in a full order store: the same batches beside ten thousand existing orders and a million.

The existing orders are copies of one that the store itself has written, with their numbers in its place, in every table
that has rows of it: an order, its trade, its notification with the signed bytes, its delivery and its event. They are
copied by the server, since a million notifications would take minutes.

Of the records measured, half are payments of new orders, and half bring the second news of one of the existing ones,
drawn from all of them: those have to find rows that have not been read for long. The server starts each measurement
after a checkpoint, so that the first change of a page costs as much as it ever does. Reading and deciding are this
process's own; the signature is not looked at here.
"""

import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from random import Random

import asyncpg
from msgspec import Struct

from schemas.record_format import Record
from tests.benchmarks.cluster import cores, servers
from tests.benchmarks.cluster.servers import Servers
from tests.support import log_records
from workers.postgres.store import PostgresOrderStore
from workers.settlement.plan import LogRecord, Position

BATCH = 500
WARMING = 1000  # of the existing orders, whose second news are not measured
PARTITION = 7  # the existing orders' records lie in one that the measured ones do not
DIGITS = 12
SCATTER = 7919
TEMPLATE = "T" + "7" * (DIGITS - 1)
GIVEN_BY_THE_SERVER = ("number",)
COPIED = ("orders", "trades", "notifications", "deliveries", "outbox")


class Cost(Struct, frozen=True, kw_only=True):
    """Of one record, with so many orders in the store. Microseconds."""

    orders: int
    filled_in_s: float
    store_mib: float
    wall_us: float
    client_cpu_us: float
    postgres_cpu_us: float


class Figures(Struct, frozen=True, kw_only=True):
    """From the emptiest store to the fullest; `ratio` is how many times as long a record takes in that."""

    ratio: float
    records: int
    costs: Sequence[Cost]


async def measure(given: Servers, *, counts: Sequence[int], records: int) -> Figures:
    """So many records in batches of 500, beside each number of orders."""
    costs = [await _cost(given, count, records) for count in counts]
    return Figures(ratio=costs[-1].wall_us / costs[0].wall_us, records=records, costs=costs)


async def _cost(given: Servers, orders: int, count: int) -> Cost:
    place = await servers.place(given)
    store = await PostgresOrderStore.open(place.postgres, holder="benchmark", now_ms=log_records.Time())
    try:
        await log_records.processing(store, log_records.Time()).process(
            [LogRecord(Position(PARTITION, 0), _paid(TEMPLATE))]
        )
        began_s = time.perf_counter()
        size = await _fill(place.postgres, orders)
        filled_s = time.perf_counter() - began_s
        await _settle(store, _records(range(WARMING), name="W"), first=0)
        await _execute(place.postgres, "CHECKPOINT")
        batches = _records(Random(orders).sample(range(WARMING, orders), count // 2), name="M")
        before = given.cpu_s()["postgres"]
        wall_s, cpu_s = await _settle(store, batches, first=2 * WARMING)
        used_s = given.cpu_s()["postgres"] - before
    finally:
        await store.close()
        await _execute(place.postgres, f"DROP SCHEMA {place.told['group']} CASCADE")
    return Cost(
        orders=orders,
        filled_in_s=filled_s,
        store_mib=size / 2**20,
        wall_us=wall_s / count * 1e6,
        client_cpu_us=cpu_s / count * 1e6,
        postgres_cpu_us=used_s / count * 1e6,
    )


async def _settle(store: PostgresOrderStore, records: Sequence[Record], *, first: int) -> tuple[float, float]:
    """Bring them to their dispositions; seconds by the wall, and of this process's CPU."""
    work = log_records.processing(store, log_records.Time())
    logged = [LogRecord(Position(0, first + offset), each) for offset, each in enumerate(records)]
    with cores.on(cores.MEASURED):
        wall_s, cpu_s = time.perf_counter(), time.process_time()
        for start in range(0, len(logged), BATCH):
            await work.process(logged[start : start + BATCH])
        return time.perf_counter() - wall_s, time.process_time() - cpu_s


def _records(known: Sequence[int], *, name: str) -> list[Record]:
    """The second news of these existing orders, and in turn with them payments of as many new ones."""
    mixed = []
    for index, number in enumerate(known):
        mixed += [_paid(f"{name}{index:0{DIGITS - 1}}"), _news(_number(number), "TRADE_FINISHED")]
    return mixed


def _number(index: int) -> str:
    """The number of an existing order. Orders of one moment do not lie side by side in an index by their number."""
    return f"{index * SCATTER % 10**6:06}{index:06}"


def _paid(order: str) -> Record:
    return _news(order, "TRADE_SUCCESS")


def _news(order: str, status: str) -> Record:
    return log_records.record(
        order, status, buyer_logon_id="buyer@example.com" * 4, body="One of a million orders. " * 8
    )


async def _fill(url: str, orders: int) -> int:
    """Copy the one order so many times; the size of the store in bytes."""
    connection = await asyncpg.connect(url)
    try:
        async with connection.transaction():
            # Each copy is as consistent as its original: the triggers need not ask a million times.
            await connection.execute("SET LOCAL session_replication_role = replica")
            await connection.execute("SET LOCAL maintenance_work_mem = '256MB'")
            for table in COPIED:
                async with _without_indexes(connection, table):
                    await connection.execute(await _copying(connection, table, orders), timeout=None)
        for table in COPIED:
            await connection.execute(f"VACUUM ANALYZE {table}", timeout=None)
        size: int = await connection.fetchval(
            "SELECT sum(pg_total_relation_size(oid))::bigint FROM pg_class "
            "WHERE relnamespace = current_schema()::regnamespace AND relkind = 'r'"
        )
        return size
    finally:
        await connection.close()


async def _copying(connection: "asyncpg.Connection[asyncpg.Record]", table: str, orders: int) -> str:
    """The statement that copies the one row of a table."""
    row = await connection.fetchrow(f"SELECT * FROM {table}")
    assert row is not None
    copied = {name: _copy(name, value) for name, value in row.items() if name not in GIVEN_BY_THE_SERVER}
    return f"""
        INSERT INTO {table} ({", ".join(copied)}) SELECT {", ".join(copied.values())}
        FROM {table} AS one, (
            SELECT i, number, convert_to(number, 'UTF8') AS bytes FROM (
                SELECT i, lpad((i * {SCATTER} % 1000000)::text, 6, '0') || lpad(i::text, 6, '0') AS number
                FROM generate_series(0::bigint, {orders - 1}) AS i
            ) AS numbered
        ) AS copy
    """


def _copy(column: str, value: object) -> str:
    """What stands in the copy's column."""
    if column == "log_offset":
        return "copy.i + 1"
    if column == "sent_at":
        return "one.written_at"
    if isinstance(value, str) and TEMPLATE in value:
        return " || copy.number || ".join(f"'{part}'" for part in value.split(TEMPLATE))
    if isinstance(value, bytes) and TEMPLATE.encode() in value:
        return " || copy.bytes || ".join(f"'\\x{part.hex()}'::bytea" for part in value.split(TEMPLATE.encode()))
    return f"one.{column}"


@asynccontextmanager
async def _without_indexes(connection: "asyncpg.Connection[asyncpg.Record]", table: str) -> AsyncIterator[None]:
    """Many rows are written several times as fast when the indexes are built afterwards."""
    indexes = await connection.fetch(_INDEXES, table)
    for index, constraint, _ in indexes:
        drop = f"ALTER TABLE {table} DROP CONSTRAINT {constraint}" if constraint else f"DROP INDEX {index}"
        await connection.execute(drop)
    yield
    for _, constraint, definition in indexes:
        add = f"ALTER TABLE {table} ADD CONSTRAINT {constraint} {definition}" if constraint else definition
        await connection.execute(add, timeout=None)


_INDEXES = """
    SELECT indexrelid::regclass::text, conname, coalesce(pg_get_constraintdef(c.oid), pg_get_indexdef(indexrelid))
    FROM pg_index LEFT JOIN pg_constraint AS c ON conindid = indexrelid WHERE indrelid = $1::text::regclass
"""


async def _execute(url: str, statement: str) -> None:
    connection = await asyncpg.connect(url)
    try:
        await connection.execute(statement, timeout=None)
    finally:
        await connection.close()


def table(figures: Figures) -> str:
    """The costs as text."""
    head = f"{'existing orders':>16}{'store MiB':>12}{'wall µs':>10}{'client CPU µs':>16}{'PostgreSQL CPU µs':>20}"
    lines = [
        f"{c.orders:>16,}{c.store_mib:>12,.0f}{c.wall_us:>10.1f}{c.client_cpu_us:>16.1f}{c.postgres_cpu_us:>20.1f}"
        for c in figures.costs
    ]
    return "\n".join([head, *lines, f"fullest ÷ emptiest, wall: {figures.ratio:.2f}"])
