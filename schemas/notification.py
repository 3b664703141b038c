"""A notification: the meaning of one signed message, independent of its family.

`schemas.interpret_form` and `schemas.interpret_antom` make it from a record's body. Settlement consumes it.
"""

from datetime import datetime
from enum import StrEnum

from msgspec import Struct

from schemas.dispositions import Disposition, Reason
from schemas.money import Money
from schemas.orders import Capture, News, Refund


class Kind(StrEnum):
    """The subject of a notification. Only the first four change orders."""

    PAYMENT = "payment"
    REFUND = "refund"
    BATCH_REFUND = "batch_refund"
    CAPTURE = "capture"
    AUTHORIZATION = "authorization"
    DISPUTE = "dispute"
    SUBSCRIPTION = "subscription"
    VAULTING = "vaulting"
    AGREEMENT = "agreement"
    PREAUTHORIZATION = "preauthorization"
    TRANSFER = "transfer"
    APPLICATION = "application"  # a merchant authorized a service provider's application, or withdrew it
    OTHER = "other"


class NumberKind(StrEnum):
    """The subject of a number that a notification names beside its order.

    Those that are only claimed are of forms with two readings, which may name them, or may not. No notice has them.
    """

    ORDER = "order"  # the merchant's number of a payment whose order already has another number
    TRADE = "trade"  # Alipay's number of a payment; Antom's paymentId
    REFUND = "refund"
    CAPTURE = "capture"
    AGREEMENT = "agreement"
    EXTERNAL_AGREEMENT = "external_agreement"  # the merchant's own
    PREAUTHORIZATION = "preauthorization"
    PREAUTHORIZATION_ORDER = "preauthorization_order"  # the merchant's own
    TRANSFER = "transfer"
    BATCH = "batch"
    OPERATION = "operation"  # Alipay's number of one step: a freeze, a payment by a transfer, a settlement
    REQUEST = "request"  # the merchant's own number of one step
    APPLICATION = "application"  # an authorized application's app id
    AUTHORIZATION = "authorization"  # Antom's authState
    ACCESS_TOKEN = "access_token"  # noqa: S105 - SHA-256 of Antom's accessToken in hex, because the token is a secret
    DISPUTE = "dispute"
    SUBSCRIPTION = "subscription"
    SUBSCRIPTION_REQUEST = "subscription_request"  # the merchant's own
    VAULTING_REQUEST = "vaulting_request"  # the merchant's own
    ACQUIRER_REFERENCE = "acquirer_reference"  # a bank's or acquirer's number of a payment, refund or dispute
    CLAIMED_ORDER = "claimed_order"  # the merchant's number of an order
    CLAIMED_NUMBER = "claimed_number"  # any other number


class NamedNumber(Struct, frozen=True, gc=False):
    """A number by which a notification can be found, beside its own id and its order."""

    kind: NumberKind
    number: str


class Unreadable(ValueError):
    """An authentic message that is incomplete, contradictory or wrong. It is held with this reason and its bytes.

    `order` and `notification_id` are filled in if they could be read, so that an operator can look the message up.
    `digest` is that of its content if it has an id, so that a resend is recognised as a duplicate. `numbers` are those
    by which it is found besides; `scopes` those of the orders that it may name, if they are not its own scope.
    """

    def __init__(
        self,
        reason: Reason,
        detail: str,
        *,
        disposition: Disposition = Disposition.QUARANTINED,
        order: str = "",
        notification_id: str = "",
        digest: bytes = b"",
        numbers: tuple[NamedNumber, ...] = (),
        scopes: tuple[str, ...] = (),
    ) -> None:
        super().__init__(detail)
        self.reason = reason
        self.disposition = disposition
        self.order = order
        self.notification_id = notification_id
        self.digest = digest
        self.numbers = numbers
        self.scopes = scopes


class Notification(Struct, frozen=True, kw_only=True, gc=False):
    """The meaning of one message.

    It names its order by `order` (the merchant's number; nearly always), by the `trade` of its `capture` or of each of
    `refunds` (the old gateway's batch refunds), or by the `id` of its only refund (Antom's refunds name nothing else).
    `numbers` has the others by which it can be found. Two deliveries have the same `digest` if and only if they have
    the same content.

    Antom's messages have no id. Ours is made of type, number and result, so another message with other content may have
    it: then `content_id`, which is made of the content too, takes its place.
    """

    account: str  # the order's scope (`schemas.scopes`)
    id: str
    kind: Kind
    news: News
    type: str  # as in the message: notify_type, or Antom's notifyType
    status: str = ""  # as in the message: trade_status, or Antom's result or refund status
    order: str = ""
    trade: str = ""
    amount: Money | None = None
    refunded_total: Money | None = None
    mentions_refund: bool = False  # in a way that the order need not show: without an amount, as failed, by its number
    refunds: tuple[Refund, ...] = ()
    happened_at: datetime | None = None
    sent_at: datetime | None = None
    payer: str = ""  # masked
    numbers: tuple[NamedNumber, ...] = ()
    fields: tuple[tuple[str, str], ...] = ()  # of one that moves no order: those that are not personal
    capture: Capture | None = None
    authorized_until_ms: int = 0  # when the authorisation of the amount ends; 0 if it is no authorisation
    joins_by_trade: bool = False  # the order that has its trade may have another number
    is_periodic: bool = False  # a payment of a subscription, which the merchant cannot register beforehand
    digest: bytes = b""
    content_id: str = ""
