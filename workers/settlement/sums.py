"""The sums of an order's refunds and captures, together its movements: what one more adds. Pure.

One number is one movement: reported twice it counts once, and with two amounts the larger counts. So one more changes a
sum by an amount that follows from the movements of its own number, and costs the same however many there are.

A movement *concerns* a claim if it names the claim's trade or none. It *fits* if it has the claim's currency and is not
larger than the claim, or than an operator has accepted. That follows from the two alone, so a sum of those that fit
never falls.
"""

from collections.abc import Collection, Iterable, Sequence
from typing import Any

from schemas.money import Money
from schemas.orders import Capture, Claim, ClaimKey, Movement, Order, Refund, Sums

NONE = Sums()


def refunds(order: Order) -> Sums:
    """Return the sums of the order's refunds, wherever they are stored."""
    if order.movement_sums is not None:
        return order.movement_sums.refunds
    return of(order.refunds, order.claims, order.refund_limit_minor) if order.refunds else NONE


def captures(order: Order) -> Sums:
    """Return the sums of the order's captures, wherever they are stored."""
    if order.movement_sums is not None:
        return order.movement_sums.captures
    return of(order.captures, order.claims) if order.captures else NONE


def of(movements: Iterable[Movement], claims: Sequence[Claim], limit_minor: int = 0) -> Sums:
    """Return the sums of these movements, all refunds or all captures, each fact once."""
    count = 0
    largest: dict[tuple[str, str], int] = {}
    numbers: dict[tuple[str, str], int] = {}  # currency and number → its largest amount
    fitting: dict[ClaimKey, dict[str, int]] = {claim.key: {} for claim in claims}
    for movement in movements:
        count += 1
        _raise(largest, (movement.trade, movement.currency), movement.minor)
        _raise(numbers, (movement.currency, movement.id), movement.minor)
        for claim in claims:
            if fits(movement, claim, limit_minor):
                _raise(fitting[claim.key], movement.id, movement.minor)
    totals: dict[str, int] = {}
    for (currency, _), minor in numbers.items():
        totals[currency] = totals.get(currency, 0) + minor
    return Sums(
        count=count,
        largest=tuple(sorted((*named, minor) for named, minor in largest.items())),
        totals=totals,
        fitting=tuple(sorted((key, sum(each.values())) for key, each in fitting.items() if each)),
    )


def added(
    known: Sums, movement: Movement, same: Collection[Movement], claims: Sequence[Claim], limit_minor: int = 0
) -> Sums:
    """Return the sums with one more movement. `same` are the known ones of its number, without this one."""
    largest = {(trade, currency): minor for trade, currency, minor in known.largest}
    _raise(largest, (movement.trade, movement.currency), movement.minor)
    fitting = dict(known.fitting)
    for claim in claims:
        if fits(movement, claim, limit_minor):
            before = max((each.minor for each in same if fits(each, claim, limit_minor)), default=0)
            fitting[claim.key] = fitting.get(claim.key, 0) + max(0, movement.minor - before)
    before = max((each.minor for each in same if each.currency == movement.currency), default=0)
    total = known.totals.get(movement.currency, 0) + max(0, movement.minor - before)
    return Sums(
        count=known.count + 1,
        largest=tuple(sorted((*named, minor) for named, minor in largest.items())),
        totals=known.totals | {movement.currency: total},
        fitting=tuple(sorted(fitting.items())),
    )


def concerns(movement: Movement, claim: Claim) -> bool:
    """Return whether it may be of this claim. One that names no trade may be of any claim of the order."""
    return not movement.trade or movement.trade == claim.trade


def fits(movement: Movement, claim: Claim, limit_minor: int = 0) -> bool:
    """Return whether it concerns the claim, in its currency, and is not larger. A failed capture fits none."""
    largest = max(claim.amount_minor, limit_minor)
    return concerns(movement, claim) and movement.currency == claim.currency and movement.minor <= largest


def largest_refunds(order: Order) -> tuple[Refund, ...]:
    """Return one refund, without a number, for each trade and currency: the largest, which contradicts if any does."""
    found = refunds(order).largest
    return tuple(Refund(id="", amount=Money(minor, currency), trade=trade) for trade, currency, minor in found)


def largest_captures(order: Order) -> tuple[Capture, ...]:
    """Return one capture, without a number, for each trade and currency: the largest. Failed ones have no currency."""
    found = captures(order).largest
    return tuple(Capture(id="", trade=trade, minor=minor, currency=currency) for trade, currency, minor in found)


def total(known: Sums) -> Money | None:
    """Return the sum of all; `None` if there are none, or in several currencies."""
    if len(known.totals) != 1:
        return None
    ((currency, minor),) = known.totals.items()
    return Money(minor, currency)


def _raise(largest: dict[Any, int], key: Any, minor: int) -> None:
    largest[key] = max(minor, largest.get(key, 0))
