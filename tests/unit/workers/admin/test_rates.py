"""Rates per minute beside those of an hour ago, from samples of counters."""

import pytest

from workers.admin.process_state import ProcessCounts
from workers.admin.rates import MARKS_MAX, Rate, Rates


def sampled(*, minutes: float, per_minute: float, begin_s: float = 0.0, begin: float = 0.0, rates: Rates) -> float:
    """Samples every two seconds at a constant rate; the count at their end."""
    for step in range(int(minutes * 30) + 1):
        counts = ProcessCounts(accepted=begin + per_minute * step / 30, applied=(begin + per_minute * step / 30) / 2)
        rates.sample(counts, begin_s + 2 * step)
    return begin + per_minute * int(minutes * 30) / 30


def test_nothing_is_known_before_the_first_sample() -> None:
    assert Rates().rates() == []


def test_in_the_first_minute_the_rate_is_what_has_come() -> None:
    rates = Rates()
    sampled(minutes=0.5, per_minute=60, rates=rates)
    received, applied = rates.rates()
    assert (received.name, received.per_minute, received.hour_ago) == ("Received", 30, None)
    assert (applied.name, applied.per_minute, applied.change) == ("Applied", 15, "")


def test_after_an_hour_the_rate_stands_beside_that_of_an_hour_ago() -> None:
    rates = Rates()
    count = sampled(minutes=10, per_minute=60, rates=rates)
    sampled(minutes=55, per_minute=120, begin_s=602, begin=count, rates=rates)
    received = rates.rates()[0]
    assert received.per_minute == pytest.approx(120)
    assert received.hour_ago == pytest.approx(60)
    assert received.change == "up"
    assert len(rates._marks) <= MARKS_MAX


def test_counter_that_falls_is_no_negative_rate() -> None:
    rates = Rates()
    rates.sample(ProcessCounts(accepted=100), 0.0)
    rates.sample(ProcessCounts(accepted=5), 2.0)
    assert rates.rates()[0].per_minute == 0


@pytest.mark.parametrize(
    ("now", "before", "change"), [(100, 95, "same"), (0, 0, "same"), (100, 50, "up"), (50, 100, "down"), (1, 0, "up")]
)
def test_change_is_named_beyond_a_tenth(now: float, before: float, change: str) -> None:
    assert Rate(name="Received", per_minute=now, hour_ago=before).change == change
