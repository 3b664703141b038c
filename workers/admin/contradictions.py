"""The two values because of which a notification is held: the one that it says, and the one that is known. Pure."""

from collections.abc import Iterable

from msgspec import Struct

from schemas.accounts import Account
from schemas.dispositions import Reason
from schemas.money import Money
from schemas.notification import Notification
from schemas.orders import Capture
from workers.admin import reported
from workers.queries import OrderPage

_AMOUNTS = frozenset({Reason.AMOUNT_MISMATCH, Reason.CURRENCY_MISMATCH})


class Contradiction(Struct, frozen=True, kw_only=True):
    """`said` by the notification against `known`; `source` says how the latter is known.

    `refunded` is the part of `known` that is refunded already, empty if there is none.
    """

    name: str
    said: str
    known: str
    source: str
    refunded: str = ""


def of(
    reason: Reason, notification: Notification | None, page: OrderPage | None, account: Account | None
) -> Contradiction | None:
    """Return the contradiction for which it is held; `None` if the reason is none between two values."""
    if notification is None:
        return None
    if reason in _AMOUNTS and notification.capture is not None:
        return _of_captures(notification, notification.capture, page)
    if reason in _AMOUNTS and notification.amount is not None:
        return _of_amounts(notification, notification.amount, page, account)
    if reason is Reason.SECOND_TRADE:
        return _of_trades(notification, page)
    if reason is Reason.OVER_REFUNDED:
        return _of_refunds(notification, page)
    return None


def _of_amounts(
    notification: Notification, said: Money, page: OrderPage | None, account: Account | None
) -> Contradiction | None:
    order = None if page is None else page.order
    if order is not None and order.amounts:
        known, source = _joined(order.amounts), "registered"
    elif others := _others(notification, page):
        known, source = _joined(others), "reported before"
    elif account is not None:
        known, source = " / ".join((account.currency, *account.currencies)), "currency of the account"
    else:
        return None
    return Contradiction(name="Amount", said=str(said), known=known, source=source)


def _of_captures(notification: Notification, capture: Capture, page: OrderPage | None) -> Contradiction | None:
    reserved = _others(notification, page)
    said = str(Money(capture.minor, capture.currency))
    return Contradiction(name="Amount", said=said, known=_joined(reserved), source="authorised") if reserved else None


def _others(notification: Notification, page: OrderPage | None) -> list[Money]:
    """The amounts of the order by other notifications."""
    if page is None or page.order is None:
        return []
    amounts = [Money(claim.amount_minor, claim.currency) for claim in page.order.claims]
    return [amount for amount in amounts if amount != notification.amount]


def _of_trades(notification: Notification, page: OrderPage | None) -> Contradiction | None:
    if page is None or page.order is None:
        return None
    others = [claim.trade for claim in page.order.claims if claim.trade != notification.trade]
    return (
        Contradiction(name="Trade", said=notification.trade, known=" / ".join(others), source="paid before")
        if others
        else None
    )


def _of_refunds(notification: Notification, page: OrderPage | None) -> Contradiction | None:
    amount, view = reported.amount(notification), None if page is None else page.view
    if amount is None or view is None or view.amount_minor is None or view.currency is None:
        return None
    return Contradiction(
        name="Refund",
        said=str(Money(amount.minor, amount.currency)),
        known=str(Money(view.amount_minor, view.currency)),
        refunded=str(Money(view.refunded_minor, view.currency)) if view.refunded_minor else "",
        source="paid",
    )


def _joined(amounts: Iterable[Money]) -> str:
    return " / ".join(map(str, amounts))
