"""The snapshot of a batch: how its positions are looked up. The statements: tests/contract/test_store.py."""

from typing import Any

from tests.unit.workers.postgres.sql_connection import ScriptedConnection
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


def test_positions_are_two_parameters() -> None:
    assert load.places([Position(1, 2), Position(3, 4)]) == ([1, 3], [2, 4])
