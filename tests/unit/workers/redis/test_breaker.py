"""Which calls the breaker admits, by the results of the calls before."""

from tests.support.clocks import Clock
from workers.redis.breaker import RedisBreaker


def opened(clock: Clock) -> RedisBreaker:
    breaker = RedisBreaker(failures_max=2, open_s=5, now_s=clock)
    breaker.failed()
    breaker.failed()
    return breaker


def test_calls_are_admitted_until_failures_max_in_a_row() -> None:
    breaker = RedisBreaker(failures_max=2, open_s=5, now_s=Clock())
    breaker.failed()
    breaker.succeeded()
    breaker.failed()
    assert breaker.admits()
    breaker.failed()
    assert not breaker.admits()


def test_open_breaker_admits_one_probe_after_open_s() -> None:
    clock = Clock()
    breaker = opened(clock)
    clock.now_s = 5
    assert breaker.admits()
    assert not breaker.admits()


def test_successful_probe_closes_the_breaker() -> None:
    clock = Clock()
    breaker = opened(clock)
    clock.now_s = 5
    assert breaker.admits()
    breaker.succeeded()
    assert breaker.admits()
    assert breaker.admits()


def test_failed_probe_keeps_the_breaker_open_for_open_s_again() -> None:
    clock = Clock()
    breaker = opened(clock)
    clock.now_s = 5
    assert breaker.admits()
    breaker.failed()
    clock.now_s = 9.9
    assert not breaker.admits()
    clock.now_s = 10
    assert breaker.admits()
