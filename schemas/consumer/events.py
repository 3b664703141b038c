"""Events as a consumer reads them: typed, and open for additions of later releases. The wheel has it as
`alipay_notify.events`.

    from alipay_notify import events

    event = events.parse(record.headers, record.value)
    if isinstance(event.data, events.OrderState) and event.data.is_safe_to_ship: ...

It imports msgspec and nothing of ours, so that a consumer depends on no other module. Sets of words that may grow, such
as flags, are plain text here: a word that is not known yet must not stop a consumer. Fields that are not known are left
out.
"""

from collections.abc import Iterable
from datetime import datetime

import msgspec
from msgspec import Struct

PAID_STATUSES = ("PAID", "FINISHED")


class NotAnEvent(ValueError):
    """The record is no event of ours, or its value does not follow the schema."""


class UnknownType(NotAnEvent):
    """The type of the event is newer than this module: upgrade it, or skip the event."""


class ChangeCause(Struct, frozen=True, kw_only=True):
    """The notification that changed the order."""

    notification_id: str
    type: str
    status: str
    news: str
    happened_at: datetime | None
    received_at: datetime


class PaymentClaim(Struct, frozen=True, kw_only=True):
    """One of several payments that notifications report of one order."""

    trade: str
    status: str
    amount_minor: int
    currency: str
    refunded_minor: int


class OrderState(Struct, frozen=True, kw_only=True):
    """The whole order after a change: the value in the topics of order events and of order states.

    `status` is WAITING, PAID, FINISHED or CLOSED. Amounts are integers in the currency's smallest unit. `version`
    begins with 1 and has no gaps; a higher one is newer. `cause` is `None` if the merchant registered or an operator
    decided.
    """

    id: str
    type: str
    account: str
    order: str
    version: int
    status: str
    closed_because: str | None
    trade: str | None
    amount_minor: int | None
    currency: str | None
    refunded_minor: int
    flags: tuple[str, ...]
    changed: tuple[str, ...]
    cause: ChangeCause | None
    occurred_at: datetime
    auth_app_id: str | None = None
    authorized_minor: int | None = None
    authorized_until: datetime | None = None
    refund_accepted_minor: int | None = None
    claims: tuple[PaymentClaim, ...] = ()

    @property
    def is_safe_to_ship(self) -> bool:
        """Whether it is paid and nothing contradicts that."""
        return self.status in PAID_STATUSES and not self.flags


class HeldState(Struct, frozen=True, kw_only=True):
    """A notification that is parked, quarantined or dead, and why."""

    id: str
    held_id: str
    account: str
    order: str
    notification_id: str
    disposition: str
    reason: str
    detail: str
    at: datetime
    auth_app_id: str | None = None


class Number(Struct, frozen=True, kw_only=True):
    """A number that a notification names, and what it is the number of."""

    kind: str
    number: str


class NotedState(Struct, frozen=True, kw_only=True):
    """A notification that moves no order. `type` and `status` are Alipay's."""

    id: str
    record_id: str
    account: str
    order: str
    notification_id: str
    kind: str
    type: str
    status: str
    numbers: tuple[Number, ...]
    fields: dict[str, str]
    sent_at: datetime | None
    received_at: datetime
    at: datetime
    auth_app_id: str | None = None


Data = OrderState | HeldState | NotedState


class ReceivedEvent(Struct, frozen=True, kw_only=True):
    """One event: its CloudEvents attributes, and its data. All copies of an event have one `id`."""

    id: str
    type: str
    source: str
    subject: str
    time: str
    dataschema: str
    data: Data


_ORDER = msgspec.json.Decoder(OrderState)
_HELD = msgspec.json.Decoder(HeldState)
_NOTED = msgspec.json.Decoder(NotedState)


def parse(headers: Iterable[tuple[str, bytes | None]], value: bytes | None) -> ReceivedEvent:
    """Return the event of a Kafka record in CloudEvents' binary mode.

    Raises:
        UnknownType: a later release sent it.
        NotAnEvent: it is something else.
    """
    attributes = {name: (text or b"").decode("utf-8", "replace") for name, text in headers if name.startswith("ce_")}
    if attributes.get("ce_specversion") != "1.0" or not attributes.get("ce_id") or value is None:
        raise NotAnEvent("the record has no attributes of CloudEvents 1.0, or no value")
    type_ = attributes.get("ce_type", "")
    try:
        data = _decoder(type_).decode(value)
    except msgspec.DecodeError as error:
        raise NotAnEvent(f"{attributes['ce_id']}: {error}") from None
    return ReceivedEvent(
        id=attributes["ce_id"],
        type=type_,
        source=attributes.get("ce_source", ""),
        subject=attributes.get("ce_subject", ""),
        time=attributes.get("ce_time", ""),
        dataschema=attributes.get("ce_dataschema", ""),
        data=data,
    )


_Decoder = msgspec.json.Decoder[OrderState] | msgspec.json.Decoder[HeldState] | msgspec.json.Decoder[NotedState]


def _decoder(type_: str) -> _Decoder:
    """Return the decoder of a type `<prefix>.order.<change>.v1` or `<prefix>.notification.<disposition>.v1`."""
    match type_.rsplit(".", 3):
        case [_, "order", _, "v1"]:
            return _ORDER
        case [_, "notification", "noted", "v1"]:
            return _NOTED
        case [_, "notification", _, "v1"]:
            return _HELD
    raise UnknownType(f"events of type {type_!r} are not known")
