"""Why a notification may not join its order yet, or not at all, and the texts for it. Pure; used by `decision`."""

from schemas.accounts import Account, Family
from schemas.dispositions import Disposition, Flag, Reason
from schemas.money import Money
from schemas.notification import Notification
from schemas.orders import Claim, Order, Refund
from workers.settlement import captures, order_view, parking, sums
from workers.settlement.plan import HeldRow


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
    total, limit = notification.refunded_total, max(notification.amount.minor, order.refund_limit_minor)
    if total is not None and total.minor > limit:
        return Flag.OVER_REFUNDED
    return None


def aside(before: Order, after: Order, joined: Claim) -> Flag | None:
    """Return why a payment that an operator set aside may not join again: the contradiction that it would raise."""
    reason = first_contradiction(order_view.flags_from_claim(before, after, joined))
    return None if reason is None else Flag(reason)


def persists(held: HeldRow, order: Order | None) -> bool:
    """Return whether the contradiction for which a row is quarantined is still there, so that only a person ends it."""
    if order is None or held.disposition is not Disposition.QUARANTINED or held.reason not in DETAILS:
        return False
    return Flag(held.reason) in order_view.contradictions(order, order_view.claims_with_refunds(order))


def detail(reason: Reason, notification: Notification, order: Order) -> str:
    """Return the text for a contradiction: the two facts that disagree, first the notification's."""
    amount, capture = notification.amount, notification.capture
    others = [claim for claim in order.claims if claim.trade != notification.trade] or list(order.claims)
    if reason in (Reason.AMOUNT_MISMATCH, Reason.CURRENCY_MISMATCH) and capture is not None:
        authorised = [str(Money(claim.amount_minor, claim.currency)) for claim in order.claims]
        return f"captured {Money(capture.minor, capture.currency)}, authorised {' or '.join(authorised)}"
    if reason in (Reason.AMOUNT_MISMATCH, Reason.CURRENCY_MISMATCH) and amount is not None:
        if order.amounts:
            return f"said {amount}, registered {' or '.join(map(str, order.amounts))}"
        claimed = [
            claim for claim in order.claims if (claim.amount_minor, claim.currency) != (amount.minor, amount.currency)
        ]
        if claimed:
            return (
                f"said {amount}, trade {claimed[0].trade} is of {Money(claimed[0].amount_minor, claimed[0].currency)}"
            )
        return f"said {amount}, and the account does not list this currency"
    if reason is Reason.SECOND_TRADE and amount is not None and others:
        first = Money(others[0].paid_minor, others[0].currency)
        return f"trade {notification.trade} paid {amount}, trade {others[0].trade} paid {first}"
    if reason is Reason.OVER_REFUNDED:
        claims = captures.claims_with_captures(order)
        paid = [str(Money(claim.paid_minor, claim.currency)) for claim in claims] or [str(amount)]
        total = notification.refunded_total or (sums.total(sums.refunds(order)) if notification.refunds else None)
        if total is not None:
            return f"refunded {total}, paid {paid[0] if amount is None else amount}"
    return DETAILS[reason]


def _is_believed(currency: str, account: Account) -> bool:
    """Return whether an unregistered order may be priced in this currency.

    The Open Platform's `trans_currency` is optional, so it could be a part of free text: the account has to list it.
    """
    return currency in (account.currency, *account.currencies) or account.family is not Family.OPENAPI


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
