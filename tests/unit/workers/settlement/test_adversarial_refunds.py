"""Refunds and captures that contradict each other: no order of arrival raises, lowers an order, or ends otherwise.

One refund number with several amounts, sums beyond the amount, cumulative sums beside single refunds, captures told
twice, cancelled and failed ones, and operators who accept and discard meanwhile. The store in memory refuses a fall of
the rank, as the trigger of each database does.
"""

import contextlib
import itertools
import json
import random
from contextlib import AbstractContextManager
from typing import Any
from unittest import mock

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from schemas import topics
from schemas.dispositions import Disposition, Reason
from tests.support import facts
from tests.support.facts import AUTHORIZED, Fact, antom_refund, batch, capture, form, payment, refund, refunded
from tests.support.world import World
from tests.unit.workers.settlement.worlds import deliver, outcome
from workers.settlement import movements
from workers.settlement.verdicts import DecisionRefused

AMOUNTS = ("0.01", "40.00", "50.00", "60.00", "99.99", "100.00", "100.01")
SMALLEST_UNITS = ("1", "4000", "5000", "6000", "9999", "10000", "10001")
REFUNDS = {"refunds": ["L1", "L2"]}


def _old_gateway() -> list[Fact]:
    """Return payments, sums and batches of one order. A batch number and a trade name one refund."""
    pool = [
        form("w", "WAIT_BUYER_PAY"),
        form("p", "TRADE_SUCCESS"),
        form("f", "TRADE_FINISHED"),
        form("e", "TRADE_CLOSED"),
        form("c", "TRADE_CLOSED", notify_action_type="reverseAction"),
        form("q", "TRADE_SUCCESS", "50.00"),
        form("p2", "TRADE_SUCCESS", trade="T2"),
        refund("r"),
        batch("failed", "T1^40.00^TRADE_HAS_CLOSED", "N1"),
        batch("both", "T1^40.00^SUCCESS#T2^60.00^SUCCESS", "N2"),
    ]
    pool += [refunded(f"sum-{amount}", amount) for amount in AMOUNTS]
    pool += [
        batch(f"{number}-{amount}", f"T1^{amount}^SUCCESS", number)
        for number in ("N1", "N2", "N3")
        for amount in AMOUNTS
    ]
    return pool


def _card_payments() -> list[Fact]:
    """Return one payment with its captures, told by several requests, and refunds with and without its number."""
    pool = [
        payment("w", "PAYMENT_PENDING"),
        payment("p", **AUTHORIZED),
        payment("f", status="F"),
        capture("C1", None, captureRequestId="failed-1"),
        capture("C2", None, captureRequestId="failed-2"),
        antom_refund("F1", "4000", paymentId="T1", refundStatus="FAIL"),
        antom_refund("U1", "1", "USD", paymentId="T1"),
    ]
    pool += [
        capture(number, amount, captureRequestId=f"{number}-{amount}")
        for number in ("C1", "C2")
        for amount in SMALLEST_UNITS
    ]
    pool += [antom_refund(f"R{amount}", amount, paymentId="T1") for amount in SMALLEST_UNITS]
    pool += [antom_refund("L1", "5000"), antom_refund("L2", "6000")]
    return pool


_POOLS = {
    "mapi": _old_gateway(),
    "openapi": [fact for fact in _old_gateway() if not fact["id"].startswith(("N", "both", "failed"))],
    "antom": _card_payments(),
    "manual": _card_payments(),
}
FAMILIES = st.sampled_from(sorted(_POOLS))
INLINE_MAX = st.sampled_from((0, 1, 3, movements.INLINE_MAX))  # orders with so many have them as rows of their own


def _many(inline_max: int) -> AbstractContextManager[Any]:
    """Let orders with more movements than this have them as rows."""
    return mock.patch.object(movements, "INLINE_MAX", inline_max)


def _world(family: str) -> World:
    is_antom = family in ("antom", "manual")
    return World(facts.account(family), {"A": REFUNDS} if is_antom else {})


def _check_no_fall(world: World) -> None:
    """Check that the refunded sum of one payment and amount never falls from event to event."""
    highest: dict[tuple[str, int], int] = {}
    for outgoing in world.store.outbox:
        if outgoing.topic == topics.ORDER_EVENT:
            event = json.loads(outgoing.value)
            shown, known = event["refunded_minor"], (event["trade"], event["amount_minor"])
            assert highest.get(known, 0) <= shown <= event["amount_minor"]
            highest[known] = shown


@settings(max_examples=150)
@given(st.data(), FAMILIES, INLINE_MAX)
def test_few_notifications_end_alike_in_every_order_of_arrival(
    data: st.DataObject, family: str, inline_max: int
) -> None:
    pool = _POOLS[family]
    drawn = data.draw(st.lists(st.sampled_from(range(len(pool))), min_size=2, max_size=4, unique=True))
    ends = []
    for sequence in itertools.permutations(drawn):
        world = _world(family)
        with _many(inline_max):
            for index in sequence:
                deliver(world, pool[index])
            world.sweep()
        world.judge([pool[index] for index in drawn])
        _check_no_fall(world)
        ends.append(world.seen())
    assert all(end == ends[0] for end in ends)


@settings(max_examples=300)
@given(st.data(), FAMILIES, INLINE_MAX, st.randoms(use_true_random=False))
def test_many_notifications_end_as_the_model_does(
    data: st.DataObject, family: str, inline_max: int, chance: random.Random
) -> None:
    pool = _POOLS[family]
    sequence = data.draw(st.lists(st.sampled_from(range(len(pool))), min_size=1, max_size=40))
    world, start = _world(family), 0
    with _many(inline_max):
        while start < len(sequence):
            size = chance.choice((1, 1, 5))
            deliver(world, *(pool[index] for index in sequence[start : start + size]))
            start += size
            if chance.random() < 0.2:
                world.sweep()
        world.sweep()
    world.judge([pool[index] for index in set(sequence)])
    _check_no_fall(world)


@settings(max_examples=300)
@given(st.data(), FAMILIES, INLINE_MAX, st.randoms(use_true_random=False))
def test_decisions_of_operators_meanwhile_lead_to_no_dead_letter(
    data: st.DataObject, family: str, inline_max: int, chance: random.Random
) -> None:
    """An operator may accept or discard any held refund meanwhile; each notification still gets its disposition.

    Rows and sums change together, so the sums are those of all rows after each step.
    """
    pool = _POOLS[family]
    sequence = data.draw(st.lists(st.sampled_from(range(len(pool))), min_size=1, max_size=30))
    world, twin, seed = _world(family), _world(family), chance.random()
    for index in sequence:
        with _many(inline_max):
            for delivery in deliver(world, pool[index]):
                assert delivery.disposition is not Disposition.DEAD
            _step(world, random.Random(f"{seed} {index}"))
        _check_sums(world)
        deliver(twin, pool[index])
        _step(twin, random.Random(f"{seed} {index}"))
        assert world.seen() == twin.seen(), "rows of their own, or all in the order's row: consumers see the same"
    for shown in world.seen().values():
        assert 0 <= shown["refunded_minor"] <= (shown["amount_minor"] or 0)


def _step(world: World, chance: random.Random) -> None:
    if chance.random() < 0.4:
        _decide(world, chance)
    world.sweep()


def _check_sums(world: World) -> None:
    for key, order in world.store.orders.items():
        if order.movement_sums is not None:
            assert order == movements.recounted(order, world.store.movements_of[key])


def _decide(world: World, chance: random.Random) -> None:
    rows = [row for row in world.store.held.values() if row.disposition is Disposition.QUARANTINED]
    if not rows:
        return
    row = chance.choice(rows)
    with contextlib.suppress(DecisionRefused):
        if row.reason is Reason.OVER_REFUNDED and chance.random() < 0.6:
            world.accept(row)
        elif row.notification_id.startswith(("N", "CAPTURE_RESULT", "REFUND_RESULT")):
            world.discard(row)


@pytest.mark.parametrize("sequence", list(itertools.permutations(("40.00", "50.00", "60.00"))))
def test_larger_amount_of_one_refund_never_reopens_its_order(sequence: tuple[str, ...]) -> None:
    """60 + 40 close the order. When the 40 are told as 50, a guess of the right refunds would show 60 again."""
    world = World(facts.account("mapi"))
    deliver(world, form("p", "TRADE_SUCCESS"), batch("other", "T1^60.00^SUCCESS"))
    for amount in sequence:
        deliver(world, batch(f"b-{amount}", f"T1^{amount}^SUCCESS", "N1"))
    _check_no_fall(world)
    shown = world.seen()["A"]
    assert (shown["status"], shown["refunded_minor"], shown["flags"]) == ("CLOSED", 10000, {"over_refunded"})


def test_refund_beyond_an_accepted_excess_is_held_again() -> None:
    world = World(facts.account("mapi"))
    deliver(world, form("p", "TRADE_SUCCESS"), batch("b1", "T1^60.00^SUCCESS"))
    assert outcome(world, batch("b2", "T1^50.00^SUCCESS")) == (Disposition.QUARANTINED, Reason.OVER_REFUNDED)
    (row,) = world.store.held.values()
    world.accept(row)
    shown = world.seen()["A"]
    assert (shown["status"], shown["refunded_minor"], shown["flags"]) == ("CLOSED", 10000, set())
    assert outcome(world, batch("b3", "T1^0.01^SUCCESS")) == (Disposition.QUARANTINED, Reason.OVER_REFUNDED)
    assert world.seen()["A"]["flags"] == {"over_refunded"}


def test_second_amount_of_one_antom_refund_is_a_conflict() -> None:
    """Antom names no notification, so the refund's number is its id: one id with other content is a conflict."""
    for first, second in (("4000", "9000"), ("9000", "4000")):
        world = World(facts.account("antom"))
        deliver(world, payment("p"), antom_refund("R1", first, paymentId="T1"))
        conflict = outcome(world, antom_refund("R1", second, paymentId="T1"))
        assert conflict == (Disposition.QUARANTINED, Reason.ID_CONFLICT)
        assert world.seen()["A"]["refunded_minor"] == int(first)


def test_discarded_capture_that_consumers_did_not_see_lets_the_order_go_on() -> None:
    """The payment failed, was captured all the same, and refunded, which proves a payment without the capture too."""
    world = World(facts.account("manual"))
    deliver(world, payment("f", status="F"), capture("C1", "10000"), antom_refund("R", "1", paymentId="T1"))
    before = world.seen()
    (row,) = (row for row in world.store.held.values() if row.notification_id.startswith("CAPTURE_RESULT"))
    world.discard(row)
    assert world.seen() == before
    assert not world.order().has_captures
    deliver(world, antom_refund("R2", "1", paymentId="T1"))
    assert world.seen()["A"]["refunded_minor"] == 2
