"""Why a notification may not join its order yet, or not at all, and the texts for it. Pure; used by `decision`."""

from schemas.accounts import Account, Family
from schemas.dispositions import Flag, Reason
from schemas.notification import Notification
from schemas.orders import Order, Refund
from workers.settlement import order_view, parking


def is_known(order: Order | None, notification: Notification) -> bool:
    """Return whether the order is registered, or has this payment of a subscription by its other number."""
    if order is None or order.registered:
        return order is not None
    return notification.joins_by_trade and any(claim.trade == notification.trade for claim in order.claims)


def refusal(order: Order, notification: Notification, account: Account) -> Flag | None:
    """Return why the notification may not join the order: it contradicts the registration, the account, or itself."""
    assert notification.amount is not None
    expected = order.expected
    if order.alternatives:
        expected = order.expected_in(notification.amount.currency) or expected
    if expected is None and not _is_believed(notification.amount.currency, account):
        return Flag.CURRENCY_MISMATCH
    if expected is not None and notification.amount.currency != expected.currency:
        return Flag.CURRENCY_MISMATCH
    if expected is not None and notification.amount.minor != expected.minor:
        return Flag.AMOUNT_MISMATCH
    if notification.refunded_total is not None and notification.refunded_total.minor > notification.amount.minor:
        return Flag.OVER_REFUNDED
    return None


def _is_believed(currency: str, account: Account) -> bool:
    """Return whether an unregistered order may be priced in this currency.

    The Open Platform's `trans_currency` is optional, so it could be a part of free text: the account has to list it.
    """
    return account.family is not Family.OPENAPI or currency in (account.currency, *account.currencies)


def missing(refund: Refund, order: Order | None) -> tuple[Reason, str]:
    """Return what a refund waits for if its order is not known, or no payment of it is."""
    if refund.trade:
        return Reason.UNKNOWN_TRADE, parking.trade_key(refund.trade)
    if order is not None:
        return Reason.UNKNOWN_TRADE, parking.order_key(order.number)
    return Reason.UNKNOWN_REFUND, parking.refund_key(refund.id)


def first_contradiction(flags: set[Flag]) -> Reason | None:
    """Return the reason for the flag that comes first in `order_view.CONTRADICTIONS`."""
    if not flags:
        return None
    return next((reason for flag, reason in order_view.CONTRADICTIONS.items() if flag in flags), None)


DETAILS = {
    Reason.CURRENCY_MISMATCH: "another currency than the order's",
    Reason.AMOUNT_MISMATCH: "another amount than the order's",
    Reason.SECOND_TRADE: "a second trade was paid for this order",
    Reason.PAID_AND_EXPIRED: "the trade was paid, and another notification reports that it ended unpaid",
    Reason.OVER_REFUNDED: "more was refunded than was paid",
}

if DETAILS.keys() != {*order_view.CONTRADICTIONS.values()}:
    raise AssertionError("each contradiction needs a detail")
