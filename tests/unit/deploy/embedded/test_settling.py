"""The cursor: it stops before the first record without a disposition. The rest: tests/contract/test_store.py."""

import sqlite3
from collections.abc import Iterator

import pytest

from deploy.embedded import migrations, settling, store
from tests.support import plans
from tests.support.log_records import NOW_MS
from workers.settlement.plan import LoadRequest, Position, StoreSnapshot, WritePlan


@pytest.fixture
def connection() -> Iterator[sqlite3.Connection]:
    opened = sqlite3.connect(":memory:", isolation_level=None)
    migrations.migrate(opened, migrations.load("store", application_id=store.APPLICATION_ID))
    yield opened
    opened.close()


def request(*positions: Position) -> LoadRequest:
    return LoadRequest(
        positions=frozenset(positions), ids=frozenset(), orders=frozenset(), trades=frozenset(), refunds=frozenset()
    )


def settle(connection: sqlite3.Connection, *offsets: int, partition: int = 0) -> None:
    positions = [Position(partition, offset) for offset in offsets]
    plan = plans.plan(deliveries=[plans.delivery(0, position=position) for position in positions])
    settling.settle(connection, request(*positions), plans.always(plan), now_ms=NOW_MS)


@pytest.mark.parametrize(
    ("batches", "cursor"),
    [
        ([(1, 2, 3)], 3),
        ([(1, 2, 3), (4,)], 4),
        ([(1, 2, 4)], 2),
        ([(2, 3)], 0),
        ([(1, 4, 5), (2, 3)], 5),
        ([(1, 4), (2,)], 2),
        ([(1, 2), (4, 5), (3,)], 5),
    ],
)
def test_cursor_moves_to_the_last_disposition_before_a_gap(
    connection: sqlite3.Connection, batches: list[tuple[int, ...]], cursor: int
) -> None:
    for offsets in batches:
        settle(connection, *offsets)
    assert settling.cursor(connection, 0) == cursor


def test_each_partition_has_a_cursor_of_its_own(connection: sqlite3.Connection) -> None:
    settle(connection, 1, 2)
    settle(connection, 1, partition=3)
    assert [settling.cursor(connection, partition) for partition in (0, 3, 4)] == [2, 1, 0]


def test_snapshot_knows_the_dispositions_of_the_batch(connection: sqlite3.Connection) -> None:
    settle(connection, 1, 2, 5)
    found = settling.load(connection, request(*(Position(0, offset) for offset in (2, 3, 5, 9))))
    assert found.settled == {Position(0, 2), Position(0, 5)}


def test_failed_decision_leaves_the_cursor(connection: sqlite3.Connection) -> None:
    settle(connection, 1)

    def fails(snapshot: StoreSnapshot) -> WritePlan:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        settling.settle(connection, request(Position(0, 2)), fails, now_ms=NOW_MS)
    assert settling.cursor(connection, 0) == 1
