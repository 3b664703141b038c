"""Compute the expected state of an order from the set of its notifications that arrived, for the judge.

It uses nothing of the engine, because a model that shares the engine's code shares its mistakes. It covers only the
notifications that a load run sends: one trade an order, one amount, refunds that fit, captures of the whole amount.
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
    MessageKind.AUTHORIZED: 2,
    MessageKind.CAPTURE: 2,
    MessageKind.CAPTURE_FAILED: 0,
    MessageKind.REFUND: 2,
    MessageKind.REFUND_ACTION: 2,
    MessageKind.REVERSED: 2,
    MessageKind.FINISHED: 3,
}
_REFUNDS = (MessageKind.REFUND, MessageKind.REFUND_ACTION, MessageKind.REVERSED)
_CAPTURES = (MessageKind.CAPTURE, MessageKind.CAPTURE_FAILED)
_STATUS = ("WAITING", "CLOSED", "PAID", "FINISHED")


class SendOutcome(Struct, frozen=True, kw_only=True):
    """An order as consumers must see it, with the names of the API and of the events."""

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


def waits(one: SentNotification, arrived: Collection[SentNotification]) -> bool:
    """Return whether it waits: a capture names its payment only, so no order has it before the payment has arrived."""
    return one.kind in _CAPTURES and all(each.kind in _CAPTURES for each in arrived)


def outcome(arrived: Collection[SentNotification]) -> SendOutcome:
    """Return the order that these notifications make. Their sequence and repetitions do not matter."""
    kinds = {one.kind for one in arrived}
    if kinds <= set(_CAPTURES):
        return NOTHING
    any_of_them = next(iter(arrived))
    rank = max(_rank(one) for one in arrived)
    refunds = [one for one in arrived if one.kind in _REFUNDS]
    refunded = max((one.refunded_minor or 0 for one in refunds), default=0)
    is_whole = bool(refunds) and refunded >= any_of_them.amount_minor
    because = "refunded" if is_whole else "expired" if _STATUS[rank] == "CLOSED" else None
    flags = {
        "capture_failed": MessageKind.CAPTURE_FAILED in kinds and MessageKind.CAPTURE not in kinds,
        "refund_amount_unknown": not refunded and any(one.refunded_minor is None for one in refunds),
    }
    return SendOutcome(
        status="CLOSED" if is_whole else _STATUS[rank],
        closed_because=because,
        trade=any_of_them.trade,
        amount_minor=any_of_them.amount_minor,
        currency=any_of_them.currency,
        refunded_minor=refunded,
        flags=tuple(flag for flag, is_set in flags.items() if is_set),
    )


def _rank(one: SentNotification) -> int:
    return 0 if one.kind is MessageKind.AUTHORIZED and one.is_manual else _RANK[one.kind]
