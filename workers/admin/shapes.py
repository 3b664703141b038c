"""Answers of the API, field by field: the contract with merchants' programs. Pure.

Times are UTC. Amounts are integers in the currency's smallest unit, with a text beside them for people.
"""

from collections.abc import Iterable, Sequence
from datetime import datetime

import msgspec
from msgspec import UNSET, Struct, UnsetType

from schemas import money, record_format, retry_profiles, scopes, times
from schemas.accounts import Account
from schemas.dispositions import Disposition, Flag, Reason
from schemas.event_names import DATASCHEMA, EventNames
from schemas.money import Money
from schemas.orders import Capture, ClosedBecause, Movement, Order, Status, View
from schemas.record_format import BadRecord, NewerRecord, Record
from workers.admin import timeline
from workers.admin.reported import AmountOf, ReportedAmount
from workers.admin.timeline_entries import Entry, RefusedRequest
from workers.queries import Emitted, HeldGroup, HeldPage, OrderPage
from workers.settlement import parking
from workers.settlement.movements import name_of
from workers.settlement.plan import Delivery


class OrderMatch(Struct, frozen=True, kw_only=True):
    """An order that was found by a number."""

    account: str
    auth_app_id: str | UnsetType = UNSET
    order: str


class FoundNotification(Struct, frozen=True, kw_only=True):
    """An authentic notification, and its disposition when it came first. `id` is its record's position."""

    id: str
    account: str
    auth_app_id: str | UnsetType = UNSET
    order: str
    notification_id: str
    type: str
    status: str
    disposition: Disposition
    reason: Reason
    received_at: datetime


class AmountAnswer(Struct, frozen=True, kw_only=True):
    """One registered amount; `amount` is null if ISO 4217 gives the currency no decimals."""

    amount_minor: int
    amount: str | None
    currency: str


class MovementAnswer(Struct, frozen=True, kw_only=True):
    """One report of a refund or a capture: `kind` is refund, capture or failed_capture, which has no amount.

    One number is one movement. Of several reports with one number the largest amount that fits the payment counts.
    """

    kind: str
    number: str
    trade: str
    amount_minor: int | None
    amount: str | None
    currency: str | None


class OrderAnswer(Struct, frozen=True, kw_only=True):
    """One order. `status` is null and `version` 0 if only held or refused notifications name it.

    `refund_accepted` is the refunded sum if it is more than was paid and an operator has accepted it.
    `expected` is the first of `expected_amounts`. A registered order without any accepts every amount.
    `auth_app_id` is the order's merchant at accounts of service providers, here and in the shapes below.
    """

    account: str
    auth_app_id: str | UnsetType = UNSET
    order: str
    status: Status | None
    closed_because: ClosedBecause | None
    version: int
    trade: str | None
    amount_minor: int | None
    amount: str | None
    currency: str | None
    refunded_minor: int
    refunded: str | None
    authorized_minor: int | None
    authorized: str | None
    authorized_until: datetime | None
    refund_accepted_minor: int | None
    refund_accepted: str | None
    flags: tuple[Flag, ...]
    registered: bool
    expected_minor: int | None
    expected: str | None
    expected_currency: str | None
    expected_amounts: tuple[AmountAnswer, ...]
    timeline: tuple[Entry, ...]


class ListedOrder(OrderAnswer, frozen=True, kw_only=True):
    """One order of a list, without its timeline, and the time of its last change."""

    changed_at: datetime


class HeldAnswer(Struct, frozen=True, kw_only=True):
    """One held notification, without its bytes.

    `amount` is the sum that it reports, and `amount_of` tells whether it is paid, reserved, refunded or unpaid. Both
    are null if it cannot be read or names none. It was acknowledged at `received_at` (null if its record does not say
    it), so Alipay does not send it again. `gives_up_at` is when a parked one is quarantined at the earliest.
    `snoozed_until`, with name and reason, is of the last snooze, which may be past; null if there was none.
    """

    id: str
    account: str
    auth_app_id: str | UnsetType = UNSET
    order: str
    notification_id: str
    disposition: Disposition
    reason: Reason
    detail: str
    amount_minor: int | None
    amount: str | None
    currency: str | None
    amount_of: AmountOf | None
    received_at: datetime | None
    first_at: datetime
    attempts: int
    due_at: datetime | None
    gives_up_at: datetime | None
    waits_for: str
    resolved_at: datetime | None
    resolution: str
    by: str
    why: str
    replays: int
    snoozed_until: datetime | None
    snoozed_by: str
    snoozed_why: str


class HeldCountAnswer(Struct, frozen=True, kw_only=True):
    """The number of held notifications of one disposition, reason and account."""

    disposition: Disposition
    reason: Reason
    account: str
    count: int
    oldest_at: datetime


class EventAnswer(Struct, frozen=True, kw_only=True):
    """One event for consumers: its CloudEvents attributes, its topic, and its number in the outbox."""

    number: int
    topic: str
    specversion: str
    id: str
    type: str
    source: str
    subject: str
    time: str
    dataschema: str
    data: msgspec.Raw


def order(page: OrderPage, refusals: Iterable[RefusedRequest] = (), account: Account | None = None) -> OrderAnswer:
    """Return the order with its timeline. `account` is that of the order, if it is configured."""
    profile = None if account is None else retry_profiles.of(account)
    return _order(page.account, page.number, page.order, page.view, timeline.of(page, refusals, profile))


def summary(page: OrderPage) -> OrderAnswer:
    """Return the order without its timeline."""
    return _order(page.account, page.number, page.order, page.view, ())


def listed(page: OrderPage) -> ListedOrder:
    """Return the order of a list."""
    answer = summary(page)
    fields = {name: getattr(answer, name) for name in OrderAnswer.__struct_fields__}
    return ListedOrder(**fields, changed_at=times.from_epoch_ms(page.changed_at_ms))


def held(page: HeldPage, reported: ReportedAmount | None) -> HeldAnswer:
    """Return the held notification without its bytes, with the amount that it reports, and its resolution."""
    row = page.row
    account, auth_app_id = scopes.split(row.account)
    return HeldAnswer(
        id=row.id,
        account=account,
        auth_app_id=auth_app_id,
        order=row.order,
        notification_id=row.notification_id,
        disposition=row.disposition,
        reason=row.reason,
        detail=row.detail,
        amount_minor=None if reported is None else reported.minor,
        amount=None if reported is None else money.text(reported.minor, reported.currency),
        currency=None if reported is None else reported.currency,
        amount_of=None if reported is None else reported.of,
        received_at=_moment(_received_at_ms(row.record)),
        first_at=times.from_epoch_ms(row.first_at_ms),
        attempts=row.attempts,
        due_at=_moment(row.due_at_ms),
        gives_up_at=_moment(parking.gives_up_at_ms(row)),
        waits_for=row.waits_for,
        resolved_at=_moment(page.resolved_at_ms),
        resolution=page.resolution,
        by=page.by,
        why=page.why,
        replays=page.replays,
        snoozed_until=None if page.snooze is None else times.from_epoch_ms(page.snooze.until_ms),
        snoozed_by="" if page.snooze is None else page.snooze.by,
        snoozed_why="" if page.snooze is None else page.snooze.why,
    )


def held_count(group: HeldGroup) -> HeldCountAnswer:
    """Return the count of held notifications of one kind."""
    return HeldCountAnswer(
        disposition=group.disposition,
        reason=group.reason,
        account=group.account,
        count=group.count,
        oldest_at=times.from_epoch_ms(group.oldest_ms),
    )


def event(emitted: Emitted, names: EventNames) -> EventAnswer:
    """Return the event with its CloudEvents attributes, by the names that consumers see."""
    named = names.of(emitted.event)
    headers = {name: value.decode("utf-8", "backslashreplace") for name, value in named.headers}
    return EventAnswer(
        number=emitted.number,
        topic=emitted.event.topic,
        specversion=headers.get("ce_specversion", "1.0"),
        id=emitted.event.id,
        type=headers.get("ce_type", ""),
        source=headers.get("ce_source", ""),
        subject=headers.get("ce_subject", ""),
        time=headers.get("ce_time", ""),
        dataschema=headers.get(DATASCHEMA, ""),
        data=msgspec.Raw(named.value),
    )


def _order(scope: str, number: str, known: Order | None, view: View | None, entries: Sequence[Entry]) -> OrderAnswer:
    account, auth_app_id = scopes.split(scope)
    is_note = known is not None and known.is_note
    expected = None if known is None else known.expected
    return OrderAnswer(
        account=account,
        auth_app_id=auth_app_id,
        order=number,
        status=None if view is None or is_note else view.status,
        closed_because=None if view is None else view.closed_because,
        version=0 if known is None else known.version,
        trade=None if view is None else view.trade,
        amount_minor=None if view is None else view.amount_minor,
        amount=None if view is None else _major(view.amount_minor, view.currency),
        currency=None if view is None else view.currency,
        refunded_minor=0 if view is None else view.refunded_minor,
        refunded=None if view is None else _major(view.refunded_minor, view.currency),
        authorized_minor=None if view is None else view.authorized_minor,
        authorized=None if view is None else _major(view.authorized_minor, view.currency),
        authorized_until=None if view is None else view.authorized_until,
        refund_accepted_minor=None if view is None else view.refund_accepted_minor,
        refund_accepted=None if view is None else _major(view.refund_accepted_minor, view.currency),
        flags=() if view is None else view.flags,
        registered=known is not None and known.registered,
        expected_minor=None if expected is None else expected.minor,
        expected=None if expected is None else money.text(expected.minor, expected.currency),
        expected_currency=None if expected is None else expected.currency,
        expected_amounts=() if known is None else tuple(_amount(amount) for amount in known.amounts),
        timeline=tuple(entries),
    )


def movement(reported: Movement) -> MovementAnswer:
    """Return one report of a refund or a capture."""
    kind, number = name_of(reported)
    has_failed = isinstance(reported, Capture) and reported.has_failed
    return MovementAnswer(
        kind="failed_capture" if has_failed else kind.value,
        number=number,
        trade=reported.trade,
        amount_minor=None if has_failed else reported.minor,
        amount=None if has_failed else money.text(reported.minor, reported.currency),
        currency=None if has_failed else reported.currency,
    )


def match(scope: str, number: str) -> OrderMatch:
    """Return an order that was found by a number."""
    account, auth_app_id = scopes.split(scope)
    return OrderMatch(account=account, auth_app_id=auth_app_id, order=number)


def found(delivery: Delivery) -> FoundNotification:
    """Return a notification that was found by its id or a number; `order` is empty if it names none."""
    account, auth_app_id = scopes.split(delivery.account)
    return FoundNotification(
        id=str(delivery.position),
        account=account,
        auth_app_id=auth_app_id,
        order=delivery.order,
        notification_id=delivery.notification_id,
        type=delivery.type,
        status=delivery.status,
        disposition=delivery.disposition,
        reason=delivery.reason,
        received_at=times.from_epoch_ms(delivery.received_at_ms),
    )


def _received_at_ms(record: Record) -> int | None:
    try:
        return record_format.decode(record).received_at_ms or None
    except (BadRecord, NewerRecord):
        return None


def _moment(epoch_ms: int | None) -> datetime | None:
    return None if epoch_ms is None else times.from_epoch_ms(epoch_ms)


def _amount(amount: Money) -> AmountAnswer:
    return AmountAnswer(
        amount_minor=amount.minor, amount=money.text(amount.minor, amount.currency), currency=amount.currency
    )


def _major(minor: int | None, currency: str | None) -> str | None:
    return None if minor is None or currency is None else money.text(minor, currency)
