"""The table of moves is total, and joining is commutative, associative and idempotent: all news on all states."""

import itertools
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import structs

from schemas.money import Money
from schemas.notification import Kind, Notification
from schemas.orders import RANK, Claim, ClosedBecause, News, State
from workers.settlement import transitions
from workers.settlement.transitions import MOVES, MoveVerdict

AMOUNT = 1000
TOTALS = (100, 400, AMOUNT)
CLAIM = Claim(trade="T1", amount_minor=AMOUNT, currency="CNY")


def reports(news: News, total: int | None = None, *, refund: bool = False) -> Notification:
    return Notification(
        account="shop",
        id="n",
        kind=Kind.REFUND if refund or total is not None else Kind.PAYMENT,
        news=news,
        type="trade_status_sync",
        amount=Money(AMOUNT, "CNY"),
        refunded_total=None if total is None else Money(total, "CNY"),
    )


# Every notification that this trade can have.
EVERYTHING = [
    *(reports(news) for news in News if news not in (News.PARTLY_REFUNDED, News.REFUNDED, News.OTHER)),
    structs.replace(reports(News.AUTHORIZED), authorized_until_ms=1_000),
    structs.replace(reports(News.AUTHORIZED), authorized_until_ms=2_000),
    *(reports(News.PARTLY_REFUNDED, total) for total in TOTALS),
    *(reports(News.FINISHED, total) for total in TOTALS),
    reports(News.PARTLY_REFUNDED, refund=True),
    reports(News.FINISHED, refund=True),
    reports(News.REFUNDED, AMOUNT),
]


def joined(claim: Claim, *notifications: Notification) -> Claim:
    for notification in notifications:
        claim, _ = transitions.join(claim, notification)
    return claim


def claims() -> list[Claim]:
    """Return every claim that any history builds."""
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
def test_news_that_moves_no_order_keeps_the_state(state: State) -> None:
    assert MOVES[state, News.OTHER].to is state


@pytest.mark.parametrize("news", [News.EXPIRED, News.FAILED])
@pytest.mark.parametrize("state", [State.PAID, State.FINISHED, State.REFUNDED])
def test_payment_and_end_without_payment_contradict_in_either_order(state: State, news: News) -> None:
    assert MOVES[state, news].verdict is MoveVerdict.CONTRADICTION
    paid = {State.PAID: News.PAID, State.FINISHED: News.FINISHED, State.REFUNDED: News.REFUNDED}[state]
    move = MOVES[State.LAPSED, paid]
    assert (move.verdict, move.to) == (MoveVerdict.CONTRADICTION, state)


def test_joining_commutes_on_every_possible_claim() -> None:
    known = claims()
    assert len(known) > 40
    for claim, (one, other) in itertools.product(known, itertools.combinations(EVERYTHING, 2)):
        assert joined(claim, one, other) == joined(claim, other, one)


def test_joining_twice_is_joining_once_and_never_a_rise() -> None:
    for claim, notification in itertools.product(claims(), EVERYTHING):
        once = joined(claim, notification)
        again, verdict = transitions.join(once, notification)
        assert again == once
        assert verdict is not MoveVerdict.RISE


def test_histories_of_four_end_alike_in_every_order() -> None:
    for notification in itertools.combinations(EVERYTHING, 4):
        ends = [joined(CLAIM, *order) for order in itertools.permutations(notification)]
        assert all(end == ends[0] for end in ends)


@given(st.lists(st.sampled_from(EVERYTHING), max_size=30), st.randoms(use_true_random=False), st.integers(0, 30))
def test_long_history_ends_alike_in_any_order_and_grouping(
    notification: list[Notification], chance: random.Random, cut: int
) -> None:
    shuffled = list(notification)
    chance.shuffle(shuffled)
    assert joined(CLAIM, *shuffled) == joined(CLAIM, *notification)
    assert joined(joined(CLAIM, *notification[:cut]), *notification[cut:]) == joined(CLAIM, *notification)


def test_frozen_stays_until_news_that_ends_it() -> None:
    assert joined(CLAIM, reports(News.FROZEN)).frozen
    assert joined(CLAIM, reports(News.FROZEN), reports(News.WAITING), reports(News.EXPIRED)).frozen
    for news in (reports(News.PAID), reports(News.FINISHED), reports(News.PARTLY_REFUNDED, 100)):
        assert not joined(CLAIM, reports(News.FROZEN), news).frozen
        assert not joined(CLAIM, news, reports(News.FROZEN)).frozen


def test_news_that_others_overtook_is_behind() -> None:
    def verdict(*known: Notification, news: Notification) -> MoveVerdict:
        return transitions.join(joined(CLAIM, *known), news)[1]

    paid, frozen = reports(News.PAID), reports(News.FROZEN)
    forty, ten = reports(News.PARTLY_REFUNDED, 40), reports(News.PARTLY_REFUNDED, 10)
    assert verdict(paid, news=frozen) is MoveVerdict.BEHIND
    assert verdict(frozen, news=frozen) is MoveVerdict.SAME
    assert verdict(paid, news=paid) is MoveVerdict.SAME
    assert verdict(paid, forty, news=paid) is MoveVerdict.BEHIND
    assert verdict(forty, news=ten) is MoveVerdict.BEHIND
    assert verdict(ten, news=ten) is MoveVerdict.SAME


def test_failure_wins_over_expiry_in_either_order() -> None:
    assert joined(CLAIM, reports(News.EXPIRED), reports(News.FAILED)).lapsed is ClosedBecause.FAILED
    assert joined(CLAIM, reports(News.FAILED), reports(News.EXPIRED)).lapsed is ClosedBecause.FAILED


def test_refunds_that_reach_the_amount_close_the_trade() -> None:
    assert joined(CLAIM, reports(News.PARTLY_REFUNDED, AMOUNT)).state is State.REFUNDED
    claim = transitions.with_refunds(joined(CLAIM, reports(News.FINISHED)), 600 + 400)
    assert (claim.state, transitions.refunded_minor(claim)) == (State.REFUNDED, AMOUNT)


def test_refund_proves_a_payment_that_was_never_reported() -> None:
    claim = transitions.with_refunds(joined(CLAIM, reports(News.WAITING)), 1)
    assert (claim.state, transitions.refunded_minor(claim)) == (State.PAID, 1)


def test_largest_of_cumulative_sum_and_single_refunds_counts() -> None:
    claim = joined(CLAIM, reports(News.PARTLY_REFUNDED, 400))
    assert transitions.refunded_minor(transitions.with_refunds(claim, 100 + 200)) == 400
    assert transitions.refunded_minor(transitions.with_refunds(claim, 100 + 350)) == 450


def test_contradictory_refunds_count_as_a_refund_of_all() -> None:
    claim = transitions.with_refunds(joined(CLAIM, reports(News.PAID)), 700 + 450 + 450 + 90)
    assert transitions.is_over_refunded(claim)
    assert (claim.state, transitions.refunded_minor(claim)) == (State.REFUNDED, AMOUNT)
