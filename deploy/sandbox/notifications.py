"""Notifications as Alipay sends them: a trade, an event of the trade, and the signed request that reports it.

Three steps, each with an immutable value:

    Trade + TradeEvent  ──compose──►  UnsignedNotification (fields, one notify_id)  ──delivery(at)──►  SignedDelivery

A notification is delivered again until it is answered correctly. Each delivery has the same `notify_id` and content,
but a new `notify_time` and therefore a new signature. That is why signing happens in `delivery` and not in `compose`,
and why a receiver must not detect duplicates by body or signature.

The fields of an Antom message are flat here, with dotted names (`paymentAmount.value`), and become nested JSON when the
message is written. So fields of every family are edited in the same way.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from enum import StrEnum

import msgspec

from deploy.sandbox import serials, signing
from deploy.sandbox.identities import Product
from deploy.sandbox.world import SandboxAccount

Fields = signing.Fields


class MessageKind(StrEnum):
    """The kind of event that a notification reports; `field_sets` translates it into each product's fields.

    `OTHER` is what no field set knows: it names the merchant only, and a scenario adds all other fields.
    """

    WAITING = "waiting"
    PAID = "paid"
    FINISHED = "finished"
    FROZEN = "frozen"
    CLOSED = "closed"
    REFUND = "refund"
    REFUND_CLOSED = "refund_closed"
    REFUND_ACTION = "refund_action"
    REVERSED = "reversed"
    BATCH_REFUND = "batch_refund"
    AUTHORIZED = "authorized"
    CAPTURE = "capture"
    CAPTURE_FAILED = "capture_failed"
    DISPUTE = "dispute"
    AUTHORIZATION = "authorization"
    SUBSCRIPTION = "subscription"
    SUBSCRIPTION_PAYMENT = "subscription_payment"
    VAULTING = "vaulting"
    OTHER = "other"


_STATES = frozenset({
    MessageKind.WAITING, MessageKind.PAID, MessageKind.FINISHED, MessageKind.FROZEN, MessageKind.CLOSED,
    MessageKind.REFUND, MessageKind.OTHER,
})  # fmt: skip

KINDS_OF: Mapping[Product, frozenset[MessageKind]] = {
    "in-app": _STATES
    | {MessageKind.REFUND_CLOSED, MessageKind.BATCH_REFUND, MessageKind.REFUND_ACTION, MessageKind.REVERSED},
    "website": (_STATES - {MessageKind.FINISHED, MessageKind.FROZEN}) | {MessageKind.BATCH_REFUND},
    "open": _STATES,
    "antom": (_STATES - {MessageKind.FINISHED, MessageKind.FROZEN})
    | {MessageKind.AUTHORIZED, MessageKind.CAPTURE, MessageKind.CAPTURE_FAILED, MessageKind.DISPUTE}
    | {MessageKind.AUTHORIZATION, MessageKind.SUBSCRIPTION, MessageKind.SUBSCRIPTION_PAYMENT, MessageKind.VAULTING},
}

# Kinds whose message does not name the merchant's order. Only the merchant knows to which order a refund belongs.
NAMELESS: Mapping[Product, frozenset[MessageKind]] = {
    "in-app": frozenset({MessageKind.BATCH_REFUND, MessageKind.OTHER}),
    "website": frozenset({MessageKind.BATCH_REFUND, MessageKind.OTHER}),
    "open": frozenset({MessageKind.OTHER}),
    "antom": frozenset({
        MessageKind.REFUND, MessageKind.CAPTURE, MessageKind.CAPTURE_FAILED, MessageKind.AUTHORIZATION,
        MessageKind.SUBSCRIPTION, MessageKind.VAULTING, MessageKind.OTHER,
    }),
}  # fmt: skip


class UnplayableError(ValueError):
    """The product sends no notification of this kind, or has no field of this name."""


class Trade(msgspec.Struct, frozen=True, kw_only=True):
    """One payment as Alipay knows it. `paid` is the time of payment, also if the buyer did not pay in the end."""

    account: SandboxAccount
    order: str
    trade_no: str
    amount_minor: int
    currency: str
    subject: str
    created: datetime
    paid: datetime
    body: str = ""
    buyer_id: str = "2088999900002026"
    buyer_login: str = "b***@example.com"


class SandboxRefund(msgspec.Struct, frozen=True, kw_only=True):
    """One refund: the merchant's number, Alipay's number, the amount, and the total of all refunds so far."""

    number: str
    refund_id: str
    amount_minor: int
    total_minor: int


class TradeEvent(msgspec.Struct, frozen=True, kw_only=True):
    """An event of a trade."""

    kind: MessageKind
    at: datetime
    refund: SandboxRefund | None = None

    def required_refund(self) -> SandboxRefund:
        """Return the refund.

        Raises:
            UnplayableError: there is none.
        """
        if self.refund is None:
            raise UnplayableError(f"a {self.kind} notification needs a refund")
        return self.refund


class Facts(msgspec.Struct, frozen=True, kw_only=True):
    """The facts behind a notification, for a judge that checks the outcome without parsing its fields.

    `amount_minor` is the trade's amount, not the refund's. `refund` is known here even for notifications of the old
    gateway, whose refunds carry no amount.
    """

    kind: MessageKind
    trade_no: str
    amount_minor: int
    currency: str
    happened: datetime
    refund: SandboxRefund | None
    names_order: bool


class SignedDelivery(msgspec.Struct, frozen=True, kw_only=True):
    """One signed request, ready to be sent."""

    path: str
    headers: tuple[tuple[str, str], ...]
    body: bytes


class UnsignedNotification(msgspec.Struct, frozen=True, kw_only=True):
    """One notification to one merchant, not yet signed.

    An Antom message carries no `notify_id`; its business key stands in. `spoilt` fields are replaced after signing,
    which makes a forgery. `pinned` keeps a `notify_time` that the user has set.
    """

    account: SandboxAccount
    order: str
    notify_id: str
    fields: Fields
    charset: str
    facts: Facts
    spoilt: Fields = ()
    pinned: bool = False

    def delivery(self, at: datetime) -> SignedDelivery:
        """Return the request for a delivery at this time, with its own `notify_time` and signature."""
        return _antom_delivery(self, at) if self.account.identity.product == "antom" else _form_delivery(self, at)


class Edits(msgspec.Struct, frozen=True, kw_only=True):
    """Changes to a notification's fields. All but `spoil` happen before signing."""

    override: Fields = ()
    add: Fields = ()
    remove: tuple[str, ...] = ()
    spoil: Fields = ()


def edited(notification: UnsignedNotification, edits: Edits) -> UnsignedNotification:
    """Return the notification with the edits applied before signing.

    Raises:
        UnplayableError: a field to override or remove does not exist, or a field to add does. A typing mistake must not
            send an unchanged notification without notice.
    """
    fields = dict(notification.fields)
    for name in (*(name for name, _ in edits.override), *edits.remove):
        if name not in fields:
            raise UnplayableError(f"the notification has no field {name!r}; it has {', '.join(sorted(fields))}")
    for name, _ in edits.add:
        if name in fields:
            raise UnplayableError(f"the notification already has a field {name!r}; override it instead")
    fields |= dict(edits.override) | dict(edits.add)
    for name in edits.remove:
        del fields[name]
    return msgspec.structs.replace(
        notification,
        fields=tuple(fields.items()),
        notify_id=fields.get("notify_id", notification.notify_id),
        spoilt=(*notification.spoilt, *edits.spoil),
        pinned="notify_time" in dict(edits.override) or "notify_time" in edits.remove,
    )


def _form_delivery(one: UnsignedNotification, at: datetime) -> SignedDelivery:
    fields = one.fields if one.pinned else _retimed(one.fields, at)
    signed = signing.signed_fields(fields, signer=one.account.signer, charset=one.charset)
    sent = tuple((dict(signed) | dict(one.spoilt)).items()) if one.spoilt else signed
    return SignedDelivery(
        path=one.account.identity.path,
        headers=(
            ("Content-Type", f"application/x-www-form-urlencoded; charset={one.charset}"),
            ("User-Agent", "Mozilla/4.0"),
        ),
        body=signing.encode_form(sent, charset=one.charset),
    )


def _retimed(fields: Fields, at: datetime) -> Fields:
    return tuple((name, serials.moment(at) if name == "notify_time" else value) for name, value in fields)


def _antom_delivery(one: UnsignedNotification, at: datetime) -> SignedDelivery:
    identity = one.account.identity
    request_time = serials.header_moment(at)
    honest = _message(one.fields)
    content = signing.antom_content(
        method="POST", path=identity.path, client_id=identity.client_id, request_time=request_time, body=honest
    )
    spoilt = dict(one.spoilt)
    signature = spoilt.pop("sign", "") or one.account.signer.sign(content)
    return SignedDelivery(
        path=identity.path,
        headers=(
            ("Content-Type", "application/json; charset=UTF-8"),
            ("client-id", identity.client_id),
            ("request-time", request_time),
            ("signature", signing.antom_header(signature, key_version=one.account.key_version)),
        ),
        body=_message(tuple((dict(one.fields) | spoilt).items())) if spoilt else honest,
    )


def _message(fields: Fields) -> bytes:
    """Return the JSON of an Antom message from its flat fields. All values are strings, as in Antom's messages."""
    root: dict[str, object] = {}
    for name, value in fields:
        *parents, leaf = name.split(".")
        _branch(root, parents)[leaf] = value
    return msgspec.json.encode(root)


def _branch(root: dict[str, object], parents: Sequence[str]) -> dict[str, object]:
    here = root
    for parent in parents:
        below = here.setdefault(parent, {})
        if not isinstance(below, dict):
            raise UnplayableError(f"{parent!r} is a value in this message and cannot contain fields")
        here = below
    return here
