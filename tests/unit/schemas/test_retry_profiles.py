"""Retry profiles: their schedules, and what the moments of some requests let expect."""

import pytest

from schemas import retry_profiles
from schemas.accounts import Account, Family, SignType
from schemas.retry_profiles import PROFILES, Tries

H, M = 3600, 60
START_MS = 1_760_000_000_000


def ms(minutes: float) -> int:
    return START_MS + round(minutes * 60_000)


def expected(name: str, *minutes: float) -> Tries | None:
    return retry_profiles.expected(PROFILES[name], [ms(each) for each in minutes])


def after(name: str, *minutes: float) -> tuple[int, float | None, float] | None:
    """The deliveries seen, and the minutes of the next one and of the last."""
    tries = expected(name, *minutes)
    if tries is None:
        return None
    next_ = None if tries.next_ms is None else (tries.next_ms - START_MS) / 60_000
    return tries.seen, next_, (tries.gives_up_ms - START_MS) / 60_000


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
def test_profile_has_its_number_of_deliveries_and_duration(name: str, deliveries: int, last_s: float) -> None:
    profile = PROFILES[name]
    assert profile.deliveries == deliveries
    assert profile.offset_s(deliveries) == last_s
    assert profile.gap_after(deliveries) is None


def test_deliveries_beyond_the_schedule_have_different_times() -> None:
    offsets = [PROFILES["antom-sandbox"].offset_s(number) for number in range(1, 5)]
    assert offsets == [0, 240, 480, 720]


def test_chinese_schedule_has_the_measured_offsets() -> None:
    minutes = [PROFILES["cn-4m"].offset_s(number) / M for number in range(1, 9)]
    assert minutes == [0, 4, 14, 24, 84, 204, 564, 1464]


def test_account_has_the_profile_that_it_names_or_that_of_its_family() -> None:
    shop = Account(name="s", family=Family.MAPI, sign_type=SignType.RSA)
    named = Account(name="s", family=Family.MAPI, sign_type=SignType.RSA, retry_profile="global-2m")
    antom = Account(name="s", family=Family.ANTOM, sign_type=SignType.RSA256)
    assert [retry_profiles.of(each).name for each in (shop, named, antom)] == ["cn-4m", "global-2m", "antom"]
    assert retry_profiles.DEFAULTS.keys() == set(Family)


@pytest.mark.parametrize(
    ("name", "minutes", "found"),
    [
        ("cn-4m", (0,), (1, 4, 1464)),  # assumed to be the first
        ("cn-4m", (0, 4), (2, 14, 1464)),
        ("cn-4m", (0, 4.9, 13.9, 25.2), (4, 85.2, 1465.2)),  # late by as much as was measured
        ("cn-4m", (0, 10), (2, 20, 1460)),  # the second and third
        ("cn-4m", (0, 10, 20), (3, 80, 1460)),
        ("cn-4m", (0, 360), (2, 1260, 1260)),  # the sixth and seventh
        ("cn-4m", (0, 900), (2, None, 900)),  # the last two
        ("cn-4m", (4, 0, 0.5, 4.2), (2, 14, 1464)),  # in any order, and at once after each other
        ("cn-4m", (0, 84), (2, 204, 1464)),  # others of these came to another receiver
        ("antom", (0, 0, 2), (2, 12, 1462)),
        ("antom-sandbox", (0,), (1, None, 0)),
        ("alt-5s", (0, 2.1), (2, 12.1, 1467.1)),
    ],
)
def test_next_and_last_delivery_follow_from_the_moments_of_the_others(
    name: str, minutes: tuple[float, ...], found: tuple[int, float | None, float]
) -> None:
    told = after(name, *minutes)
    assert told is not None
    seen, next_, last = found
    assert (told[0], told[1] is None) == (seen, next_ is None)
    assert [told[1] or 0, told[2]] == pytest.approx([next_ or 0, last], abs=0.2)


@pytest.mark.parametrize("minutes", [(), (0, 7), (0, 4, 5.5), (0, 4, 8), (0, 2000), (0, 4, 14, 1)])
def test_moments_that_do_not_fit_the_profile_let_nothing_be_expected(minutes: tuple[float, ...]) -> None:
    assert expected("cn-4m", *minutes) is None


def test_delivery_is_awaited_until_it_is_overdue() -> None:
    tries = expected("cn-4m", 0, 4)
    assert tries is not None
    assert [retry_profiles.is_awaited(tries, ms(minute)) for minute in (4, 14, 15.4, 16)] == [True, True, True, False]
    last = expected("cn-4m", 0, 900)
    assert last is not None
    assert not retry_profiles.is_awaited(last, ms(900))
