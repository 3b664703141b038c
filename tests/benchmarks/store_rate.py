"""How fast the engines' stores are: `python -m tests.benchmarks.store_rate [RECORDS]`.

Journal: appends by so many senders at once, in appends per second, and what one costs the event loop. Store: whole
batches of 1, 50, 200 and 500 records with reading and deciding (the signature check left out, it is measured apart),
in records per second and microseconds of CPU each; once on SQLite, once on a PostgreSQL of its own on loopback, whose
server's own CPU is not in these figures. All with every commit fsynced, on the disk of the temporary directory.
"""

import asyncio
import os
import sys
import tempfile
import time
from pathlib import Path

from deploy.embedded.journal import Journal
from deploy.embedded.store import SqliteOrderStore
from deploy.local import directory as directories
from deploy.local import postgres
from deploy.local.machine import Machine
from tests.contract.engines import Cluster
from tests.support import log_records
from workers.processing import Store
from workers.settlement.plan import LogRecord

BATCHES = (1, 50, 200, 500)
SENDERS = (1, 16, 128, 512)
STATUSES = ("WAIT_BUYER_PAY", "TRADE_SUCCESS", "TRADE_FINISHED")


def line(name: str, count: int, wall_s: float, cpu_s: float) -> None:
    print(f"{name:<32}{count / wall_s:>10,.0f}/s{wall_s / count * 1e6:>9.1f} us{cpu_s / count * 1e6:>9.1f} us CPU")


async def appends(directory: Path, senders: int, count: int) -> None:
    journal = await Journal.open(directory / f"journal-{senders}.sqlite3", now_ms=log_records.Time())
    records = iter([log_records.record(f"N{number}") for number in range(count)])

    async def send() -> None:
        for record in records:
            await journal.append(record)

    wall, cpu, loop_cpu = time.perf_counter(), time.process_time(), time.thread_time()
    await asyncio.gather(*(send() for _ in range(senders)))
    loop_cpu = time.thread_time() - loop_cpu
    line(f"append, {senders} at once", count, time.perf_counter() - wall, time.process_time() - cpu)
    print(f"{'':<32}{'of that on the loop':>24}{loop_cpu / count * 1e6:>9.1f} us CPU")
    await journal.close()


def batches(size: int, count: int) -> list[list[LogRecord]]:
    """News of fresh orders, three for each, and one of eight sent twice."""
    records = []
    for number in range(count):
        order = f"S{size}-{number // 3}"
        records.append(log_records.record(order, STATUSES[number % 3], buyer_logon_id="buyer@example.com" * 4))
        if number % 8 == 7:
            records[-1] = records[-2]
    logged = log_records.logged(records)
    return [logged[start : start + size] for start in range(0, len(logged), size)]


async def settles(engine: str, store: Store, now: log_records.Time, size: int, count: int) -> None:
    work = log_records.processing(store, now)
    prepared = batches(size, count)
    wall, cpu = time.perf_counter(), time.process_time()
    for batch in prepared:
        await work.process(batch)
    line(f"{engine}: settle, batches of {size}", count, time.perf_counter() - wall, time.process_time() - cpu)
    now.now_ms += 60_000  # a worker that is not alone takes unsent events for orphaned
    wall, cpu, sent = time.perf_counter(), time.process_time(), 0
    while emitted := await work.emit():
        sent += emitted
    if size == BATCHES[-1]:
        line(f"{engine}: emit and mark, by 500", sent, time.perf_counter() - wall, time.process_time() - cpu)


async def on_sqlite(directory: Path, count: int) -> None:
    now = log_records.Time()
    for size in BATCHES:
        store = await SqliteOrderStore.open(directory / f"orders-{size}.sqlite3", now_ms=now)
        await settles("SQLite", store, now, size, min(count, 300 * size))
        await store.close()


async def on_postgres(directory: Path, count: int) -> None:
    machine = Machine(environ=dict(os.environ))
    async with (
        directories.held(directory / "servers", fresh=True) as held,
        postgres.running(held, machine) as server,
    ):
        now = log_records.Time()
        for size in BATCHES:
            async with Cluster(server, None, now).store() as store:
                await settles("PostgreSQL", store, now, size, min(count, 300 * size))


async def measure(directory: Path, count: int) -> None:
    for senders in SENDERS:
        await appends(directory, senders, min(count, 300 * senders))
    await on_sqlite(directory, count)
    await on_postgres(directory, count)


def main(count: int) -> None:
    with tempfile.TemporaryDirectory() as place:
        asyncio.run(measure(Path(place), count))


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 20_000)
