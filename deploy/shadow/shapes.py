"""The shapes of shadow mode: a notification with the old handler's reaction, and an order as the merchant has it."""

from enum import StrEnum

from msgspec import Struct

from schemas.money import Money
from schemas.record_format import Record

# The statuses that balancers log if the client got no answer: nginx 000, 444 and 499, HAProxy -1, Envoy 0.
NO_ANSWER = 0
NO_ANSWER_STATUSES = frozenset({NO_ANSWER, 444, 499})


class HandlerAnswer(StrEnum):
    """The old handler's answer to Alipay."""

    ACKNOWLEDGED = "acknowledged"
    REFUSED = "refused"  # 4xx, or the text `fail`
    NOT_ACKNOWLEDGED = "not_acknowledged"  # anything else: Alipay sends again


class OldAction(StrEnum):
    """The effect of a notification in the old handler, as its log has it."""

    APPLIED = "applied"
    IGNORED = "ignored"
    REFUSED = "refused"


class OldState(StrEnum):
    """The state of an order in the merchant's books."""

    WAITING = "waiting"
    PAID = "paid"
    FINISHED = "finished"
    PARTLY_REFUNDED = "partly_refunded"
    REFUNDED = "refunded"
    CLOSED = "closed"


class OldReaction(Struct, frozen=True, kw_only=True):
    """The old handler's reaction to one notification, as far as it is known. `state` is that of the order after it.

    `status` is one of `NO_ANSWER_STATUSES` if the request ended before an answer.
    """

    status: int | None = None
    body: str | None = None
    action: OldAction | None = None
    state: OldState | None = None


class MirroredRequest(Struct, frozen=True, kw_only=True):
    """One notification as the old handler got it. Names of headers are in lower case.

    `request` is the balancer's number of the request, by which its log line is found; empty if there is none.
    `line_digest` recognises a line that is imported again; empty if it has neither time nor request number.
    `is_mirrored`: it came over the port, and the old handler's answer, if any, is in another place.
    """

    account: str
    target: str
    method: str
    received_at_ms: int
    headers: dict[str, str]
    body: bytes
    request: str = ""
    line_digest: bytes = b""
    is_mirrored: bool = False
    old: OldReaction | None = None


class Judged(Struct, frozen=True, kw_only=True):
    """A mirrored notification with the receiver's verdict: a record if it is authentic, else the refusal.

    `scope`, `order` and `notification_id` are of the message; of a refused one they are only its claims.
    """

    request: MirroredRequest
    scope: str
    order: str
    notification_id: str
    answer: HandlerAnswer | None
    record: Record | None = None
    refusal: str = ""
    detail: str = ""


class OldOrder(Struct, frozen=True, kw_only=True):
    """An order in the merchant's books at one moment. `None` means that the books do not have it."""

    account: str
    number: str
    as_of_ms: int
    state: OldState | None = None
    amount: Money | None = None
    refunded_minor: int | None = None
