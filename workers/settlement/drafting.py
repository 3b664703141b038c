"""The draft of a batch's write plan: what follows from each decision, in the shapes that a store writes. Pure.

Each record gets exactly one delivery. A held record gets its row, and a resolved row is released. If consumers see a
change of an order, the order gets its next version and an event.
"""

from collections.abc import Callable, Iterable, Iterator

from msgspec import structs

from schemas import events, noted, scopes, times
from schemas.dispositions import Disposition, Reason
from schemas.events import Cause, NotedNotice, OrderEvent
from schemas.money import Money
from schemas.notification import NamedNumber, Notification, NumberKind
from schemas.orders import Order, View
from workers.settlement import order_view, parking
from workers.settlement.plan import (
    Delivery,
    Disposed,
    HeldRow,
    LedgerRow,
    NumberRow,
    OrderWrite,
    ParsedRecord,
    ParseFailure,
    Position,
    WritePlan,
)

ON_PAGES = frozenset({NumberKind.TRADE, NumberKind.REFUND})  # of these an order knows its own
_NOTED = Reason.NOTED  # read once, because each record asks for it


def empty() -> WritePlan:
    """Return a plan that writes nothing."""
    return WritePlan(deliveries=[], ledger=[], orders=[], held=[], released=[], events=[], wakes=set(), paid=[])


def event(order: Order, before: View | None, after: View, *, cause: Cause | None, now_ms: int) -> events.Outgoing:
    """Return the event of the order's present version, which changed `before` into `after`."""
    # A call with more than 15 keywords costs twice as much, so what few events have is added below.
    announced = OrderEvent(
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
    if after.authorized_minor is not None and after.authorized_until is not None:
        announced = structs.replace(
            announced, authorized_minor=after.authorized_minor, authorized_until=after.authorized_until
        )
    if after.refund_accepted_minor is not None:
        announced = structs.replace(announced, refund_accepted_minor=after.refund_accepted_minor)
    if after.claims:
        announced = structs.replace(announced, claims=after.claims)
    if "/" in order.account:
        account, auth_app_id = scopes.split(order.account)
        announced = structs.replace(announced, account=account, auth_app_id=auth_app_id)
    return events.outgoing_event(announced)


def rewrite(plan: WritePlan, before: Order, after: Order, *, expected_version: int | None, now_ms: int) -> None:
    """Write an order that no notification has changed. It gets its next version, with an event, if consumers see it."""
    view_before, view = order_view.view(before), order_view.view(after)
    if before.version and view_before != view:
        after = structs.replace(after, version=before.version + 1)
        plan.events.append(event(after, view_before, view, cause=None, now_ms=now_ms))
    elif view_before == view:
        after = order_view.with_rank_of(before, after, view)
    plan.orders.append(OrderWrite(order=after, view=view, expected_version=expected_version))


def noted_notice(parsed: ParsedRecord, notification: Notification, *, order: str, now_ms: int) -> events.Outgoing:
    """Return the notice of a notification that moves no order. A notification has one, whichever record brought it."""
    account, auth_app_id = scopes.split(notification.account)
    return events.outgoing_noted(
        NotedNotice(
            id=f"noted:{notification.account}:{notification.id}",
            record_id=str(parsed.position),
            account=account,
            auth_app_id=auth_app_id,
            order=order,
            notification_id=notification.id,
            kind=notification.kind,
            type=notification.type,
            status=notification.status,
            numbers=notification.numbers,
            fields=dict(notification.fields),
            sent_at=notification.sent_at,
            received_at=times.from_epoch_ms(parsed.received_at_ms),
            at=times.from_epoch_ms(now_ms),
        )
    )


class Draft:
    """The plan so far.

    Call exactly one of `finish`, `finish_copy`, `park`, `quarantine`, `hold_conflict`, `hold_failure` for each record.
    """

    def __init__(self, *, now_ms: int, chance: Callable[[], float]) -> None:
        self.plan = empty()
        self._now_ms = now_ms
        self._chance = chance

    def add_to_ledger(self, parsed: ParsedRecord, notification_id: str, digest: bytes, *, order: str) -> None:
        """Write the notification's unique id, with the first record that has it."""
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

    def add_numbers(self, parsed: ParsedRecord, numbers: Iterable[NamedNumber]) -> None:
        """Write numbers by which the notification can be found."""
        self._add_numbers(parsed.account, numbers, parsed.position)

    def add_page_numbers(self, parsed: ParsedRecord, notification: Notification) -> None:
        """Write the numbers by which a copy whose order is not known stands on the page of its order."""
        self.add_numbers(parsed, _on_pages(notification.numbers))
        if notification.joins_by_trade:  # its order may have another number
            self._add_trade(parsed, notification)

    def change_order(
        self, parsed: ParsedRecord, notification: Notification, *, before: Order, view_before: View | None, after: Order
    ) -> tuple[Order, View]:
        """Return the order to keep, and its view. If consumers see a change, it has its next version and an event.

        `view_before` is the view of `before`, if the caller has it already.
        """
        view = order_view.view(after)
        if after.is_note:
            return after, view
        known = (view_before or order_view.view(before)) if before.version else None
        if known == view:
            return order_view.with_rank_of(before, after, view), view
        after = structs.replace(after, version=before.version + 1)
        cause = Cause(
            notification_id=notification.id,
            type=notification.type,
            status=notification.status,
            news=notification.news._value_,
            happened_at=notification.happened_at,
            received_at=times.from_epoch_ms(parsed.received_at_ms),
        )
        self.plan.events.append(event(after, known, view, cause=cause, now_ms=self._now_ms))
        if view.was_paid and not (known is not None and known.was_paid):
            self._count_payment(after.account, view)
        return after, view

    def finish(
        self,
        parsed: ParsedRecord,
        notification: Notification,
        disposition: Disposition,
        reason: Reason,
        *,
        order: str = "",
        version: int | None = None,
    ) -> None:
        """End the record as applied, duplicate or stale. `order`: the order's number, if not the notification's."""
        disposed = _disposed(notification, disposition, reason, "", order)
        self._deliver(parsed, disposed, notification=notification, version=version)
        self._release(parsed)
        if reason is _NOTED:
            self.plan.events.append(noted_notice(parsed, notification, order=disposed.order, now_ms=self._now_ms))

    def finish_copy(self, parsed: ParsedRecord, failure: ParseFailure) -> None:
        """End one more record of a notification that could not be read and is held already, as a duplicate."""
        self.add_numbers(parsed, _on_pages(failure.numbers))
        disposed = Disposed(
            disposition=Disposition.DUPLICATE,
            reason=Reason.SAME_ID,
            order=failure.order,
            notification_id=failure.notification_id,
        )
        self._deliver(parsed, disposed)
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
        """Hold the notification until an operator decides."""
        disposed = _disposed(notification, Disposition.QUARANTINED, reason, detail, order)
        self._add_trade(parsed, notification)
        self._hold(parsed, parking.held_row(parsed, disposed, due_ms=None, now_ms=self._now_ms))
        self._deliver(parsed, disposed, notification=notification, version=version)

    def hold_conflict(self, parsed: ParsedRecord, notification: Notification, order: str) -> None:
        """Hold a notification that has the id or number of another one, until an operator decides."""
        self.quarantine(parsed, notification, Reason.ID_CONFLICT, "the same id with other content", order=order)

    def park(
        self, parsed: ParsedRecord, notification: Notification, reason: Reason, *, waits_for: str, order: str = ""
    ) -> None:
        """Hold the notification until `waits_for` is known, at most for 25 hours."""
        disposed = _disposed(notification, Disposition.PARKED, reason, f"waits for {waits_for}", order)
        self._add_trade(parsed, notification)
        row = parking.parked_row(parsed, disposed, waits_for=waits_for, now_ms=self._now_ms, chance=self._chance())
        self._hold(parsed, row)
        disposed = _disposed(notification, row.disposition, row.reason, row.detail, order)
        self._deliver(parsed, disposed, notification=notification)

    def park_until_unlocked(self, parsed: ParsedRecord, notification: Notification) -> None:
        """Hold the notification, without a limit, until another session releases the lock of its order."""
        disposed = _disposed(notification, Disposition.PARKED, Reason.LOCKED, parking.LOCKED, "")
        self._hold(parsed, parking.parked_until_unlocked(parsed, disposed, now_ms=self._now_ms))
        self._deliver(parsed, disposed, notification=notification)

    def hold_failure(self, parsed: ParsedRecord, failure: ParseFailure) -> None:
        """Hold a record that has no notification."""
        if failure.reason is Reason.LOCKED:
            row = parking.parked_until_unlocked(parsed, failure, now_ms=self._now_ms)
        elif failure.waits_for:
            row = parking.parked_until_learnt(parsed, failure, now_ms=self._now_ms, chance=self._chance())
        elif failure.disposition is Disposition.PARKED:
            row = parking.parked_until_upgrade(parsed, failure, now_ms=self._now_ms, chance=self._chance())
        else:
            row = parking.held_row(parsed, failure, due_ms=None, now_ms=self._now_ms)
        for scope in failure.scopes or (parsed.account,):
            self._add_numbers(scope, failure.numbers, parsed.position)
        self._hold(parsed, row)
        self._deliver(parsed, failure)

    def _add_numbers(self, scope: str, numbers: Iterable[NamedNumber], position: Position) -> None:
        self.plan.numbers += [NumberRow(account=scope, named=named, position=position) for named in numbers]

    def _add_trade(self, parsed: ParsedRecord, notification: Notification) -> None:
        """Write the trade of a held notification: its order may never have it, and it may name no order."""
        trade = noted.named((NumberKind.TRADE, notification.trade))
        self.add_numbers(parsed, (named for named in trade if named not in notification.numbers))

    def _count_payment(self, account: str, view: View) -> None:
        if view.amount_minor is not None and view.currency is not None:
            self.plan.paid.append((account, Money(view.amount_minor, view.currency)))

    def _release(self, parsed: ParsedRecord) -> None:
        if parsed.held is not None:
            self.plan.released.append(parsed.position)

    def _hold(self, parsed: ParsedRecord, row: HeldRow) -> None:
        """Write the held row, and a notice if its disposition is new. A row that is held again has no new notice."""
        self.plan.held.append(row)
        if parsed.held is None or parsed.held.disposition is not row.disposition:
            self.plan.events.append(parking.notice(row, parsed, now_ms=self._now_ms))

    def _deliver(
        self,
        parsed: ParsedRecord,
        disposed: Disposed,
        *,
        notification: Notification | None = None,
        version: int | None = None,
    ) -> None:
        self.plan.deliveries.append(
            Delivery(
                position=parsed.position,
                account=parsed.account,
                order=disposed.order,
                notification_id=disposed.notification_id,
                type="" if notification is None else notification.type,
                status="" if notification is None else notification.status,
                news="" if notification is None else notification.news._value_,
                disposition=disposed.disposition,
                reason=disposed.reason,
                detail=disposed.detail,
                version=version,
                received_at_ms=parsed.received_at_ms,
                decided_at_ms=self._now_ms,
            )
        )


def _on_pages(numbers: Iterable[NamedNumber]) -> Iterator[NamedNumber]:
    return (named for named in numbers if named.kind in ON_PAGES)


def _disposed(
    notification: Notification, disposition: Disposition, reason: Reason, detail: str, order: str
) -> Disposed:
    return Disposed(
        disposition=disposition,
        reason=reason,
        detail=detail,
        order=order or notification.order,
        notification_id=notification.id,
    )
