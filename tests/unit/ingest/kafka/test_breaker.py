"""When the log is not worth trying, and how it is found out that it is again."""

import pytest

from ingest.kafka.breaker import Breaker, BreakerPolicy, BreakerState


class Time:
    def __init__(self) -> None:
        self.now_s = 100.0

    def __call__(self) -> float:
        return self.now_s


@pytest.fixture
def time() -> Time:
    return Time()


@pytest.fixture
def breaker(time: Time) -> Breaker:
    return Breaker(BreakerPolicy(failures_max=3, failing_s=1, open_s=1, open_max_s=4, probe_s=3), now_s=time)


def opened(breaker: Breaker, time: Time) -> None:
    for _ in range(3):
        breaker.failed("gone")
        time.now_s += 0.5
    assert breaker.state is BreakerState.OPEN


def test_it_opens_after_so_many_failures_that_span_some_time(breaker: Breaker, time: Time) -> None:
    breaker.failed("gone")
    time.now_s += 0.5
    breaker.failed("gone")
    assert breaker.admits()
    time.now_s += 0.5
    breaker.failed("gone")
    assert not breaker.admits()
    assert breaker.why == "gone"


def test_one_lost_batch_does_not_open_it_however_many_records_it_had(breaker: Breaker, time: Time) -> None:
    for _ in range(500):
        breaker.failed("leader gone")
    assert breaker.admits()
    breaker.succeeded()
    time.now_s += 2
    for _ in range(500):
        breaker.failed("leader gone")
    assert breaker.admits()


def test_time_alone_does_not_let_it_be_tried(breaker: Breaker, time: Time) -> None:
    opened(breaker, time)
    time.now_s += 3600
    assert not breaker.admits()


def test_one_append_tries_and_its_success_lets_all_through(breaker: Breaker, time: Time) -> None:
    opened(breaker, time)
    time.now_s += 1
    breaker.may_try()
    assert [breaker.admits(), breaker.admits(), breaker.admits()] == [True, False, False]
    breaker.succeeded()
    assert breaker.admits()
    assert breaker.admits()
    assert breaker.why is None


def test_it_may_not_be_tried_right_after_it_was_opened(breaker: Breaker, time: Time) -> None:
    opened(breaker, time)
    breaker.may_try()
    assert not breaker.admits()


def test_each_probe_that_fails_makes_the_next_one_wait_longer_up_to_a_limit(breaker: Breaker, time: Time) -> None:
    opened(breaker, time)
    waits = []
    for _ in range(4):
        began_s = time.now_s
        while breaker.state is BreakerState.OPEN:
            time.now_s += 0.25
            breaker.may_try()
        assert breaker.admits()
        breaker.failed("still gone")
        waits.append(time.now_s - began_s)
    assert waits[1:] == [2, 4, 4]


def test_failures_of_what_was_begun_before_do_not_prolong_it(breaker: Breaker, time: Time) -> None:
    opened(breaker, time)
    time.now_s += 1
    breaker.failed("late")
    breaker.may_try()
    assert breaker.admits()


def test_a_probe_of_which_nothing_is_heard_is_replaced(breaker: Breaker, time: Time) -> None:
    opened(breaker, time)
    time.now_s += 1
    breaker.may_try()
    assert breaker.admits()
    time.now_s += 2.9
    breaker.may_try()
    assert not breaker.admits()
    time.now_s += 0.1
    breaker.may_try()
    assert breaker.admits()


def test_a_success_closes_it_whatever_it_was_waiting_for(breaker: Breaker, time: Time) -> None:
    opened(breaker, time)
    breaker.succeeded()
    assert breaker.admits()


def test_it_can_be_opened_at_once(breaker: Breaker, time: Time) -> None:
    breaker.trip("forbidden")
    assert not breaker.admits()
    assert breaker.why == "forbidden"
    time.now_s += 1
    breaker.may_try()
    assert breaker.admits()
    breaker.trip("forbidden")
    time.now_s += 1
    breaker.may_try()
    assert not breaker.admits(), "the second time it waits longer"


def test_a_closed_one_takes_no_notice_of_being_allowed_to_try(breaker: Breaker) -> None:
    breaker.may_try()
    assert breaker.state is BreakerState.CLOSED
