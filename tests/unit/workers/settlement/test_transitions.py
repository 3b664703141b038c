"""The table of moves is total, and joining is commutative, associative and idempotent: all news on all states."""

import itertools
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.money import Money
from schemas.notification import Kind, Notification
from schemas.orders import RANK, Claim, ClosedBecause, News, Refund, State
from workers.settlement import transitions
from workers.settlement.transitions import MOVES, MoveVerdict

AMOUNT = 1000
TOTALS = (100, 400, AMOUNT)
CLAIM = Claim(trade="T1", amount_minor=AMOUNT, currency="CNY")


def told(news: News, total: int | None = None, *, refund: bool = False) -> Notification:
    return Notification(
        account="shop",
        id="n",
        kind=Kind.REFUND if refund or total is not None else Kind.PAYMENT,
        news=news,
        type="trade_status_sync",
        amount=Money(AMOUNT, "CNY"),
        refunded_total=None if total is None else Money(total, "CNY"),
    )


# Everything that one notification of this trade can say.
EVERYTHING = [
    *(told(news) for news in News if news not in (News.PARTLY_REFUNDED, News.REFUNDED, News.OTHER)),
    *(told(News.PARTLY_REFUNDED, total) for total in TOTALS),
    *(told(News.FINISHED, total) for total in TOTALS),
    told(News.PARTLY_REFUNDED, refund=True),
    told(News.FINISHED, refund=True),
    told(News.REFUNDED, AMOUNT),
]


def joined(claim: Claim, *heard: Notification) -> Claim:
    for notification in heard:
        claim, _ = transitions.join(claim, notification)
    return claim


def claims() -> list[Claim]:
    """Every claim that any history builds."""
    found: dict[str, Claim] = {}
    fresh = [CLAIM]
    while fresh:
        claim = fresh.pop()
        if repr(claim) not in found:
            found[repr(claim)] = claim
            fresh += [joined(claim, notification) for notification in EVERYTHING]
    return list(found.values())


def test_every_news_has_a_move_from_every_state() -> None:
    assert set(MOVES) == set(itertools.product(State, News))


@pytest.mark.parametrize(("state", "news"), MOVES)
def test_no_move_leads_to_a_lower_rank(state: State, news: News) -> None:
    move = MOVES[state, news]
    assert RANK[move.to] >= RANK[state]
    assert (move.verdict is MoveVerdict.BEHIND) <= (move.to is state)


@pytest.mark.parametrize("state", State)
def test_news_that_moves_no_order_moves_none(state: State) -> None:
    assert MOVES[state, News.OTHER].to is state


@pytest.mark.parametrize("news", [News.EXPIRED, News.FAILED])
@pytest.mark.parametrize("state", [State.PAID, State.FINISHED, State.REFUNDED])
def test_a_payment_and_an_end_without_payment_contradict_in_either_order(state: State, news: News) -> None:
    assert MOVES[state, news].verdict is MoveVerdict.CONTRADICTION
    paid = {State.PAID: News.PAID, State.FINISHED: News.FINISHED, State.REFUNDED: News.REFUNDED}[state]
    move = MOVES[State.LAPSED, paid]
    assert (move.verdict, move.to) == (MoveVerdict.CONTRADICTION, state)


def test_joining_commutes_on_every_claim_that_can_be() -> None:
    known = claims()
    assert len(known) > 40
    for claim, (one, other) in itertools.product(known, itertools.combinations(EVERYTHING, 2)):
        assert joined(claim, one, other) == joined(claim, other, one)


def test_joining_twice_is_joining_once_and_says_so() -> None:
    for claim, notification in itertools.product(claims(), EVERYTHING):
        once = joined(claim, notification)
        again, verdict = transitions.join(once, notification)
        assert again == once
        assert verdict is not MoveVerdict.RISE


def test_all_histories_of_four_end_alike_in_all_their_orders() -> None:
    for notification in itertools.combinations(EVERYTHING, 4):
        ends = [joined(CLAIM, *order) for order in itertools.permutations(notification)]
        assert all(end == ends[0] for end in ends)


@given(st.lists(st.sampled_from(EVERYTHING), max_size=30), st.randoms(use_true_random=False), st.integers(0, 30))
def test_a_long_history_may_come_in_any_order_and_in_any_grouping(
    notification: list[Notification], chance: random.Random, cut: int
) -> None:
    shuffled = list(notification)
    chance.shuffle(shuffled)
    assert joined(CLAIM, *shuffled) == joined(CLAIM, *notification)
    assert joined(joined(CLAIM, *notification[:cut]), *notification[cut:]) == joined(CLAIM, *notification)


def test_frozen_is_remembered_until_anything_says_that_it_is_over() -> None:
    assert joined(CLAIM, told(News.FROZEN)).frozen
    assert joined(CLAIM, told(News.FROZEN), told(News.WAITING), told(News.EXPIRED)).frozen
    for news in (told(News.PAID), told(News.FINISHED), told(News.PARTLY_REFUNDED, 100)):
        assert not joined(CLAIM, told(News.FROZEN), news).frozen
        assert not joined(CLAIM, news, told(News.FROZEN)).frozen


def test_a_failure_is_remembered_rather_than_an_expiry() -> None:
    assert joined(CLAIM, told(News.EXPIRED), told(News.FAILED)).lapsed is ClosedBecause.FAILED
    assert joined(CLAIM, told(News.FAILED), told(News.EXPIRED)).lapsed is ClosedBecause.FAILED


def singles(*amounts: int) -> list[Refund]:
    return [Refund(id=f"R{n}", amount=Money(amount, "CNY")) for n, amount in enumerate(amounts)]


def test_refunds_that_reach_the_amount_close_the_trade() -> None:
    assert joined(CLAIM, told(News.PARTLY_REFUNDED, AMOUNT)).state is State.REFUNDED
    claim = transitions.with_refunds(joined(CLAIM, told(News.FINISHED)), singles(600, 400))
    assert (claim.state, transitions.refunded_minor(claim)) == (State.REFUNDED, AMOUNT)


def test_a_refund_is_proof_of_a_payment_not_heard_of() -> None:
    claim = transitions.with_refunds(joined(CLAIM, told(News.WAITING)), singles(1))
    assert (claim.state, transitions.refunded_minor(claim)) == (State.PAID, 1)


def test_the_largest_way_of_saying_what_was_refunded_counts() -> None:
    claim = joined(CLAIM, told(News.PARTLY_REFUNDED, 400))
    assert transitions.refunded_minor(transitions.with_refunds(claim, singles(100, 200))) == 400
    assert transitions.refunded_minor(transitions.with_refunds(claim, singles(100, 350))) == 450


def test_of_refunds_that_cannot_all_be_right_the_largest_sum_that_fits_counts() -> None:
    claim = transitions.with_refunds(joined(CLAIM, told(News.PAID)), singles(700, 450, 450, 90))
    assert transitions.is_over_refunded(claim)
    assert transitions.refunded_minor(claim) == 990


def test_one_refund_told_with_two_amounts_counts_with_the_larger() -> None:
    twice = [Refund(id="R", amount=Money(300, "CNY")), Refund(id="R", amount=Money(500, "CNY"))]
    for told_ in (twice, twice[::-1]):
        claim = transitions.with_refunds(CLAIM, told_)
        assert (transitions.refunded_minor(claim), transitions.is_over_refunded(claim)) == (500, False)


def test_a_hundred_thousand_small_refunds_add_up_exactly() -> None:
    claim = Claim(trade="T1", amount_minor=1_500_000, currency="CNY", state=State.PAID)
    refunded = transitions.with_refunds(claim, singles(*(10 + 10 * (n % 2) for n in range(100_000))))
    assert transitions.refunded_minor(refunded) == 1_500_000
    assert refunded.state is State.REFUNDED
