"""The cost of the n-th refund of one order: `python -m tests.benchmarks.refunds_of_one_order [REFUNDS]`.

One order gets so many batch refunds, on SQLite and on a PostgreSQL of its own on loopback. Its last hundred are
compared with the first hundred of another order, in turns, because a machine is not always equally busy: each is read,
decided and committed by itself, the commit fsynced. The CPU is the worker's alone, without PostgreSQL's. Beside the
times stands the size of the order's facts, which every refund reads and writes.
"""

import asyncio
import os
import statistics
import sys
import tempfile
import time
from pathlib import Path

import msgspec

from deploy.embedded.store import SqliteOrderStore
from deploy.local import directory as directories
from deploy.local import postgres
from deploy.local.machine import Machine
from tests.contract.engines import AnyStore, Cluster
from tests.support import facts, log_records
from tests.support.facts import Fact
from tests.support.fakes import MemoryTopics, PlanObserver
from workers.processing import Processing
from workers.settlement.plan import LogRecord, Position

MEASURED = 100
BATCH = 10
ACCOUNT = facts.account("mapi")
PRICE = "100000000.00"


class Order:
    """One order's records: its payment, and then refund after refund."""

    def __init__(self, number: str, work: Processing) -> None:
        self.number = number
        self._work = work
        self._offset = 0
        self._refunds = 0
        self._wall: list[float] = []
        self._cpu: list[float] = []

    async def pay(self) -> None:
        await self._process([facts.form(f"paid-{self.number}", "TRADE_SUCCESS", PRICE, **self._named, **facts.PAID_AT)])

    async def refund(self, count: int) -> None:
        """Process so many refunds, in batches."""
        for start in range(0, count, BATCH):
            await self._process([self._refund() for _ in range(min(BATCH, count - start))])

    async def measure(self) -> None:
        """Process one refund, and note how long it took."""
        fact, started, busy = self._refund(), time.perf_counter(), time.process_time()
        await self._process([fact])
        self._wall.append(time.perf_counter() - started)
        self._cpu.append(time.process_time() - busy)

    def median(self) -> str:
        return f"{statistics.median(self._wall) * 1000:>7.2f} ms, {statistics.median(self._cpu) * 1000:>6.2f} ms CPU"

    async def size(self, store: AnyStore) -> int:
        page = await store.order_page(ACCOUNT.name, self.number)
        assert page is not None
        return len(msgspec.msgpack.encode(page.order))

    @property
    def _named(self) -> dict[str, str]:
        return {"order": self.number, "trade": f"T-{self.number}"}

    def _refund(self) -> Fact:
        self._refunds += 1
        id_ = f"{self.number}-{self._refunds}"
        return facts.batch(id_, f"T-{self.number}^1.{self._refunds % 100:02}^SUCCESS")

    async def _process(self, delivered: list[Fact]) -> None:
        records = []
        for fact in delivered:
            self._offset += 1
            place = Position(int(self.number), self._offset)
            records.append(LogRecord(place, facts.record(facts.body(fact), ACCOUNT)))
        await self._work.process(records)


async def measure(engine: str, store: AnyStore, now: log_records.Time, count: int) -> None:
    work = Processing(
        accounts=facts.ACCOUNTS,
        authenticate=log_records.anybody_signed_this,
        store=store,
        events=MemoryTopics(),
        observer=PlanObserver(),
        now_ms=now,
    )
    fresh, large = Order("1", work), Order("0", work)
    await fresh.pay()
    await large.pay()
    await large.refund(count - MEASURED)
    for _ in range(MEASURED):
        await fresh.measure()
        await large.measure()
    print(
        f"{engine:<12}refunds 1 to {MEASURED}: {fresh.median()}, {await fresh.size(store):>9,} bytes\n"
        f"{'':<12}the last {MEASURED}:    {large.median()}, {await large.size(store):>9,} bytes",
        flush=True,
    )


async def main(count: int) -> None:
    now = log_records.Time()
    print(f"{count:,} refunds of one order: median of a hundred, and the size of its facts")
    with tempfile.TemporaryDirectory() as place:
        store = await SqliteOrderStore.open(Path(place) / "orders.sqlite3", now_ms=now)
        await measure("SQLite", store, now, count)
        await store.close()
        async with (
            directories.held(Path(place) / "servers", fresh=True) as held,
            postgres.running(held, Machine(environ=dict(os.environ))) as server,
            Cluster(server, None, now).store() as cluster,
        ):
            await measure("PostgreSQL", cluster, now, count)


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1]) if len(sys.argv) > 1 else 10_000))
