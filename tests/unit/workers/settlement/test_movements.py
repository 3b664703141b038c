"""Movements of an order: few stay with it, many become rows, and the order shows the same."""

import pytest
from msgspec import structs

from schemas.money import Money
from schemas.orders import Capture, Claim, Movement, Order, Refund, State
from workers.settlement import movements, order_view
from workers.settlement.movements import INLINE_MAX, BatchMovements
from workers.settlement.plan import KnownMovements, MovementKind, MovementName, StoreSnapshot

CLAIM = Claim(trade="T1", amount_minor=100_000, currency="USD", state=State.PAID)
ORDER = Order(account="shop", number="A", claims=(CLAIM,))
KEY = ("shop", "A")
R1: MovementName = (MovementKind.REFUND, "R1")


def refund(number: int, minor: int = 10) -> Refund:
    return Refund(id=f"R{number}", amount=Money(minor, "USD"), trade="T1")


def snapshot(**known: KnownMovements) -> StoreSnapshot:
    return StoreSnapshot(
        settled=frozenset(),
        open_held=frozenset(),
        ledger={},
        orders={},
        order_by_trade={},
        order_by_refund={},
        movements={("shop", number): each for number, each in known.items()},
    )


def with_many() -> tuple[Order, list[Movement]]:
    """Return an order that has its movements as rows, and these."""
    batch = BatchMovements(snapshot())
    order = batch.written(*batch.with_movements(ORDER, map(refund, range(INLINE_MAX + 1))))
    return order, [row.movement for row in batch.added]


def test_known_movement_leaves_the_order_the_same_object() -> None:
    batch = BatchMovements(snapshot())
    known, rows = batch.with_movements(ORDER, [refund(2), refund(1), Capture(id="C")])
    assert (known.refunds, known.captures, rows) == ((refund(1), refund(2)), (Capture(id="C"),), [])
    assert batch.with_movements(known, [refund(1), Capture(id="C")])[0] is known
    assert (batch.written(known, rows), batch.added) == (known, [])


def test_many_become_rows_once_and_the_order_shows_the_same() -> None:
    batch = BatchMovements(snapshot())
    few, rows = batch.with_movements(ORDER, map(refund, range(INLINE_MAX + 1)))
    order = batch.written(few, rows)
    assert (order.refunds, order.captures, len(batch.added)) == ((), (), INLINE_MAX + 1)
    assert order_view.view(order) == order_view.view(few)
    assert batch.written(order, ()) is order
    assert batch.with_movements(order, [refund(0)])[0] is order, "known without the store: they were all here"


def test_further_movement_needs_the_rows_of_its_number_alone() -> None:
    order, _ = with_many()
    known = KnownMovements(found=(refund(1),), names=frozenset({R1, (MovementKind.REFUND, "R99")}))
    batch = BatchMovements(snapshot(A=known))
    after, rows = batch.with_movements(order, [refund(1), refund(1, 15), refund(1, 12), refund(99)])
    assert [row.movement for row in rows] == [refund(1, 15), refund(1, 12), refund(99)]
    assert order_view.view(after).refunded_minor == order_view.view(order).refunded_minor + 5 + 10
    assert batch.added == [], "not written, as if another rule had held them"
    again, _ = batch.with_movements(order, [refund(1, 15)])
    assert again != order
    assert batch.written(after, rows) is after
    assert batch.added == rows
    assert batch.with_movements(after, [refund(1, 15)])[0] is after


def test_count_without_its_rows_is_refused() -> None:
    order, _ = with_many()
    for known in ({}, {"A": KnownMovements(found=(), names=frozenset({R1}))}):
        batch = BatchMovements(snapshot(**known))
        with pytest.raises(AssertionError, match="were not loaded"):
            batch.with_movements(order, [refund(99)])
        with pytest.raises(AssertionError, match="were not loaded"):
            batch.with_claim(order, structs.replace(CLAIM, trade="T2"))


def test_new_claim_gets_its_sum_and_a_known_one_needs_no_rows() -> None:
    order, rows = with_many()
    batch = BatchMovements(snapshot(A=KnownMovements(found=(*rows, refund(50, 700)), names=None)))
    small = structs.replace(CLAIM, amount_minor=600)
    after = batch.with_claim(order, small)
    assert after.movement_sums is not None
    assert after.movement_sums.refunds.of(small) == 10 * (INLINE_MAX + 1)
    assert after.movement_sums.refunds.of(CLAIM) == 10 * (INLINE_MAX + 1) + 700
    none = BatchMovements(snapshot())
    assert none.with_claim(order, structs.replace(CLAIM, state=State.FINISHED)).movement_sums == order.movement_sums
    assert none.recounted(ORDER) is ORDER


def test_names_tell_refunds_from_captures() -> None:
    assert movements.name_of(refund(1)) == R1
    assert movements.name_of(Capture(id="R1")) == (MovementKind.CAPTURE, "R1")
