"""One trade of a bill against the order here, and orders that are only here."""

from typing import Any

import pytest

from deploy.bills import judgement
from deploy.bills.judgement import EDGE_MS, LATE_MS, BillPeriod, ListedFacts, OrderFacts
from deploy.bills.sheet import BilledTrade
from schemas.times import DAY_MS
from workers.bills import DifferenceKind, OrderHistory, OrderPayment

SINCE_MS = 1_759_939_200_000  # 2025-10-09 in China
SPAN = BillPeriod(SINCE_MS, SINCE_MS + DAY_MS)
NOON_MS = SINCE_MS + DAY_MS // 2
K = DifferenceKind


def trade(**fields: Any) -> BilledTrade:
    given: dict[str, Any] = {
        "order": "A1", "trade": "T1", "currency": "CNY", "payments": 1, "paid_minor": 1280, "refunds": 0,
        "refunded_minor": 0, "paid_at_ms": NOON_MS, "refunded_at_ms": None,
    }  # fmt: skip
    return BilledTrade(**given | fields)


def payment(**fields: Any) -> OrderPayment:
    given: dict[str, Any] = {"trade": "T1", "minor": 1280, "currency": "CNY", "is_paid": True, "refunded_minor": 0}
    return OrderPayment(**given | fields)


def order(*payments: OrderPayment, status: str = "PAID", refunds: dict[str, int] | None = None) -> OrderFacts:
    return OrderFacts(account="shop", order="A1", status=status, payments=payments, refunds=refunds or {})


def kinds(billed: BilledTrade, known: OrderFacts | None, *refunds: tuple[str, int]) -> list[DifferenceKind]:
    return [each.kind for each in judgement.of_trade("shop", billed, refunds, known).differences]


def test_payment_that_agrees_has_no_difference() -> None:
    judged = judgement.of_trade("shop", trade(), (), order(payment()))
    assert (judged.differences, str(judged.paid)) == ((), "12.80 CNY")


@pytest.mark.parametrize(
    ("known", "words"),
    [
        (None, "no such order"),
        (order(status="WAITING"), "WAITING"),
        (order(payment(is_paid=False), status="CLOSED"), "CLOSED"),
        (order(payment(trade="T2")), "another trade: T2"),
    ],
)
def test_payment_that_is_not_here_is_reported_with_the_reason(known: OrderFacts | None, words: str) -> None:
    judged = judgement.of_trade("shop", trade(), (), known)
    (found,) = judged.differences
    assert (found.kind, words in found.detail, found.bill_minor, found.here_minor) == (
        K.PAYMENT_ONLY_IN_BILL, True, 1280, None,
    )  # fmt: skip
    assert (found.is_known, judged.paid) == (known is not None, None)


@pytest.mark.parametrize("fields", [{"minor": 1281}, {"currency": "USD"}])
def test_other_amount_or_currency_is_a_difference(fields: dict[str, Any]) -> None:
    (found,) = judgement.of_trade("shop", trade(), (), order(payment(**fields))).differences
    assert (found.kind, found.bill_minor, found.here_minor is not None) == (K.PAYMENT_AMOUNT, 1280, True)


@pytest.mark.parametrize(
    ("refunded_minor", "known", "expected"),
    [
        (0, {}, [K.REFUND_ONLY_IN_BILL]),
        (500, {}, []),
        (500, {"R1": 500}, []),
        (800, {"R1": 500, "R0": 300}, []),  # R0 is of another day
        (400, {}, [K.REFUND_AMOUNT]),
        (900, {"R1": 400}, [K.REFUND_AMOUNT]),
        (500, {"R0": 500}, [K.REFUND_ONLY_IN_BILL]),
        (800, {"R0": 300}, []),  # the notification of the rest had no number
        (799, {"R0": 300}, [K.REFUND_ONLY_IN_BILL]),
        (500, {"R1/T1": 500}, []),  # of a batch
        (500, {"R1/T1": 400}, [K.REFUND_AMOUNT]),
        (500, {"R1/T2": 500}, [K.REFUND_ONLY_IN_BILL]),
    ],
)
def test_refunds_are_compared_by_number_and_by_sum(
    refunded_minor: int, known: dict[str, int], expected: list[DifferenceKind]
) -> None:
    billed = trade(payments=0, paid_minor=0, refunds=1, refunded_minor=500)
    assert kinds(billed, order(payment(refunded_minor=refunded_minor), refunds=known), ("R1", 500)) == expected


def test_refund_without_its_order_or_in_another_currency_is_a_difference() -> None:
    billed = trade(payments=0, refunds=1, refunded_minor=500)
    assert kinds(billed, None, ("R1", 500)) == [K.REFUND_ONLY_IN_BILL]
    assert kinds(billed, order(payment(currency="USD", refunded_minor=500)), ("", 500)) == [K.REFUND_AMOUNT]
    assert kinds(trade(refunds=1, refunded_minor=500), None, ("R1", 500)) == [
        K.PAYMENT_ONLY_IN_BILL,
        K.REFUND_ONLY_IN_BILL,
    ]


def test_refund_that_names_another_trade_is_not_of_the_payment_here() -> None:
    billed = trade(trade="T2", payments=0, refunds=1, refunded_minor=500)
    (found,) = judgement.of_trade("shop", billed, (("", 500),), order(payment(refunded_minor=500))).differences
    assert (found.kind, "another trade here: T1" in found.detail) == (K.REFUND_ONLY_IN_BILL, True)


def test_equal_refunds_without_a_number_are_uncertain_if_one_of_them_suffices() -> None:
    billed = trade(payments=0, refunds=2, refunded_minor=1000, doubtful_minor=500)
    for refunded_minor, expected in ((1000, []), (999, [K.UNCERTAIN]), (500, [K.UNCERTAIN]), (499, [K.REFUND_AMOUNT])):
        assert kinds(billed, order(payment(refunded_minor=refunded_minor)), ("", 1000)) == expected


def test_refunds_before_the_period_do_not_stand_for_one_that_is_missing() -> None:
    billed = trade(payments=0, paid_minor=0, refunds=1, refunded_minor=300, refunded_at_ms=NOON_MS)
    known = order(payment(refunded_minor=800))
    judged = judgement.of_trade("shop", billed, (("R2", 300),), known)
    assert (judged.differences, judged.may_lack_a_refund) == ((), True)

    def found(*refunds: tuple[int | None, int]) -> tuple[str, int | None] | None:
        history = OrderHistory(
            paid_at_ms=None, received_at_ms=None, refunds=tuple((at_ms, minor, NOON_MS) for at_ms, minor in refunds)
        )
        difference = judgement.of_earlier_refunds(billed, known, history, SPAN)
        return None if difference is None else (difference.kind, difference.here_minor)

    before_ms = SPAN.since_ms - EDGE_MS - 1
    assert found((before_ms, 800)) == ("refund_only_in_bill", None)
    assert found((before_ms, 600), (NOON_MS, 200)) == ("refund_amount", 200)
    for refunds in (
        [(before_ms, 500), (NOON_MS, 300)],
        [(before_ms, 500), (SPAN.until_ms + DAY_MS, 300)],  # the later one may have that of the bill in it
        [(before_ms, 500), (None, 300)],
        [(before_ms + 1, 800)],
        [],
    ):
        assert found(*refunds) is None


@pytest.mark.parametrize(
    ("known", "payments", "refund"),
    [
        (order(payment(refunded_minor=800), refunds={"R0": 500, "R2": 300}), 0, "R2"),
        (order(payment(refunded_minor=800)), 1, "R2"),
        (order(payment(refunded_minor=800), payment(trade="T2")), 0, ""),
    ],
)
def test_refunds_known_by_number_or_of_a_payment_in_the_bill_need_no_history(
    known: OrderFacts, payments: int, refund: str
) -> None:
    billed = trade(payments=payments, paid_minor=1280 * payments, refunds=1, refunded_minor=300)
    assert not judgement.of_trade("shop", billed, ((refund, 300),), known).may_lack_a_refund


def test_captures_of_other_days_are_no_difference() -> None:
    for paid_minor, expected in ((300, []), (1280, []), (1281, [K.PAYMENT_AMOUNT])):
        assert kinds(trade(is_captured=True, paid_minor=paid_minor), order(payment())) == expected
    judged = judgement.of_trade("shop", trade(is_captured=True, paid_minor=300), (), order(payment()))
    assert str(judged.paid) == "3.00 CNY"
    assert kinds(trade(is_captured=True, paid_minor=300, currency="USD"), order(payment())) == [K.PAYMENT_AMOUNT]
    assert kinds(trade(paid_minor=300), order(payment())) == [K.PAYMENT_AMOUNT]


def test_refund_that_names_only_the_order_is_of_its_payment() -> None:
    billed = trade(trade="", payments=0, refunds=1, refunded_minor=500)
    assert kinds(billed, order(payment(refunded_minor=500)), ("", 500)) == []


def listed(**fields: Any) -> ListedFacts:
    given: dict[str, Any] = {
        "account": "shop", "order": "A1", "status": "PAID", "closed_because": None, "trade": "T1", "amount_minor": 1280,
        "currency": "CNY", "refunded_minor": 0, "changed_at": "2025-10-09T00:00:00Z",
    }  # fmt: skip
    return ListedFacts(**given | fields)


def here(paid_at_ms: int | None, received_at_ms: int | None = None) -> DifferenceKind | None:
    history = OrderHistory(paid_at_ms=paid_at_ms, received_at_ms=received_at_ms, refunds=())
    found = judgement.of_payment_here(listed(), history, SPAN)
    return None if found is None else found.kind


def test_payment_only_here_is_a_difference_only_within_the_period() -> None:
    assert here(NOON_MS) is K.PAYMENT_ONLY_HERE
    for at_ms in (SPAN.since_ms - 1, SPAN.until_ms, SPAN.until_ms + DAY_MS):
        assert here(at_ms) is None


def test_payment_near_midnight_in_china_is_uncertain() -> None:
    for at_ms in (SPAN.since_ms, SPAN.since_ms + EDGE_MS - 1, SPAN.until_ms - 1, SPAN.until_ms - EDGE_MS + 1):
        assert here(at_ms) is K.UNCERTAIN
    assert here(SPAN.since_ms + EDGE_MS) is K.PAYMENT_ONLY_HERE


def test_payment_of_an_unknown_time_is_uncertain_while_it_may_be_of_the_period() -> None:
    for received_at_ms in (SPAN.since_ms, NOON_MS, SPAN.until_ms + LATE_MS - 1):
        assert here(None, received_at_ms) is K.UNCERTAIN
    for other_ms in (None, SPAN.since_ms - 1, SPAN.until_ms + LATE_MS):
        assert here(None, other_ms) is None


@pytest.mark.parametrize(
    ("refunds", "billed_minor", "expected"),
    [
        (((NOON_MS, 500, 0),), 0, (K.REFUND_ONLY_HERE, 500)),
        (((NOON_MS, 500, 0),), 500, None),
        (((NOON_MS, 500, 0), (NOON_MS + 1, 200, 0)), 500, (K.REFUND_ONLY_HERE, 200)),
        (((NOON_MS - DAY_MS, 500, NOON_MS), (NOON_MS, 200, 0)), 200, None),
        (((SPAN.until_ms - 1, 500, 0),), 0, (K.UNCERTAIN, 500)),
        (((None, 500, NOON_MS),), 0, (K.UNCERTAIN, 500)),
        (((None, 500, NOON_MS),), 500, None),
        (((NOON_MS, 200, 0), (None, 500, SPAN.until_ms + LATE_MS - 1)), 300, (K.UNCERTAIN, 400)),
        (((None, 500, SPAN.since_ms - 1),), 0, None),
        (((None, 500, SPAN.until_ms + LATE_MS),), 0, None),
        ((), 0, None),
    ],
)
def test_refunds_of_the_period_must_be_in_the_bill(
    refunds: tuple[tuple[int | None, int, int], ...], billed_minor: int, expected: tuple[DifferenceKind, int] | None
) -> None:
    history = OrderHistory(paid_at_ms=None, received_at_ms=None, refunds=refunds)
    found = judgement.of_refunds_here(listed(refunded_minor=700), history, SPAN, billed_minor)
    assert (None if found is None else (found.kind, found.here_minor)) == expected


def test_day_in_a_trade_number_tells_that_it_is_of_another_period() -> None:
    for number in ("20251009220014", "2025091022", "none", "", "99999999"):
        assert SPAN.may_have(number), number
    for number in ("2025101022", "2025090722", "2024100922"):
        assert not SPAN.may_have(number), number


def test_orders_that_were_paid_include_those_that_were_refunded() -> None:
    assert listed().was_paid
    assert listed(status="CLOSED", closed_because="refunded").was_paid
    assert not listed(status="CLOSED", closed_because="expired").was_paid
    assert not listed(status="WAITING").was_paid
