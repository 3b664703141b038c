"""The order as consumers see it, derived from its facts and its registration alone. Pure.

Claims and refunds are joins, so everything derived from them is too: two workers that processed the same notifications
in different orders show the same order.
"""

from msgspec import structs

from schemas import times
from schemas.dispositions import Flag, Reason
from schemas.orders import (
    PAYMENT_STATES,
    RANK,
    STATUS,
    Capture,
    Claim,
    ClosedBecause,
    Order,
    Refund,
    State,
    Status,
    View,
)
from workers.settlement import captures, transitions

# Flags for contradictions: the notification that brings one is held. If it brings two, the first here is its reason.
CONTRADICTIONS: dict[Flag, Reason] = {
    Flag.CURRENCY_MISMATCH: Reason.CURRENCY_MISMATCH,
    Flag.AMOUNT_MISMATCH: Reason.AMOUNT_MISMATCH,
    Flag.SECOND_TRADE: Reason.SECOND_TRADE,
    Flag.PAID_AND_EXPIRED: Reason.PAID_AND_EXPIRED,
    Flag.OVER_REFUNDED: Reason.OVER_REFUNDED,
}


def view(order: Order) -> View:
    """Return the order as consumers see it."""
    claims = claims_with_refunds(order)
    claim = standing(claims)
    flags = _flags(order, claims, claim)
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
    shown = View(
        status=STATUS[claim.state],
        closed_because=_closed_because(claim),
        trade=claim.trade,
        amount_minor=claim.captured_minor or claim.amount_minor,
        currency=claim.currency,
        refunded_minor=transitions.refunded_minor(claim),
        flags=flags,
    )
    if order.refund_limit_minor:
        shown = structs.replace(shown, refund_accepted_minor=_accepted_minor(order, claim))
    return shown if not claim.authorized_until_ms else with_authorization(shown, claim)


def with_authorization(view: View, claim: Claim) -> View:
    """Return the view with the amount that was only authorised, and the end of the authorisation."""
    until = times.from_epoch_ms(claim.authorized_until_ms)
    return structs.replace(view, authorized_minor=claim.amount_minor, authorized_until=until)


def _accepted_minor(order: Order, claim: Claim) -> int | None:
    """Return the refunded sum that an operator has accepted; `None` if it is not more than was paid, or not by now."""
    accepted = min(order.refund_limit_minor, transitions.reported_minor(claim))
    return accepted if accepted > claim.paid_minor else None


def standing(claims: tuple[Claim, ...]) -> Claim | None:
    """Return the claim that stands for the order: the highest rank, and among equals the older trade.

    Trade numbers begin with their date, so the smaller number is the older trade. The order of arrival would not do,
    because it differs between workers.
    """
    if len(claims) < 2:
        return claims[0] if claims else None
    return min(claims, key=lambda claim: (-RANK[claim.state], *claim.key))


def claims_with_refunds(order: Order) -> tuple[Claim, ...]:
    """Return the order's claims with its captures and refunds added to those that they concern and fit.

    This only raises a claim's state; a further claim or refund never lowers it. A further capture may: it opens an
    order again whose captured sum was refunded.
    """
    claims = captures.claims_with_captures(order) if order.captures else order.claims
    if not order.refunds:
        return claims
    limit = order.refund_limit_minor
    return tuple(
        transitions.with_refunds(
            claim,
            [each for each in order.refunds if _concerns(each, claim) and _misfit(each, claim, limit) is None],
        )
        for claim in claims
    )


def contradictions(order: Order, claims: tuple[Claim, ...]) -> set[Flag]:
    """Return the flags for facts of the order that contradict each other; `claims` are those with refunds."""
    flags: set[Flag] = set()
    if len(claims) > 1 or order.expected is not None:
        flags |= _disagreements(order)
    if len(claims) > 1 or (claims and claims[0].lapsed):
        flags |= _double_ends(claims)
    if order.refunds:
        flags |= misfits(order, order.refunds)
        limit = order.refund_limit_minor
        flags |= {Flag.OVER_REFUNDED for claim in claims if transitions.is_over_refunded(claim, limit)}
    return flags | captures.contradictions(order) if order.captures else flags


def flags_from_claim(before: Order, after: Order, joined: Claim) -> set[Flag]:
    """Return the contradictions for which the notification that led to `joined` is held: the new ones.

    A new claim is also held for contradictions that the order had already, because a third amount is as wrong as the
    second.
    """
    flags = contradictions(after, claims_with_refunds(after))
    if not flags:
        return flags
    shared = set()
    if all(claim.key != joined.key for claim in before.claims):
        shared = {Flag.CURRENCY_MISMATCH, Flag.AMOUNT_MISMATCH}
        shared |= {Flag.SECOND_TRADE} if joined.state in PAYMENT_STATES else set()
    return flags - (contradictions(before, claims_with_refunds(before)) - shared)


def flags_from_refunds(before: Order, after: Order, refunds: tuple[Refund, ...]) -> set[Flag]:
    """Return the contradictions for which a notification of these refunds is held: new ones, and its refunds' own."""
    claims = claims_with_refunds(after)
    flags = contradictions(after, claims) - contradictions(before, claims_with_refunds(before))
    flags |= misfits(after, refunds)
    numbers = {refund.id for refund in refunds}
    limit = after.refund_limit_minor
    over = any(transitions.is_over_refunded(claim, limit) and numbers & claim.refunds.keys() for claim in claims)
    return flags | ({Flag.OVER_REFUNDED} if over else set())


def flags_from_capture(before: Order, after: Order, capture: Capture) -> set[Flag]:
    """Return the contradictions for which a notification of this capture is held: new ones, and its own."""
    flags = contradictions(after, claims_with_refunds(after)) - contradictions(before, claims_with_refunds(before))
    return flags | captures.misfits(after, capture)


def misfits(order: Order, refunds: tuple[Refund, ...]) -> set[Flag]:
    """Return the flags of these refunds one by one: another currency than the payment's, or a larger amount.

    If the order has several registered amounts, a trade may have claims in several currencies. Then a refund is of the
    claim in its own currency.
    """
    found: set[Flag | None] = set()
    for refund in refunds:
        claims = [claim for claim in order.claims if _concerns(refund, claim)]
        if order.alternatives:
            claims = [claim for claim in claims if claim.currency == refund.amount.currency] or claims
        found.update(_misfit(refund, claim, order.refund_limit_minor) for claim in claims)
    return {flag for flag in found if flag is not None}


def largest_refund_minor(order: Order) -> int:
    """Return the largest sum that was refunded of one claim, as reported: also more than was paid."""
    sums = [claim.refunded_total_minor for claim in order.claims]
    for claim in order.claims:
        amounts: dict[str, int] = {}
        for refund in order.refunds:
            if _concerns(refund, claim) and refund.amount.currency == claim.currency:
                amounts[refund.id] = max(refund.amount.minor, amounts.get(refund.id, 0))
        sums.append(sum(amounts.values()))
    return max(sums, default=0)


def with_claim(order: Order, joined: Claim) -> Order:
    """Return the order with this claim added or replaced. Claims stay sorted, so equal facts are equal values."""
    if not order.claims:
        return structs.replace(order, claims=(joined,))
    others = (claim for claim in order.claims if claim.key != joined.key)
    return structs.replace(order, claims=tuple(sorted((*others, joined), key=lambda claim: claim.key)))


def with_refunds(order: Order, refunds: tuple[Refund, ...]) -> Order:
    """Return the order with these refunds added; the same order if it has them already."""
    joined = {*order.refunds, *refunds}
    return order if len(joined) == len(order.refunds) else structs.replace(order, refunds=tuple(sorted(joined)))


def _concerns(refund: Refund, claim: Claim) -> bool:
    """Return whether the refund may be of this claim. A refund that names no trade may be of any claim of the order."""
    return not refund.trade or refund.trade == claim.trade


def _misfit(refund: Refund, claim: Claim, limit_minor: int) -> Flag | None:
    if refund.amount.currency != claim.currency:
        return Flag.CURRENCY_MISMATCH
    return Flag.OVER_REFUNDED if refund.amount.minor > max(claim.amount_minor, limit_minor) else None


def _closed_because(claim: Claim) -> ClosedBecause | None:
    if claim.state is State.REFUNDED:
        return ClosedBecause.REFUNDED
    # A reversed trade that was never paid is closed as an expired one is.
    return (claim.lapsed or ClosedBecause.EXPIRED) if claim.state is State.LAPSED else None


def _flags(order: Order, claims: tuple[Claim, ...], claim: Claim | None) -> tuple[Flag, ...]:
    flags = set(order.refused)
    if claim is not None:
        flags |= contradictions(order, claims)
        if claim.partly_refunded and transitions.refunded_minor(claim) == 0:
            flags.add(Flag.REFUND_AMOUNT_UNKNOWN)
        if claim.frozen:
            flags.add(Flag.FROZEN)
        if order.captures and captures.has_failed(order):
            flags.add(Flag.CAPTURE_FAILED)
    return tuple(flag for flag in Flag if flag in flags) if flags else ()


def _disagreements(order: Order) -> set[Flag]:
    """Return the flags for claims that differ from the registered amounts; from each other if there are none."""
    if order.alternatives:
        return _differences(order)
    amounts = {claim.amount_minor for claim in order.claims}
    currencies = {claim.currency for claim in order.claims}
    if order.expected is not None:
        amounts.add(order.expected.minor)
        currencies.add(order.expected.currency)
    flags = {Flag.AMOUNT_MISMATCH} if len(amounts) > 1 else set()
    return flags | ({Flag.CURRENCY_MISMATCH} if len(currencies) > 1 else set())


def _differences(order: Order) -> set[Flag]:
    """Return the flags for claims in a currency that is not registered, or of another amount in one that is."""
    flags = set()
    for claim in order.claims:
        expected = order.expected_in(claim.currency)
        if expected is None:
            flags.add(Flag.CURRENCY_MISMATCH)
        elif expected.minor != claim.amount_minor:
            flags.add(Flag.AMOUNT_MISMATCH)
    return flags


def _double_ends(claims: tuple[Claim, ...]) -> set[Flag]:
    paid = {claim.trade for claim in claims if claim.state in PAYMENT_STATES}
    lapsed = {claim.trade for claim in claims if claim.lapsed}
    flags = {Flag.SECOND_TRADE} if len(paid) > 1 else set()
    return flags | ({Flag.PAID_AND_EXPIRED} if paid & lapsed else set())
