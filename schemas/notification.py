"""A notification: what one signed message means, whichever family it came from.

The two readers (`schemas.interpret_form`, `schemas.interpret_antom`) make it; settlement consumes it and
knows no family.
"""

from datetime import datetime
from enum import StrEnum

from msgspec import Struct

from schemas.dispositions import Disposition, Reason
from schemas.money import Money
from schemas.orders import News, Refund


class Kind(StrEnum):
    """What sort of thing is announced. Only the first three move orders."""

    PAYMENT = "payment"
    REFUND = "refund"
    BATCH_REFUND = "batch_refund"
    CAPTURE = "capture"
    AUTHORIZATION = "authorization"
    DISPUTE = "dispute"
    SUBSCRIPTION = "subscription"
    VAULTING = "vaulting"
    OTHER = "other"


class Unreadable(ValueError):
    """An authentic message that cannot be taken at its word; it is held with this reason, its bytes kept.

    `order` and `notification_id` are filled as far as the message got, so that a person finds it by them. `digest` is
    that of its content where it has an id, so that its repetitions are known as such.
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
    ) -> None:
        super().__init__(detail)
        self.reason = reason
        self.disposition = disposition
        self.order = order
        self.notification_id = notification_id
        self.digest = digest


class Notification(Struct, frozen=True, kw_only=True, gc=False):
    """What a message means.

    Which order it is of stands in one of three places: `order` (the merchant's number, nearly always), the `trade` of
    each of `refunds` (the old gateway's batch refunds), or the `id` of the single refund (antom's refunds name nothing
    else). `digest` is equal exactly for two deliveries of the same content.
    """

    account: str
    id: str
    kind: Kind
    news: News
    type: str  # the message's own word: notify_type, or antom's notifyType
    status: str = ""  # the message's own word: trade_status, result or refund status
    order: str = ""
    trade: str = ""
    amount: Money | None = None
    refunded_total: Money | None = None
    refunds: tuple[Refund, ...] = ()
    happened_at: datetime | None = None
    sent_at: datetime | None = None
    payer: str = ""  # masked
    digest: bytes = b""
