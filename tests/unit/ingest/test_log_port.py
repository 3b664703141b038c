"""The rate limit of log lines."""

from ingest.log_port import RateLimit


def test_lines_beyond_the_rate_are_skipped_and_counted_by_the_next() -> None:
    allowance = RateLimit(per_s=2, burst=3)
    assert [allowance.take(10.0) for _ in range(6)] == [0, 0, 0, None, None, None]
    assert allowance.take(10.5) == 3
    assert allowance.take(10.6) is None
    assert allowance.take(100.0) == 1


def test_quiet_time_allows_no_more_than_the_burst() -> None:
    allowance = RateLimit(per_s=5)
    allowance.take(0.0)
    assert [allowance.take(1e6) for _ in range(6)] == [0, 0, 0, 0, 0, None]
