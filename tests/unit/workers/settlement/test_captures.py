"""What the captures of an order add up to, and when they fail or contradict the payment."""

import pytest

from schemas.dispositions import Flag
from schemas.orders import Capture, Claim, Order, State
from workers.settlement import captures

CLAIM = Claim(trade="T1", amount_minor=1000, currency="HKD", state=State.AUTHORIZED, authorized_until_ms=1)


def capture(id_: str, minor: int, *, trade: str = "T1", currency: str = "HKD") -> Capture:
    return Capture(id=id_, trade=trade, minor=minor, currency=currency if minor else "")


def order(*found: Capture, claims: tuple[Claim, ...] = (CLAIM,)) -> Order:
    return Order(account="shop", number="A", claims=claims, captures=tuple(sorted(set(found))))


def captured(*found: Capture) -> int:
    (claim,) = captures.claims_with_captures(order(*found))
    return claim.captured_minor


def test_captures_add_up_by_their_number() -> None:
    assert captured(capture("C1", 400), capture("C2", 300), capture("C1", 400)) == 700


def test_capture_with_two_amounts_counts_with_the_larger() -> None:
    assert captured(capture("C1", 400), capture("C1", 300)) == captured(capture("C1", 300), capture("C1", 400)) == 400


def test_capture_raises_an_authorised_claim_to_paid() -> None:
    assert captures.claims_with_captures(order(capture("C1", 400)))[0].state is State.PAID
    assert captures.claims_with_captures(order(capture("C1", 0)))[0].state is State.AUTHORIZED


def test_capture_alone_makes_no_payment() -> None:
    waiting = Claim(trade="T1", amount_minor=1000, currency="HKD")
    assert captures.claims_with_captures(order(capture("C1", 400), claims=(waiting,))) == (waiting,)


def test_claim_that_was_reported_as_paid_keeps_its_whole_amount() -> None:
    paid = Claim(trade="T1", amount_minor=1000, currency="HKD", state=State.PAID)
    assert captures.claims_with_captures(order(capture("C1", 400), claims=(paid,))) == (paid,)


def test_of_captures_above_the_amount_the_amount_counts() -> None:
    found = [capture("C1", 600), capture("C2", 500), capture("C3", 300), capture("C4", 1001)]
    assert captured(*found) == 1000
    assert captures.contradictions(order(*found)) == {Flag.AMOUNT_MISMATCH}


@pytest.mark.parametrize(
    ("wrong", "flag"),
    [
        (capture("C1", 1001), Flag.AMOUNT_MISMATCH),
        (capture("C1", 1, currency="USD"), Flag.CURRENCY_MISMATCH),
    ],
)
def test_capture_that_does_not_fit_its_payment_is_flagged_and_not_counted(wrong: Capture, flag: Flag) -> None:
    assert captures.misfits(order(wrong), wrong) == captures.contradictions(order(wrong)) == {flag}
    assert captured(wrong) == 0


def test_failure_stands_until_a_capture_of_the_payment_is_successful() -> None:
    assert captures.has_failed(order(capture("C1", 0)))
    assert not captures.has_failed(order(capture("C1", 0), capture("C2", 1)))
    assert captures.has_failed(order(capture("C1", 0), capture("C2", 1001)))
    assert not captures.has_failed(order(capture("C2", 400)))
    assert not captures.has_failed(order(capture("C1", 0, trade="T2")))


def test_capture_that_names_no_trade_is_of_any_payment_of_its_order() -> None:
    assert captured(capture("C1", 400, trade="")) == 400
    assert captured(capture("C1", 400, trade="T2")) == 0
