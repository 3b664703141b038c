"""The header `Retry-After`: seconds, the three forms of a date, and what is neither."""

from datetime import UTC, datetime

import pytest

from schemas import retry_after, times

NOW_MS = times.to_epoch_ms(datetime(1994, 11, 6, 8, 49, 0, tzinfo=UTC))
MOST_MS = 3_600_000


@pytest.mark.parametrize(
    ("text", "wait_ms"),
    [
        ("0", 0),
        ("007", 7000),
        (" 7 ", 7000),
        ("3600", MOST_MS),
        ("3601", MOST_MS),
        ("9" * 8000, MOST_MS),
        ("Sun, 06 Nov 1994 08:49:37 GMT", 37_000),
        ("Sunday, 06-Nov-94 08:49:37 GMT", 37_000),
        ("Sun Nov  6 08:49:37 1994", 37_000),
        ("Sun, 06 Nov 1994 09:49:37 +0100", 37_000),
        ("Wed, 21 Oct 2099 07:28:00 GMT", MOST_MS),
        ("Fri, 31 Dec 9999 23:59:59 GMT", MOST_MS),
        ("Sun, 06 Nov 1994 08:49:00 GMT", 0),
        ("Thu, 01 Jan 1970 00:00:00 GMT", 0),
    ],
)
def test_seconds_and_dates_give_a_bounded_wait(text: str, wait_ms: int) -> None:
    assert retry_after.wait_ms(text, now_ms=NOW_MS, most_ms=MOST_MS) == wait_ms


@pytest.mark.parametrize(
    "text",
    [
        "",
        "-1",
        "-99999999999",
        "1.5",
        "1e9",
        "\u0663",
        "soon",
        "Sun, 06 Nov 1994",
        "Sun, 99 Nov 1994 08:49:37 GMT",
        "Sun, 06 Nov 99999999999999999999 08:49:37 GMT",
        "Sun, 06 Nov 1994 08:49:37 +99999999999999999999",
        "Sun, 06 Nov " + "9" * 8000 + " 08:49:37 GMT",
        "," * 8000,
        "- - - -",
        "1994-11-06T08:49:37Z",
    ],
)
def test_any_other_text_gives_no_wait(text: str) -> None:
    assert retry_after.wait_ms(text, now_ms=NOW_MS, most_ms=MOST_MS) == 0
