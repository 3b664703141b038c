"""Why a notification may not join an order."""

import pytest
from msgspec import structs

from schemas.accounts import Account
from schemas.dispositions import Flag, Reason
from schemas.money import Money
from schemas.notification import Kind, Notification
from schemas.orders import Claim, News, Order, Refund, State
from tests.support import facts
from workers.settlement import order_view, refusals

ANTOM, OPENAPI = facts.account("antom"), facts.account("openapi")
ORDER = Order(account=ANTOM.name, number="A")
PAYMENT = Notification(
    account=ANTOM.name, id="n", kind=Kind.PAYMENT, news=News.PAID, type="t", trade="T1", amount=Money(100, "HKD")
)


def priced(minor: int, currency: str = "HKD") -> Order:
    return structs.replace(ORDER, registered=True, expected=Money(minor, currency))


@pytest.mark.parametrize(
    ("order", "account", "flag"),
    [
        (ORDER, ANTOM, None),
        (ORDER, OPENAPI, Flag.CURRENCY_MISMATCH),
        (priced(100), OPENAPI, None),
        (priced(100, "USD"), ANTOM, Flag.CURRENCY_MISMATCH),
        (priced(99), ANTOM, Flag.AMOUNT_MISMATCH),
    ],
)
def test_payment_must_agree_with_registration_and_account(order: Order, account: Account, flag: Flag | None) -> None:
    assert refusals.refusal(order, PAYMENT, account) is flag


def test_refunded_sum_above_the_payment_is_refused() -> None:
    notification = structs.replace(PAYMENT, refunded_total=Money(101, "HKD"))
    assert refusals.refusal(ORDER, notification, ANTOM) is Flag.OVER_REFUNDED


def test_order_is_known_by_its_registration_or_by_the_same_payment() -> None:
    paid = structs.replace(ORDER, claims=(Claim(trade="T1", amount_minor=100, currency="HKD"),))
    by_trade = structs.replace(PAYMENT, joins_by_trade=True)
    assert not refusals.is_known(None, by_trade)
    assert refusals.is_known(priced(1), PAYMENT)
    assert refusals.is_known(paid, by_trade)
    assert not refusals.is_known(paid, PAYMENT)
    assert not refusals.is_known(paid, structs.replace(by_trade, trade="T2"))


def test_refund_waits_for_its_trade_its_order_or_its_number() -> None:
    refund = Refund(id="R", amount=Money(1, "HKD"), trade="T1")
    assert refusals.missing(refund, None) == (Reason.UNKNOWN_TRADE, "trade:T1")
    unnamed = structs.replace(refund, trade="")
    assert refusals.missing(unnamed, ORDER) == (Reason.UNKNOWN_TRADE, "order:A")
    assert refusals.missing(unnamed, None) == (Reason.UNKNOWN_REFUND, "refund:R")


def test_first_contradiction_is_the_reason_and_has_a_detail() -> None:
    assert refusals.first_contradiction(set()) is None
    assert refusals.first_contradiction({Flag.FROZEN}) is None
    assert refusals.first_contradiction({Flag.OVER_REFUNDED, Flag.SECOND_TRADE}) is Reason.SECOND_TRADE
    assert refusals.DETAILS.keys() == set(order_view.CONTRADICTIONS.values())


def test_detail_names_the_two_facts_that_disagree() -> None:
    paid = Claim(trade="T0", amount_minor=250, currency="HKD", state=State.PAID)
    other = structs.replace(ORDER, claims=(paid,))
    assert refusals.detail(Reason.AMOUNT_MISMATCH, PAYMENT, priced(1280)) == "said 1.00 HKD, registered 12.80 HKD"
    assert (
        refusals.detail(Reason.CURRENCY_MISMATCH, PAYMENT, priced(100, "USD")) == "said 1.00 HKD, registered 1.00 USD"
    )
    assert refusals.detail(Reason.AMOUNT_MISMATCH, PAYMENT, other) == "said 1.00 HKD, trade T0 is of 2.50 HKD"
    assert refusals.detail(Reason.SECOND_TRADE, PAYMENT, other) == "trade T1 paid 1.00 HKD, trade T0 paid 2.50 HKD"
    refunded = structs.replace(PAYMENT, refunded_total=Money(101, "HKD"))
    assert refusals.detail(Reason.OVER_REFUNDED, refunded, ORDER) == "refunded 1.01 HKD, paid 1.00 HKD"
    assert "does not list" in refusals.detail(Reason.CURRENCY_MISMATCH, PAYMENT, ORDER)
