"""The captures of authorised payments: what they add up to, and whether they fail or contradict the payment. Pure.

An order keeps its captures as a set, as it keeps its refunds, so their order of arrival does not matter (`sums`). A
failed capture is forgotten as soon as one of the payment was successful, because a repeated capture has a new number.
"""

from schemas.dispositions import Flag
from schemas.orders import Capture, Claim, Order
from workers.settlement import sums, transitions


def claims_with_captures(order: Order) -> tuple[Claim, ...]:
    """Return the order's claims with its captures added to those that they concern and fit."""
    found = sums.captures(order)
    return tuple(transitions.with_captures(claim, found.of(claim)) for claim in order.claims)


def contradictions(order: Order) -> set[Flag]:
    """Return the flags for captures that contradict their payment: in another currency, or of more than its amount."""
    found = sums.captures(order)
    flags = {flag for capture in sums.largest_captures(order) for flag in misfits(order, capture)}
    is_over = any(found.of(claim) > claim.amount_minor for claim in order.claims)
    return flags | ({Flag.AMOUNT_MISMATCH} if is_over else set())


def misfits(order: Order, capture: Capture) -> set[Flag]:
    """Return the flags of this one capture."""
    if capture.has_failed:
        return set()
    found = (_misfit(capture, claim) for claim in order.claims if sums.concerns(capture, claim))
    return {flag for flag in found if flag is not None}


def has_failed(order: Order) -> bool:
    """Return whether a capture of one of the order's trades failed and none was successful."""
    found = sums.captures(order)
    failed = [capture for capture in sums.largest_captures(order) if capture.has_failed]
    return any(not found.of(claim) and any(sums.concerns(each, claim) for each in failed) for claim in order.claims)


def _misfit(capture: Capture, claim: Claim) -> Flag | None:
    if capture.currency != claim.currency:
        return Flag.CURRENCY_MISMATCH
    return None if sums.fits(capture, claim) else Flag.AMOUNT_MISMATCH
