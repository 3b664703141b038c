"""The rows and notices of notifications that are not simply applied: parked, quarantined, dead. Pure.

A held row keeps the record as it lies in the log, so that a replay begins where the first try did. Its identity is the
record's position: one record has at most one row, and holding it again renews that row.

The plan of one batch while it is being written: what `settlement` has decided, in the shapes that a store takes.

Nothing is decided here but what follows from the decision: each record gets exactly one delivery, what is held gets its
row, a held row that came to its end is released, and a visible change of an order gets its version and its event.
"""

from collections.abc import Callable

from msgspec import structs

from schemas import events, times
from schemas.dispositions import Disposition, Reason
from schemas.events import Cause, HeldNotice, OrderEvent
from schemas.money import Money
from schemas.notification import Notification
from schemas.orders import Order, View
from workers.settlement import order_view, parking
from workers.settlement.plan import Delivery, Disposed, HeldRow, LedgerRow, ParsedRecord, ParseFailure, WritePlan


def held_row(
    parsed: ParsedRecord, end: Disposed, *, now_ms: int, due_at_ms: int | None = None, waits_for: str = ""
) -> HeldRow:
    """The row that holds this parsed for this reason: a new one, or the one it has with one more attempt."""
    held = parsed.held
    return HeldRow(
        position=parsed.position,
        account=parsed.account,
        order=end.order,
        notification_id=end.notification_id,
        disposition=end.disposition,
        reason=end.reason,
        detail=end.detail,
        record=parsed.record,
        first_at_ms=now_ms if held is None else held.first_at_ms,
        attempts=0 if held is None else held.attempts + 1,
        due_at_ms=due_at_ms,
        waits_for=waits_for,
    )


def parked(parsed: ParsedRecord, end: Disposed, *, waits_for: str, now_ms: int, chance: float) -> HeldRow:
    """The row of what waits for something to become known; once it has waited long enough, quarantined instead."""
    waiting = held_row(parsed, end, now_ms=now_ms, waits_for=waits_for)
    due_at_ms = parking.due_at_ms(waiting.attempts, first_at_ms=waiting.first_at_ms, now_ms=now_ms, chance=chance)
    if due_at_ms is not None:
        return structs.replace(waiting, due_at_ms=due_at_ms)
    return structs.replace(
        waiting,
        disposition=Disposition.QUARANTINED,
        reason=Reason.WAITED_TOO_LONG,
        detail=f"waited 25 hours for {waits_for}",
        waits_for="",
    )


def parked_until_upgrade(parsed: ParsedRecord, end: Disposed, *, now_ms: int, chance: float) -> HeldRow:
    """The row of a record that a newer program wrote: it is tried often and never given up, since only we are late."""
    due_at_ms = parking.due_at_ms(0, first_at_ms=now_ms, now_ms=now_ms, chance=chance)
    return held_row(parsed, end, now_ms=now_ms, due_at_ms=due_at_ms)


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


def empty() -> WritePlan:
    """A plan that writes nothing."""
    return WritePlan(deliveries=[], ledger=[], orders=[], held=[], released=[], events=[], wakes=set(), paid=[])


def event(order: Order, before: View | None, after: View, *, cause: Cause | None, now_ms: int) -> events.Outgoing:
    """The event of the order's present version."""
    return events.outgoing_event(
        OrderEvent(
            id=events.event_id(order.account, order.number, order.version),
            type=events.event_type(before, after),
            account=order.account,
            order=order.number,
            version=order.version,
            changed=events.changed(before, after),
            cause=cause,
            occurred_at=times.from_epoch_ms(now_ms),
            status=after.status,
            closed_because=after.closed_because,
            trade=after.trade,
            amount_minor=after.amount_minor,
            currency=after.currency,
            refunded_minor=after.refunded_minor,
            flags=after.flags,
        )
    )


class Draft:
    """The plan so far. Every record passes through exactly one of `end`, `park`, `quarantine`, `hold` and `repeat`."""

    def __init__(self, *, now_ms: int, chance: Callable[[], float]) -> None:
        self.plan = empty()
        self._now_ms = now_ms
        self._chance = chance

    def enter(self, parsed: ParsedRecord, notification_id: str, digest: bytes, *, order: str) -> None:
        """The notification's unique id, at its first record."""
        self.plan.ledger.append(
            LedgerRow(
                account=parsed.account,
                notification_id=notification_id,
                order=order,
                digest=digest,
                position=parsed.position,
                record=parsed.record,
            )
        )

    def renew(
        self, parsed: ParsedRecord, notification: Notification, *, before: Order, seen: View | None, after: Order
    ) -> tuple[Order, View]:
        """The order as it is to be kept, and seen: with its next version and an event if consumers see a change.

        `seen` is the view of `before`, where it is at hand.
        """
        seen_now = order_view.view(after)
        if after.is_note:
            return after, seen_now
        known = (seen or order_view.view(before)) if before.version else None
        if known == seen_now:
            return after, seen_now
        after = structs.replace(after, version=before.version + 1)
        cause = Cause(
            notification_id=notification.id,
            type=notification.type,
            status=notification.status,
            news=notification.news.value,
            happened_at=notification.happened_at,
            received_at=times.from_epoch_ms(parsed.received_at_ms),
        )
        self.plan.events.append(event(after, known, seen_now, cause=cause, now_ms=self._now_ms))
        if seen_now.was_paid and not (known is not None and known.was_paid):
            self._pay(after.account, seen_now)
        return after, seen_now

    def end(
        self,
        parsed: ParsedRecord,
        notification: Notification,
        disposition: Disposition,
        reason: Reason,
        *,
        order: str = "",
        version: int | None = None,
    ) -> None:
        """Nothing more is to be done; `order` where the notification did not name it."""
        end = _end(notification, disposition, reason, "", order)
        self._deliver(parsed, end, notification=notification, version=version)
        self._release(parsed)

    def quarantine(
        self,
        parsed: ParsedRecord,
        notification: Notification,
        reason: Reason,
        detail: str,
        *,
        order: str = "",
        version: int | None = None,
    ) -> None:
        """A person has to look."""
        end = _end(notification, Disposition.QUARANTINED, reason, detail, order)
        self._keep(parsed, held_row(parsed, end, now_ms=self._now_ms))
        self._deliver(parsed, end, notification=notification, version=version)

    def park(self, parsed: ParsedRecord, notification: Notification, reason: Reason, *, waits_for: str) -> None:
        """It waits, until what it waits for is known or it has waited too long."""
        end = _end(notification, Disposition.PARKED, reason, f"waits for {waits_for}", "")
        row = parked(parsed, end, waits_for=waits_for, now_ms=self._now_ms, chance=self._chance())
        self._keep(parsed, row)
        self._deliver(
            parsed, _end(notification, row.disposition, row.reason, row.detail, ""), notification=notification
        )

    def hold(self, parsed: ParsedRecord, fault: ParseFailure) -> None:
        """A record that has no notification."""
        if fault.disposition is Disposition.PARKED:
            row = parked_until_upgrade(parsed, fault, now_ms=self._now_ms, chance=self._chance())
        else:
            row = held_row(parsed, fault, now_ms=self._now_ms)
        self._keep(parsed, row)
        self._deliver(parsed, fault)

    def repeat(self, parsed: ParsedRecord, fault: ParseFailure) -> None:
        """One more record of a notification that could not be read and is held already."""
        again = Disposed(
            disposition=Disposition.DUPLICATE,
            reason=Reason.SAME_ID,
            order=fault.order,
            notification_id=fault.notification_id,
        )
        self._deliver(parsed, again)
        self._release(parsed)

    def _pay(self, account: str, seen: View) -> None:
        if seen.amount_minor is not None and seen.currency is not None:
            self.plan.paid.append((account, Money(seen.amount_minor, seen.currency)))

    def _release(self, parsed: ParsedRecord) -> None:
        if parsed.held is not None:
            self.plan.released.append(parsed.position)

    def _keep(self, parsed: ParsedRecord, row: HeldRow) -> None:
        """Write the held row, and a notice where its disposition is news: a row that goes on waiting says nothing."""
        self.plan.held.append(row)
        if parsed.held is None or parsed.held.disposition is not row.disposition:
            self.plan.events.append(notice(row, now_ms=self._now_ms))

    def _deliver(
        self,
        parsed: ParsedRecord,
        end: Disposed,
        *,
        notification: Notification | None = None,
        version: int | None = None,
    ) -> None:
        self.plan.deliveries.append(
            Delivery(
                position=parsed.position,
                account=parsed.account,
                order=end.order,
                notification_id=end.notification_id,
                type="" if notification is None else notification.type,
                status="" if notification is None else notification.status,
                news="" if notification is None else notification.news.value,
                disposition=end.disposition,
                reason=end.reason,
                detail=end.detail,
                version=version,
                received_at_ms=parsed.received_at_ms,
                decided_at_ms=self._now_ms,
            )
        )


def _end(notification: Notification, disposition: Disposition, reason: Reason, detail: str, order: str) -> Disposed:
    return Disposed(
        disposition=disposition,
        reason=reason,
        detail=detail,
        order=notification.order or order,
        notification_id=notification.id,
    )
