"""Operators' decisions, over a strict store in memory; `test_store_decisions.py` has them on each engine."""

import pytest

from schemas.dispositions import Flag
from schemas.money import Money
from schemas.orders import Status, View
from tests.support import log_records
from tests.support.log_records import NOW_MS, Operator, Time
from tests.support.stores import MemoryStore
from workers.processing import Processing
from workers.settlement.plan import Registration
from workers.settlement.verdicts import DecisionRefused

SHOP = "shop-sg"


@pytest.fixture
def store() -> MemoryStore:
    return MemoryStore(now_ms=lambda: NOW_MS)


@pytest.fixture
def work(store: MemoryStore) -> Processing:
    return log_records.processing(store, Time())


@pytest.fixture
def operator(store: MemoryStore) -> Operator:
    return Operator(store, Time())


def view(store: MemoryStore) -> View:
    return store.views[SHOP, "N1"]


async def test_second_price_of_an_unregistered_order_leaves_with_its_payment(
    store: MemoryStore, work: Processing, operator: Operator
) -> None:
    rows = [
        log_records.record("N1"),
        log_records.record("N1", id_="b", amount="0.01"),
        log_records.record("N1", "TRADE_FINISHED", id_="c", amount="0.01"),
    ]
    await work.process(log_records.logged(rows))
    assert (await operator.page("0-2")).row.detail == "said 0.01 USD, trade 2025100922001N1 is of 12.80 USD"
    assert (view(store).status, view(store).amount_minor) == (Status.FINISHED, 1)
    await operator.discard("0-2")
    assert (view(store).status, view(store).amount_minor, view(store).flags) == (Status.PAID, 1280, ())


async def test_discard_keeps_a_payment_that_an_earlier_notification_brought(
    store: MemoryStore, work: Processing, operator: Operator
) -> None:
    await work.process(log_records.logged([log_records.record("N1")]))
    store.register_now(SHOP, "N1", Registration(amounts=(Money(9900, "USD"),)), now_ms=NOW_MS)
    await work.process(log_records.logged([log_records.record("N1", "TRADE_FINISHED", id_="b")], first=2))
    await operator.discard("0-2")
    assert view(store).status is Status.PAID
    assert view(store).flags == (Flag.AMOUNT_MISMATCH,), "the payment itself contradicts the registration"


async def test_discard_of_a_waiting_trade_keeps_the_payment_that_followed(
    store: MemoryStore, work: Processing, operator: Operator
) -> None:
    rows = [
        log_records.record("N1", "WAIT_BUYER_PAY"),
        log_records.record("N1", "WAIT_BUYER_PAY", id_="b", amount="20.00", trade="2026T"),
        log_records.record("N1", id_="c", amount="20.00", trade="2026T"),
    ]
    await work.process(log_records.logged(rows))
    await operator.discard("0-2")
    assert (view(store).status, view(store).amount_minor) == (Status.PAID, 2000)


async def test_notification_without_payment_is_not_accepted_against_a_payment(
    store: MemoryStore, work: Processing, operator: Operator
) -> None:
    rows = [
        log_records.record("N1"),
        log_records.record("N1", "WAIT_BUYER_PAY", id_="b", amount="20.00", trade="2026T"),
    ]
    await work.process(log_records.logged(rows))
    with pytest.raises(DecisionRefused, match="trade 2025100922001N1 has paid for this order"):
        await operator.accept("0-2")
    assert not store.decisions


async def test_accepted_excess_of_a_cumulative_refund_closes_the_order(
    store: MemoryStore, work: Processing, operator: Operator
) -> None:
    refund = log_records.record("N1", id_="b", refund_fee="20.00", gmt_refund="2025-10-10 00:00:00")
    await work.process(log_records.logged([log_records.record("N1"), refund]))
    assert (await operator.page("0-2")).row.detail == "refunded 20.00 USD, paid 12.80 USD"
    await operator.accept("0-2")
    assert (view(store).status, view(store).refunded_minor, view(store).flags) == (Status.CLOSED, 1280, ())


async def test_row_that_raises_no_flag_is_only_resolved(
    store: MemoryStore, work: Processing, operator: Operator
) -> None:
    await work.process(log_records.logged([log_records.record("N1"), log_records.sealed(b"no form", "N1")]))
    before = view(store)
    await operator.discard("0-2")
    assert view(store) == before
    assert [(each.order, each.version) for each in store.decisions] == [("", None)]
