"""When callbacks are tried again, given up, and when their endpoint is disabled."""

import pytest

from schemas.times import DAY_MS, HOUR_MS
from workers.callbacks import endpoints, schedule
from workers.callbacks.schedule import (
    GIVE_UP_MS,
    OUTAGE_MS,
    AttemptResult,
    CallbackAnswer,
    CallbackOutcome,
    DeliveryState,
    EndpointState,
)

NOW_MS = 1_700_000_000_000


def result(
    outcome: CallbackOutcome = CallbackOutcome.REFUSED,
    *,
    at_ms: int = NOW_MS,
    attempts: int = 1,
    first_at_ms: int | None = NOW_MS,
    retry_after_ms: int = 0,
    random: float = 0.5,
    is_clock_trusted: bool = True,
) -> AttemptResult:
    return schedule.result(
        CallbackAnswer(outcome=outcome, retry_after_ms=retry_after_ms),
        number=1,
        event_id="shop:N1:1",
        key=b"shop:N1",
        attempts=attempts,
        first_at_ms=first_at_ms,
        began_ms=at_ms - 20,
        now_ms=at_ms,
        random=lambda: random,
        is_clock_trusted=is_clock_trusted,
    )


def test_waits_grow_to_two_hours() -> None:
    assert [result(attempts=n).due_ms - NOW_MS for n in range(1, 10)] == [
        5_000, 30_000, 120_000, 600_000, 1_800_000, HOUR_MS, 2 * HOUR_MS, 2 * HOUR_MS, 2 * HOUR_MS,
    ]  # fmt: skip


def test_jitter_is_a_fifth_to_both_sides() -> None:
    assert result(random=0.0).due_ms - NOW_MS == 4_000
    assert result(random=0.999999).due_ms - NOW_MS == pytest.approx(6_000, abs=1)
    assert schedule.wait_ms(100, 0.999999) < schedule.FAR_MS


def test_endpoint_may_ask_for_a_longer_wait_but_not_for_days() -> None:
    assert result(retry_after_ms=60_000).due_ms - NOW_MS == 60_000
    assert result(retry_after_ms=1_000).due_ms - NOW_MS == 5_000
    assert result(retry_after_ms=DAY_MS).due_ms - NOW_MS == HOUR_MS


def test_delivered_event_is_done_and_an_old_one_given_up() -> None:
    delivered = result(CallbackOutcome.DELIVERED, at_ms=NOW_MS + GIVE_UP_MS)
    assert (delivered.state, delivered.due_ms, delivered.took_ms) == (DeliveryState.DELIVERED, 0, 20)
    many = schedule.GIVE_UP_ATTEMPTS
    assert result(at_ms=NOW_MS + GIVE_UP_MS - 1, attempts=many).state is DeliveryState.PENDING
    assert result(at_ms=NOW_MS + GIVE_UP_MS, attempts=many).state is DeliveryState.GIVEN_UP
    ahead, back = result(at_ms=NOW_MS + GIVE_UP_MS, attempts=many - 1), result(at_ms=NOW_MS - DAY_MS)
    assert ahead.state is back.state is DeliveryState.PENDING  # the clock was set so
    assert result(first_at_ms=None).state is DeliveryState.PENDING


def test_five_days_have_more_attempts_than_giving_up_needs() -> None:
    slowest = [schedule.wait_ms(attempts, 0.999999) for attempts in range(1, schedule.GIVE_UP_ATTEMPTS)]
    quickest = [schedule.wait_ms(attempts, 0.0) for attempts in range(1, schedule.GIVE_UP_ATTEMPTS)]
    assert sum(slowest) < GIVE_UP_MS
    assert sum(quickest) > 2 * DAY_MS


ENOUGH = schedule.attempts_min(DAY_MS)


def after(state: EndpointState, *results: AttemptResult) -> tuple[EndpointState, bool]:
    return schedule.after(state, results, disable_after_ms=DAY_MS)


def test_endpoint_is_disabled_when_it_has_taken_nothing_for_so_long() -> None:
    state, _ = after(EndpointState(), result())
    assert (state.failing_since_ms, state.is_disabled) == (NOW_MS, False)
    state, _ = after(state, result(at_ms=NOW_MS + DAY_MS - 1, attempts=ENOUGH))
    assert (state.failing_since_ms, state.is_disabled) == (NOW_MS, False)
    state, _ = after(state, result(at_ms=NOW_MS + DAY_MS, attempts=ENOUGH))
    assert state.disabled_at_ms == NOW_MS + DAY_MS
    assert "for 24 hours" in state.disabled_why
    later, _ = after(state, result(at_ms=NOW_MS + 2 * DAY_MS, attempts=ENOUGH))
    assert later == state


def test_clock_that_has_jumped_lately_disables_nothing_and_gives_nothing_up() -> None:
    failing = EndpointState(failing_since_ms=NOW_MS - OUTAGE_MS)
    jumped = result(at_ms=NOW_MS + 400 * DAY_MS, attempts=1000, is_clock_trusted=False)
    assert jumped.state is DeliveryState.PENDING
    assert after(failing, jumped) == (failing, False)
    gone = result(CallbackOutcome.GONE, is_clock_trusted=False)
    assert after(failing, gone)[0].is_disabled


def test_process_that_stood_still_disables_nothing() -> None:
    state, _ = after(EndpointState(), result())
    for attempts in range(2, ENOUGH):
        state, _ = after(state, result(at_ms=NOW_MS + 400 * DAY_MS, attempts=attempts))
        assert not state.is_disabled
    assert after(state, result(at_ms=NOW_MS + 400 * DAY_MS, attempts=ENOUGH))[0].is_disabled


def test_one_success_ends_the_count_and_an_outage_too() -> None:
    failing = EndpointState(failing_since_ms=NOW_MS)
    delivered = result(CallbackOutcome.DELIVERED, at_ms=NOW_MS + OUTAGE_MS)
    assert after(failing, delivered) == (EndpointState(), True)
    assert after(failing, result(CallbackOutcome.DELIVERED, at_ms=NOW_MS + OUTAGE_MS - 1)) == (EndpointState(), False)
    assert after(EndpointState(), delivered) == (EndpointState(), False)
    fails_again = result(at_ms=NOW_MS + DAY_MS)
    assert after(failing, fails_again, delivered) == (EndpointState(failing_since_ms=NOW_MS + DAY_MS), True)


def test_gone_disables_at_once() -> None:
    state, _ = after(EndpointState(), result(CallbackOutcome.GONE))
    assert (state.disabled_at_ms, state.disabled_why) == (NOW_MS, schedule.GONE)


def test_clock_that_was_set_back_disables_nothing() -> None:
    state, _ = after(EndpointState(failing_since_ms=NOW_MS + DAY_MS), result())
    assert (state.failing_since_ms, state.is_disabled) == (NOW_MS, False)


def test_dead_endpoint_is_disabled_before_any_of_its_events_is_given_up() -> None:
    longest_wait_ms = schedule.wait_ms(100, 0.999999) + int(endpoints.TIMEOUT_S_MAX * 1000)
    longest_ms = endpoints.DISABLE_AFTER_H_MAX * HOUR_MS
    assert longest_ms + longest_wait_ms < GIVE_UP_MS
    assert 1 < schedule.attempts_min(HOUR_MS) < schedule.attempts_min(longest_ms) < schedule.GIVE_UP_ATTEMPTS
