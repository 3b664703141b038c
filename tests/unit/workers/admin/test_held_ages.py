"""The ages of held notifications, in groups."""

import pytest

from schemas.times import HOUR_MS
from workers.admin.held_ages import by_age

NOW_MS = 1_800_000_000_000


@pytest.mark.parametrize(
    ("age_ms", "least_h"),
    [
        (-5, 0),
        (0, 0),
        (HOUR_MS - 1, 0),
        (HOUR_MS, 1),
        (6 * HOUR_MS, 6),
        (25 * HOUR_MS - 1, 6),
        (25 * HOUR_MS, 25),
        (72 * HOUR_MS, 72),
        (9_999 * HOUR_MS, 72),
    ],
)
def test_each_age_is_in_one_group(age_ms: int, least_h: int) -> None:
    groups = by_age([NOW_MS - age_ms], now_ms=NOW_MS)
    assert [(each.least_h, each.below_h) for each in groups] == [(0, 1), (1, 6), (6, 25), (25, 72), (72, None)]
    assert [each.least_h for each in groups if each.count] == [least_h]
