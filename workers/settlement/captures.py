"""The captures of authorised payments: what they add up to, and whether they fail or contradict the payment. Pure.

An order keeps its captures as a set, as it keeps its refunds, so their order of arrival does not matter. One number is
one capture: told twice it counts once, and with two amounts the larger counts. A failed capture is forgotten as soon as
one of the payment was successful, because a repeated capture has a new number.
"""

from collections.abc import Iterable

from msgspec import structs

from schemas.dispositions import Flag
from schemas.orders import Capture, Claim, Order
from workers.settlement import transitions


def with_capture(order: Order, capture: Capture) -> Order:
    """Return the order with this capture added; the same order if it has it already."""
    if capture in order.captures:
        return order
    return structs.replace(order, captures=tuple(sorted((*order.captures, capture))))


def captured(claim: Claim, captures: Iterable[Capture]) -> dict[str, int]:
    """Return the amounts of the successful captures that concern the claim and fit it, by number, in minor units."""
    amounts: dict[str, int] = {}
    for capture in captures:
        if _concerns(capture, claim) and not capture.has_failed and _misfit(capture, claim) is None:
            amounts[capture.id] = max(capture.minor, amounts.get(capture.id, 0))
    return amounts


def claims_with_captures(order: Order) -> tuple[Claim, ...]:
    """Return the order's claims with its captures added to those that they concern and fit."""
    return tuple(transitions.with_captures(claim, captured(claim, order.captures)) for claim in order.claims)


def contradictions(order: Order) -> set[Flag]:
    """Return the flags for captures that contradict their payment: in another currency, or of more than its amount."""
    flags = {flag for capture in order.captures for flag in misfits(order, capture)}
    is_over = any(sum(captured(claim, order.captures).values()) > claim.amount_minor for claim in order.claims)
    return flags | ({Flag.AMOUNT_MISMATCH} if is_over else set())


def misfits(order: Order, capture: Capture) -> set[Flag]:
    """Return the flags of this one capture."""
    if capture.has_failed:
        return set()
    found = (_misfit(capture, claim) for claim in order.claims if _concerns(capture, claim))
    return {flag for flag in found if flag is not None}


def has_failed(order: Order) -> bool:
    """Return whether a capture of one of the order's trades failed and none was successful."""
    return any(
        any(capture.has_failed and _concerns(capture, claim) for capture in order.captures)
        and not captured(claim, order.captures)
        for claim in order.claims
    )


def _concerns(capture: Capture, claim: Claim) -> bool:
    return not capture.trade or capture.trade == claim.trade


def _misfit(capture: Capture, claim: Claim) -> Flag | None:
    if capture.currency != claim.currency:
        return Flag.CURRENCY_MISMATCH
    return Flag.AMOUNT_MISMATCH if capture.minor > claim.amount_minor else None
