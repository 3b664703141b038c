"""Times are read into aware datetimes, or not at all."""

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas import times
from schemas.times import BadTime


def test_time_of_a_form_is_beijing_time() -> None:
    moment = times.parse_local("2025-06-01 12:04:05")
    assert moment == datetime(2025, 6, 1, 4, 4, 5, tzinfo=UTC)
    assert moment.utcoffset() == timedelta(hours=8)


@pytest.mark.parametrize(
    ("text", "micros"), [(".1", 100_000), (".12", 120_000), (".141", 141_000), (".000001", 1), ("", 0)]
)
def test_fraction_of_a_second_is_kept(text: str, micros: int) -> None:
    assert times.parse_local(f"2025-06-01 12:04:05{text}").microsecond == micros


@pytest.mark.parametrize(
    "text",
    ["", "2025-02-30 00:00:00", "2025-13-01 00:00:00", "2025-06-01 24:00:00", "2025-06-01 12:04:60",
     "0000-01-01 00:00:00",
     "2025-6-1 12:04:05", "2025-06-01T12:04:05", "2025-06-01 12:04:05Z", "2025-06-01 12:04:05.",
     "2025-06-01 12:04:05.1234567",
     " 2025-06-01 12:04:05", "2025-06-01 12:04:05\n", "２025-06-01 12:04:05", "20250601120405"],
)  # fmt: skip
def test_other_text_is_no_time_of_a_form(text: str) -> None:
    with pytest.raises(BadTime):
        times.parse_local(text)


@pytest.mark.parametrize(
    "text",
    ["2025-06-05T01:10:31Z", "2025-06-05T09:10:31+08:00", "2025-06-05T09:10:31+0800", "2025-06-04T21:10:31.000-04:00"],
)
def test_antom_time_has_its_own_zone(text: str) -> None:
    assert times.parse_iso(text) == datetime(2025, 6, 5, 1, 10, 31, tzinfo=UTC)


@pytest.mark.parametrize(
    "text", ["", "2025-06-05T09:10:31", "2025-06-05", "2025-06-05 09:10:31Z", "2025-02-30T00:00:00Z", "1717570000000",
             "2025-06-05T09:10:31+08", "2025-06-05T09:10:31+99:00", "20250605T091031Z", "yesterday"],
)  # fmt: skip
def test_other_text_is_no_antom_time(text: str) -> None:
    with pytest.raises(BadTime):
        times.parse_iso(text)


def test_request_time_may_be_milliseconds() -> None:
    assert times.parse_request_time("1749085831250") == datetime(2025, 6, 5, 1, 10, 31, 250_000, tzinfo=UTC)
    assert times.parse_request_time("2025-06-05T01:10:31Z") == datetime(2025, 6, 5, 1, 10, 31, tzinfo=UTC)


@pytest.mark.parametrize("text", ["174908583125", "17490858312500", "-749085831250", "yesterday", ""])
def test_other_text_is_no_request_time(text: str) -> None:
    with pytest.raises(BadTime):
        times.parse_request_time(text)


@given(st.integers(0, 4_102_444_800_000))
def test_milliseconds_survive_the_round_trip(epoch_ms: int) -> None:
    assert times.to_epoch_ms(times.from_epoch_ms(epoch_ms)) == epoch_ms


@given(st.datetimes(min_value=datetime(1, 1, 2), max_value=datetime(9999, 12, 30)))  # noqa: DTZ001
def test_all_formatted_times_are_parsed_back(moment: datetime) -> None:
    assert times.parse_local(moment.strftime("%Y").zfill(4) + moment.strftime("-%m-%d %H:%M:%S.%f")) == moment.replace(
        tzinfo=times.BEIJING
    )
