"""Our values as rows of a store, and back. Pure.

The tables of both engines have the same columns in the same order, so these tuples are written once. A value that SQL
searches or constrains has a column; an order's facts and a record's headers are msgpack. Times are epoch milliseconds
here, whatever type a database keeps them in.

Where an enum's value is read for each record it is read as `_value_`, because `value` is a call of Python code.
"""

from collections.abc import Sequence
from hashlib import blake2b
from typing import Any

import msgspec
from msgspec import structs

from schemas import events
from schemas.dispositions import Disposition, Flag, Reason
from schemas.events import Outgoing
from schemas.money import Money
from schemas.orders import Capture, ClosedBecause, Movement, Order, Refund, Status, View
from schemas.record_format import Record
from workers.queries import (
    Emitted,
    HeldGroup,
    HeldPage,
    Hold,
    OperatorAct,
    OperatorDecision,
    OrderClaim,
    OrderPage,
    Snooze,
)
from workers.settlement import order_view
from workers.settlement.movements import name_of
from workers.settlement.plan import (
    DecisionRow,
    Delivery,
    HeldRow,
    LedgerRow,
    MovementKind,
    MovementName,
    MovementRow,
    NumberRow,
    OrderWrite,
    Position,
    PriorNotification,
)

Row = tuple[Any, ...]

_encode = msgspec.msgpack.Encoder().encode
_decode_order = msgspec.msgpack.Decoder(Order).decode
_decode_headers = msgspec.msgpack.Decoder(tuple[tuple[str, bytes], ...]).decode


def order_row(write: OrderWrite, changed_at_ms: int) -> Row:
    """Return the columns of `orders` from `version` on, then its key."""
    order, view = write.order, write.view
    return (
        order.version,
        _encode(order),
        order_view.rank(order, view),
        view.status._value_,
        None if view.closed_because is None else view.closed_because._value_,
        view.trade,
        view.amount_minor,
        view.currency,
        view.refunded_minor,
        " ".join(view.flags),
        changed_at_ms,
        order.number,
        order.account,
    )


def order(facts: bytes) -> Order:
    return _decode_order(facts)


def order_and_view(row: Row) -> tuple[Order, View]:
    """Return the order and its view from the columns of `ORDER`."""
    facts, status, closed_because, trade, amount_minor, currency, refunded_minor, flags = row
    known = _decode_order(facts)
    is_rare = known.refund_limit_minor or len(known.claims) > 1
    if is_rare or any(claim.authorized_until_ms for claim in known.claims):
        return known, order_view.view(known)  # authorisations, accepted sums and several claims have no columns
    return known, View(
        status=Status(status),
        closed_because=None if closed_because is None else ClosedBecause(closed_because),
        trade=trade,
        amount_minor=amount_minor,
        currency=currency,
        refunded_minor=refunded_minor,
        flags=tuple(Flag(flag) for flag in flags.split()),
    )


def listed_order(row: Row) -> OrderPage:
    """Return the page from the columns of `ORDER` and the time of the last change."""
    order, view = order_and_view(row[:-1])
    return OrderPage(
        account=order.account,
        number=order.number,
        order=order,
        view=view,
        deliveries=(),
        events=(),
        changed_at_ms=row[-1],
    )


def movement_row(row: MovementRow) -> Row:
    """Return the columns of `movements` after its number."""
    movement, name = row.movement, name_of(row.movement)
    stated = _digest((movement.trade, movement.currency, movement.minor))
    kind, id_ = name
    return (
        row.order,
        row.account,
        movement_digest(name),
        stated,
        kind.value,
        id_,
        movement.trade,
        movement.currency,
        movement.minor,
    )


def movement_digest(name: MovementName) -> int:
    """Return the column `named`, by which the rows of one movement are found; other names may have the same."""
    return _digest((name[0].value, name[1]))


def _digest(parts: tuple[str | int, ...]) -> int:
    return int.from_bytes(blake2b(_encode(parts), digest_size=8).digest(), signed=True)


def movement(row: Sequence[Any]) -> Movement:
    """Return the movement from the columns of `MOVEMENT`."""
    kind, id_, trade, currency, minor = row
    if kind == MovementKind.REFUND:
        return Refund(id=id_, amount=Money(minor, currency), trade=trade)
    return Capture(id=id_, trade=trade, minor=minor, currency=currency)


def delivery_row(delivery: Delivery) -> Row:
    """Return the columns of `DELIVERY`."""
    return (
        delivery.position.partition,
        delivery.position.offset,
        delivery.account,
        delivery.order,
        delivery.notification_id,
        delivery.type,
        delivery.status,
        delivery.news,
        delivery.disposition._value_,
        delivery.reason._value_,
        delivery.detail,
        delivery.version,
        delivery.received_at_ms,
        delivery.decided_at_ms,
    )


def delivery(row: Row) -> Delivery:
    return Delivery(
        position=Position(row[0], row[1]),
        account=row[2],
        order=row[3],
        notification_id=row[4],
        type=row[5],
        status=row[6],
        news=row[7],
        disposition=Disposition(row[8]),
        reason=Reason(row[9]),
        detail=row[10],
        version=row[11],
        received_at_ms=row[12],
        decided_at_ms=row[13],
    )


def order_claim(row: Row) -> OrderClaim:
    """Return the claim from the columns of `DELIVERY` and the resolution of its held row."""
    return OrderClaim(delivery=delivery(row[:-1]), resolution=row[-1])


def ledger_row(entry: LedgerRow) -> Row:
    """Return the columns of `notifications` after its number."""
    record = entry.record
    return (
        entry.notification_id,
        entry.account,
        entry.order,
        entry.digest,
        entry.position.partition,
        entry.position.offset,
        record.key,
        record.value,
        _encode(record.headers),
    )


def number_row(row: NumberRow) -> Row:
    """Return the columns of `numbers`."""
    return (row.named.number, row.account, row.named.kind.value, row.position.partition, row.position.offset)


def held_row(held: HeldRow) -> Row:
    """Return the columns of `HELD`."""
    record = held.record
    return (
        held.position.partition,
        held.position.offset,
        held.account,
        held.order,
        held.notification_id,
        held.disposition.value,
        held.reason.value,
        held.detail,
        record.key,
        record.value,
        _encode(record.headers),
        held.first_at_ms,
        held.attempts,
        held.due_at_ms,
        held.waits_for,
    )


def held(row: Row) -> HeldRow:
    return HeldRow(
        position=Position(row[0], row[1]),
        account=row[2],
        order=row[3],
        notification_id=row[4],
        disposition=Disposition(row[5]),
        reason=Reason(row[6]),
        detail=row[7],
        record=record(row[8], row[9], row[10]),
        first_at_ms=row[11],
        attempts=row[12],
        due_at_ms=row[13],
        waits_for=row[14],
    )


def due(row: Row) -> HeldRow:
    """Return a row to retry, from the columns of `HELD` and `replays`."""
    return structs.replace(held(row), replays=row[15])


def headers(record: Record) -> bytes:
    """Return the column `headers`."""
    return _encode(record.headers)


def record(key: bytes, value: bytes, headers: bytes) -> Record:
    return Record(key, value, _decode_headers(headers))


def held_page(row: Row) -> HeldPage:
    """Return the page from the columns of `HELD_PAGE`."""
    resolved_at_ms, resolution, by, why, replays, erased_at_ms, snoozed_until_ms, snoozed_by, snoozed_why = row[15:]
    return HeldPage(
        row=held(row),
        resolved_at_ms=resolved_at_ms,
        resolution=resolution,
        by=by,
        why=why,
        replays=replays,
        erased_at_ms=erased_at_ms,
        snooze=None if snoozed_until_ms is None else Snooze(until_ms=snoozed_until_ms, by=snoozed_by, why=snoozed_why),
    )


def prior_notification(row: Row) -> PriorNotification:
    """Return the notification from position, disposition, reason, whether it is held, and its record."""
    return PriorNotification(
        position=Position(row[0], row[1]),
        disposition=Disposition(row[2]),
        reason=Reason(row[3]),
        is_open=bool(row[4]),
        record=Record(row[5], row[6], _decode_headers(row[7])),
    )


def decision_row(decision: DecisionRow) -> Row:
    """Return the columns of `decisions` after its number."""
    return (
        decision.position.partition,
        decision.position.offset,
        decision.account,
        decision.order,
        decision.notification_id,
        decision.version,
        decision.action,
        decision.by,
        decision.why,
        decision.at_ms,
        None if decision.amount is None else decision.amount.minor,
        None if decision.amount is None else decision.amount.currency,
    )


def operator_decision(row: Row) -> OperatorDecision:
    """Return the decision from position, notification id, version, action, by whom, why, time and amount."""
    return OperatorDecision(
        held_id=str(Position(row[0], row[1])),
        notification_id=row[2],
        version=row[3],
        action=row[4],
        by=row[5],
        why=row[6],
        at_ms=row[7],
        amount=None if row[8] is None else Money(row[8], row[9]),
    )


def hold(row: Row) -> Hold:
    """Return the hold from position, disposition, reason, detail, times, attempts, resolution and erasure."""
    return Hold(
        position=Position(row[0], row[1]),
        disposition=Disposition(row[2]),
        reason=Reason(row[3]),
        detail=row[4],
        first_at_ms=row[5],
        attempts=row[6],
        due_at_ms=row[7],
        resolution=row[8],
        erased_at_ms=row[9],
    )


def operator_act(row: Row) -> OperatorAct:
    """Return the act from action, subject, by whom, why and time of an audit row."""
    action, subject, by, why, at_ms = row
    return OperatorAct(action=action, subject=subject, by=by, why=why, at_ms=at_ms)


def held_group(row: Row) -> HeldGroup:
    """Return the group from disposition, reason, account, count and the time of the oldest."""
    return HeldGroup(
        disposition=Disposition(row[0]), reason=Reason(row[1]), account=row[2], count=row[3], oldest_ms=row[4]
    )


def outbox_row(event: Outgoing, written_at_ms: int) -> Row:
    """Return the columns of `outbox` after its number, without `sent_at_ms`."""
    return (
        event.id,
        event.topic,
        event.key,
        event.value,
        _encode(event.headers),
        events.version_of(event),
        written_at_ms,
    )


def emitted(row: Row) -> Emitted:
    """Return the event from the columns of `EMITTED`."""
    number, id_, topic, key, value, headers, sent_at_ms = row
    event = Outgoing(id=id_, topic=topic, key=key, value=value, headers=_decode_headers(headers))
    return Emitted(number=number, event=event, sent_at_ms=sent_at_ms)
