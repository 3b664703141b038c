"""When a parked notification is tried again: after 30 s, after 5 min, then hourly until 25 hours have passed. Pure.

Twenty-five hours, because Alipay itself gives up after about 24 hours and 24 minutes: an order that the merchant has
not registered by then is nobody's race any more, and a person has to look. An order's registration makes the row due at
once; the schedule is for what such a wake-up might have missed.
"""

FIRST_WAITS_S = (30, 300)
LATER_WAIT_S = 3600
TIERS = ("30s", "5m", "1h")
GIVE_UP_AFTER_S = 25 * 3600
JITTER = 0.1


def due_at_ms(attempts: int, *, first_at_ms: int, now_ms: int, chance: float) -> int | None:
    """The moment of the next try after `attempts` tries; `None` when it has waited long enough.

    `chance` in [0, 1) spreads the moment by ± 10 %, so that what was parked together does not come due together.
    """
    if now_ms - first_at_ms >= GIVE_UP_AFTER_S * 1000:
        return None
    wait_s = FIRST_WAITS_S[attempts] if attempts < len(FIRST_WAITS_S) else LATER_WAIT_S
    return now_ms + int(wait_s * 1000 * (1 + JITTER * (2 * chance - 1)))


def tier_of(attempts: int) -> str:
    """The label, in metrics, of the wait that follows after this many tries: `30s`, `5m` or `1h`."""
    return TIERS[min(attempts, len(FIRST_WAITS_S))]
