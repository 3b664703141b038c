"""Times as people read them."""

from datetime import UTC, datetime, timedelta

import pytest

from workers.admin import page_times
from workers.admin.texts import Language, Texts

NOW = datetime(2026, 1, 31, 8, 0, 0, 500_000, UTC)


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (-1, "0 s"),
        (59.9, "59 s"),
        (60, "1 min"),
        (3599, "59 min"),
        (3600, "1 h"),
        (5400, "1.5 h"),
        (36_000, "10 h"),
        (90_000, "25 h"),
        (172_799, "47 h"),
        (216_000, "2.5 d"),
        (25 * 86_400, "25 d"),
    ],
)
def test_span_has_one_unit(seconds: float, text: str) -> None:
    assert page_times.span(seconds) == text


def test_moment_is_told_by_its_distance_and_in_alipays_zone() -> None:
    assert page_times.ago(NOW - timedelta(seconds=90), NOW) == "1 min ago"
    assert page_times.ago(NOW - timedelta(seconds=0.5), NOW) == "now"
    assert page_times.ago(NOW + timedelta(seconds=0.5), NOW) == "now"
    assert page_times.ago(NOW + timedelta(seconds=5), NOW) == "in the future"
    assert page_times.until(NOW + timedelta(hours=25), NOW) == "in 25 h"
    assert page_times.until(NOW, NOW) == "now"
    assert page_times.since(NOW - timedelta(seconds=61), NOW) == "1 min"
    evening = NOW + timedelta(hours=8)
    assert page_times.clock(NOW) == "16:00:00.500"
    assert page_times.day(evening) == "2026-02-01 00:00:00"
    assert page_times.date(evening) == "2026-02-01"


def test_spans_are_told_in_chinese() -> None:
    texts = Texts(Language.CHINESE, {"{count} min": "{count} 分钟", "{span} ago": "{span}前", "in {span}": "{span}后"})
    filters = page_times.filters(texts)
    assert filters["ago"](NOW - timedelta(seconds=90), NOW) == "1 分钟前"
    assert filters["until"](NOW + timedelta(seconds=90), NOW) == "1 分钟后"
    assert filters["since"](NOW - timedelta(seconds=90), NOW) == "1 分钟"
