"""Sums of refunds and captures: one more changes them as a sum over all would, in any order."""

import random

from hypothesis import given
from hypothesis import strategies as st
from msgspec import structs

from schemas.money import Money
from schemas.orders import Capture, Claim, Movement, MovementSums, Order, Refund, Sums
from workers.settlement import sums

CLAIMS = (
    Claim(trade="T1", amount_minor=1000, currency="USD"),
    Claim(trade="T1", amount_minor=500, currency="USD"),
    Claim(trade="T2", amount_minor=1000, currency="HKD"),
)
ORDER = Order(account="shop", number="A", claims=CLAIMS)
AMOUNTS = (1, 500, 501, 1000, 1001, 1500)


def refund(id_: str, minor: int, *, trade: str = "T1", currency: str = "USD") -> Refund:
    return Refund(id=id_, amount=Money(minor, currency), trade=trade)


def _refunds() -> st.SearchStrategy[Movement]:
    return st.builds(
        refund,
        st.sampled_from(("R1", "R2", "R3")),
        st.sampled_from(AMOUNTS),
        trade=st.sampled_from(("", "T1", "T2")),
        currency=st.sampled_from(("USD", "HKD")),
    )


def _captures() -> st.SearchStrategy[Movement]:
    succeeded = st.builds(
        Capture,
        id=st.sampled_from(("C1", "C2", "C3")),
        trade=st.sampled_from(("", "T1", "T2")),
        minor=st.sampled_from(AMOUNTS),
        currency=st.sampled_from(("USD", "HKD")),
    )
    failed = st.builds(Capture, id=st.sampled_from(("C1", "C2")), trade=st.sampled_from(("", "T1")))
    return succeeded | failed


@given(
    st.lists(_refunds(), unique=True, max_size=30) | st.lists(_captures(), unique=True, max_size=30),
    st.sampled_from((0, 1200)),
    st.randoms(use_true_random=False),
)
def test_one_by_one_in_any_order_is_the_sum_over_all(
    movements: list[Movement], limit: int, chance: random.Random
) -> None:
    whole = sums.of(movements, CLAIMS, limit)
    shuffled = [*movements]
    chance.shuffle(shuffled)
    found, known = sums.NONE, list[Movement]()
    for movement in shuffled:
        before = found
        found = sums.added(found, movement, [each for each in known if each.id == movement.id], CLAIMS, limit)
        known.append(movement)
        assert all(found.of(claim) >= before.of(claim) for claim in CLAIMS), "no movement lowers a sum"
    assert found == whole


@given(st.lists(_refunds(), unique=True, max_size=12))
def test_sum_of_a_claim_is_that_of_the_largest_fitting_amount_of_each_number(movements: list[Movement]) -> None:
    for claim in CLAIMS:
        best: dict[str, int] = {}
        for each in movements:
            if each.trade in ("", claim.trade) and each.currency == claim.currency and each.minor <= claim.amount_minor:
                best[each.id] = max(each.minor, best.get(each.id, 0))
        assert sums.of(movements, CLAIMS).of(claim) == sum(best.values())


def test_larger_movement_fits_once_an_operator_has_accepted_it() -> None:
    assert not sums.fits(refund("R", 1001), CLAIMS[0])
    assert sums.fits(refund("R", 1001), CLAIMS[0], 1001)
    assert not sums.fits(Capture(id="C", trade="T1"), CLAIMS[0]), "a failed capture"


def test_largest_of_each_trade_and_currency_shows_whether_any_contradicts() -> None:
    kept = (refund("a", 5), refund("b", 1001), refund("c", 7, trade=""), refund("d", 2, currency="HKD"))
    order = structs.replace(ORDER, refunds=kept)
    largest = {(each.trade, each.currency, each.minor) for each in sums.largest_refunds(order)}
    assert largest == {("", "USD", 7), ("T1", "USD", 1001), ("T1", "HKD", 2)}
    failed = Capture(id="C", trade="T1")
    assert sums.largest_captures(structs.replace(ORDER, captures=(failed,))) == (structs.replace(failed, id=""),)


def test_total_counts_each_number_once_and_needs_one_currency() -> None:
    found = (refund("a", 5), refund("a", 7), refund("b", 3))
    assert sums.total(sums.of(found, CLAIMS)) == Money(10, "USD")
    assert sums.total(sums.of((*found, refund("c", 1, currency="HKD")), CLAIMS)) is None
    assert sums.total(sums.NONE) is None


def test_sums_of_an_order_are_counted_or_kept() -> None:
    kept = Sums(count=40, totals={"USD": 40})
    order = structs.replace(ORDER, movement_sums=MovementSums(refunds=kept))
    assert (sums.refunds(order), sums.captures(order)) == (kept, sums.NONE)
    few = structs.replace(ORDER, refunds=(refund("a", 5),), captures=(Capture(id="C", trade="T1"),))
    assert (sums.refunds(few).count, sums.captures(few).count) == (1, 1)
    assert (sums.refunds(ORDER), sums.captures(ORDER)) == (sums.NONE, sums.NONE)
