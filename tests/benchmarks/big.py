"""How flat big data is: `python -m tests.benchmarks.big [--rows N] [--accounts N] [--only NAME]`.

    sqlite, postgres   an order store with N held notifications and N orders: how long it takes to open it, operators'
                       questions, and batches of 100, undisturbed and while three consoles ask without a pause; then
                       the gauges beside N events that wait to be sent
    postgres           changes of counts that nobody has added up yet; a console's process with thousands of accounts
    engine             the whole embedded engine on such a store, with thousands of accounts: its start, a scrape, and
                       the answers to notifications, undisturbed and beside scrapes, reloads of all keys and consoles

The rows are written by bulk SQL. The senders and the consoles run on the same machine. Compare the answers with those
of the same run that were undisturbed: machines differ, and are noisy.
"""

import argparse
import asyncio
import os
import statistics
import tempfile
import time
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path
from sqlite3 import Connection

from aiohttp import ClientSession

from deploy.embedded.store import SqliteOrderStore
from deploy.local import directory as directories
from deploy.local import ports, postgres, roles
from deploy.local.directory import Directory
from deploy.local.machine import Machine
from deploy.local.roles import Program
from schemas.dispositions import Reason
from schemas.orders import Status
from tests.benchmarks.__main__ import machine
from tests.contract.engines import AnyStore, Cluster
from tests.support import alipay, bulk, log_records
from tests.support.bulk import HeldKind
from tests.support.log_records import NOW_MS
from tests.support.processes import Engine
from workers.errors import ReadTooSlow
from workers.postgres.database import Database, DatabaseLimits, SqlConnection
from workers.postgres.store import PostgresOrderStore
from workers.queries import AmountRange, HeldQuery, OrderQuery
from workers.row_codec import Row

KINDS = (("parked", "unknown_order"), ("quarantined", "amount_mismatch"), ("dead", "our_fault"))
PATIENT = DatabaseLimits(acquire_s=900.0, command_s=900.0, transaction_s=900.0)
BATCHES, BATCH = 40, 100
SPAN_S = 15.0
PER_S = 50


def held(count: int, accounts: int) -> Iterator[Row]:
    """Held rows: nine of ten parked, and one of a thousand dead."""
    for number in range(count):
        disposition, reason = KINDS[2 if number % 1000 == 999 else 1 if number % 10 == 9 else 0]
        kind = HeldKind(f"a{number % accounts:05}", disposition, reason)
        row = list(bulk.held_row(number, kind, NOW_MS + number, order=f"H{number:07}"))
        row[bulk.HELD.index("due_at_ms")] = None  # the engine must not begin to retry them all
        row[bulk.HELD.index("log_partition")] = 7
        yield tuple(row)


async def fill(store: AnyStore, rows: int, accounts: int) -> None:
    """Write the rows without their indexes, and then the indexes, which is faster."""
    begun = time.perf_counter()
    indexes = await (_drop_on_sqlite(store) if isinstance(store, SqliteOrderStore) else _drop_on_postgres(store))
    await bulk.add(store, "held", held(rows, accounts))
    orders = (bulk.order_row(f"O{number:07}", f"a{number % accounts:05}", NOW_MS + number) for number in range(rows))
    await bulk.add(store, "orders", orders)
    for index in indexes:
        if isinstance(store, SqliteOrderStore):
            await store.database.write(partial(_create_on_sqlite, index))
        elif isinstance(store, PostgresOrderStore):
            await store.database.write(partial(_create_on_postgres, index))
    print(f"  {rows:,} held rows and orders written in {time.perf_counter() - begun:.0f} s", flush=True)


async def _drop_on_sqlite(store: SqliteOrderStore) -> list[str]:
    def drop(connection: Connection) -> list[str]:
        connection.execute("PRAGMA cache_size = -1000000")  # until it is opened again
        named = "type = 'index' AND sql IS NOT NULL AND tbl_name IN ('held', 'orders')"
        found = connection.execute(f"SELECT name, sql FROM sqlite_schema WHERE {named}").fetchall()
        for name, _ in found:
            connection.execute(f"DROP INDEX {name}")
        return [sql for _, sql in found]

    return await store.database.write(drop)


def _create_on_sqlite(index: str, connection: Connection) -> None:
    connection.execute(index)


async def _drop_on_postgres(store: AnyStore) -> list[str]:
    assert isinstance(store, PostgresOrderStore)

    async def drop(connection: SqlConnection) -> list[str]:
        found = await connection.fetch(
            "SELECT indexname, indexdef FROM pg_indexes WHERE schemaname = current_schema "
            "AND tablename IN ('held', 'orders') AND indexname NOT LIKE '%pkey'"
        )
        for name, _ in found:
            await connection.execute(f"DROP INDEX {name}")
        return [sql for _, sql in found]

    return await store.database.write(drop)


async def _create_on_postgres(index: str, connection: SqlConnection) -> None:
    await connection.execute(index)


async def timed(name: str, work: Callable[[], Awaitable[object]], times: int = 5) -> None:
    taken = []
    for _ in range(times):
        begun = time.perf_counter()
        await work()
        taken.append((time.perf_counter() - begun) * 1000)
    print(f"  {name:<44}{statistics.median(taken):>10.1f} ms", flush=True)


def show(name: str, taken_ms: Sequence[float]) -> None:
    ordered = sorted(taken_ms)
    p99 = ordered[int(len(ordered) * 0.99)] if ordered else 0
    print(f"  {name:<44}{statistics.median(ordered):>10.1f} ms, p99 {p99:.1f}, worst {ordered[-1]:.1f}", flush=True)


async def ask(store: AnyStore) -> None:
    questions: dict[str, Callable[[], Awaitable[object]]] = {
        "list of 100": lambda: store.held_list(HeldQuery()),
        "list of 100 by a rare reason": lambda: store.held_list(HeldQuery(reason=Reason.OUR_FAULT)),
        "list of 100 by account": lambda: store.held_list(HeldQuery(account="a00007")),
        "list of one order": lambda: store.held_list(HeldQuery(order="H0000007")),
        "summary by reason and account": lambda: store.held_groups(HeldQuery()),
        "summary of one account": lambda: store.held_groups(HeldQuery(account="a00007")),
        "summary of a span, which is counted": lambda: store.held_groups(HeldQuery(since_ms=NOW_MS)),
        "gauges": store.counts,
        "last 50 orders": lambda: store.order_list(OrderQuery()),
        "orders of an account": lambda: store.order_list(OrderQuery(account="a00007")),
        "flagged orders, of which there are none": lambda: store.order_list(OrderQuery(is_flagged=True)),
        "orders by a prefix": lambda: store.order_list(OrderQuery(prefix="O00012")),
        "orders of a status that none has": lambda: store.order_list(OrderQuery(status=Status.CLOSED)),
        "orders above an amount that none has": lambda: store.order_list(
            OrderQuery(amounts=AmountRange(currency="USD", from_minor=1))
        ),
        "an order's page": lambda: store.order_page("a00007", "O0000007"),
    }
    for name, question in questions.items():
        try:
            await timed(name, question)
        except ReadTooSlow as error:
            print(f"  {name:<44}{error}", flush=True)


async def settle(store: AnyStore, name: str, first: int) -> None:
    work = log_records.processing(store, log_records.Time())
    taken = []
    for batch in range(BATCHES):
        offset = first + batch * BATCH
        records = [log_records.record(f"N{offset + n}") for n in range(BATCH)]
        begun = time.perf_counter()
        await work.process(log_records.logged(records, first=offset))
        taken.append((time.perf_counter() - begun) * 1000)
    show(name, taken)


async def console(store: AnyStore) -> None:
    """What one console asks when it is opened again and again."""
    while True:
        with suppress(Exception):  # too slow
            await store.order_list(OrderQuery(limit=25))
            await store.held_groups(HeldQuery())
            await store.held_list(HeldQuery())


async def measure(store: AnyStore) -> None:
    await ask(store)
    await settle(store, f"batch of {BATCH}, undisturbed", 1)
    consoles = [asyncio.create_task(console(store)) for _ in range(3)]
    await settle(store, "… behind three consoles", 1 + BATCHES * BATCH)
    for each in consoles:
        each.cancel()
    await asyncio.gather(*consoles, return_exceptions=True)


async def with_waiting_events(store: AnyStore, rows: int, accounts: int) -> None:
    """Ask for the gauges while a topic is away."""
    await bulk.add(
        store, "outbox", (bulk.event_row(f"O{number:07}", f"a{number % accounts:05}", NOW_MS) for number in range(rows))
    )
    await timed(f"gauges beside {rows:,} waiting events", store.counts)


async def with_changes(store: PostgresOrderStore, count: int) -> None:
    """Ask for counts while so many of their changes are not added up: a worker does it every five seconds.

    The changes cancel each other out, because there are no rows to them.
    """
    await store.database.write(
        lambda connection: connection.execute(
            """
            INSERT INTO held_count_changes (is_resolved, disposition, reason, account, attempts, count, oldest)
            SELECT false, 'parked', 'unknown_order', 'a' || lpad((each / 2 % 5000)::text, 5, '0'), 0,
                CASE WHEN each % 2 = 0 THEN 1 ELSE -1 END, now()
            FROM generate_series(0, $1::integer - 1) AS each
            """,
            count,
        )
    )
    await timed(f"summary, {count:,} changes not added up", lambda: store.held_groups(HeldQuery()))
    await timed("gauges, the same", store.counts)
    begun = time.perf_counter()
    while await store.add_up_counts():
        pass
    print(f"  {'… added up in':<44}{(time.perf_counter() - begun) * 1000:>10.1f} ms", flush=True)


async def at_a_console(held_: Directory, machine_: Machine, url: str, accounts: Path) -> None:
    """Ask a console's process."""
    (port,) = ports.free(1)
    program = Program(settings={"accounts": str(accounts), "postgres": url})
    console_ = roles.inner(held_, machine_, program, command="console", name="console", admin=port)
    begun = time.perf_counter()
    async with roles.together([console_]), ClientSession() as session:
        print(f"  {'start of a console':<44}{(time.perf_counter() - begun) * 1000:>10.1f} ms", flush=True)

        async def get(path: str) -> None:
            async with session.get(f"{console_.admin_url}{path}") as answer:
                await answer.read()
                assert answer.status == 200, f"{path}: {answer.status} {await answer.text()}"

        for path in ("/metrics", "/", "/held", "/api/held", "/api/orders/a00007/O0000007"):
            await timed(f"GET {path}", partial(get, path))


async def on_sqlite(directory: Path, rows: int, accounts: int) -> None:
    print("\nSQLite")
    path = directory / "orders.sqlite3"
    store = await SqliteOrderStore.open(path, now_ms=log_records.Time())
    await fill(store, rows, accounts)
    await store.close()
    begun = time.perf_counter()
    store = await SqliteOrderStore.open(path, now_ms=log_records.Time())
    print(f"  {'open':<44}{(time.perf_counter() - begun) * 1000:>10.1f} ms")
    await measure(store)
    await with_waiting_events(store, rows, accounts)
    await store.close()


async def on_postgres(directory: Path, rows: int, accounts: int) -> None:
    print("\nPostgreSQL")
    machine_ = Machine(environ=dict(os.environ))
    async with (
        directories.held(directory / "servers", fresh=True) as held_,
        postgres.running(held_, machine_) as server,
    ):
        cluster = Cluster(server, None, log_records.Time())
        async with cluster.store():
            database = await Database.open(cluster.url, limits=PATIENT)
            filling = PostgresOrderStore(database, holder="filling", now_ms=log_records.Time())
            await fill(filling, rows, accounts)
            while await filling.add_up_counts():  # as the leading worker does
                pass
            await database.close()
        begun = time.perf_counter()
        async with cluster.store() as store:
            print(f"  {'open':<44}{(time.perf_counter() - begun) * 1000:>10.1f} ms")
            await measure(store)
            await with_changes(store, 25_000)
            listed = await asyncio.to_thread(write_accounts, directory / "accounts", accounts)
            await at_a_console(held_, machine_, cluster.url, listed)
            await with_waiting_events(store, rows, accounts)


def write_accounts(directory: Path, accounts: int) -> Path:
    """Write so many accounts, each with a key file of its own."""
    directory.mkdir()
    key = alipay.pem(alipay.rsa_key())
    tables = []
    for number in range(accounts):
        (directory / f"{number}.pem").write_bytes(key)
        tables.append(
            f'[accounts.a{number:05}]\nfamily = "mapi"\nsign_type = "RSA"\nseller_id = "2088001"\n'
            f'keys = ["{number}.pem"]\n'
        )
    path = directory / "accounts.toml"
    path.write_text("".join(tables))
    return path


class Sender:
    """Sends notifications at a constant rate; a latency counts from the moment when its request was due."""

    def __init__(self, session: ClientSession, url: str) -> None:
        self._session = session
        self._url = url
        self._number = 0

    async def send(self, name: str) -> None:
        taken: list[float] = []
        begun = time.perf_counter()
        sending = []
        for index in range(int(SPAN_S * PER_S)):
            due = begun + index / PER_S
            await asyncio.sleep(max(0.0, due - time.perf_counter()))
            sending.append(asyncio.create_task(self._one(due, taken)))
        await asyncio.gather(*sending)
        show(name, taken)

    async def _one(self, due: float, taken: list[float]) -> None:
        self._number += 1
        order = f"E{os.getpid()}-{self._number}"
        body = alipay.form(log_records.payment(order), alipay.rsa_key(), "RSA")
        headers = {"Content-Type": "application/x-www-form-urlencoded"}
        async with self._session.post(f"{self._url}/notify/a00007", data=body, headers=headers) as answer:
            assert await answer.text() == "success"
        taken.append((time.perf_counter() - due) * 1000)


async def repeat(work: Callable[[], Awaitable[object]]) -> None:
    while True:
        await work()


async def on_engine(directory: Path, rows: int, accounts: int) -> None:
    print("\nThe embedded engine")
    data = directory / "engine"
    engine = Engine(write_accounts(directory / "accounts", accounts), data, ALIPAY_NOTIFY_LOG_SAMPLE="1")
    engine.start()
    engine.end()
    store = await SqliteOrderStore.open(data / "orders.sqlite3", now_ms=log_records.Time())
    await fill(store, rows, accounts)
    await store.close()
    begun = time.perf_counter()
    await asyncio.to_thread(engine.start)
    print(f"  {f'start, {accounts:,} accounts':<44}{(time.perf_counter() - begun) * 1000:>10.1f} ms")
    try:
        async with ClientSession() as session:
            await _beside(engine, session, directory / "accounts", accounts)
    finally:
        engine.end()


async def _beside(engine: Engine, session: ClientSession, files: Path, accounts: int) -> None:
    async def get(path: str) -> None:
        async with session.get(f"{engine.admin}{path}") as answer:
            await answer.read()

    async def reload() -> None:
        def touch() -> None:
            for number in range(accounts):
                os.utime(files / f"{number}.pem")

        await asyncio.to_thread(touch)
        await asyncio.sleep(SPAN_S / 3)

    async def scrape() -> None:
        await get("/metrics")
        await asyncio.sleep(1)

    async def look() -> None:
        for path in ("/", "/held", "/api/held"):
            await get(path)
        await asyncio.sleep(1)

    await timed("a scrape", lambda: get("/metrics"))
    await timed("the console's first page", lambda: get("/"))
    await timed("GET /api/held", lambda: get("/api/held"))
    sender = Sender(session, engine.public)
    await sender.send("(warming)")
    await sender.send(f"an answer at {PER_S} a second, undisturbed")
    for name, work, times in (
        ("… while scraped, every second", scrape, 1),
        ("… while all keys are reloaded, every 5 s", reload, 1),
        ("… beside three consoles that ask every second", look, 3),
    ):
        beside = [asyncio.create_task(repeat(work)) for _ in range(times)]
        await sender.send(name)
        for each in beside:
            each.cancel()
        await asyncio.gather(*beside, return_exceptions=True)
    await sender.send("… undisturbed again")


PARTS = {"sqlite": on_sqlite, "postgres": on_postgres, "engine": on_engine}


async def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--rows", type=int, default=1_000_000)
    options.add_argument("--accounts", type=int, default=5000)
    options.add_argument("--only", choices=PARTS, action="append", default=[])
    chosen = options.parse_args()
    print(", ".join(f"{name} {value}" for name, value in machine().items()))
    for name in chosen.only or PARTS:
        with tempfile.TemporaryDirectory() as place:
            await PARTS[name](Path(place), chosen.rows, chosen.accounts)


if __name__ == "__main__":
    asyncio.run(main())
