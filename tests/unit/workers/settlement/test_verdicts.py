"""Operators' decisions, over a strict store in memory; `test_store_decisions.py` has them on each engine."""

from itertools import permutations

import pytest

from schemas import events
from schemas.dispositions import Flag
from schemas.money import Money
from schemas.orders import Status, View
from schemas.record_format import Record
from tests.support import log_records
from tests.support.log_records import NOW_MS, Operator, Time
from tests.support.stores import MemoryStore
from workers.processing import Processing
from workers.settlement.plan import Position, Registration
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


def refunded(id_: str, amount: str) -> Record:
    return log_records.record(
        "", notify_type="batch_refund_notify", id_=id_, batch_no=id_, result_details=f"2025100922001N1^{amount}^SUCCESS"
    )


def over_refunded(id_: str = "") -> Record:
    return log_records.record("N1", id_=id_, refund_fee="15.00", gmt_refund="2025-10-10 08:00:00")


REFUNDS = {"R1": "6.00", "R2": "9.00", "R3": "3.00"}


@pytest.mark.parametrize("sequence", list(permutations(REFUNDS)))
async def test_accepted_refunds_are_the_same_sum_in_every_order(
    store: MemoryStore, work: Processing, operator: Operator, sequence: tuple[str, ...]
) -> None:
    rows = [log_records.record("N1"), *(refunded(name, REFUNDS[name]) for name in sequence)]
    await work.process(log_records.logged(rows))
    held = [row.id for row in store.held.values()]
    for id_ in held:
        await operator.accept(id_)
        with pytest.raises(DecisionRefused, match="already resolved"):
            await operator.accept(id_)
    shown = view(store)
    assert (shown.refunded_minor, shown.refund_accepted_minor, shown.flags) == (1280, 1800, ())
    await work.process(log_records.logged([refunded(name, REFUNDS[name]) for name in sequence], first=5))
    assert view(store) == shown


@pytest.mark.parametrize("accepts_first", [True, False])
async def test_discarded_refund_leaves_the_accepted_sum(
    store: MemoryStore, work: Processing, operator: Operator, accepts_first: bool
) -> None:
    rows = [log_records.record("N1"), *(refunded(name, REFUNDS[name]) for name in REFUNDS)]
    await work.process(log_records.logged(rows))
    for is_accept in (accepts_first, not accepts_first):
        await (operator.accept("0-4") if is_accept else operator.discard("0-3"))
    assert (view(store).refunded_minor, view(store).refund_accepted_minor) == (900, None)
    await work.process(log_records.logged([refunded("R4", "4.00")], first=5))
    assert view(store).flags == (Flag.OVER_REFUNDED,), "nobody has accepted this sum"
    assert store.held[Position(0, 5)].detail == "refunded 13.00 USD, paid 12.80 USD"


async def test_accepted_sum_of_a_cumulative_refund_is_shown(
    store: MemoryStore, work: Processing, operator: Operator
) -> None:
    await work.process(log_records.logged([log_records.record("N1"), over_refunded(id_="r")]))
    assert view(store).refund_accepted_minor is None
    await operator.accept("0-2")
    assert (view(store).refunded_minor, view(store).refund_accepted_minor, view(store).flags) == (1280, 1500, ())


async def test_first_notification_of_an_order_may_bring_refunds_that_are_accepted(
    store: MemoryStore, work: Processing, operator: Operator
) -> None:
    await work.process(log_records.logged([over_refunded()]))
    await operator.accept("0-1")
    event = events.decoded(store.outbox[-1].value)
    assert (event["refunded_minor"], event["refund_accepted_minor"], event["version"]) == (1280, 1500, 1)
    assert "refund_accepted_minor" in event["changed"]
