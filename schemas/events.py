"""Messages for consumers: order events for the visible changes of orders, notices for held and noted notifications.

They are CloudEvents 1.0 in Kafka's binary mode: attributes are headers, the value is JSON. An order event's id is made
of the order and its version, so consumers can drop duplicates by id.
"""

from datetime import datetime
from functools import lru_cache
from operator import attrgetter
from typing import Annotated, Any

import msgspec
from msgspec import UNSET, Meta, Struct, UnsetType

from schemas import scopes, topics
from schemas.dispositions import Disposition, Flag, Reason
from schemas.notification import Kind, NamedNumber, NumberKind
from schemas.orders import ClaimView, ClosedBecause, Status, View
from schemas.record_format import key_of

TYPE_PREFIX = "alipay_notify"
ERROR_MESSAGE_BYTES_MAX = 1024
CONTENT_TYPE = b"application/json"

_MOMENTS_MAX = 16  # size of the cache of `_time`

Moment = Annotated[datetime, Meta(tz=True)]  # aware, which makes it a `date-time` in JSON Schema


class Cause(Struct, frozen=True, kw_only=True, gc=False):
    """The notification that caused an order event. If it has none, the merchant registered or an operator decided."""

    notification_id: str
    type: str
    status: str
    news: str
    happened_at: Moment | None
    received_at: Moment


class OrderEvent(Struct, frozen=True, kw_only=True, gc=False):
    """The whole order after a change. Amounts are integers in the currency's smallest unit.

    `authorized_minor` is the amount that was reserved before it was captured, `authorized_until` the end of that. They
    are absent if the payment was never only authorised.

    `refund_accepted_minor` is the refunded sum if that is more than was paid and an operator has accepted it; otherwise
    it is absent. `refunded_minor` is never more than was paid.

    `claims` are all payments that notifications report of the order, if they differ in amount or currency, or if two of
    them were paid; one of them is shown above, and `flags` says how they differ. It is absent otherwise.
    """

    id: str
    type: str
    account: str
    auth_app_id: str | UnsetType = UNSET  # the order's merchant, at accounts of service providers
    order: str
    version: int
    status: Status
    closed_because: ClosedBecause | None
    trade: str | None
    amount_minor: int | None
    currency: str | None
    refunded_minor: int
    flags: tuple[Flag, ...]
    changed: tuple[str, ...]
    cause: Cause | None
    occurred_at: Moment
    authorized_minor: int | UnsetType = UNSET
    authorized_until: Moment | UnsetType = UNSET
    refund_accepted_minor: int | UnsetType = UNSET
    claims: tuple[ClaimView, ...] | UnsetType = UNSET


class HeldNotice(Struct, frozen=True, kw_only=True):
    """A held notification and the reason: enough to alert and to look it up, without data of the payer."""

    id: str
    held_id: str
    account: str
    auth_app_id: str | UnsetType = UNSET  # as in `OrderEvent`
    order: str
    notification_id: str
    disposition: Disposition
    reason: Reason
    detail: str
    at: Moment


class HeldWay(Struct, frozen=True, kw_only=True):
    """How a notification came to be held; headers of its notice, for consumers that know those of Spring Kafka.

    `partition`, `offset` and `received_at` are those of its record. `step` is where it was held: `read` or `decide`,
    and empty if the process ended there. `error_class` is the name of the exception, empty if there was none.
    `attempts` are retries, and `replays` those by hand.
    """

    partition: int
    offset: int
    received_at: Moment
    first_at: Moment
    step: str
    error_class: str
    attempts: int
    replays: int


class NotedNotice(Struct, frozen=True, kw_only=True):
    """A notification that moves no order, such as a mandate, a transfer or a dispute, without personal data.

    `type` and `status` are Alipay's. `numbers` are those it is about, `order` is the merchant's order if it names one.
    `fields` are those that are not personal, by their names in the message. `record_id` finds it in the admin API.
    """

    id: str
    record_id: str
    account: str
    auth_app_id: str | UnsetType = UNSET  # as in `OrderEvent`
    order: str
    notification_id: str
    kind: Kind
    type: str
    status: str
    numbers: tuple[NamedNumber, ...]
    fields: dict[str, str]
    sent_at: Moment | None
    received_at: Moment
    at: Moment


class Outgoing(Struct, frozen=True, kw_only=True, gc=False):
    """One message for consumers, as the outbox stores it and a topic receives it."""

    id: str
    topic: str
    key: bytes
    value: bytes
    headers: tuple[tuple[str, bytes], ...]


def event_id(scope: str, order: str, version: int) -> str:
    """Return the id of an order event: equal for all copies of one change, different for different changes."""
    return f"{scope}:{order}:{version}"


def version_of(event: Outgoing) -> int | None:
    """Return the order version of an order event, or `None` for a notice."""
    return int(event.id.rpartition(":")[2]) if event.topic == topics.ORDER_EVENT else None


def event_type(before: View | None, after: View) -> str:
    """Return the CloudEvents type of a change. If several fields changed, the status decides before refunds and flags.

    For example, an order that becomes paid and partly refunded at once has the type `...order.paid.v1`.
    """
    if before is None and after.trade is None:
        change = "flagged"  # a registered order whose first notification was refused
    elif before is None or before.status != after.status:
        change = after.status._value_.lower()
        if after.closed_because is _REFUNDED:
            change = "refunded"
        elif after.authorized_minor is not None and after.status is Status.WAITING:
            change = "authorized"
    elif after.status is Status.WAITING and before.authorized_minor != after.authorized_minor:
        change = "authorized"
    elif _refunded(before) != _refunded(after):
        change = "refunded"
    elif before.flags != after.flags:
        change = "flagged"
    else:
        change = "updated"
    return f"{TYPE_PREFIX}.order.{change}.v1"


def changed(before: View | None, after: View) -> tuple[str, ...]:
    """Return the names of the fields in which two views differ; all that the event has if there was no view before."""
    if before is None:
        if _rare(after) == _NONE_RARE:
            return _USUAL_FIELDS
        return _USUAL_FIELDS + tuple(f for f in _RARE_FIELDS if getattr(after, f) not in (None, ()))
    return tuple(f for f in View.__struct_fields__ if getattr(before, f) != getattr(after, f))


def _refunded(view: View) -> tuple[int, int | None]:
    return view.refunded_minor, view.refund_accepted_minor


_RARE_FIELDS = ("authorized_minor", "authorized_until", "refund_accepted_minor", "claims")
_rare, _NONE_RARE = attrgetter(*_RARE_FIELDS), (None, None, None, ())
_USUAL_FIELDS = tuple(f for f in View.__struct_fields__ if f not in _RARE_FIELDS)

_encode = msgspec.json.Encoder().encode
_OF_ORDERS = frozenset({Kind.PAYMENT, Kind.REFUND})
_REFUNDED = ClosedBecause.REFUNDED  # read once, because each event asks for it


def outgoing_event(event: OrderEvent) -> Outgoing:
    """Encode an order event as a CloudEvent in binary mode."""
    scope = event.account if event.auth_app_id is UNSET else scopes.joined(event.account, event.auth_app_id)
    headers = _cloud(event.id, event.type, scope, event.order, event.occurred_at)
    key = key_of(scope, event.order)
    return Outgoing(id=event.id, topic=topics.ORDER_EVENT, key=key, value=_encode(event), headers=headers)


def outgoing_notice(notice: HeldNotice, way: HeldWay) -> Outgoing:
    """Encode a held notice as a CloudEvent in binary mode. `event_names` adds the headers that a deployment decides."""
    kind = f"{TYPE_PREFIX}.notification.{notice.disposition.value}.v1"
    scope = scopes.joined(notice.account, notice.auth_app_id)
    headers = (
        *_cloud(notice.id, kind, scope, notice.order, notice.at),
        ("held-disposition", notice.disposition.value.encode()),
        ("held-reason", notice.reason.value.encode()),
        *_way(notice, way),
    )
    key = key_of(scope, notice.order)
    return Outgoing(id=notice.id, topic=topics.HELD, key=key, value=_encode(notice), headers=headers)


def _way(notice: HeldNotice, way: HeldWay) -> tuple[tuple[str, bytes], ...]:
    message = notice.detail.encode("utf-8", "replace")[:ERROR_MESSAGE_BYTES_MAX].decode("utf-8", "ignore")
    texts = {
        "held-partition": str(way.partition),
        "held-offset": str(way.offset),
        "held-timestamp": way.received_at.isoformat(),
        "held-step": way.step,
        "held-error-class": way.error_class,
        "held-error-message": message,
        "held-attempts": str(way.attempts),
        "held-first-at": way.first_at.isoformat(),
        "held-replays": str(way.replays),
    }
    return tuple((name, text.encode()) for name, text in texts.items())


def outgoing_noted(notice: NotedNotice) -> Outgoing:
    """Encode a noted notice as a CloudEvent in binary mode.

    Its key is the first of its numbers, so that all notices about one agreement, pre-authorisation, dispute … are in
    one partition. That of a payment, or of a refund without a number of its own, is its order.
    """
    first = notice.numbers[0] if notice.numbers else None
    is_of_order = notice.kind in _OF_ORDERS and (first is None or first.kind is not NumberKind.REFUND)
    subject = notice.order if is_of_order else ""
    subject = subject or (notice.order or notice.notification_id if first is None else first.number)
    kind = f"{TYPE_PREFIX}.notification.noted.v1"
    scope = scopes.joined(notice.account, notice.auth_app_id)
    headers = (
        *_cloud(notice.id, kind, scope, subject, notice.at),
        ("noted-kind", notice.kind.value.encode()),
    )
    key = key_of(scope, subject)
    return Outgoing(id=notice.id, topic=topics.NOTED, key=key, value=_encode(notice), headers=headers)


def _cloud(id_: str, type_: str, scope: str, subject: str, at: datetime) -> tuple[tuple[str, bytes], ...]:
    return (
        ("content-type", CONTENT_TYPE),
        ("ce_specversion", b"1.0"),
        ("ce_id", id_.encode("utf-8", "replace")),
        ("ce_type", type_.encode()),
        ("ce_source", f"/alipay-notify/{scope}".encode()),
        ("ce_subject", subject.encode("utf-8", "replace")),
        ("ce_time", _time(at)),
    )


@lru_cache(_MOMENTS_MAX)
def _time(at: datetime) -> bytes:
    """Return a UTC time as text; cached, because all events of a batch have the same time.

    Only UTC times may be passed: equal times in two zones share one cache entry, and so one text.
    """
    return at.isoformat().encode()


def decoded(value: bytes) -> dict[str, Any]:
    """Decode an event's or notice's JSON to plain data, for display."""
    shown: dict[str, Any] = msgspec.json.decode(value)
    return shown
