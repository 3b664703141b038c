"""The rows and notices of notifications that are not simply applied: parked, quarantined, dead. Pure.

A held row keeps the record as it lies in the log, so that a replay begins where the first try did. Its identity is the
record's position: one record has at most one row, and holding it again renews that row.
"""

from msgspec import structs

from schemas import events, times
from schemas.dispositions import Disposition, Reason
from schemas.events import HeldNotice
from workers import retries
from workers.plan import End, HeldRow, Reading


def row(reading: Reading, end: End, *, now_ms: int, due_at_ms: int | None = None, waits_for: str = "") -> HeldRow:
    """The row that holds this reading for this reason: a new one, or the one it has with one more attempt."""
    held = reading.held
    return HeldRow(
        position=reading.position,
        account=reading.account,
        order=end.order,
        notification_id=end.notification_id,
        disposition=end.disposition,
        reason=end.reason,
        detail=end.detail,
        record=reading.record,
        first_at_ms=now_ms if held is None else held.first_at_ms,
        attempts=0 if held is None else held.attempts + 1,
        due_at_ms=due_at_ms,
        waits_for=waits_for,
    )


def parked(reading: Reading, end: End, *, waits_for: str, now_ms: int, chance: float) -> HeldRow:
    """The row of what waits for something to become known; once it has waited long enough, quarantined instead."""
    waiting = row(reading, end, now_ms=now_ms, waits_for=waits_for)
    due_at_ms = retries.due_at_ms(waiting.attempts, first_at_ms=waiting.first_at_ms, now_ms=now_ms, chance=chance)
    if due_at_ms is not None:
        return structs.replace(waiting, due_at_ms=due_at_ms)
    return structs.replace(
        waiting,
        disposition=Disposition.QUARANTINED,
        reason=Reason.WAITED_TOO_LONG,
        detail=f"waited 25 hours for {waits_for}",
        waits_for="",
    )


def parked_until_upgrade(reading: Reading, end: End, *, now_ms: int, chance: float) -> HeldRow:
    """The row of a record that a newer program wrote: it is tried often and never given up, since only we are late."""
    due_at_ms = retries.due_at_ms(0, first_at_ms=now_ms, now_ms=now_ms, chance=chance)
    return row(reading, end, now_ms=now_ms, due_at_ms=due_at_ms)


def notice(held: HeldRow, *, now_ms: int) -> events.Outgoing:
    """What consumers are told of a held row.

    Its id is the same for every copy of one try of one row: two who try the row at once tell one thing, and a row that
    is held for the same reason once more, days later, is told of again.
    """
    return events.outgoing_notice(
        HeldNotice(
            id=f"held:{held.id}:{held.attempts}:{held.disposition.value}",
            held_id=held.id,
            account=held.account,
            order=held.order,
            notification_id=held.notification_id,
            disposition=held.disposition,
            reason=held.reason,
            detail=held.detail,
            at=times.from_epoch_ms(now_ms),
        )
    )
