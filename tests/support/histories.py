"""Small chosen histories of one order: usual lives of orders, and contradictions that should not occur.

Each is delivered in every order of arrival (`tests/unit/workers/settlement/test_any_order.py`), and in some orders to
every engine's store (`tests/contract/test_any_order.py`).
"""

from typing import Any, NamedTuple

from tests.support.facts import (
    AUTHORIZED,
    PAID_AT,
    Fact,
    antom_refund,
    batch,
    capture,
    form,
    payment,
    periodic,
    refund,
    refunded,
)

EXPECTED = {"amount_minor": 10000, "currency": "USD"}
IN_TWO_CURRENCIES = {"amounts": [(8000, "CNY"), (10000, "USD")]}


class History(NamedTuple):
    """Notifications of one order, and its registration by the merchant."""

    family: str
    facts: tuple[Fact, ...]
    registered: dict[str, Any] | None = None


HISTORIES = {
    "a payment to its end": History(
        "mapi",
        (
            form("w", "WAIT_BUYER_PAY"),
            form("p", "TRADE_SUCCESS", **PAID_AT),
            form("f", "TRADE_FINISHED", **PAID_AT),
            form("p2", "TRADE_SUCCESS"),
        ),
    ),
    "refunds without amounts": History(
        "mapi",
        (
            form("w", "WAIT_BUYER_PAY"),
            form("p", "TRADE_SUCCESS"),
            refund("r"),
            refund("x", refund_status="REFUND_CLOSED"),
            refund("all", "TRADE_CLOSED", **PAID_AT),
        ),
    ),
    "a refund without an amount comes with the end of the trade": History(
        "mapi", (form("p", "TRADE_SUCCESS"), refund("f", "TRADE_FINISHED"), form("w", "WAIT_BUYER_PAY"))
    ),
    "paid and expired": History(
        "mapi",
        (
            form("p", "TRADE_SUCCESS"),
            form("e", "TRADE_CLOSED"),
            form("f", "TRADE_FINISHED"),
            form("w", "WAIT_BUYER_PAY"),
            batch("b", "T1^40.00^SUCCESS"),
        ),
    ),
    "expired, and refunded all the same": History(
        "openapi",
        (form("e", "TRADE_CLOSED"), refunded("r", "30.00"), form("w", "WAIT_BUYER_PAY"), form("z", "TRADE_PENDING")),
    ),
    "two trades": History(
        "mapi",
        (
            form("p1", "TRADE_SUCCESS"),
            form("p2", "TRADE_SUCCESS", trade="T2"),
            form("f2", "TRADE_FINISHED", trade="T2"),
            form("e1", "TRADE_CLOSED"),
            refund("r1"),
        ),
    ),
    "two trades and a batch that refunds both": History(
        "mapi",
        (
            form("p1", "TRADE_SUCCESS"),
            form("p2", "TRADE_SUCCESS", "50.00", trade="T2"),
            batch("b", "T1^60.00^SUCCESS#T2^60.00^SUCCESS"),
            batch("c", "T2^50.00^SUCCESS$fee^1^1.00^SUCCESS#T1^1.00^TRADE_HAS_CLOSED"),
        ),
    ),
    "frozen": History("mapi", (form("z", "TRADE_PENDING"), form("w", "WAIT_BUYER_PAY"), form("z2", "TRADE_PENDING"))),
    "frozen, and released": History(
        "mapi",
        (
            form("z", "TRADE_PENDING", **PAID_AT),
            form("p", "TRADE_SUCCESS"),
            form("w", "WAIT_BUYER_PAY"),
            form("e", "TRADE_CLOSED"),
        ),
    ),
    "frozen, and refunded": History(
        "openapi",
        (form("z", "TRADE_PENDING"), refunded("r", "10.00", "TRADE_PENDING"), form("w", "WAIT_BUYER_PAY")),
    ),
    "unregistered, with three amounts": History(
        "mapi",
        (
            form("p", "TRADE_SUCCESS"),
            form("q", "TRADE_SUCCESS", "200.00"),
            form("r", "WAIT_BUYER_PAY", "100.00", trade="T2", currency="EUR"),
            form("s", "TRADE_CLOSED", "200.00"),
            batch("b", "T1^150.00^SUCCESS"),
        ),
    ),
    "registered, and wrong": History(
        "mapi",
        (
            form("p", "TRADE_SUCCESS"),
            form("a", "TRADE_SUCCESS", "0.01"),
            form("c", "TRADE_FINISHED", currency="EUR"),
            form("d", "TRADE_SUCCESS", "1.00", trade="T2", currency="EUR"),
            refund("r"),
        ),
        EXPECTED,
    ),
    "registered, and only wrong": History(
        "mapi",
        (form("a", "TRADE_SUCCESS", "99.99"), form("b", "TRADE_FINISHED", "100.01"), refund("c", trade="T3")),
        EXPECTED | {"amount_minor": 1},
    ),
    "batches that fill the amount": History(
        "mapi",
        (
            form("p", "TRADE_SUCCESS"),
            batch("b1", "T1^40.00^SUCCESS"),
            batch("b2", "T1^60.00^SUCCESS"),
            form("f", "TRADE_FINISHED"),
            refund("r"),
        ),
    ),
    "batches that overfill it": History(
        "mapi",
        (
            form("p", "TRADE_SUCCESS"),
            batch("b1", "T1^40.00^SUCCESS"),
            batch("b2", "T1^50.00^SUCCESS"),
            batch("b3", "T1^30.00^SUCCESS"),
            batch("b4", "T1^100.01^SUCCESS"),
            batch("b5", "T1^40.00^SUCCESS", "batch-b1"),
        ),
    ),
    "batches that fill it, and one of them told with more": History(
        "mapi",
        (
            form("p", "TRADE_SUCCESS"),
            batch("b1", "T1^40.00^SUCCESS"),
            batch("b2", "T1^60.00^SUCCESS"),
            batch("b3", "T1^50.00^SUCCESS", "batch-b1"),
        ),
    ),
    "sums that grow": History(
        "openapi",
        (
            form("p", "TRADE_SUCCESS", refund_fee="0.00"),
            refunded("r1", "10.00"),
            refunded("r2", "30.00"),
            refunded("x", "100.01"),
            refunded("f", "45.00", "TRADE_FINISHED"),
            form("w", "WAIT_BUYER_PAY"),
        ),
    ),
    "sums that reach the whole": History(
        "openapi",
        (
            form("p", "TRADE_SUCCESS"),
            refunded("r1", "10.00"),
            refunded("r2", "100.00"),
            refunded("c", "90.00", "TRADE_CLOSED"),
            form("f", "TRADE_FINISHED"),
            form("e", "TRADE_CLOSED"),
        ),
    ),
    "the old gateway's cumulative sums": History(
        "mapi",
        (
            form("p", "TRADE_SUCCESS"),
            form("r1", "TRADE_SUCCESS", refund_fee="10.00", notify_action_type="refundFPAction"),
            refunded("r2", "30.00"),
            form("v", "TRADE_SUCCESS", notify_action_type="refundFPAction"),
            refund("r3", "TRADE_CLOSED", refund_fee="100.00"),
        ),
    ),
    "paid, and cancelled": History(
        "mapi",
        (
            form("p", "TRADE_SUCCESS", **PAID_AT),
            form("c", "TRADE_CLOSED", notify_action_type="reverseAction"),
            form("z", "TRADE_PENDING"),
            form("w", "WAIT_BUYER_PAY"),
            refunded("r", "30.00"),
            form("f", "TRADE_FINISHED"),
        ),
    ),
    "cancelled before it was paid": History(
        "openapi",
        (form("w", "WAIT_BUYER_PAY"), form("c", "TRADE_CLOSED", notify_action_type="reverseAction")),
    ),
    "cancelled and expired, and paid all the same": History(
        "openapi",
        (
            form("c", "TRADE_CLOSED", notify_action_type="reverseAction", refund_fee="100.00"),
            form("d", "TRADE_CLOSED", notify_action_type="reverseAction"),
            form("e", "TRADE_CLOSED"),
            form("p", "TRADE_SUCCESS"),
        ),
    ),
    "overseas, registered in its currency": History(
        "openapi",
        (
            form("p", "TRADE_SUCCESS", trans_currency="USD"),
            refunded("r", "30.00", trans_currency="USD"),
            form("x", "TRADE_SUCCESS", trans_currency="EUR"),
            form("y", "TRADE_FINISHED"),
        ),
        EXPECTED,
    ),
    "overseas, in a currency that the account does not list": History(
        "openapi",
        (
            form("p", "TRADE_SUCCESS", trans_currency="USD"),
            form("f", "TRADE_FINISHED", trans_currency="USD"),
            form("c", "TRADE_SUCCESS"),
        ),
    ),
    "priced in two currencies, and reported in both": History(
        "mapi",
        (
            form("w", "WAIT_BUYER_PAY", "80.00", currency="CNY"),
            form("f", "TRADE_FINISHED", currency="USD"),
            form("x", "TRADE_FINISHED", "80.00", currency="EUR"),
            form("y", "TRADE_SUCCESS", "80.00", currency="USD"),
            batch("b", "T1^60.00^SUCCESS"),
        ),
        IN_TWO_CURRENCIES,
    ),
    "priced in two currencies, and paid in both by two trades": History(
        "mapi",
        (
            form("p1", "TRADE_SUCCESS", "80.00", currency="CNY"),
            form("p2", "TRADE_FINISHED", trade="T2"),
            form("e1", "TRADE_CLOSED", "80.00", currency="CNY"),
            batch("b1", "T1^60.00^SUCCESS"),
            batch("b2", "T2^60.00^SUCCESS#T1^1.00^TRADE_HAS_CLOSED"),
        ),
        IN_TWO_CURRENCIES,
    ),
    "overseas, priced in two currencies, and paid and refunded in either": History(
        "openapi",
        (
            form("p", "TRADE_SUCCESS", trans_currency="USD"),
            refunded("r", "30.00", trans_currency="USD"),
            form("c", "TRADE_SUCCESS", "80.00"),
            refunded("s", "80.00", "TRADE_CLOSED", total_amount="80.00"),
            refunded("x", "100.01", trans_currency="USD"),
        ),
        IN_TWO_CURRENCIES,
    ),
    "registered without an amount": History(
        "openapi",
        (
            form("w", "WAIT_BUYER_PAY"),
            form("p", "TRADE_SUCCESS", "200.00"),
            refunded("r", "30.00", total_amount="200.00"),
            form("x", "TRADE_SUCCESS", trans_currency="USD"),
        ),
        {"amounts": []},
    ),
    "antom, priced in two currencies and refunded in one": History(
        "antom",
        (
            payment("w", "PAYMENT_PENDING"),
            payment("p", currency="USD", value="1280"),
            antom_refund("R1", "280", "USD"),
            antom_refund("R2", "1000"),
            payment("e", status="F", trade="T2"),
            antom_refund("R3", "1", "EUR"),
        ),
        {"amounts": [(10000, "HKD"), (1280, "USD")], "refunds": ["R1", "R2", "R3"]},
    ),
    "dinars of three decimals, and dong of none": History(
        "mapi",
        (
            form("p", "TRADE_SUCCESS", "12.800", currency="KWD"),
            form("f", "TRADE_FINISHED", "12.800", currency="KWD"),
            form("x", "TRADE_SUCCESS", "12800", currency="VND"),
        ),
    ),
    "only refunds that are too large": History(
        "openapi", (refunded("x", "100.01"), refunded("y", "200.00", "TRADE_CLOSED"))
    ),
    "too large, and the payment": History(
        "openapi",
        (form("p", "TRADE_SUCCESS"), refunded("x", "100.01"), refunded("y", "300.00", "TRADE_CLOSED")),
        {"amount_minor": 10000, "currency": "CNY"},
    ),
    "antom, refunds by number": History(
        "antom",
        (
            payment("w", "PAYMENT_PENDING"),
            payment("p"),
            antom_refund("R1", "4000"),
            antom_refund("R2", "6000"),
            antom_refund("R3", "10001"),
            antom_refund("R4", "1000", "USD"),
        ),
        {"refunds": ["R1", "R2", "R3", "R4"]},
    ),
    "antom, refunds by number and by payment": History(
        "antom",
        (
            payment("p"),
            payment("e", status="F"),
            antom_refund("R1", "7000"),
            antom_refund("R2", "5000", paymentId="T1"),
            antom_refund("R9", "100"),
        ),
        {"amount_minor": 10000, "currency": "HKD", "refunds": ["R1"]},
    ),
    "antom, two payments under one number": History(
        "antom",
        (
            payment("e", status="F"),
            payment("p", trade="T2", value="20000"),
            payment("w", "PAYMENT_PENDING", trade="T3"),
            antom_refund("R1", "10000"),
            antom_refund("R2", "9000", paymentId="T2"),
        ),
        {"refunds": ["R1"]},
    ),
    "antom, one payment told as an order's and as a subscription's": History(
        "antom", (periodic("s"), payment("p"), antom_refund("R1", "4000", paymentId="T1"), periodic("f", "F"))
    ),
    "antom, a subscription's payment that also names an order": History(
        "antom",
        (
            periodic("s"),
            payment("p", subscriptionId="2025S1"),
            payment("w", "PAYMENT_PENDING", subscriptionId="2025S1"),
            capture("C1", None),
        ),
        {"refunds": ["R1"]},
    ),
    "antom, a capture that fails and is repeated": History(
        "antom",
        (
            payment("p", **AUTHORIZED),
            capture("C1", None),
            capture("C2", "10000"),
            capture("C3", None),
            antom_refund("R1", "4000", paymentId="T1"),
        ),
    ),
    "antom, captures that contradict the payment": History(
        "antom",
        (payment("p"), capture("C1", None), capture("C2", "10001"), capture("C3", "1", "USD"), capture("C4", "10000")),
    ),
    "antom, captured and refunded before the payment is reported": History(
        "antom",
        (
            payment("w", "PAYMENT_PENDING"),
            capture("C1", "4000"),
            antom_refund("R1", "4000", paymentId="T1"),
            capture("C2", "3000"),
            payment("p", **AUTHORIZED),
        ),
    ),
    "antom, failed, captured, refunded and captured again": History(
        "antom",
        (
            payment("f", status="F"),
            capture("C1", "4000"),
            antom_refund("R1", "4000", paymentId="T1"),
            capture("C2", "3000"),
            payment("w", "PAYMENT_PENDING"),
        ),
    ),
    "authorised, and captured in parts": History(
        "manual",
        (
            payment("w", "PAYMENT_PENDING"),
            payment("p", **AUTHORIZED),
            capture("C1", "4000"),
            capture("C2", "5000"),
            capture("C1", "4000", captureRequestId="again"),
            capture("C3", None),
        ),
        {"amount_minor": 10000, "currency": "HKD"},
    ),
    "authorised, and captured too much": History(
        "manual",
        (
            payment("p", **AUTHORIZED),
            capture("C1", "6000"),
            capture("C2", "5000"),
            capture("C3", "3000"),
            capture("C4", "10001"),
        ),
    ),
    "authorised, and one capture told with two amounts": History(
        "manual",
        (
            payment("p", **AUTHORIZED),
            capture("C1", "4000"),
            capture("C1", "5000", captureRequestId="again") | {"id": "C1 again"},
            capture("C2", "6000"),
            antom_refund("R1", "9000", paymentId="T1"),
        ),
    ),
    "authorised, and failed": History(
        "manual", (payment("p", **AUTHORIZED), payment("f", status="F"), capture("C1", None))
    ),
    "authorised, failed, and captured all the same": History(
        "manual",
        (
            payment("p", **AUTHORIZED),
            payment("f", status="F"),
            capture("C1", "4000"),
            antom_refund("R1", "4000", paymentId="T1"),
        ),
    ),
    "the captured sum is refunded, and more is captured": History(
        "manual",
        (
            payment("w", "PAYMENT_PENDING"),
            payment("p", **AUTHORIZED),
            capture("C1", "4000"),
            antom_refund("R1", "4000", paymentId="T1"),
            capture("C2", "3000"),
        ),
    ),
    "more is refunded than was captured": History(
        "manual",
        (
            payment("p", **AUTHORIZED),
            capture("C1", "4000"),
            antom_refund("R1", "5000", paymentId="T1"),
            antom_refund("R2", "10000"),
        ),
        {"refunds": ["R2"]},
    ),
    "a wallet pays at once": History(
        "manual", (payment("p"), payment("w", "PAYMENT_PENDING", **AUTHORIZED), capture("C1", "10000"))
    ),
    "authorised as an order's and as a subscription's": History(
        "manual",
        (
            periodic("s", **AUTHORIZED),
            payment("p", subscriptionId="2025S1", authExpiryTime="2025-04-08T10:00:00+08:00"),
            capture("C1", "4000"),
            capture("C2", None),
        ),
    ),
    "registered, and authorised for another amount": History(
        "manual",
        (payment("w", "PAYMENT_PENDING"), payment("p", value="20000", **AUTHORIZED), capture("C1", "10000")),
        {"amount_minor": 10000, "currency": "HKD"},
    ),
}  # fmt: skip
