"""The plan of one batch while it is being written: what `settlement` has decided, in the shapes that a store takes.

Nothing is decided here but what follows from the decision: each record gets exactly one delivery, what is held gets its
row, a held row that came to its end is released, and a visible change of an order gets its version and its event.
"""

from collections.abc import Callable

from msgspec import structs

from schemas import events, times
from schemas.dispositions import Disposition, Reason
from schemas.events import Cause, OrderEvent
from schemas.money import Money
from schemas.notification import Notification
from schemas.orders import Order, View
from workers import holding, views
from workers.plan import Delivery, End, Fault, HeldRow, LedgerRow, Plan, Reading


def empty() -> Plan:
    """A plan that writes nothing."""
    return Plan(deliveries=[], ledger=[], orders=[], held=[], released=[], events=[], wakes=set(), paid=[])


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

    def enter(self, reading: Reading, notification_id: str, digest: bytes, *, order: str) -> None:
        """The notification's unique id, at its first record."""
        self.plan.ledger.append(
            LedgerRow(
                account=reading.account,
                notification_id=notification_id,
                order=order,
                digest=digest,
                position=reading.position,
                record=reading.record,
            )
        )

    def renew(
        self, reading: Reading, heard: Notification, *, before: Order, seen: View | None, after: Order
    ) -> tuple[Order, View]:
        """The order as it is to be kept, and seen: with its next version and an event if consumers see a change.

        `seen` is the view of `before`, where it is at hand.
        """
        seen_now = views.view(after)
        if after.is_note:
            return after, seen_now
        known = (seen or views.view(before)) if before.version else None
        if known == seen_now:
            return after, seen_now
        after = structs.replace(after, version=before.version + 1)
        cause = Cause(
            notification_id=heard.id,
            type=heard.type,
            status=heard.status,
            news=heard.news.value,
            happened_at=heard.happened_at,
            received_at=times.from_epoch_ms(reading.received_at_ms),
        )
        self.plan.events.append(event(after, known, seen_now, cause=cause, now_ms=self._now_ms))
        if seen_now.was_paid and not (known is not None and known.was_paid):
            self._pay(after.account, seen_now)
        return after, seen_now

    def end(
        self,
        reading: Reading,
        heard: Notification,
        disposition: Disposition,
        reason: Reason,
        *,
        order: str = "",
        version: int | None = None,
    ) -> None:
        """Nothing more is to be done; `order` where the notification did not name it."""
        end = _end(heard, disposition, reason, "", order)
        self._deliver(reading, end, heard=heard, version=version)
        self._release(reading)

    def quarantine(
        self,
        reading: Reading,
        heard: Notification,
        reason: Reason,
        detail: str,
        *,
        order: str = "",
        version: int | None = None,
    ) -> None:
        """A person has to look."""
        end = _end(heard, Disposition.QUARANTINED, reason, detail, order)
        self._keep(reading, holding.row(reading, end, now_ms=self._now_ms))
        self._deliver(reading, end, heard=heard, version=version)

    def park(self, reading: Reading, heard: Notification, reason: Reason, *, waits_for: str) -> None:
        """It waits, until what it waits for is known or it has waited too long."""
        end = _end(heard, Disposition.PARKED, reason, f"waits for {waits_for}", "")
        row = holding.parked(reading, end, waits_for=waits_for, now_ms=self._now_ms, chance=self._chance())
        self._keep(reading, row)
        self._deliver(reading, _end(heard, row.disposition, row.reason, row.detail, ""), heard=heard)

    def hold(self, reading: Reading, fault: Fault) -> None:
        """A record that has no notification."""
        if fault.disposition is Disposition.PARKED:
            row = holding.parked_until_upgrade(reading, fault, now_ms=self._now_ms, chance=self._chance())
        else:
            row = holding.row(reading, fault, now_ms=self._now_ms)
        self._keep(reading, row)
        self._deliver(reading, fault)

    def repeat(self, reading: Reading, fault: Fault) -> None:
        """One more record of a notification that could not be read and is held already."""
        again = End(
            disposition=Disposition.DUPLICATE,
            reason=Reason.SAME_ID,
            order=fault.order,
            notification_id=fault.notification_id,
        )
        self._deliver(reading, again)
        self._release(reading)

    def _pay(self, account: str, seen: View) -> None:
        if seen.amount_minor is not None and seen.currency is not None:
            self.plan.paid.append((account, Money(seen.amount_minor, seen.currency)))

    def _release(self, reading: Reading) -> None:
        if reading.held is not None:
            self.plan.released.append(reading.position)

    def _keep(self, reading: Reading, row: HeldRow) -> None:
        """Write the held row, and a notice where its disposition is news: a row that goes on waiting says nothing."""
        self.plan.held.append(row)
        if reading.held is None or reading.held.disposition is not row.disposition:
            self.plan.events.append(holding.notice(row, now_ms=self._now_ms))

    def _deliver(
        self, reading: Reading, end: End, *, heard: Notification | None = None, version: int | None = None
    ) -> None:
        self.plan.deliveries.append(
            Delivery(
                position=reading.position,
                account=reading.account,
                order=end.order,
                notification_id=end.notification_id,
                type="" if heard is None else heard.type,
                status="" if heard is None else heard.status,
                news="" if heard is None else heard.news.value,
                disposition=end.disposition,
                reason=end.reason,
                detail=end.detail,
                version=version,
                received_at_ms=reading.received_at_ms,
                decided_at_ms=self._now_ms,
            )
        )


def _end(heard: Notification, disposition: Disposition, reason: Reason, detail: str, order: str) -> End:
    return End(
        disposition=disposition,
        reason=reason,
        detail=detail,
        order=heard.order or order,
        notification_id=heard.id,
    )
