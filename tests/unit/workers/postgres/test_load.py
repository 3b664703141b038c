"""The snapshot of a batch: how its positions are looked up. The statements: tests/contract/test_store.py."""

from typing import Any

import pytest
from msgspec import structs

from schemas.orders import Order
from tests.support.plans import order_write
from tests.unit.workers.postgres.sql_connection import ScriptedConnection
from workers import row_codec
from workers.postgres import load
from workers.settlement.plan import LoadRequest, Position, StoreSnapshot


def request(*positions: tuple[int, int]) -> LoadRequest:
    return LoadRequest(
        positions=frozenset(Position(*each) for each in positions),
        ids=frozenset(),
        orders=frozenset(),
        trades=frozenset(),
        refunds=frozenset(),
    )


async def loaded(needs: LoadRequest, *deliveries: tuple[int, int]) -> tuple[StoreSnapshot, list[tuple[Any, ...]]]:
    """The snapshot from a store with these deliveries, and the parameters of each look at them."""

    def answer(query: str, args: tuple[Any, ...]) -> Any:
        if "deliveries" not in query:
            return []
        return [(partition, offset, f"n{offset}", 7) for partition, offset in deliveries]

    connection = ScriptedConnection(answer)
    snapshot = await load.load(connection, needs)
    return snapshot, [args for query, args in connection.statements if "deliveries" in query]


async def test_run_of_offsets_is_one_range_and_its_neighbours_are_ignored() -> None:
    snapshot, looks = await loaded(request((0, 5), (0, 6), (0, 8)), (0, 5), (0, 7))
    assert looks == [(0, 5, 8)]
    assert snapshot.settled == {Position(0, 5)}
    assert snapshot.prior_deliveries[Position(0, 5)].notification_id == "n5"


async def test_scattered_offsets_are_looked_up_one_by_one() -> None:
    _, looks = await loaded(request((0, 5), (0, 6), (3, 100), (3, 900)))
    assert looks[0] == (0, 5, 6)
    assert [sorted(zip(*each, strict=True)) for each in looks[1:]] == [[(3, 100), (3, 900)]]


async def test_empty_request_asks_nothing() -> None:
    connection = ScriptedConnection(lambda query, args: [])
    snapshot = await load.load(connection, request())
    assert connection.statements == []
    assert (snapshot.settled, snapshot.orders, snapshot.held_attempts) == (frozenset(), {}, {})


class LockedOrders:
    """A store in which other sessions have locked some orders, and release some of them after the first look."""

    def __init__(self, there: set[str], locked: set[str], *, released: set[str] = frozenset()) -> None:  # type: ignore[assignment]
        self._there = there
        self._locked = locked
        self._released = released
        self.waiting = 0

    def __call__(self, query: str, args: tuple[Any, ...]) -> Any:
        if "FROM unnest" not in query or "JOIN orders" not in query:
            return []
        wanted = [(account, number) for number, account in zip(*args, strict=True) if number in self._there]
        if "FOR NO KEY UPDATE" not in query:
            return [(account, number, True) for account, number in wanted]
        if "SKIP LOCKED" not in query:
            self.waiting += 1
        facts = row_codec.order_row(order_write(Order(account="shop", number="A"), None), 0)[1]
        free = [(account, number, facts) for account, number in wanted if number not in self._locked]
        self._locked -= self._released
        return free


def wanting(*numbers: str, around_locks: bool) -> LoadRequest:
    orders = frozenset(("shop", number) for number in numbers)
    return structs.replace(request(), orders=orders, around_locks=around_locks)


async def test_settling_around_locks_names_the_locked_orders_and_waits_for_none(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(load, "BRIEF_S", 0)
    store = LockedOrders({"A", "B", "C"}, {"B", "C"}, released={"C"})
    snapshot = await load.load(ScriptedConnection(store), wanting("A", "B", "C", "new", around_locks=True))
    assert snapshot.locked == {("shop", "B")}
    assert snapshot.orders.keys() == {("shop", "A"), ("shop", "C")}
    assert store.waiting == 0


async def test_usual_settlement_waits_for_locks_in_one_statement() -> None:
    store = LockedOrders({"A"}, set())
    snapshot = await load.load(ScriptedConnection(store), wanting("A", around_locks=False))
    assert (store.waiting, snapshot.locked) == (1, frozenset())


async def test_redelivered_record_needs_no_lock_of_its_held_row() -> None:
    asked: list[str] = []

    def answer(query: str, args: tuple[Any, ...]) -> Any:
        asked.append(query)
        return [(0, 5, "n5", 7)] if "FROM deliveries" in query else []

    needs = structs.replace(request((0, 5)), around_locks=True)
    await load.load(ScriptedConnection(answer), needs)
    assert not any("held" in query for query in asked)
    await load.load(ScriptedConnection(answer), structs.replace(needs, retried=needs.positions))
    assert any("held" in query for query in asked)


def test_positions_are_two_parameters() -> None:
    assert load.places([Position(1, 2), Position(3, 4)]) == ([1, 3], [2, 4])
