"""When a failed callback is tried again, when it is given up, and when its endpoint is disabled. Pure.

    after attempt   1     2      3        4         5         6     each later one
    wait            5 s   30 s   2 min    10 min    30 min    1 h   2 h                 ± 20 %

An event is given up five days after its first attempt, and not before 40 attempts, if its endpoint takes others. An
endpoint that has taken none for `disable_after_hours`, also after several attempts at one, is disabled before that; its
events stay pending, and go on when an operator enables it. For a day after the clock has jumped, none is disabled by
the time. One that answers 410 is disabled at once.

The events of an order wait for each other at an endpoint: the next is sent when the one before is delivered or given
up. When an endpoint answers again after a minute or more, everything that waits there for its retry is due at once.
"""

from collections.abc import Callable, Sequence
from enum import StrEnum

from msgspec import Struct, structs

from schemas.times import DAY_MS, HOUR_MS

WAITS_MS = (5_000, 30_000, 120_000, 600_000, 1_800_000, HOUR_MS, 2 * HOUR_MS)  # the last one for ever
JITTER = 0.2
GIVE_UP_MS = 5 * DAY_MS
GIVE_UP_ATTEMPTS = 40  # at least, which take two days and more: a process that stood still gives nothing up
RETRY_AFTER_MS_MAX = HOUR_MS
FAR_MS = 3 * HOUR_MS  # no wait is so long: a row that is due later was written before the clock was set back
OUTAGE_MS = 60_000  # shorter ones do not end the waits of others: a single event may fail by its own fault

GONE = "it answered 410 Gone"


class CallbackOutcome(StrEnum):
    """How an attempt ended."""

    DELIVERED = "delivered"  # any 2xx
    REFUSED = "refused"  # another status, also a redirect
    GONE = "gone"  # 410
    TIMEOUT = "timeout"
    UNREACHABLE = "unreachable"  # no connection, or one that broke
    FORBIDDEN = "forbidden"  # its address is private and not allowed


class DeliveryState(StrEnum):
    """The state of one event at one endpoint."""

    PENDING = "pending"
    DELIVERED = "delivered"
    GIVEN_UP = "given_up"


class CallbackAnswer(Struct, frozen=True, kw_only=True):
    """How one attempt ended. `status` is 0 without an answer, `retry_after_ms` the wait that the endpoint asked for."""

    outcome: CallbackOutcome
    status: int = 0
    detail: str = ""
    retry_after_ms: int = 0


class AttemptResult(Struct, frozen=True, kw_only=True):
    """One attempt at a delivery, which `attempts` counts. `due_ms` is the next attempt; 0 if there is none."""

    number: int
    event_id: str
    key: bytes
    state: DeliveryState
    outcome: CallbackOutcome
    status: int
    detail: str
    attempts: int
    at_ms: int
    took_ms: int
    due_ms: int
    is_clock_trusted: bool = True  # if not, it disables no endpoint by the time alone


class EndpointState(Struct, frozen=True, kw_only=True):
    """The state of an endpoint. `failing_since_ms` is the first failure since the last success."""

    failing_since_ms: int | None = None
    disabled_at_ms: int | None = None
    disabled_why: str = ""

    @property
    def is_disabled(self) -> bool:
        return self.disabled_at_ms is not None


def result(
    answer: CallbackAnswer,
    *,
    number: int,
    event_id: str,
    key: bytes,
    attempts: int,
    first_at_ms: int | None,
    began_ms: int,
    now_ms: int,
    random: Callable[[], float],
    is_clock_trusted: bool = True,
) -> AttemptResult:
    """Return the meaning of an attempt for its delivery. `attempts` counts it too; `random` is in [0, 1)."""
    state, due_ms = DeliveryState.PENDING, 0
    if answer.outcome is CallbackOutcome.DELIVERED:
        state = DeliveryState.DELIVERED
    # A clock that was set back makes the first attempt look later than now: then nothing is given up.
    elif is_clock_trusted and attempts >= GIVE_UP_ATTEMPTS and now_ms - (first_at_ms or now_ms) >= GIVE_UP_MS:
        state = DeliveryState.GIVEN_UP
    else:
        due_ms = now_ms + max(wait_ms(attempts, random()), min(answer.retry_after_ms, RETRY_AFTER_MS_MAX))
    return AttemptResult(
        number=number,
        event_id=event_id,
        key=key,
        state=state,
        outcome=answer.outcome,
        status=answer.status,
        detail=answer.detail,
        attempts=attempts,
        at_ms=now_ms,
        took_ms=max(0, now_ms - began_ms),
        due_ms=due_ms,
        is_clock_trusted=is_clock_trusted,
    )


def wait_ms(attempts: int, random: float) -> int:
    """Return the wait after so many attempts; `random` in [0, 1) gives the jitter."""
    wait = WAITS_MS[min(attempts, len(WAITS_MS)) - 1]
    return int(wait * (1 - JITTER + 2 * JITTER * random))


def attempts_min(disable_after_ms: int) -> int:
    """Return after how many attempts at one event its endpoint may be disabled: half of those that the time allows.

    So a process that stood still for days and then fails once disables nothing. Against a clock that jumps ahead this
    helps little, as an event that is refused for long has enough attempts: see `AttemptResult.is_clock_trusted`.
    """
    attempts, took_ms = 1, wait_ms(1, 1.0)
    while took_ms <= disable_after_ms:
        attempts += 1
        took_ms += wait_ms(attempts, 1.0)
    return max(1, attempts // 2)


def after(
    state: EndpointState, results: Sequence[AttemptResult], *, disable_after_ms: int
) -> tuple[EndpointState, bool]:
    """Return the state of an endpoint after these attempts, and whether an outage has ended with them."""
    has_recovered = False
    for each in sorted(results, key=lambda result: result.at_ms):
        since_ms = state.failing_since_ms
        if each.outcome is CallbackOutcome.DELIVERED:
            has_recovered |= since_ms is not None and each.at_ms - since_ms >= OUTAGE_MS
            state = structs.replace(state, failing_since_ms=None)
            continue
        if since_ms is None or since_ms > each.at_ms:  # the clock was set back
            since_ms = each.at_ms
        state = structs.replace(state, failing_since_ms=since_ms)
        if state.is_disabled:
            continue
        if each.outcome is CallbackOutcome.GONE:
            state = structs.replace(state, disabled_at_ms=each.at_ms, disabled_why=GONE)
        elif each.is_clock_trusted and _has_failed_long(each, since_ms, disable_after_ms):
            hours = disable_after_ms / HOUR_MS
            why = f"it has taken no event for {hours:g} hours; last: {each.outcome} {each.detail}".strip()
            state = structs.replace(state, disabled_at_ms=each.at_ms, disabled_why=why)
    return state, has_recovered


def _has_failed_long(last: AttemptResult, since_ms: int, disable_after_ms: int) -> bool:
    return last.at_ms - since_ms >= disable_after_ms and last.attempts >= attempts_min(disable_after_ms)
