"""The order as consumers see it, derived from its facts and its registration alone. Pure.

Claims and refunds are joins, so everything derived from them is too: two workers that processed the same notifications
in different orders show the same order.
"""

from collections.abc import Iterable

from msgspec import structs

from schemas import times
from schemas.dispositions import Flag, Reason
from schemas.orders import (
    PAYMENT_STATES,
    RANK,
    STATUS,
    Capture,
    Claim,
    ClaimView,
    ClosedBecause,
    Movement,
    Order,
    Refund,
    State,
    Status,
    View,
)
from workers.settlement import captures, sums, transitions

MINOR_MAX = 2**63 - 1  # in no currency is an amount above it

# Flags for contradictions: the notification that brings one is held. If it brings two, the first here is its reason.
CONTRADICTIONS: dict[Flag, Reason] = {
    Flag.CURRENCY_MISMATCH: Reason.CURRENCY_MISMATCH,
    Flag.AMOUNT_MISMATCH: Reason.AMOUNT_MISMATCH,
    Flag.SECOND_TRADE: Reason.SECOND_TRADE,
    Flag.PAID_AND_EXPIRED: Reason.PAID_AND_EXPIRED,
    Flag.OVER_REFUNDED: Reason.OVER_REFUNDED,
}
_PRICES = frozenset({Flag.CURRENCY_MISMATCH, Flag.AMOUNT_MISMATCH})

_RANK_OF_OPEN = {status: RANK[State[status.name]] for status in Status if status is not Status.CLOSED}
_REFUNDED, _LAPSED = State.REFUNDED, State.LAPSED  # read once, because each view asks for them


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
    if len(claims) > 1:
        shown = structs.replace(shown, claims=_differing(claims, flags))
    return shown if not claim.authorized_until_ms else with_authorization(shown, claim)


def rank(order: Order, view: View) -> float:
    """Return the rank that a store keeps of the order with this view; it refuses one below it.

    If captures decide about the order it is the highest, because a further capture may lower such an order.
    """
    if order.has_top_rank or (order.has_captures and any(claim.is_capturable for claim in order.claims)):
        return RANK[State.REFUNDED]
    if view.status in _RANK_OF_OPEN:
        return _RANK_OF_OPEN[view.status]
    return RANK[State.REFUNDED if view.closed_because is ClosedBecause.REFUNDED else State.LAPSED]


def with_rank_of(before: Order, after: Order, view: View) -> Order:
    """Return `after` so that its rank is not below that of `before`, which has the same view.

    A decision may discard a capture that consumers no longer see. Then the order gets no version, and without a version
    of that decision no store lets a rank fall.
    """
    return structs.replace(after, has_top_rank=True) if rank(after, view) < rank(before, view) else after


def _differing(claims: tuple[Claim, ...], flags: tuple[Flag, ...]) -> tuple[ClaimView, ...]:
    """Return the claims of which only one can be right: all if amounts differ, else those of paid trades."""
    if _PRICES.isdisjoint(flags):
        claims = tuple(claim for claim in claims if claim.state in PAYMENT_STATES) if Flag.SECOND_TRADE in flags else ()
    return tuple(
        ClaimView(
            trade=claim.trade,
            status=STATUS[claim.state],
            amount_minor=claim.paid_minor,
            currency=claim.currency,
            refunded_minor=transitions.refunded_minor(claim),
        )
        for claim in claims
    )


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
    claims = captures.claims_with_captures(order) if order.has_captures else order.claims
    if not order.has_refunds:
        return claims
    found = sums.refunds(order)
    return tuple(transitions.with_refunds(claim, found.of(claim)) for claim in claims)


def contradictions(order: Order, claims: tuple[Claim, ...]) -> set[Flag]:
    """Return the flags for facts of the order that contradict each other; `claims` are those with refunds."""
    flags: set[Flag] = set()
    if len(claims) > 1 or order.expected is not None:
        flags |= _disagreements(order)
    if len(claims) > 1 or (claims and claims[0].lapsed):
        flags |= _double_ends(claims)
    if order.has_refunds:
        flags |= misfits(order, sums.largest_refunds(order))
        limit = order.refund_limit_minor
        flags |= {Flag.OVER_REFUNDED for claim in claims if transitions.is_over_refunded(claim, limit)}
    return flags | captures.contradictions(order) if order.has_captures else flags


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
    limit = after.refund_limit_minor
    over = any(
        transitions.is_over_refunded(claim, limit) and any(sums.fits(refund, claim, limit) for refund in refunds)
        for claim in claims
    )
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
        claims = [claim for claim in order.claims if sums.concerns(refund, claim)]
        if order.alternatives:
            claims = [claim for claim in claims if claim.currency == refund.amount.currency] or claims
        found.update(_misfit(refund, claim, order.refund_limit_minor) for claim in claims)
    return {flag for flag in found if flag is not None}


def largest_refund_minor(order: Order, movements: Iterable[Movement]) -> int:
    """Return the largest sum that was refunded of one claim, as reported: also more than was paid.

    `movements` are all that the order has, wherever they are stored.
    """
    refunds = (movement for movement in movements if isinstance(movement, Refund))
    reported = sums.of(refunds, order.claims, MINOR_MAX)
    return max((max(claim.refunded_total_minor, reported.of(claim)) for claim in order.claims), default=0)


def with_claim(order: Order, joined: Claim) -> Order:
    """Return the order with this claim added or replaced. Claims stay sorted, so equal facts are equal values."""
    if not order.claims:
        return structs.replace(order, claims=(joined,))
    others = (claim for claim in order.claims if claim.key != joined.key)
    return structs.replace(order, claims=tuple(sorted((*others, joined), key=lambda claim: claim.key)))


def _misfit(refund: Refund, claim: Claim, limit_minor: int) -> Flag | None:
    if refund.amount.currency != claim.currency:
        return Flag.CURRENCY_MISMATCH
    return None if sums.fits(refund, claim, limit_minor) else Flag.OVER_REFUNDED


def _closed_because(claim: Claim) -> ClosedBecause | None:
    if claim.state is _REFUNDED:
        return ClosedBecause.REFUNDED
    # A reversed trade that was never paid is closed as an expired one is.
    return (claim.lapsed or ClosedBecause.EXPIRED) if claim.state is _LAPSED else None


def _flags(order: Order, claims: tuple[Claim, ...], claim: Claim | None) -> tuple[Flag, ...]:
    flags = set(order.refused)
    if claim is not None:
        flags |= contradictions(order, claims)
        if claim.partly_refunded and transitions.refunded_minor(claim) == 0:
            flags.add(Flag.REFUND_AMOUNT_UNKNOWN)
        if claim.frozen:
            flags.add(Flag.FROZEN)
        if order.has_captures and captures.has_failed(order):
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
