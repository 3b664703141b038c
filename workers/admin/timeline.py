"""The timeline of an order, as the API and the console show it: notifications, events, decisions, claims. Pure."""

from collections.abc import Iterable
from datetime import datetime
from typing import Protocol

import msgspec
from msgspec import Struct

from schemas import times, topics
from schemas.dispositions import Disposition, Reason
from workers.queries import Emitted, OperatorDecision, OrderClaim, OrderPage
from workers.settlement.plan import Delivery


class RefusedRequest(Protocol):
    """A refused request that claimed to be about an order; its claims are not verified."""

    @property
    def reason(self) -> str: ...
    @property
    def received_at_ms(self) -> int: ...


class NotificationEntry(Struct, frozen=True, kw_only=True, tag_field="kind", tag="notification"):
    """One authentic notification, and its disposition."""

    notification_id: str
    type: str
    status: str
    news: str
    disposition: Disposition
    reason: Reason
    detail: str
    version: int | None
    received_at: datetime
    decided_at: datetime
    position: str


class EventEntry(Struct, frozen=True, kw_only=True, tag_field="kind", tag="event"):
    """One event for consumers. `sent_at` is null until its topic has acknowledged it."""

    id: str
    type: str
    version: int
    occurred_at: datetime
    sent_at: datetime | None


class RefusedEntry(Struct, frozen=True, kw_only=True, tag_field="kind", tag="refused"):
    """One refused request. They are kept in memory only, so older ones are missing."""

    reason: str
    at: datetime


class DecisionEntry(Struct, frozen=True, kw_only=True, tag_field="kind", tag="decision"):
    """An operator's decision on a held notification of the order: `action` is accept or discard."""

    action: str
    held_id: str
    notification_id: str
    version: int | None
    by: str
    why: str
    at: datetime


class ClaimEntry(Struct, frozen=True, kw_only=True, tag_field="kind", tag="claim"):
    """An authentic message that may name the order, or may not: nothing in it can be believed.

    It has changed nothing. `resolution` is `discarded` once an operator has ended it, and empty until then.
    """

    notification_id: str
    reason: Reason
    detail: str
    resolution: str
    received_at: datetime
    position: str


Entry = NotificationEntry | EventEntry | RefusedEntry | DecisionEntry | ClaimEntry


class _Occurred(Struct):
    occurred_at: datetime
    version: int = 0
    type: str = ""


_occurred = msgspec.json.Decoder(_Occurred).decode


def of(page: OrderPage, refusals: Iterable[RefusedRequest]) -> list[Entry]:
    """Return all entries, oldest first; an event follows right after the notification that caused it."""
    entries: list[tuple[tuple[int, int, int], Entry]] = []
    places: dict[int | None, tuple[int, int]] = {}
    for index, delivery in enumerate(page.deliveries):
        place = (delivery.decided_at_ms, index)
        places[delivery.version] = place
        entries.append(((*place, 0), _notification(delivery)))
    last = len(page.deliveries)
    for decision in page.decisions:
        places.setdefault(decision.version, (decision.at_ms, last))
        entries.append(((decision.at_ms, last, 0), _decision(decision)))
    entries += [((claim.delivery.decided_at_ms, last, 2), _claim(claim)) for claim in page.claims]
    for emitted in page.events:
        if emitted.event.topic != topics.ORDER_EVENT:
            continue  # a notice of a held notification, which stands in the timeline itself
        occurred = _occurred(emitted.event.value)
        place = places.get(occurred.version, (times.to_epoch_ms(occurred.occurred_at), last))
        entries.append(((*place, 1), _event(emitted, occurred)))
    for refusal in refusals:
        entry = RefusedEntry(reason=str(refusal.reason), at=times.from_epoch_ms(refusal.received_at_ms))
        entries.append(((refusal.received_at_ms, last, 2), entry))
    return [entry for _, entry in sorted(entries, key=lambda placed: placed[0])]


def _notification(delivery: Delivery) -> NotificationEntry:
    return NotificationEntry(
        notification_id=delivery.notification_id,
        type=delivery.type,
        status=delivery.status,
        news=delivery.news,
        disposition=delivery.disposition,
        reason=delivery.reason,
        detail=delivery.detail,
        version=delivery.version,
        received_at=times.from_epoch_ms(delivery.received_at_ms),
        decided_at=times.from_epoch_ms(delivery.decided_at_ms),
        position=str(delivery.position),
    )


def _decision(decision: OperatorDecision) -> DecisionEntry:
    return DecisionEntry(
        action=decision.action,
        held_id=decision.held_id,
        notification_id=decision.notification_id,
        version=decision.version,
        by=decision.by,
        why=decision.why,
        at=times.from_epoch_ms(decision.at_ms),
    )


def _claim(claim: OrderClaim) -> ClaimEntry:
    return ClaimEntry(
        notification_id=claim.delivery.notification_id,
        reason=claim.delivery.reason,
        detail=claim.delivery.detail,
        resolution=claim.resolution,
        received_at=times.from_epoch_ms(claim.delivery.received_at_ms),
        position=str(claim.delivery.position),
    )


def _event(emitted: Emitted, occurred: _Occurred) -> EventEntry:
    return EventEntry(
        id=emitted.event.id,
        type=occurred.type,
        version=occurred.version,
        occurred_at=occurred.occurred_at,
        sent_at=None if emitted.sent_at_ms is None else times.from_epoch_ms(emitted.sent_at_ms),
    )
