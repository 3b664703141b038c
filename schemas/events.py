"""What consumers read: one CloudEvent per visible change of an order, and one notice per held notification.

CloudEvents 1.0 in Kafka's binary mode: the attributes are headers, the value is plain JSON. The event's id is a
function of the order and its version, so a consumer that has seen the id has seen the change.
"""

from datetime import datetime
from functools import lru_cache
from typing import Annotated, Any

import msgspec
from msgspec import Meta, Struct

from schemas import topics
from schemas.dispositions import Disposition, Flag, Reason
from schemas.orders import ClosedBecause, Status, View
from schemas.record_format import key_of

TYPE_PREFIX = "alipay_notify"
CONTENT_TYPE = b"application/json"

_MOMENTS_MAX = 16  # that are remembered as text

Moment = Annotated[datetime, Meta(tz=True)]  # aware, so that JSON Schema says `date-time` of it


class Cause(Struct, frozen=True, kw_only=True):
    """The notification that an event came from; `None` of an order in an event: the merchant's own registration."""

    notification_id: str
    type: str
    status: str
    news: str
    happened_at: Moment | None
    received_at: Moment


class OrderEvent(Struct, frozen=True, kw_only=True):
    """The whole order after the change. Amounts are integers of the currency's smallest unit."""

    id: str
    type: str
    account: str
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


class HeldNotice(Struct, frozen=True, kw_only=True):
    """That a notification was held, and why: enough to alert and to look it up, nothing of the payer."""

    id: str
    held_id: str
    account: str
    order: str
    notification_id: str
    disposition: Disposition
    reason: Reason
    detail: str
    at: Moment


class Outgoing(Struct, frozen=True, kw_only=True, gc=False):
    """One message on its way to consumers, as the outbox keeps it and a topic receives it."""

    id: str
    topic: str
    key: bytes
    value: bytes
    headers: tuple[tuple[str, bytes], ...]


def event_id(account: str, order: str, version: int) -> str:
    """The same for every copy of one change, and different for every two changes."""
    return f"{account}:{order}:{version}"


def version_of(event: Outgoing) -> int | None:
    """The version that an order event announces; `None` of a notice."""
    return int(event.id.rpartition(":")[2]) if event.topic == topics.ORDER_EVENT else None


def event_type(before: View | None, after: View) -> str:
    """The one word for a change, the weightiest first: `paid` also where a refund came with it."""
    if before is None and after.trade is None:
        word = "flagged"  # a registered order whose first news was refused
    elif before is None or before.status != after.status:
        word = after.status.value.lower()
        if after.closed_because is ClosedBecause.REFUNDED:
            word = "refunded"
    elif before.refunded_minor != after.refunded_minor:
        word = "refunded"
    elif before.flags != after.flags:
        word = "flagged"
    else:
        word = "updated"
    return f"{TYPE_PREFIX}.order.{word}.v1"


def changed(before: View | None, after: View) -> tuple[str, ...]:
    """The names of the fields in which two views differ."""
    fields = View.__struct_fields__
    return fields if before is None else tuple(f for f in fields if getattr(before, f) != getattr(after, f))


_encode = msgspec.json.Encoder().encode


def outgoing_event(event: OrderEvent) -> Outgoing:
    """The event as a CloudEvent in binary mode."""
    headers = _cloud(event.id, event.type, event.account, event.order, event.occurred_at)
    key = key_of(event.account, event.order)
    return Outgoing(id=event.id, topic=topics.ORDER_EVENT, key=key, value=_encode(event), headers=headers)


def outgoing_notice(notice: HeldNotice) -> Outgoing:
    """The notice as a CloudEvent in binary mode."""
    kind = f"{TYPE_PREFIX}.notification.{notice.disposition.value}.v1"
    headers = (
        *_cloud(notice.id, kind, notice.account, notice.order, notice.at),
        ("held-disposition", notice.disposition.value.encode()),
        ("held-reason", notice.reason.value.encode()),
    )
    key = key_of(notice.account, notice.order)
    return Outgoing(id=notice.id, topic=topics.HELD, key=key, value=_encode(notice), headers=headers)


def _cloud(id_: str, type_: str, account: str, subject: str, at: datetime) -> tuple[tuple[str, bytes], ...]:
    return (
        ("content-type", CONTENT_TYPE),
        ("ce_specversion", b"1.0"),
        ("ce_id", id_.encode("utf-8", "replace")),
        ("ce_type", type_.encode()),
        ("ce_source", f"/alipay-notify/{account}".encode()),
        ("ce_subject", subject.encode("utf-8", "replace")),
        ("ce_time", _time(at)),
    )


@lru_cache(_MOMENTS_MAX)
def _time(at: datetime) -> bytes:
    """A moment in UTC as text. All events of a batch have the same one.

    Moments are equal whatever their zone, so of one in two zones the text that was asked for first would be given.
    """
    return at.isoformat().encode()


def decoded(value: bytes) -> dict[str, Any]:
    """An event's or notice's JSON as plain data, for showing it."""
    shown: dict[str, Any] = msgspec.json.decode(value)
    return shown
