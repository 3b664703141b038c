"""The final state depends on the set of notifications and on nothing else: not on order, copies, batches or waiting.

Small histories are tried in every order there is, long ones at random; each is judged by `tests.model`.
"""

import itertools
import random
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from schemas.accounts import Account
from tests import facts
from tests.facts import PAID_AT, Fact, antom_refund, batch, form, payment, refund, refunded
from tests.worlds import World

DELIVERIES = 6
EXPECTED = {"amount_minor": 10000, "currency": "USD"}


class History(NamedTuple):
    """Notifications of one order, and what the merchant registered of it."""

    family: str
    told: tuple[Fact, ...]
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
    "refunds that tell no amount": History(
        "mapi",
        (
            form("w", "WAIT_BUYER_PAY"),
            form("p", "TRADE_SUCCESS"),
            refund("r"),
            refund("x", refund_status="REFUND_CLOSED"),
            refund("all", "TRADE_CLOSED", **PAID_AT),
        ),
    ),
    "a refund that tells no amount comes with the end of the trade": History(
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
    "nothing but what is too large": History(
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
}  # fmt: skip


def _sequences(size: int) -> Iterator[tuple[int, ...]]:
    """Every sequence of six deliveries in which each of `size` notifications occurs."""
    for sequence in itertools.product(range(size), repeat=DELIVERIES):
        if len(set(sequence)) == size:
            yield sequence


@pytest.mark.parametrize("orders", ["any", "registered"])
@pytest.mark.parametrize("name", HISTORIES)
def test_every_order_of_arrival_and_every_repetition_ends_in_the_same_state(name: str, orders: str) -> None:
    history = HISTORIES[name]
    if orders == "registered" and history.registered is None:
        history = history._replace(registered={})
    account = facts.account(history.family, orders)
    heard = [[facts.heard(fact, account, resend=n) for n in range(2)] for fact in history.told]
    chance = random.Random(name)
    for sequence in _sequences(len(heard)):
        deliveries = [heard[index][chance.randrange(2)] for index in sequence]
        world = World(account)
        registered_before = chance.randrange(DELIVERIES + 1) if orders == "registered" else 0
        for number, batch_ in enumerate(_split(deliveries, chance)):
            if history.registered is not None and number >= registered_before and not world.registered:
                world.register("A", history.registered)
            world.deliver(*batch_)
            if chance.random() < 0.3:
                world.sweep()
        if history.registered is not None and not world.registered:
            world.register("A", history.registered)
        world.sweep()
        world.judge(history.told)


def _split(deliveries: Sequence[Any], chance: random.Random) -> Iterator[Sequence[Any]]:
    """Half of the time one by one, else in batches of any sizes."""
    longest = chance.choice((1, len(deliveries)))
    start = 0
    while start < len(deliveries):
        size = chance.randint(1, longest)
        yield deliveries[start : start + size]
        start += size


def _pool(account: Account) -> list[Fact]:
    """What may be told of two orders with two trades each, without one id for two contents."""
    told: list[Fact] = []
    for order, trade in (("A", "T1"), ("A", "T2"), ("B", "T3"), ("B", "T4")):
        where = {"order": order, "trade": trade}
        for amount in ("100.00", "40.00"):
            at = f"{trade}-{amount}"
            statuses = ("WAIT_BUYER_PAY", "TRADE_SUCCESS", "TRADE_FINISHED", "TRADE_PENDING", "TRADE_CLOSED")
            told += [form(f"{status}-{at}-{n}", status, amount, **where) for status in statuses for n in range(2)]
            if account.family == "openapi":
                sums = ("10.00", "39.00", "40.00", "70.00", "100.00", "120.00")
                told += [
                    refunded(f"{status}-{at}-{sum_}", sum_, status, **where, total_amount=amount)
                    for sum_ in sums
                    for status in ("TRADE_SUCCESS", "TRADE_FINISHED", "TRADE_CLOSED", "TRADE_PENDING")
                ]
            else:
                told += [refund(f"r-{status}-{at}", status, **where, total_fee=amount) for status in statuses[1:]]
    if account.family == "mapi":
        told += [batch(f"b{n}", f"T{1 + n % 4}^{10 + 15 * n}.00^SUCCESS") for n in range(8)]
        told.append(batch("both", "T1^20.00^SUCCESS#T3^30.00^SUCCESS"))
    return told


@st.composite
def _long_histories(draw: st.DrawFn) -> tuple[str, str, list[int], random.Random]:
    family = draw(st.sampled_from(("mapi", "openapi")))
    orders = draw(st.sampled_from(("any", "registered")))
    size = len(_POOLS[family])
    sequence = draw(st.lists(st.integers(0, size - 1), min_size=1, max_size=40))
    return family, orders, sequence, draw(st.randoms(use_true_random=False))


_POOLS = {family: _pool(facts.account(family)) for family in ("mapi", "openapi")}
_HEARD = {
    account.name: [[facts.heard(fact, account, resend=n) for n in range(2)] for fact in _POOLS[account.family.value]]
    for account in facts.ACCOUNTS.values()
    if account.family.value in _POOLS
}


@settings(max_examples=400, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(_long_histories())
def test_long_histories_of_several_orders_end_where_the_model_says(
    drawn: tuple[str, str, list[int], random.Random],
) -> None:
    family, orders, sequence, chance = drawn
    account = facts.account(family, orders)
    currency = "CNY" if family == "openapi" else "USD"
    registrations: dict[str, Any] = {"A": {"amount_minor": 10000, "currency": currency}, "B": {}}
    world = World(account)
    if orders == "any" and chance.random() < 0.5:
        world.register("A", registrations["A"])
    for batch_ in _split([_HEARD[account.name][index][chance.randrange(2)] for index in sequence], chance):
        if orders == "registered" and registrations and chance.random() < 0.2:
            world.register(*registrations.popitem())
        world.deliver(*batch_)
        if chance.random() < 0.2:
            world.wait(0.2)
            world.sweep()
    if orders == "registered" and registrations and chance.random() < 0.7:
        world.register(*registrations.popitem())
    world.sweep()
    world.judge([_POOLS[family][index] for index in set(sequence)])
