"""The amount that a notification reports."""

import pytest

from tests.support import facts
from tests.support.facts import Fact
from workers.admin import reported
from workers.admin.reported import AmountOf, ReportedAmount


def amount(fact: Fact, family: str = "mapi") -> ReportedAmount | None:
    return reported.amount(facts.notification(fact, facts.account(family)))


@pytest.mark.parametrize(
    ("status", "of"),
    [
        ("TRADE_SUCCESS", AmountOf.PAID),
        ("TRADE_FINISHED", AmountOf.PAID),
        ("WAIT_BUYER_PAY", AmountOf.UNPAID),
        ("TRADE_CLOSED", AmountOf.UNPAID),
    ],
)
def test_payment_reports_whether_it_is_paid(status: str, of: AmountOf) -> None:
    paid_at = facts.PAID_AT if status == "TRADE_SUCCESS" else {}
    found = amount(facts.form("n1", status, **paid_at))
    assert found == ReportedAmount(of=of, minor=10_000, currency="USD", trade="T1")


def test_refund_reports_what_is_refunded_and_not_what_was_paid() -> None:
    found = amount(facts.refunded("n1", "30.00"), "openapi")
    assert found == ReportedAmount(of=AmountOf.REFUNDED, minor=3000, currency="CNY", trade="T1")
    assert amount(facts.refund("n1")) is None


def test_sum_of_a_batch_is_that_of_its_refunds() -> None:
    found = amount(facts.batch("b1", "T1^1.00^SUCCESS#T2^2.50^SUCCESS"))
    assert found == ReportedAmount(of=AmountOf.REFUNDED, minor=350, currency="USD", trade="")


def test_antom_reports_payments_captures_and_refunds() -> None:
    found = [
        amount(fact, family)
        for fact, family in (
            (facts.payment("n1"), "antom"),
            (facts.payment("n1", **facts.AUTHORIZED), "manual"),
            (facts.capture("C1", "500"), "manual"),
            (facts.antom_refund("R1", "300"), "antom"),
        )
    ]
    assert [(each.of, each.minor, each.currency) for each in found if each] == [
        (AmountOf.PAID, 10_000, "HKD"),
        (AmountOf.RESERVED, 10_000, "HKD"),
        (AmountOf.PAID, 500, "HKD"),
        (AmountOf.REFUNDED, 300, "HKD"),
    ]
    assert amount(facts.capture("C1", None), "manual") is None
