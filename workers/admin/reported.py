"""The amount that a notification reports, and what became of the money by it. Pure."""

from enum import StrEnum

from msgspec import Struct

from schemas.notification import Kind, Notification
from schemas.orders import News


class AmountOf(StrEnum):
    """What a notification reports about its amount."""

    PAID = "paid"
    RESERVED = "reserved"
    REFUNDED = "refunded"
    UNPAID = "unpaid"  # the buyer has yet to pay it, or will not


class ReportedAmount(Struct, frozen=True, kw_only=True, gc=False):
    """An amount in the currency's smallest unit. `trade` is Alipay's number of the payment, empty if it names none."""

    of: AmountOf
    minor: int
    currency: str
    trade: str


_OF = {
    News.PAID: AmountOf.PAID,
    News.FINISHED: AmountOf.PAID,
    News.FROZEN: AmountOf.PAID,
    News.CAPTURED: AmountOf.PAID,
    News.AUTHORIZED: AmountOf.RESERVED,
}
_REFUNDS = frozenset({News.PARTLY_REFUNDED, News.REFUNDED, News.REVERSED})


def amount(notification: Notification) -> ReportedAmount | None:
    """Return the amount that a notification of an order reports; `None` if it names none, or several currencies."""
    trade = notification.trade
    if notification.kind in (Kind.REFUND, Kind.BATCH_REFUND) or notification.news in _REFUNDS:
        return _refunded(notification)
    captured = notification.capture
    if captured is not None and not captured.has_failed:
        return ReportedAmount(of=AmountOf.PAID, minor=captured.minor, currency=captured.currency, trade=captured.trade)
    if notification.kind is not Kind.PAYMENT or notification.amount is None:
        return None
    of = _OF.get(notification.news, AmountOf.UNPAID)
    return ReportedAmount(of=of, minor=notification.amount.minor, currency=notification.amount.currency, trade=trade)


def _refunded(notification: Notification) -> ReportedAmount | None:
    """Return the sum of its refunds; the old gateway reports a refund without its amount."""
    currencies = {refund.currency for refund in notification.refunds}
    if len(currencies) == 1:
        minor, currency = sum(refund.minor for refund in notification.refunds), currencies.pop()
    elif notification.refunded_total is not None and not currencies:
        minor, currency = notification.refunded_total.minor, notification.refunded_total.currency
    else:
        return None
    return ReportedAmount(of=AmountOf.REFUNDED, minor=minor, currency=currency, trade=notification.trade)
