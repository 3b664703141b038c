"""The retry schedules add up to what the protocol reference says of them."""

from __future__ import annotations

import pytest

from deploy.sandbox.profiles import PROFILES

H, M = 3600, 60


@pytest.mark.parametrize(
    ("name", "deliveries", "last_s"),
    [
        ("cn-4m", 8, 24 * H + 24 * M),
        ("global-2m", 8, 24 * H + 22 * M),
        ("odoo", 8, 24 * H + 27 * M),
        ("alt-5s", 9, 24 * H + 27 * M + 5),
        ("antom", 9, 24 * H + 22 * M),
        ("antom-sandbox", 1, 0),
        ("cn-immediate3", 10, 24 * H + 24 * M),
    ],
)
def test_each_profile_makes_its_deliveries_in_its_time(name: str, deliveries: int, last_s: float) -> None:
    profile = PROFILES[name]
    assert profile.deliveries == deliveries
    assert profile.offset_s(deliveries) == last_s
    assert profile.gap_after(deliveries) is None


def test_deliveries_beyond_the_schedule_still_have_moments_of_their_own() -> None:
    offsets = [PROFILES["once"].offset_s(number) for number in range(1, 5)]
    assert offsets == [0, 240, 480, 720]


def test_the_offsets_of_the_chinese_schedule_are_those_measured() -> None:
    minutes = [PROFILES["cn-4m"].offset_s(number) / M for number in range(1, 9)]
    assert minutes == [0, 4, 14, 24, 84, 204, 564, 1464]
