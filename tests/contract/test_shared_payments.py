"""One Antom payment under two numbers: as an order's and as a subscription's. Stores lead from one to the other."""

import asyncio
import random

import pytest

from schemas.dispositions import Disposition
from tests.contract.engines import AnyStore
from tests.contract.several_workers import Opener, at
from tests.contract.test_any_order import over
from tests.support import facts
from tests.support.facts import capture, payment, periodic
from tests.support.fakes import Offsets
from tests.support.log_records import Time
from workers.errors import VersionConflict
from workers.postgres.store import PostgresOrderStore
from workers.processing import Processing
from workers.settlement.plan import LogRecord

ANTOM = facts.account("antom")


def log_record(fact: facts.Fact, log: Offsets) -> LogRecord:
    return log.log_record(facts.record(facts.body(fact), ANTOM))


@pytest.mark.parametrize("first", ["order", "periodic"])
async def test_page_is_found_by_both_numbers_of_a_payment(first: str, store: AnyStore, time: Time) -> None:
    log, work = Offsets(), over(store, time)
    told = {"order": payment("p"), "periodic": periodic("s")}
    await work.process([log_record(told.pop(first), log)])
    await work.process([log_record(told.popitem()[1], log)])
    number = "A" if first == "order" else "T1"
    for alias in ("A", "T1"):
        page = await store.order_page(ANTOM.name, alias)
        assert page is not None
        assert (page.number, len(page.deliveries), len(page.events)) == (number, 2, 1)
        assert await store.find(alias) == [(ANTOM.name, number)]
    assert await store.find("2025S1") == [(ANTOM.name, number)]


async def test_capture_finds_its_payment_by_the_trade_alone(store: AnyStore, time: Time) -> None:
    log, work = Offsets(), over(store, time)
    await work.process([log_record(capture("C1", None), log)])
    await work.process([log_record(payment("p"), log)])
    await work.retry(await store.due(now_ms=time(), limit=10))
    page = await store.order_page(ANTOM.name, "A")
    assert page is not None
    assert page.view is not None
    assert (page.view.flags, len(page.deliveries)) == (("capture_failed",), 2)


async def stubbornly(work: Processing, record: LogRecord) -> None:
    while True:
        try:
            await work.process([record])
        except VersionConflict:
            await asyncio.sleep(random.random() * 0.02)
        else:
            return


async def test_two_workers_never_make_two_orders_of_one_payment(workers: Opener, time: Time) -> None:
    stores: list[PostgresOrderStore] = await workers(2)
    works = [over(store, time) for store in stores]
    for number in range(30):
        named = {"order": f"A{number}", "trade": f"T{number}"}
        told = [payment("p", **named), periodic("s", **named)]
        records = [at(part, number, facts.record(facts.body(fact), ANTOM)) for part, fact in enumerate(told)]
        await asyncio.gather(*(stubbornly(work, record) for work, record in zip(works, records, strict=True)))
        pages = [await stores[0].order_page(ANTOM.name, alias) for alias in named.values()]
        assert pages[0] == pages[1]
        assert pages[0] is not None
        ends = sorted(delivery.disposition for delivery in pages[0].deliveries)
        assert ends == [Disposition.APPLIED, Disposition.DUPLICATE]
