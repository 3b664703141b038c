"""When calls are made and when they are not, by what became of the ones before."""

from workers.redis.breaker import RedisBreaker


class Clock:
    def __init__(self) -> None:
        self.s = 0.0

    def __call__(self) -> float:
        return self.s


def broken(clock: Clock) -> RedisBreaker:
    breaker = RedisBreaker(failures_max=2, open_s=5, now_s=clock)
    breaker.failed()
    breaker.failed()
    return breaker


def test_calls_go_through_until_enough_have_failed_in_a_row() -> None:
    breaker = RedisBreaker(failures_max=2, open_s=5, now_s=Clock())
    breaker.failed()
    breaker.succeeded()
    breaker.failed()
    assert breaker.admits()
    breaker.failed()
    assert not breaker.admits()


def test_after_a_while_one_call_finds_out_and_the_others_wait_for_it() -> None:
    clock = Clock()
    breaker = broken(clock)
    clock.s = 5
    assert breaker.admits()
    assert not breaker.admits()


def test_a_call_that_finds_things_well_lets_all_through() -> None:
    clock = Clock()
    breaker = broken(clock)
    clock.s = 5
    assert breaker.admits()
    breaker.succeeded()
    assert breaker.admits()
    assert breaker.admits()


def test_a_call_that_fails_again_is_followed_by_as_long_a_wait() -> None:
    clock = Clock()
    breaker = broken(clock)
    clock.s = 5
    assert breaker.admits()
    breaker.failed()
    clock.s = 9.9
    assert not breaker.admits()
    clock.s = 10
    assert breaker.admits()
