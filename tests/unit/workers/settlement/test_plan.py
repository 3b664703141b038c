"""The ids of held notifications, which name positions in the log."""

import pytest

from workers.settlement import plan
from workers.settlement.plan import Position


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
