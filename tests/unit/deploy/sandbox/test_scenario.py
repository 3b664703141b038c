"""Durations, and ends in words."""

from __future__ import annotations

from datetime import timedelta

import pytest

from deploy.sandbox import scenario
from deploy.sandbox.scenario import End, ScenarioError


@pytest.mark.parametrize(
    ("text", "seconds"), [("5s", 5), ("-15m", -900), ("2h", 7200), ("-90d", -90 * 86400), ("0s", 0)]
)
def test_durations_are_parsed(text: str, seconds: int) -> None:
    assert scenario.duration(text) == timedelta(seconds=seconds)


@pytest.mark.parametrize("text", ["", "5", "1.5h", "5 s", "+5s", "5w"])
def test_malformed_duration_is_refused(text: str) -> None:
    with pytest.raises(ScenarioError, match="is not a duration"):
        scenario.duration(text)


@pytest.mark.parametrize(
    ("end", "words"),
    [
        (End(), "no effect"),
        (End(status="PAID"), "PAID"),
        (End(status="PAID", amount="12.80"), "PAID 12.80 BRL"),
        (End(status="PAID", refunded="0.30"), "PAID, 30 % refunded"),
        (End(status="CLOSED", refunded="1.00", because="refunded"), "CLOSED, refunded"),
        (End(status="CLOSED", because="expired"), "CLOSED, expired"),
        (End(status="WAITING", flags=("frozen",), held=("ambiguous",)), "WAITING, flagged frozen, held as ambiguous"),
        (End(noted=("agreement_no", "notify_id")), "noted, found by agreement_no and notify_id"),
    ],
)
def test_end_is_described_in_words(end: End, words: str) -> None:
    assert end.words("BRL" if end.amount else "") == words
