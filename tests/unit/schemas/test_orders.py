"""Derived properties of orders, claims and views."""

import pytest

from schemas.dispositions import Flag
from schemas.money import Money
from schemas.orders import (
    PAYMENT_STATES,
    RANK,
    STATUS,
    Claim,
    ClosedBecause,
    Order,
    Refund,
    State,
    Status,
    View,
)

CLAIM = Claim(trade="T1", amount_minor=1280, currency="USD")
ORDER = Order(account="shop", number="A1")


def view(status: Status, closed_because: ClosedBecause | None = None) -> View:
    return View(
        status=status,
        closed_because=closed_because,
        trade="T1",
        amount_minor=1280,
        currency="USD",
        refunded_minor=0,
        flags=(),
    )


def test_every_state_has_a_rank_and_a_status() -> None:
    assert RANK.keys() == STATUS.keys() == {*State}
    assert sorted(State, key=RANK.__getitem__) == list(State)


def test_payment_states_rank_above_states_without_payment() -> None:
    unpaid = {*State} - PAYMENT_STATES
    assert max(RANK[state] for state in unpaid) < min(RANK[state] for state in PAYMENT_STATES)


def test_claims_of_one_trade_with_different_amounts_have_different_keys() -> None:
    assert CLAIM.key == Claim(trade="T1", amount_minor=1280, currency="USD", state=State.PAID).key
    assert CLAIM.key != Claim(trade="T1", amount_minor=1281, currency="USD").key
    assert CLAIM.key != Claim(trade="T1", amount_minor=1280, currency="HKD").key


@pytest.mark.parametrize(
    ("order", "is_note"),
    [
        (ORDER, True),
        (Order(account="shop", number="A1", refused=frozenset({Flag.AMOUNT_MISMATCH})), True),
        (Order(account="shop", number="A1", refunds=(Refund(id="R1", amount=Money(1, "USD")),)), True),
        (Order(account="shop", number="A1", claims=(CLAIM,)), False),
        (Order(account="shop", number="A1", expected=Money(1280, "USD"), registered=True), False),
    ],
)
def test_order_without_claims_and_registration_is_a_note(order: Order, is_note: bool) -> None:
    assert order.is_note is is_note


@pytest.mark.parametrize(
    ("seen", "was_paid"),
    [
        (view(Status.WAITING), False),
        (view(Status.PAID), True),
        (view(Status.FINISHED), True),
        (view(Status.CLOSED, ClosedBecause.EXPIRED), False),
        (view(Status.CLOSED, ClosedBecause.FAILED), False),
        (view(Status.CLOSED, ClosedBecause.REFUNDED), True),
    ],
)
def test_refunded_order_counts_as_paid_and_other_closed_orders_do_not(seen: View, was_paid: bool) -> None:
    assert seen.was_paid is was_paid
