"""Compare one trade of a bill with the order here, and decide about orders that only are here. Pure."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from msgspec import UNSET, Struct, UnsetType

from deploy.bills.sheet import BilledTrade
from schemas import orders, scopes, times
from schemas.money import Money
from schemas.times import DAY_MS, HOUR_MS
from workers.bills import BillDifference, DifferenceKind, OrderHistory, OrderPayment

# A payment so near the edge of the period may be in the bill of the day before or after.
EDGE_MS = 15 * 60_000
NEAR_EDGE = "paid near the edge of the period: it may be in the bill of the day before or after"
IN_NEITHER = "in neither of the bills of two periods that follow each other, near whose edge it was paid"
# Alipay sends a notification for some 25 hours, so a payment was made so long before its receipt at most.
LATE_MS = 26 * HOUR_MS

OPEN_MAX_MS = 31 * DAY_MS  # Alipay closes a trade that is not paid after 15 days at most


class OrderFacts(Struct, frozen=True, kw_only=True):
    """An order, as the API answers; its other fields are not needed here."""

    account: str
    auth_app_id: str | UnsetType = UNSET
    order: str
    status: str | None
    payments: tuple[OrderPayment, ...]
    refunds: dict[str, int]

    @property
    def scope(self) -> str:
        return scopes.joined(self.account, self.auth_app_id)


class ListedFacts(Struct, frozen=True, kw_only=True):
    """An order of a list, as the API answers; its other fields are not needed here."""

    account: str
    auth_app_id: str | UnsetType = UNSET
    order: str
    status: str | None
    closed_because: str | None
    trade: str | None
    amount_minor: int | None
    currency: str | None
    refunded_minor: int
    changed_at: str

    @property
    def scope(self) -> str:
        return scopes.joined(self.account, self.auth_app_id)

    @property
    def was_paid(self) -> bool:
        return orders.was_paid(self.status, self.closed_because)


class Judgement(Struct, frozen=True, kw_only=True):
    """The differences of one trade, and what of it is here: the payment, and the refunded sum of this bill.

    `may_lack_a_refund`: only sums could be compared, and refunds before the period may hide that one of the bill is
    missing.
    """

    differences: tuple[BillDifference, ...] = ()
    paid: Money | None = None
    refunded: Money | None = None
    may_lack_a_refund: bool = False


class BillPeriod(Struct, frozen=True):
    """A period of time, which ends before `until_ms`."""

    since_ms: int
    until_ms: int

    def has(self, at_ms: int) -> bool:
        return self.since_ms <= at_ms < self.until_ms

    def may_have(self, trade: str) -> bool:
        """Return whether a trade may have been paid in this period, by the day on which its number begins.

        A buyer can pay a trade for some days after it was created, and never before.
        """
        try:
            day = datetime.strptime(trade[:8], "%Y%m%d").replace(tzinfo=times.BEIJING)
        except ValueError:
            return True
        created_ms = times.to_epoch_ms(day)
        return self.since_ms - OPEN_MAX_MS <= created_ms < self.until_ms

    def may_be_of(self, received_at_ms: int) -> bool:
        """Return whether an event of which a notification came at this time may be of the period."""
        return self.since_ms <= received_at_ms < self.until_ms + LATE_MS

    def is_near_edge(self, at_ms: int) -> bool:
        return min(abs(at_ms - self.since_ms), abs(at_ms - self.until_ms)) < EDGE_MS


def of_trade(scope: str, trade: BilledTrade, refunds: Sequence[tuple[str, int]], order: OrderFacts | None) -> Judgement:
    """Compare the rows of one trade with the order that has its number, or its trade."""
    differences: list[BillDifference] = []
    payment = None if order is None else _payment(order, trade)
    paid = refunded = None
    may_lack_a_refund = False

    def differ(kind: DifferenceKind, detail: str, **fields: Any) -> None:
        differences.append(
            BillDifference(
                kind=kind,
                scope=scope if order is None else order.scope,
                order=trade.order if order is None else order.order,
                trade=trade.trade,
                bill_currency=trade.currency,
                detail=detail,
                is_known=order is not None,
                **fields,
            )
        )

    if trade.payments:
        fields: dict[str, Any] = {"bill_minor": trade.paid_minor, "at_ms": trade.paid_at_ms}
        if payment is None or not payment.is_paid:
            differ(DifferenceKind.PAYMENT_ONLY_IN_BILL, _why_unpaid(order, payment), **fields)
        else:
            paid, billed = Money(payment.minor, payment.currency), Money(trade.paid_minor, trade.currency)
            if trade.is_captured and billed.currency == paid.currency and billed.minor < paid.minor:
                paid = billed  # the other captures of the authorisation are in the bills of other days
            elif paid != billed:
                here: dict[str, Any] = {"here_minor": paid.minor, "here_currency": paid.currency}
                differ(DifferenceKind.PAYMENT_AMOUNT, "another amount is paid here", **fields, **here)
    if trade.refunds:
        kind, detail, minor = _refund_fault(trade, refunds, order, payment)
        if kind is not None:
            here = {} if payment is None or not minor else {"here_minor": minor, "here_currency": payment.currency}
            number = refunds[0][0] if len(refunds) == 1 else ""
            fields = {"bill_minor": trade.refunded_minor, "at_ms": trade.refunded_at_ms, "refund": number}
            differ(kind, detail, **fields, **here)
        elif order is not None and payment is not None:
            may_lack_a_refund = _may_lack_a_refund(trade, refunds, order, payment)
        if payment is not None:
            refunded = Money(min(payment.refunded_minor, trade.refunded_minor), payment.currency)
    return Judgement(differences=tuple(differences), paid=paid, refunded=refunded, may_lack_a_refund=may_lack_a_refund)


def _payment(order: OrderFacts, trade: BilledTrade) -> OrderPayment | None:
    """Return the payment of the order that the bill means: by its trade, or the only paid one if it names none."""
    by_trade = [each for each in order.payments if each.trade == trade.trade]
    if by_trade:
        return max(by_trade, key=lambda each: each.is_paid)
    paid = [each for each in order.payments if each.is_paid]
    return paid[0] if not trade.trade and len(paid) == 1 else None


def _why_unpaid(order: OrderFacts | None, payment: OrderPayment | None) -> str:
    if order is None:
        return "there is no such order here"
    if payment is None and (other := [each.trade for each in order.payments if each.is_paid]):
        return f"the order is paid here by another trade: {', '.join(other[:3])}"
    return f"the order is {order.status} here" if order.status else "only held notifications name the order here"


def _refund_fault(
    trade: BilledTrade, refunds: Sequence[tuple[str, int]], order: OrderFacts | None, payment: OrderPayment | None
) -> tuple[DifferenceKind | None, str, int]:
    """Return how the refunds differ, why, and the sum here; `None` if they agree.

    Refunds here may be of other days too, so that more is no difference. A refund with a number is compared by it; if
    it is unknown, it must be one of those here that have none.
    """
    if order is None or payment is None or not payment.refunded_minor:
        return DifferenceKind.REFUND_ONLY_IN_BILL, _why_not_refunded(order, payment), 0
    if payment.currency != trade.currency:
        return DifferenceKind.REFUND_AMOUNT, "the payment here has another currency", payment.refunded_minor
    without_number = payment.refunded_minor - sum(order.refunds.values())
    for number, minor in refunds:
        known = _refund_here(order, number, payment.trade)
        if known is not None and known != minor:
            return DifferenceKind.REFUND_AMOUNT, f"the refund {number} has another amount here", known
        without_number -= minor if known is None and number else 0
        if known is None and number and order.refunds and without_number < 0:
            return DifferenceKind.REFUND_ONLY_IN_BILL, f"the refund {number} is not here", 0
    if trade.refunded_minor - trade.doubtful_minor > payment.refunded_minor:
        return DifferenceKind.REFUND_AMOUNT, "less is refunded here", payment.refunded_minor
    if trade.refunded_minor > payment.refunded_minor:
        why = "less is refunded here, unless equal refunds without a number in one second are one refund"
        return DifferenceKind.UNCERTAIN, why, payment.refunded_minor
    return None, "", payment.refunded_minor


def _may_lack_a_refund(
    trade: BilledTrade, refunds: Sequence[tuple[str, int]], order: OrderFacts, payment: OrderPayment
) -> bool:
    is_by_number = all(_refund_here(order, number, payment.trade) is not None for number, _ in refunds)
    # No refund is older than its payment. The history of an order is that of all its trades together.
    return not (is_by_number or trade.payments) and len(order.payments) == 1


def _refund_here(order: OrderFacts, number: str, trade: str) -> int | None:
    """Return the sum of the refund with this number, `None` without one. A batch has a refund for each of its trades.

    Batches are of `mapi`; here such a refund has the number of the batch and the trade (`schemas.interpret_form`).
    """
    return order.refunds.get(number, order.refunds.get(f"{number}/{trade}")) if number else None


def _why_not_refunded(order: OrderFacts | None, payment: OrderPayment | None) -> str:
    if order is None:
        return "there is no such order here"
    if payment is None and (other := [each.trade for each in order.payments if each.is_paid]):
        return f"the order has another trade here: {', '.join(other[:3])}"
    return "nothing is refunded here"


def of_earlier_refunds(
    trade: BilledTrade, order: OrderFacts, history: OrderHistory, span: BillPeriod
) -> BillDifference | None:
    """Return the difference if refunds of the bill are missing here, because those here are older.

    A later refund may have an earlier one in it, of which no notification came: refunds after the period count.
    """
    (payment,) = order.payments
    begins_ms = span.since_ms - EDGE_MS
    before = sum(minor for at_ms, minor, _ in history.refunds if at_ms is not None and at_ms < begins_ms)
    here_minor = max(0, payment.refunded_minor - before)
    if here_minor >= trade.refunded_minor - trade.doubtful_minor:
        return None
    why = "the refunds here are from before the period"
    if here_minor:
        why = "some of the refunds here are from before the period"
    return BillDifference(
        kind=DifferenceKind.REFUND_AMOUNT if here_minor else DifferenceKind.REFUND_ONLY_IN_BILL,
        scope=order.scope,
        order=order.order,
        trade=trade.trade,
        bill_minor=trade.refunded_minor,
        bill_currency=trade.currency,
        here_minor=here_minor or None,
        here_currency=payment.currency if here_minor else "",
        at_ms=trade.refunded_at_ms,
        detail=why,
    )


def of_payment_here(listed: ListedFacts, history: OrderHistory, span: BillPeriod) -> BillDifference | None:
    """Return the difference of a payment that the bill does not have; `None` if it is of another period."""
    at_ms = history.paid_at_ms
    if at_ms is not None:
        if not span.has(at_ms):
            return None
        if span.is_near_edge(at_ms):
            why = NEAR_EDGE
            return _only_here(listed, DifferenceKind.UNCERTAIN, why, at_ms, listed.amount_minor)
        return _only_here(listed, DifferenceKind.PAYMENT_ONLY_HERE, "", at_ms, listed.amount_minor)
    received_at_ms = history.received_at_ms
    if received_at_ms is None or not span.may_be_of(received_at_ms):
        return None
    why = "the time of the payment is unknown: this is when its first notification was received"
    return _only_here(listed, DifferenceKind.UNCERTAIN, why, received_at_ms, listed.amount_minor)


def of_refunds_here(
    listed: ListedFacts, history: OrderHistory, span: BillPeriod, billed_minor: int
) -> BillDifference | None:
    """Return the difference of refunds that the bill does not have; `None` if it has them all."""
    inside = [(at_ms, minor) for at_ms, minor, _ in history.refunds if at_ms is not None and span.has(at_ms)]
    certain = sum(minor for at_ms, minor in inside if not span.is_near_edge(at_ms))
    at_ms = max((at_ms for at_ms, _ in inside), default=None)
    if certain > billed_minor:
        why = "" if not billed_minor else "the bill has a part of it"
        return _only_here(listed, DifferenceKind.REFUND_ONLY_HERE, why, at_ms, certain - billed_minor)
    near = sum(minor for _, minor in inside) - billed_minor
    if near > 0:
        why = "refunded near the edge of the period: it may be in the bill of the day before or after"
        return _only_here(listed, DifferenceKind.UNCERTAIN, why, at_ms, near)
    timeless = [(at_ms, minor) for known, minor, at_ms in history.refunds if known is None and span.may_be_of(at_ms)]
    unknown = near + sum(minor for _, minor in timeless)
    if timeless and unknown > 0:
        why = "the time of the refund is unknown: this is when its first notification was received"
        return _only_here(listed, DifferenceKind.UNCERTAIN, why, max(timeless)[0], unknown)
    return None


def _only_here(
    listed: ListedFacts, kind: DifferenceKind, detail: str, at_ms: int | None, minor: int | None
) -> BillDifference:
    return BillDifference(
        kind=kind,
        scope=listed.scope,
        order=listed.order,
        trade=listed.trade or "",
        here_minor=minor,
        here_currency=listed.currency or "",
        at_ms=at_ms,
        detail=detail,
    )
