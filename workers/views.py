"""What consumers see of an order, derived from its claims and its registration and from nothing else. Pure.

Because the claims are a join, so is all that is derived here: two workers that have heard the same set of
notifications in different orders show the same order.
"""

from schemas.dispositions import Flag, Reason
from schemas.orders import PAYMENT_STATES, RANK, STATUS, Claim, ClosedBecause, Order, State, Status, View
from workers import transitions

# The flags that contradict: who brings one is held. In order of precedence, where a notification brings two.
CONTRADICTIONS: dict[Flag, Reason] = {
    Flag.CURRENCY_MISMATCH: Reason.CURRENCY_MISMATCH,
    Flag.AMOUNT_MISMATCH: Reason.AMOUNT_MISMATCH,
    Flag.SECOND_TRADE: Reason.SECOND_TRADE,
    Flag.PAID_AND_EXPIRED: Reason.PAID_AND_EXPIRED,
    Flag.OVER_REFUNDED: Reason.OVER_REFUNDED,
}


def view(order: Order) -> View:
    """The order as consumers see it."""
    claim = standing(order.claims)
    flags = _flags(order, claim)
    if claim is None:
        expected = order.expected
        return View(
            status=Status.WAITING,
            closed_because=None,
            trade=None,
            amount_minor=None if expected is None else expected.minor,
            currency=None if expected is None else expected.currency,
            refunded_minor=0,
            flags=flags,
        )
    return View(
        status=STATUS[claim.state],
        closed_because=_closed_because(claim),
        trade=claim.trade,
        amount_minor=claim.amount_minor,
        currency=claim.currency,
        refunded_minor=transitions.refunded_minor(claim),
        flags=flags,
    )


def standing(claims: tuple[Claim, ...]) -> Claim | None:
    """The claim that stands for the order: of the highest rank, and of equals the elder trade.

    Trade numbers lead with their date, so the smaller one is the elder; what arrived first would not be the same for
    every worker.
    """
    if len(claims) < 2:
        return claims[0] if claims else None
    return min(claims, key=lambda claim: (-RANK[claim.state], *claim.key))


def with_claim(claims: tuple[Claim, ...], joined: Claim) -> tuple[Claim, ...]:
    """The claims with one of them renewed, kept sorted so that equal sets of facts are equal values."""
    if not claims:
        return (joined,)
    return tuple(sorted((*(claim for claim in claims if claim.key != joined.key), joined), key=lambda claim: claim.key))


def _closed_because(claim: Claim) -> ClosedBecause | None:
    if claim.state is State.REFUNDED:
        return ClosedBecause.REFUNDED
    return claim.lapsed if claim.state is State.LAPSED else None


def _flags(order: Order, claim: Claim | None) -> tuple[Flag, ...]:
    flags = set(order.refused)
    if claim is not None:
        if len(order.claims) > 1 or order.expected is not None:
            flags |= _disagreements(order)
        if claim.lapsed or len(order.claims) > 1:
            flags |= _double_ends(order)
        if claim.refunds or len(order.claims) > 1:
            flags |= {Flag.OVER_REFUNDED for claim in order.claims if transitions.is_over_refunded(claim)}
        if claim.partly_refunded and transitions.refunded_minor(claim) == 0:
            flags.add(Flag.REFUND_AMOUNT_UNKNOWN)
        if claim.frozen:
            flags.add(Flag.FROZEN)
    return tuple(flag for flag in Flag if flag in flags) if flags else ()


def _disagreements(order: Order) -> set[Flag]:
    amounts = {claim.amount_minor for claim in order.claims}
    currencies = {claim.currency for claim in order.claims}
    if order.expected is not None:
        amounts.add(order.expected.minor)
        currencies.add(order.expected.currency)
    flags = {Flag.AMOUNT_MISMATCH} if len(amounts) > 1 else set()
    return flags | ({Flag.CURRENCY_MISMATCH} if len(currencies) > 1 else set())


def _double_ends(order: Order) -> set[Flag]:
    paid = {claim.trade for claim in order.claims if claim.state in PAYMENT_STATES}
    lapsed = {claim.trade for claim in order.claims if claim.lapsed}
    flags = {Flag.SECOND_TRADE} if len(paid) > 1 else set()
    return flags | ({Flag.PAID_AND_EXPIRED} if paid & lapsed else set())
