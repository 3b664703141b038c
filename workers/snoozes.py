"""Snooze held notifications: out of the first list and of the gauges that alert, until a moment.

A row comes back by itself, because lists and gauges compare the moment with the clock. It is also back as soon as it is
held for another reason than the operator saw. A snooze changes nothing else: a parked row is retried, and money at risk
counts the row all the same.
"""

from datetime import datetime
from typing import Protocol

from schemas import times
from workers.queries import Snooze

SNOOZE_MAX_S = 30 * 86_400


class SnoozesPort(Protocol):
    """The snoozes in the order store."""

    async def snooze(self, id_: str, snooze: Snooze, *, now_ms: int) -> bool:
        """Snooze an unresolved row, in the place of an earlier snooze, with an audit row; one that ends now ends it.

        Return False if there is no such row.
        """


def audited(snooze: Snooze, *, now_ms: int) -> tuple[str, str]:
    """Return the action and the reason of the audit row."""
    if snooze.until_ms <= now_ms:
        return "unsnooze", snooze.why
    return "snooze", f"until {times.from_epoch_ms(snooze.until_ms).isoformat()}: {snooze.why}"


def until_and_why(reason: str) -> tuple[datetime | None, str]:
    """Return until when and why, from the reason of a snooze's audit row; `None` if it names no time."""
    moment, _, why = reason.removeprefix("until ").partition(": ")
    try:
        return times.parse_iso(moment), why
    except times.BadTime:
        return None, reason
