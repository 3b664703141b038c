"""Which order a notification belongs to if another order number has its payment already. Pure; used by `decision`.

Antom may report one payment twice: with the merchant's number, and as a subscription's by `paymentId` alone. That is
one order. The notification that comes first gives it its number, because events publish it; the other leads there.

If orders must be registered, and the notification with the merchant's number came first, it is parked until that number
is registered. The other one does not wake it, but its next retry finds the payment.
"""

from collections.abc import Mapping

from schemas.notification import Kind, Notification
from schemas.orders import Order, Refund
from workers.settlement.plan import AccountKey


def filed_under(
    notification: Notification,
    orders: Mapping[AccountKey, Order],
    by_trade: Mapping[AccountKey, str],
    by_refund: Mapping[AccountKey, str],
) -> str:
    """Return the number of the order that the notification is filed under, if that is not the one it names.

    It is empty also while no order is known of a capture or refund that names only its payment, and for refunds of
    several orders: these stand on the pages of the trades that they name.
    """
    if not notification.refunds or notification.amount is not None:
        return number_of(notification, orders, by_trade)
    found = {order_of_refund(notification, refund, by_trade, by_refund) or "" for refund in notification.refunds}
    return found.pop() if len(found) == 1 else ""


def order_of_refund(
    notification: Notification, refund: Refund, by_trade: Mapping[AccountKey, str], by_refund: Mapping[AccountKey, str]
) -> str | None:
    """Return the number of the order of one of the notification's refunds; `None` if it is not known."""
    if refund.trade:
        return by_trade.get((notification.account, refund.trade))
    return by_refund.get((notification.account, refund.id))


def number_of(
    notification: Notification, orders: Mapping[AccountKey, Order], by_trade: Mapping[AccountKey, str]
) -> str:
    """Return the number of the order on whose timeline the notification stands, if that is not the one it names."""
    if not notification.joins_by_trade:
        return ""
    if notification.kind is not Kind.PAYMENT:
        return by_trade.get((notification.account, notification.trade), "")
    shared = order_of_trade(notification, orders, by_trade)
    named = orders.get((notification.account, notification.order))
    return "" if shared is None or (named is not None and not named.is_note) else shared.number


def order_of_trade(
    notification: Notification, orders: Mapping[AccountKey, Order], by_trade: Mapping[AccountKey, str]
) -> Order | None:
    """Return the order of another number that has this payment already; `None` if there is none."""
    trade = notification.trade
    number = by_trade.get((notification.account, trade)) if notification.order == trade else trade
    if number is None or number == notification.order:
        return None
    order = orders.get((notification.account, number))
    return order if order is not None and any(claim.trade == trade for claim in order.claims) else None
