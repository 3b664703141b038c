"""Shorter durations change windows, offsets and waits, and nothing else."""

import pytest

from deploy.monitoring import durations
from deploy.monitoring.durations import AS_SHIPPED, Timing

EXPRESSION = "sum(increase(a_total[1h])) > 50 and deriv(b[15m:1m]) > 5 and increase(c[5m] offset 1w) > 240"
STARTED = "a_total > 0 and on (job, instance) time() - process_start_time_seconds < 3600"


def test_shipped_expression_is_unchanged() -> None:
    assert AS_SHIPPED.expression(EXPRESSION) == EXPRESSION
    assert AS_SHIPPED.duration("5m") == "5m"


def test_windows_offsets_and_waits_are_divided_and_thresholds_are_not() -> None:
    timing = Timing(divisor=60, offset_divisor=6048, window_min_s=10)
    assert timing.expression(EXPRESSION) == (
        "sum(increase(a_total[60s])) > 50 and deriv(b[15s:1m]) > 5 and increase(c[10s] offset 100s) > 240"
    )
    assert timing.expression(STARTED) == STARTED.replace("3600", "60")
    assert timing.duration("5m") == "5s"


@pytest.mark.parametrize("text", ["", "5", "5x", "1h30m", "five"])
def test_other_texts_are_no_durations(text: str) -> None:
    with pytest.raises(ValueError, match="not a duration"):
        durations.seconds(text)
