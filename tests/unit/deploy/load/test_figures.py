"""Figures count every attempt and leave no wait out."""

import pytest

from deploy.load import figures, generator
from deploy.load.generator import SendAttempt


def test_latency_counts_from_the_due_time_instead_of_the_send_time() -> None:
    late = SendAttempt(0, 1, 10.0, 12.0, 12.5, "ok", 200)
    assert figures.summed([late]).latency_ms.p50 == pytest.approx(2500, rel=0.01)


def test_time_outs_and_unsent_requests_count_with_the_time_they_waited() -> None:
    attempts = [SendAttempt(n, 1, 0.0, 0.0, 0.001, "ok", 200) for n in range(90)]
    attempts += [SendAttempt(90 + n, 1, 0.0, 0.0, 5.0, "silent", 0, generator.TIMED_OUT) for n in range(5)]
    attempts += [SendAttempt(95 + n, 1, 0.0, 0.0, 9.0, "unsent", 0, "none free") for n in range(5)]
    latency = figures.summed(attempts).latency_ms
    assert latency.p50 < 2
    assert latency.p99 > 8000
    assert latency.max == pytest.approx(9000, rel=0.01)


def test_refused_connection_has_no_latency() -> None:
    attempts = [SendAttempt(0, 1, 0.0, 0.0, 0.0001, "silent", 0, generator.NO_CONNECTION)]
    assert figures.summed(attempts).latency_ms.max == 0
    assert figures.summed(attempts).silent == {generator.NO_CONNECTION: 1}


def test_answers_are_counted_by_kind_and_retries_separately() -> None:
    attempts = [
        SendAttempt(0, 1, 0.0, 0.0, 0.1, "refused", 503),
        SendAttempt(0, 2, 0.3, 0.3, 0.4, "ok", 200),
        SendAttempt(1, 1, 0.5, 0.5, 0.6, "ok", 200),
        SendAttempt(2, 1, 1.0, 0.0, 2.0, "unsent", 0),
    ]
    summed = figures.summed(attempts)
    assert (summed.calls, summed.repeats, summed.ok, summed.unsent) == (3, 1, 2, 1)
    assert summed.refused == {503: 1}
    assert summed.seconds == 2.0


def test_rate_is_that_of_the_calls_while_requests_were_due() -> None:
    attempts = [SendAttempt(n, 1, n / 100, n / 100, n / 100 + 3.0, "ok", 200) for n in range(101)]
    assert figures.summed(attempts).rate == pytest.approx(100)


def test_no_attempts_give_zero_figures() -> None:
    assert figures.summed([]).calls == 0
