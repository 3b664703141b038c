"""When the breaker opens, and which append probes the log."""

import pytest

from ingest.kafka.breaker import Breaker, BreakerPolicy, BreakerState
from tests.support.clocks import Clock


@pytest.fixture
def time() -> Clock:
    return Clock(100.0)


@pytest.fixture
def breaker(time: Clock) -> Breaker:
    return Breaker(BreakerPolicy(failures_max=3, failing_s=1, open_s=1, open_max_s=4, probe_s=3), now_s=time)


def opened(breaker: Breaker, time: Clock) -> None:
    for _ in range(3):
        breaker.failed("gone")
        time.now_s += 0.5
    assert breaker.state is BreakerState.OPEN


def test_opens_after_failures_max_failures_that_span_failing_s(breaker: Breaker, time: Clock) -> None:
    breaker.failed("gone")
    time.now_s += 0.5
    breaker.failed("gone")
    assert breaker.admits()
    time.now_s += 0.5
    breaker.failed("gone")
    assert not breaker.admits()
    assert breaker.why == "gone"


def test_one_lost_batch_of_any_size_does_not_open_it(breaker: Breaker, time: Clock) -> None:
    for _ in range(500):
        breaker.failed("leader gone")
    assert breaker.admits()
    breaker.succeeded()
    time.now_s += 2
    for _ in range(500):
        breaker.failed("leader gone")
    assert breaker.admits()


def test_time_alone_allows_no_probe(breaker: Breaker, time: Clock) -> None:
    opened(breaker, time)
    time.now_s += 3600
    assert not breaker.admits()


def test_one_append_probes_and_its_success_closes_the_breaker(breaker: Breaker, time: Clock) -> None:
    opened(breaker, time)
    time.now_s += 1
    breaker.allow_probe()
    assert [breaker.admits(), breaker.admits(), breaker.admits()] == [True, False, False]
    breaker.succeeded()
    assert breaker.admits()
    assert breaker.admits()
    assert breaker.why is None


def test_no_probe_is_allowed_right_after_it_opened(breaker: Breaker, time: Clock) -> None:
    opened(breaker, time)
    breaker.allow_probe()
    assert not breaker.admits()


def test_each_failed_probe_doubles_the_open_time_up_to_open_max_s(breaker: Breaker, time: Clock) -> None:
    opened(breaker, time)
    waits = []
    for _ in range(4):
        began_s = time.now_s
        while breaker.state is BreakerState.OPEN:
            time.now_s += 0.25
            breaker.allow_probe()
        assert breaker.admits()
        breaker.failed("still gone")
        waits.append(time.now_s - began_s)
    assert waits[1:] == [2, 4, 4]


def test_late_failures_while_open_do_not_prolong_it(breaker: Breaker, time: Clock) -> None:
    opened(breaker, time)
    time.now_s += 1
    breaker.failed("late")
    breaker.allow_probe()
    assert breaker.admits()


def test_probe_without_a_result_is_replaced_after_probe_s(breaker: Breaker, time: Clock) -> None:
    opened(breaker, time)
    time.now_s += 1
    breaker.allow_probe()
    assert breaker.admits()
    time.now_s += 2.9
    breaker.allow_probe()
    assert not breaker.admits()
    time.now_s += 0.1
    breaker.allow_probe()
    assert breaker.admits()


def test_success_closes_it_in_any_state(breaker: Breaker, time: Clock) -> None:
    opened(breaker, time)
    breaker.succeeded()
    assert breaker.admits()


def test_trip_opens_it_at_once(breaker: Breaker, time: Clock) -> None:
    breaker.trip("forbidden")
    assert not breaker.admits()
    assert breaker.why == "forbidden"
    time.now_s += 1
    breaker.allow_probe()
    assert breaker.admits()
    breaker.trip("forbidden")
    time.now_s += 1
    breaker.allow_probe()
    assert not breaker.admits(), "it stays open longer the second time"


def test_allow_probe_does_not_change_a_closed_breaker(breaker: Breaker) -> None:
    breaker.allow_probe()
    assert breaker.state is BreakerState.CLOSED
