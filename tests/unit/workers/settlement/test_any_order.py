"""The final state depends only on the set of notifications: not on their order, copies, batches or waits.

Small histories run in every order, long ones in random orders; `tests.support.model` judges each.
"""

import itertools
import os
import random
from collections.abc import Iterator, Sequence
from typing import Any
from unittest import mock

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from schemas.accounts import Account
from tests.support import facts
from tests.support.facts import (
    AUTHORIZED,
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
from tests.support.histories import HISTORIES
from tests.support.world import World
from workers.settlement import movements

DELIVERIES = int(os.environ.get("DELIVERIES", "6"))  # `make quick` tries fewer


def _sequences(size: int) -> Iterator[tuple[int, ...]]:
    """Yield every sequence of so many deliveries that has each of `size` notifications."""
    for sequence in itertools.product(range(size), repeat=max(size, DELIVERIES)):
        if len(set(sequence)) == size:
            yield sequence


@pytest.mark.parametrize("orders", ["any", "registered"])
@pytest.mark.parametrize("name", HISTORIES)
def test_every_order_of_arrival_and_repetition_ends_in_the_same_state(name: str, orders: str) -> None:
    history = HISTORIES[name]
    if orders == "registered" and history.registered is None:
        history = history._replace(registered={})
    account = facts.account(history.family, orders)
    notifications = [[facts.notification(fact, account, resend=n) for n in range(2)] for fact in history.facts]
    chance = random.Random(name)
    for sequence in _sequences(len(notifications)):
        deliveries = [notifications[index][chance.randrange(2)] for index in sequence]
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
        world.judge(history.facts)


def _split(deliveries: Sequence[Any], chance: random.Random) -> Iterator[Sequence[Any]]:
    """Yield batches: half of the time of one record each, else of any sizes."""
    longest = chance.choice((1, len(deliveries)))
    start = 0
    while start < len(deliveries):
        size = chance.randint(1, longest)
        yield deliveries[start : start + size]
        start += size


def _pool(account: Account) -> list[Fact]:
    """Return facts of two orders with two trades each; no id has two contents."""
    pool: list[Fact] = []
    for order, trade in (("A", "T1"), ("A", "T2"), ("B", "T3"), ("B", "T4")):
        where = {"order": order, "trade": trade}
        for amount in ("100.00", "40.00"):
            at = f"{trade}-{amount}"
            statuses = ("WAIT_BUYER_PAY", "TRADE_SUCCESS", "TRADE_FINISHED", "TRADE_PENDING", "TRADE_CLOSED")
            pool += [form(f"{status}-{at}-{n}", status, amount, **where) for status in statuses for n in range(2)]
            if account.family == "openapi":
                sums = ("10.00", "39.00", "40.00", "70.00", "100.00", "120.00")
                pool += [
                    refunded(f"{status}-{at}-{sum_}", sum_, status, **where, total_amount=amount)
                    for sum_ in sums
                    for status in ("TRADE_SUCCESS", "TRADE_FINISHED", "TRADE_CLOSED", "TRADE_PENDING")
                ]
            else:
                pool += [refund(f"r-{status}-{at}", status, **where, total_fee=amount) for status in statuses[1:]]
    if account.family == "mapi":
        pool += [batch(f"b{n}", f"T{1 + n % 4}^{10 + 15 * n}.00^SUCCESS") for n in range(8)]
        pool.append(batch("both", "T1^20.00^SUCCESS#T3^30.00^SUCCESS"))
    return pool


@st.composite
def _long_histories(draw: st.DrawFn) -> tuple[str, str, list[int], int, random.Random]:
    family = draw(st.sampled_from(("mapi", "openapi")))
    orders = draw(st.sampled_from(("any", "registered")))
    size = len(_POOLS[family])
    sequence = draw(st.lists(st.integers(0, size - 1), min_size=1, max_size=40))
    inline_max = draw(st.sampled_from((0, 3, movements.INLINE_MAX)))
    return family, orders, sequence, inline_max, draw(st.randoms(use_true_random=False))


_POOLS = {family: _pool(facts.account(family)) for family in ("mapi", "openapi")}
_NOTIFICATIONS = {
    account.name: [
        [facts.notification(fact, account, resend=n) for n in range(2)] for fact in _POOLS[account.family.value]
    ]
    for account in facts.ACCOUNTS.values()
    if account.family.value in _POOLS
}


@settings(max_examples=400)
@given(_long_histories())
def test_long_histories_of_several_orders_end_as_the_model_does(
    drawn: tuple[str, str, list[int], int, random.Random],
) -> None:
    family, orders, sequence, inline_max, chance = drawn
    with mock.patch.object(movements, "INLINE_MAX", inline_max):
        _end_as_the_model_does(family, orders, sequence, chance)


def _end_as_the_model_does(family: str, orders: str, sequence: list[int], chance: random.Random) -> None:
    account = facts.account(family, orders)
    currency = "CNY" if family == "openapi" else "USD"
    registrations: dict[str, Any] = {"A": {"amount_minor": 10000, "currency": currency}, "B": {}}
    world = World(account)
    if orders == "any" and chance.random() < 0.5:
        world.register("A", registrations["A"])
    for batch_ in _split([_NOTIFICATIONS[account.name][index][chance.randrange(2)] for index in sequence], chance):
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


def _card_payments() -> list[Fact]:
    """Return what Antom may report of two payments, each with an order's number and as a subscription's."""
    pool: list[Fact] = []
    for order, trade in (("A", "T1"), ("B", "T2")):
        named = {"order": order, "trade": trade, "subscriptionId": "2025S1"}
        pool += [payment("w", "PAYMENT_PENDING", **named), payment("f", status="F", **named)]
        pool += [payment("p", **named, **AUTHORIZED), periodic("s", **named, **AUTHORIZED), periodic("e", "F", **named)]
        amounts = (None, "1000", "4000", "6000", "10000", "10001")
        pool += [capture(f"{order}{amount}", amount, paymentId=trade) for amount in amounts]
        pool += [capture(f"{order}again", None, paymentId=trade), capture(f"{order}usd", "1", "USD", paymentId=trade)]
        pool += [antom_refund(f"{order}{amount}", amount, paymentId=trade) for amount in amounts if amount]
    return pool


_CARD_PAYMENTS = _card_payments()


@settings(max_examples=400)
@given(
    st.sampled_from(("antom", "manual")),
    st.sampled_from(("any", "registered")),
    st.lists(st.sampled_from(range(len(_CARD_PAYMENTS))), min_size=1, max_size=25),
    st.randoms(use_true_random=False),
)
def test_long_histories_of_card_payments_end_as_the_model_does(
    family: str, orders: str, sequence: list[int], chance: random.Random
) -> None:
    world = World(facts.account(family, orders))
    for batch_ in _split([facts.notification(_CARD_PAYMENTS[index], world.account) for index in sequence], chance):
        world.deliver(*batch_)
        if chance.random() < 0.3:
            world.sweep()
    world.sweep()
    world.judge([_CARD_PAYMENTS[index] for index in set(sequence)])
