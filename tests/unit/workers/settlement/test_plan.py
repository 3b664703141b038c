"""The ids of held notifications, which name positions in the log; and the locked orders of a snapshot."""

from typing import Any

import pytest
from msgspec import structs

from schemas.notification import Notification
from tests.support import facts
from workers.settlement import plan
from workers.settlement.plan import Position, StoreSnapshot


@pytest.mark.parametrize("position", [Position(0, 0), Position(11, 4_000_000_000), Position(999_999_999, 10**18 - 1)])
def test_id_of_a_held_notification_names_its_position(position: Position) -> None:
    assert plan.position_of(str(position)) == position


@pytest.mark.parametrize(
    "id_", ["", "-", "7", "7-", "-7", "a-1", "1-2-3", "1--2", " 1-2", "1-²", "1-٣", "1" * 10 + "-1", "1-" + "1" * 19]
)
def test_other_text_names_no_position(id_: str) -> None:
    assert plan.position_of(id_) is None


def test_positions_are_ordered_by_partition_and_offset() -> None:
    positions = [Position(1, 0), Position(0, 10), Position(0, 9)]
    assert sorted(positions) == [Position(0, 9), Position(0, 10), Position(1, 0)]


def about(fact: facts.Fact, family: str) -> Notification:
    return facts.notification(fact, facts.account(family))


MAPI, ANTOM = "mapi-any", "antom-any"


@pytest.mark.parametrize(
    ("notification", "locked", "known"),
    [
        (about(facts.form("p", "TRADE_SUCCESS", order="A", trade="T1"), "mapi"), (MAPI, "A"), {}),
        (about(facts.batch("b", "T1^40.00^SUCCESS"), "mapi"), (MAPI, "A"), {"order_by_trade": {(MAPI, "T1"): "A"}}),
        (about(facts.antom_refund("R1", "4000"), "antom"), (ANTOM, "A"), {"order_by_refund": {(ANTOM, "R1"): "A"}}),
        (about(facts.capture("C1", "4000"), "antom"), (ANTOM, "A"), {"order_by_trade": "capture"}),
    ],
    ids=["order", "refund by trade", "refund by number", "capture"],
)
def test_notification_of_a_locked_order_is_found_by_each_of_its_numbers(
    notification: Notification, locked: tuple[str, str], known: dict[str, Any]
) -> None:
    if known.get("order_by_trade") == "capture":
        assert notification.capture is not None
        known = {"order_by_trade": {(notification.account, notification.capture.trade): "A"}}
    snapshot = StoreSnapshot(
        settled=frozenset(),
        open_held=frozenset(),
        ledger={},
        orders={},
        locked=frozenset([locked]),
        **{"order_by_trade": {}, "order_by_refund": {}} | known,
    )
    assert snapshot.is_locked(notification, snapshot.order_by_trade)
    others = structs.replace(snapshot, locked=frozenset([(locked[0], "B")]))
    assert not others.is_locked(notification, snapshot.order_by_trade)
