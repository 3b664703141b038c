"""What an order has to end up as, from the set of notifications that arrived: the generator's own idea of it.

Nothing of the product is used here: a judge that shares the accused's code shares its mistakes. It knows only what the
load sends, which contradicts nothing: one trade an order, one amount, refunds that fit.
"""

from __future__ import annotations

from collections.abc import Collection

from msgspec import Struct

from deploy.load.corpus import SentNotification
from deploy.sandbox.notifications import MessageKind

_RANK = {
    MessageKind.WAITING: 0,
    MessageKind.CLOSED: 1,
    MessageKind.PAID: 2,
    MessageKind.REFUND: 2,
    MessageKind.FINISHED: 3,
}
_STATUS = ("WAITING", "CLOSED", "PAID", "FINISHED")


class SendOutcome(Struct, frozen=True, kw_only=True):
    """An order as consumers have to see it, in the words of the API and of the events."""

    status: str | None
    closed_because: str | None
    trade: str | None
    amount_minor: int | None
    currency: str | None
    refunded_minor: int
    flags: tuple[str, ...]


NOTHING = SendOutcome(
    status=None, closed_because=None, trade=None, amount_minor=None, currency=None, refunded_minor=0, flags=()
)


def outcome(told: Collection[SentNotification]) -> SendOutcome:
    """The order that these notifications make, in whatever order and however often they came."""
    if not told:
        return NOTHING
    any_of_them = next(iter(told))
    rank = max(_RANK[one.kind] for one in told)
    refunds = [one for one in told if one.kind is MessageKind.REFUND]
    refunded = max((one.refunded_minor or 0 for one in refunds), default=0)
    is_whole = bool(refunds) and refunded >= any_of_them.amount_minor
    because = "refunded" if is_whole else "expired" if _STATUS[rank] == "CLOSED" else None
    is_amount_unknown = not refunded and any(one.refunded_minor is None for one in refunds)
    return SendOutcome(
        status="CLOSED" if is_whole else _STATUS[rank],
        closed_because=because,
        trade=any_of_them.trade,
        amount_minor=any_of_them.amount_minor,
        currency=any_of_them.currency,
        refunded_minor=refunded,
        flags=("refund_amount_unknown",) if is_amount_unknown else (),
    )
