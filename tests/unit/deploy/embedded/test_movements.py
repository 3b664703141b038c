"""Rows of movements in SQLite. What settlement makes of them: tests/contract/test_store_movements.py."""

import sqlite3
from collections.abc import Iterator

import pytest

from deploy.embedded import migrations, movements, store
from schemas.money import Money
from schemas.orders import Capture, Movement, MovementSums, Order, Refund
from tests.support import plans
from workers import row_codec
from workers.settlement.plan import MovementKind, MovementName, MovementRow

KEY = ("shop", "A")
R1 = Refund(id="R1", amount=Money(5, "USD"), trade="T1")
R2 = Refund(id="R2", amount=Money(7, "USD"))
C1 = Capture(id="R1", trade="T1", minor=5, currency="USD")
NAME: MovementName = (MovementKind.REFUND, "R1")


@pytest.fixture
def connection() -> Iterator[sqlite3.Connection]:
    opened = sqlite3.connect(":memory:", isolation_level=None)
    migrations.migrate(opened, migrations.load("store", application_id=store.APPLICATION_ID))
    yield opened
    opened.close()


def rows(*found: Movement, order: str = "A") -> list[MovementRow]:
    return [MovementRow(account="shop", order=order, movement=each) for each in found]


def test_rows_are_found_by_their_order_and_by_their_names(connection: sqlite3.Connection) -> None:
    movements.write(connection, plans.plan(movements=[*rows(R1, R2, C1), *rows(R1, order="B")]))
    assert movements.load(connection, {KEY: None})[KEY].found == (R1, R2, C1)
    named = movements.load(connection, {KEY: frozenset({NAME})})[KEY]
    assert (named.found, named.names) == ((R1,), frozenset({NAME}))


def test_two_names_with_one_digest_are_kept_apart(
    connection: sqlite3.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(row_codec, "movement_digest", lambda name: 7)
    movements.write(connection, plans.plan(movements=rows(R1, R2)))
    assert movements.load(connection, {KEY: frozenset({NAME})})[KEY].found == (R1,)


def test_gone_row_is_deleted_alone_and_a_known_one_is_refused(connection: sqlite3.Connection) -> None:
    movements.write(connection, plans.plan(movements=rows(R1, R2)))
    movements.write(connection, plans.plan(movements_gone=rows(R1)))
    assert movements.load(connection, {KEY: None})[KEY].found == (R2,)
    with pytest.raises(sqlite3.IntegrityError):
        movements.write(connection, plans.plan(movements=rows(R2)))


def test_latest_without_a_trade_are_of_orders_that_have_rows(connection: sqlite3.Connection) -> None:
    other = Refund(id="R3", amount=Money(1, "USD"))
    movements.write(connection, plans.plan(movements=rows(R1, R2, other)))
    order = Order(account="shop", number="A", movement_sums=MovementSums())
    assert movements.without_trade(connection, order, 10) == [other, R2]
    assert movements.without_trade(connection, order, 1) == [other]
    assert movements.without_trade(connection, Order(account="shop", number="A"), 10) == []
