"""Erasure in the order store of each engine: what goes after a time, what stays, and what is still recognised."""

from typing import Any
from urllib.parse import urlencode

import pytest

from deploy.embedded import erasure as sqlite_erasure
from deploy.embedded.erasure import SqliteErasure
from deploy.embedded.store import SqliteOrderStore
from schemas.dispositions import Disposition, Reason
from schemas.record_format import Record
from schemas.times import DAY_MS
from tests.contract.engines import AnyStore
from tests.contract.shortcuts import register
from tests.support import log_records
from tests.support.log_records import NOW_MS, REGISTERED, SHOP, Operator, Time
from workers.erasure import ErasurePort
from workers.postgres import erasure as postgres_erasure
from workers.postgres.erasure import PostgresErasure
from workers.postgres.store import PostgresOrderStore
from workers.processing import Processing
from workers.queries import OrderPage
from workers.settlement.plan import LogRecord, Position

BUYER = {"buyer_email": "somebody@example.com", "gmt_payment": "2025-10-09 16:53:18"}
BEFORE = {"by": "kim", "why": "the buyer asks"}


@pytest.fixture
def erasing(store: AnyStore) -> ErasurePort:
    if isinstance(store, SqliteOrderStore):
        return SqliteErasure(store.database)
    assert isinstance(store, PostgresOrderStore)
    return PostgresErasure(store.database)


def paid(order: str, **more: Any) -> Record:
    return log_records.record(order, **(BUYER | more))


async def process(work: Processing, *records: Record, first: int = 1, partition: int = 0) -> list[Position]:
    batch = [LogRecord(Position(partition, offset), each) for offset, each in enumerate(records, first)]
    await work.process(batch)
    return [each.position for each in batch]


async def page_of(store: AnyStore, account: str, order: str) -> OrderPage:
    page = await store.order_page(account, order)
    assert page is not None
    return page


async def body_at(store: AnyStore, position: Position) -> bytes:
    page = await store.notification(str(position))
    assert page is not None
    assert page.record is not None
    return page.record.value


async def erase_all(erasing: ErasurePort, *, older_than_ms: int, now_ms: int) -> int:
    count = 0
    for _ in range(100):
        step = await erasing.erase_old(older_than_ms=older_than_ms, now_ms=now_ms)
        count += step.count
        if not step.is_more:
            return count
    raise AssertionError("it has no end")


async def test_settled_notifications_lose_personal_data_after_the_time_and_nothing_else(
    store: AnyStore, work: Processing, erasing: ErasurePort, time: Time
) -> None:
    (old,) = await process(work, paid("A1"))
    before = await page_of(store, SHOP.name, "A1")
    time.now_ms += DAY_MS
    (young,) = await process(work, paid("A2"), first=2)
    assert await erase_all(erasing, older_than_ms=NOW_MS, now_ms=time.now_ms) == 0, "not older than that moment"
    assert await erase_all(erasing, older_than_ms=NOW_MS + 1, now_ms=time.now_ms) == 1
    assert await erase_all(erasing, older_than_ms=NOW_MS + 1, now_ms=time.now_ms) == 0
    assert b"somebody" not in await body_at(store, old)
    assert b"out_trade_no=A1" in await body_at(store, old)
    assert b"somebody" in await body_at(store, young)
    after = await page_of(store, SHOP.name, "A1")
    assert (after.order, after.deliveries, after.events) == (before.order, before.deliveries, before.events)
    assert after.erased_at_ms == {"A1-TRADE_SUCCESS": time.now_ms}
    assert (await page_of(store, SHOP.name, "A2")).erased_at_ms == {}
    notification = await store.notification(str(old))
    assert notification is not None
    assert notification.erased_at_ms == time.now_ms


async def test_copies_of_an_erased_notification_are_recognised(
    store: AnyStore, work: Processing, erasing: ErasurePort
) -> None:
    (first,) = await process(work, paid("A1"))
    await erase_all(erasing, older_than_ms=NOW_MS + 1, now_ms=NOW_MS)
    await process(work, paid("A1"))  # redelivered at its position
    copies = [paid("A1", notify_time="2025-10-09 17:53:20"), paid("A1", amount="99.00")]
    await process(work, *copies, first=2)
    page = await page_of(store, SHOP.name, "A1")
    assert [(each.disposition, each.reason) for each in page.deliveries] == [
        (Disposition.APPLIED, Reason.CHANGED),
        (Disposition.DUPLICATE, Reason.SAME_ID),
        (Disposition.QUARANTINED, Reason.ID_CONFLICT),
    ]
    assert page.order is not None
    assert page.order.version == 1
    assert b"somebody" not in await body_at(store, first)


async def test_held_one_keeps_its_bytes_until_it_is_resolved(
    store: AnyStore, work: Processing, erasing: ErasurePort, time: Time
) -> None:
    (held,) = await process(work, log_records.record("B1", account=REGISTERED, **BUYER))
    time.now_ms += 40 * DAY_MS
    assert await erase_all(erasing, older_than_ms=time.now_ms, now_ms=time.now_ms) == 0
    page = await store.held_page(str(held))
    assert page is not None
    assert b"somebody" in page.row.record.value
    await register(store, "B1")
    await work.retry([page.row])
    assert await erase_all(erasing, older_than_ms=time.now_ms, now_ms=time.now_ms) == 0, "settled just now"
    time.now_ms += 1
    assert await erase_all(erasing, older_than_ms=time.now_ms, now_ms=time.now_ms) == 1
    page = await store.held_page(str(held))
    assert page is not None
    assert (page.resolution, page.erased_at_ms) == ("applied", time.now_ms)
    assert b"somebody" not in page.row.record.value
    assert b"somebody" not in await body_at(store, held)
    assert (await page_of(store, REGISTERED.name, "B1")).holds[0].erased_at_ms == time.now_ms


async def test_walk_goes_on_in_small_steps_in_each_partition(
    store: AnyStore, work: Processing, erasing: ErasurePort, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in (sqlite_erasure, postgres_erasure):
        monkeypatch.setattr(module, "ROWS_MAX", 2)
    places: list[Position] = []
    for partition in (0, 3):
        records = [paid(f"P{partition}-{number}") for number in range(5)]
        places += await process(work, *records, partition=partition)
    steps = [await erasing.erase_old(older_than_ms=NOW_MS + 1, now_ms=NOW_MS) for _ in range(8)]
    assert sum(step.count for step in steps) == 10
    assert all(step.count <= 2 for step in steps)
    assert (steps[0].is_more, steps[-1].is_more) == (True, False)
    for position in places:
        assert b"somebody" not in await body_at(store, position)


async def test_one_order_is_erased_with_an_audit_row_and_another_is_not(
    store: AnyStore, work: Processing, erasing: ErasurePort, time: Time
) -> None:
    mine, refund, other, mismatch = await process(
        work,
        paid("A1"),
        paid("A1", id_="r1", refund_status="REFUND_SUCCESS", gmt_refund="2025-10-10 16:53:18", out_biz_no="R1"),
        paid("A2"),
        paid("A1", id_="m1", amount="99.00"),
    )
    done = await erasing.erase_order(SHOP.name, "A1", **BEFORE, now_ms=time.now_ms)
    assert done is not None
    assert (done.count, done.held, done.is_more) == (2, (mismatch,), False)
    for position in (mine, refund):
        assert b"somebody" not in await body_at(store, position)
    for position in (other, mismatch):
        assert b"somebody" in await body_at(store, position)
    page = await page_of(store, SHOP.name, "A1")
    assert [(act.action, act.by, act.why) for act in page.acts] == [("erase", "kim", "the buyer asks")]
    again = await erasing.erase_order(SHOP.name, "A1", **BEFORE, now_ms=time.now_ms)
    assert again is not None
    assert again.count == 0
    assert await erasing.erase_order(SHOP.name, "A9", **BEFORE, now_ms=time.now_ms) is None


async def test_decision_after_the_erasure_still_counts_what_the_erased_one_reported(
    store: AnyStore, work: Processing, erasing: ErasurePort, time: Time
) -> None:
    await process(work, paid("A1"))
    await erasing.erase_order(SHOP.name, "A1", **BEFORE, now_ms=time.now_ms)
    (held,) = await process(work, paid("A1", id_="m1", amount="99.00"), first=2)
    await Operator(store, time).discard(str(held))
    order = (await page_of(store, SHOP.name, "A1")).order
    assert order is not None
    (claim,) = order.claims
    assert (claim.amount_minor, claim.currency) == (1280, "USD")


async def test_record_that_cannot_be_read_is_erased_as_a_whole_after_its_end(
    store: AnyStore, work: Processing, erasing: ErasurePort, time: Time
) -> None:
    body = urlencode({"notify_type": "x"}).encode() + b"&broken"
    (dead,) = await process(work, log_records.sealed(body, "A1"))
    await Operator(store, time).discard(str(dead))
    assert await erase_all(erasing, older_than_ms=NOW_MS + 1, now_ms=time.now_ms) == 1
    page = await store.held_page(str(dead))
    assert page is not None
    assert page.row.record.value == b""
