"""The order as consumers see it, and the contradictions for which a notification is held."""

import json
from datetime import UTC, datetime

import pytest
from msgspec import structs

from schemas import topics
from schemas.dispositions import Disposition, Flag, Reason
from schemas.money import Money
from schemas.orders import Capture, Claim, ClosedBecause, Order, Refund, State, Status, View
from tests.support.facts import antom_refund, batch, form, payment, refunded
from tests.unit.workers.settlement.worlds import antom, deliver, flags, mapi, openapi, outcome
from workers.settlement import order_view

CLAIM = Claim(trade="T1", amount_minor=1000, currency="USD", state=State.PAID)


def order(*claims: Claim, refunds: tuple[Refund, ...] = (), expected: Money | None = None) -> Order:
    return Order(account="shop", number="A", claims=claims, refunds=refunds, expected=expected)


def refund(id_: str, minor: int, *, trade: str = "", currency: str = "USD") -> Refund:
    return Refund(id=id_, amount=Money(minor, currency), trade=trade)


def test_registered_order_without_a_payment_shows_its_expected_amount() -> None:
    view = order_view.view(order(expected=Money(1280, "USD")))
    assert (view.status, view.amount_minor, view.currency) == (Status.WAITING, 1280, "USD")
    assert (view.trade, view.refunded_minor, view.flags) == (None, 0, ())


def test_highest_rank_stands_and_among_equals_the_older_trade() -> None:
    older = Claim(trade="T0", amount_minor=1000, currency="USD")
    second = Claim(trade="T2", amount_minor=1000, currency="USD", state=State.PAID)
    assert order_view.standing(()) is None
    assert order_view.standing((older, CLAIM)) is CLAIM
    assert order_view.standing((CLAIM, second)) is CLAIM


def test_refund_counts_for_the_claims_that_it_concerns_and_fits() -> None:
    refunds = (
        refund("big", 1001),
        refund("r", 400),
        refund("other", 300, trade="T9"),
        refund("eur", 1, currency="EUR"),
    )
    (claim,) = order_view.claims_with_refunds(order(CLAIM, refunds=refunds))
    assert claim.refunds_minor == 400
    assert order_view.misfits(order(CLAIM), refunds) == {Flag.OVER_REFUNDED, Flag.CURRENCY_MISMATCH}


def test_claims_stay_sorted_so_that_equal_facts_are_equal_orders() -> None:
    second = Claim(trade="T2", amount_minor=1000, currency="USD")
    one = order_view.with_claim(order_view.with_claim(order(), CLAIM), second)
    other = order_view.with_claim(order_view.with_claim(order(), second), CLAIM)
    assert one == other


AUTHORIZED = structs.replace(CLAIM, state=State.AUTHORIZED, authorized_until_ms=1_000)


def captured(claim: Claim, *amounts: int, refunds: tuple[Refund, ...] = ()) -> View:
    captures = tuple(Capture(id=f"C{n}", trade="T1", minor=minor, currency="USD") for n, minor in enumerate(amounts))
    return order_view.view(structs.replace(order(claim, refunds=refunds), captures=captures))


def test_authorised_amount_is_shown_with_its_end_and_is_not_paid() -> None:
    view = captured(AUTHORIZED)
    assert (view.status, view.amount_minor, view.authorized_minor) == (Status.WAITING, 1000, 1000)
    assert view.authorized_until == datetime(1970, 1, 1, 0, 0, 1, tzinfo=UTC)
    assert order_view.view(order(CLAIM)).authorized_minor is None


def test_captured_sum_is_what_was_paid() -> None:
    view = captured(AUTHORIZED, 400, 300)
    assert (view.status, view.amount_minor, view.authorized_minor) == (Status.PAID, 700, 1000)


def test_captures_of_an_amount_that_was_paid_at_once_change_nothing() -> None:
    assert captured(CLAIM, 400) == captured(CLAIM)


def test_failed_capture_is_flagged_until_one_is_successful() -> None:
    assert captured(AUTHORIZED, 0).flags == captured(CLAIM, 0).flags == (Flag.CAPTURE_FAILED,)
    assert captured(AUTHORIZED, 0, 400, 0).flags == ()


def test_refunds_are_compared_with_the_captured_sum() -> None:
    closed = captured(AUTHORIZED, 400, refunds=(refund("r", 400),))
    assert (closed.status, closed.closed_because, closed.refunded_minor) == (
        Status.CLOSED,
        ClosedBecause.REFUNDED,
        400,
    )
    reopened = captured(AUTHORIZED, 400, 300, refunds=(refund("r", 400),))
    assert (reopened.status, reopened.amount_minor, reopened.refunded_minor) == (Status.PAID, 700, 400)
    over = captured(AUTHORIZED, 400, refunds=(refund("r", 401),))
    assert (over.status, over.refunded_minor, over.flags) == (Status.CLOSED, 400, (Flag.OVER_REFUNDED,))


def test_refund_proves_a_capture_that_was_never_reported() -> None:
    view = captured(AUTHORIZED, refunds=(refund("r", 400),))
    assert (view.status, view.amount_minor, view.refunded_minor, view.flags) == (Status.PAID, 1000, 400, ())


def test_captured_and_failed_contradict() -> None:
    lapsed = structs.replace(AUTHORIZED, state=State.LAPSED, lapsed=ClosedBecause.FAILED)
    assert (captured(lapsed).status, captured(lapsed).flags) == (Status.CLOSED, ())
    assert (captured(lapsed, 400).status, captured(lapsed, 400).flags) == (Status.PAID, (Flag.PAID_AND_EXPIRED,))


def test_without_registration_a_second_and_a_third_amount_contradict() -> None:
    world = mapi()
    deliver(world, form("p", "TRADE_SUCCESS"))
    for number, amount in enumerate(("101.00", "102.00")):
        assert outcome(world, form(f"q{number}", "WAIT_BUYER_PAY", amount)) == (
            Disposition.QUARANTINED,
            Reason.AMOUNT_MISMATCH,
        )
    assert world.seen()["A"]["amount_minor"] == 10000


def test_without_registration_another_currency_contradicts() -> None:
    world = mapi()
    deliver(world, form("p", "TRADE_SUCCESS"))
    assert outcome(world, form("q", "TRADE_SUCCESS", currency="EUR")) == (
        Disposition.QUARANTINED,
        Reason.CURRENCY_MISMATCH,
    )


def test_second_paid_trade_is_quarantined_and_the_older_stands() -> None:
    world = mapi()
    deliver(world, form("p2", "TRADE_SUCCESS", trade="T2"))
    assert outcome(world, form("p1", "TRADE_SUCCESS", trade="T1")) == (Disposition.QUARANTINED, Reason.SECOND_TRADE)
    assert (world.seen()["A"]["trade"], flags(world)) == ("T1", {Flag.SECOND_TRADE})


def test_second_trade_without_a_payment_contradicts_nothing() -> None:
    world = mapi()
    deliver(world, form("p1", "TRADE_SUCCESS"))
    assert outcome(world, form("w2", "WAIT_BUYER_PAY", trade="T2"))[0] is Disposition.STALE
    assert flags(world) == set()


@pytest.mark.parametrize("statuses", [("TRADE_SUCCESS", "TRADE_CLOSED"), ("TRADE_CLOSED", "TRADE_SUCCESS")])
def test_paid_and_expired_is_quarantined_and_the_payment_stands(statuses: tuple[str, str]) -> None:
    world = mapi()
    deliver(world, form("1", statuses[0]))
    assert outcome(world, form("2", statuses[1])) == (Disposition.QUARANTINED, Reason.PAID_AND_EXPIRED)
    assert (world.seen()["A"]["status"], flags(world)) == (Status.PAID, {Flag.PAID_AND_EXPIRED})


def test_flagged_order_still_takes_facts_without_a_contradiction() -> None:
    world = mapi()
    deliver(world, form("p", "TRADE_SUCCESS"), form("e", "TRADE_CLOSED"))
    assert outcome(world, form("f", "TRADE_FINISHED")) == (Disposition.APPLIED, Reason.CHANGED)
    assert flags(world) == {Flag.PAID_AND_EXPIRED}


def test_third_paid_trade_is_quarantined_like_the_second() -> None:
    world = mapi()
    deliver(world, form("p1", "TRADE_SUCCESS"), form("p2", "TRADE_SUCCESS", trade="T2"))
    assert outcome(world, form("p3", "TRADE_SUCCESS", trade="T3")) == (Disposition.QUARANTINED, Reason.SECOND_TRADE)
    assert outcome(world, form("w4", "WAIT_BUYER_PAY", trade="T4")) == (Disposition.STALE, Reason.OLD_NEWS)


def test_second_refund_beyond_the_amount_is_quarantined_like_the_first() -> None:
    world = mapi()
    deliver(world, form("p", "TRADE_SUCCESS"), batch("b1", "T1^100.01^SUCCESS"))
    assert outcome(world, batch("b2", "T1^100.02^SUCCESS")) == (Disposition.QUARANTINED, Reason.OVER_REFUNDED)


def test_refund_of_an_expired_order_is_quarantined() -> None:
    world = openapi()
    deliver(world, form("e", "TRADE_CLOSED"))
    assert outcome(world, refunded("r", "10.00")) == (Disposition.QUARANTINED, Reason.PAID_AND_EXPIRED)


def test_refund_too_large_for_its_order_is_found_beside_one_that_fits() -> None:
    world = mapi()
    deliver(world, form("p", "TRADE_SUCCESS"), form("q", "TRADE_SUCCESS", "5.00", order="B", trade="T2"))
    assert outcome(world, batch("b", "T1^50.00^SUCCESS#T2^50.00^SUCCESS")) == (
        Disposition.QUARANTINED,
        Reason.OVER_REFUNDED,
    )
    assert (flags(world, "A"), flags(world, "B")) == (set(), {Flag.OVER_REFUNDED})
    assert {number: shown["refunded_minor"] for number, shown in world.seen().items()} == {"A": 5000, "B": 0}


def test_refunds_beyond_the_amount_are_quarantined_and_close_the_order() -> None:
    world = mapi()
    deliver(world, form("p", "TRADE_SUCCESS"))
    assert outcome(world, batch("big", "T1^100.01^SUCCESS")) == (Disposition.QUARANTINED, Reason.OVER_REFUNDED)
    assert outcome(world, batch("b1", "T1^60.00^SUCCESS")) == (Disposition.APPLIED, Reason.CHANGED)
    assert outcome(world, batch("b2", "T1^50.00^SUCCESS")) == (Disposition.QUARANTINED, Reason.OVER_REFUNDED)
    assert outcome(world, batch("b3", "T1^30.00^SUCCESS")) == (Disposition.QUARANTINED, Reason.OVER_REFUNDED)
    shown = world.seen()["A"]
    assert (shown["status"], shown["refunded_minor"]) == (Status.CLOSED, 10000)


def test_refund_in_another_currency_is_quarantined() -> None:
    world = antom(A={"refunds": ["R1"]})
    deliver(world, payment("p"))
    assert outcome(world, antom_refund("R1", "100", "JPY")) == (Disposition.QUARANTINED, Reason.CURRENCY_MISMATCH)
    assert world.seen()["A"]["refunded_minor"] == 0


@pytest.mark.parametrize(
    ("limit", "refunds", "reported", "accepted"),
    [
        (0, (600, 900), 0, None),  # nobody has accepted it
        (1500, (600, 900), 0, 1500),
        (1500, (600, 900, 300), 0, 1500),  # the last refund is not decided yet
        (1500, (600,), 0, None),  # no longer more than was paid
        (1500, (), 1500, 1500),
        (1500, (), 1200, 1200),
        (900, (600, 900), 0, None),
    ],
)
def test_accepted_refunds_are_shown_if_they_exceed_the_payment(
    limit: int, refunds: tuple[int, ...], reported: int, accepted: int | None
) -> None:
    claim = structs.replace(CLAIM, refunded_total_minor=reported, state=State.REFUNDED if reported else State.PAID)
    known = order(claim, refunds=tuple(sorted(refund(f"R{minor}", minor) for minor in refunds)))
    view = order_view.view(structs.replace(known, refund_limit_minor=limit))
    assert view.refund_accepted_minor == accepted
    assert view.refunded_minor <= 1000


def test_largest_refund_is_of_one_claim() -> None:
    other = structs.replace(CLAIM, trade="T2", refunded_total_minor=200)
    refunds = (refund("R1", 600, trade="T1"), refund("R1", 700, trade="T1"), refund("R2", 500, trade="T2"))
    known = order(CLAIM, other, refunds=(*refunds, refund("R3", 100), refund("R4", 9000, currency="CNY")))
    assert order_view.largest_refund_minor(known, known.refunds) == 800
    assert order_view.largest_refund_minor(order(), ()) == 0


def test_claims_that_contradict_each_other_are_all_shown() -> None:
    world = mapi()
    deliver(world, form("p", "TRADE_SUCCESS"), form("q", "TRADE_SUCCESS", "1.00"))
    view = order_view.view(world.order())
    assert (view.amount_minor, view.flags) == (100, (Flag.AMOUNT_MISMATCH,))
    assert [(claim.trade, claim.amount_minor, claim.status) for claim in view.claims] == [
        ("T1", 100, Status.PAID),
        ("T1", 10000, Status.PAID),
    ]
    first, *_, event = (json.loads(each.value) for each in world.store.outbox if each.topic == topics.ORDER_EVENT)
    assert [claim["amount_minor"] for claim in event["claims"]] == [100, 10000]
    assert "claims" not in first


def test_news_of_a_claim_that_does_not_stand_is_told() -> None:
    world = mapi()
    deliver(world, form("p", "TRADE_SUCCESS"), form("q", "TRADE_SUCCESS", trade="T2"))
    version = world.order().version
    deliver(world, form("r", "TRADE_SUCCESS", trade="T2", refund_fee="40.00", gmt_refund="2025-04-02 10:00:00"))
    assert world.order().version == version + 1
    view = order_view.view(world.order())
    assert (view.trade, view.refunded_minor) == ("T1", 0)
    assert [(claim.trade, claim.refunded_minor) for claim in view.claims] == [("T1", 0), ("T2", 4000)]


def test_failed_attempts_of_one_amount_are_no_contradiction() -> None:
    world = antom()
    deliver(world, payment("x", status="F"), payment("y", paymentId="T2"))
    assert order_view.view(world.order()).claims == ()
