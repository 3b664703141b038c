"""The table of moves: the one place where a trade's state changes. Pure, and total over all states and all news.

A state only rises in rank, and everything else in a claim is joined by maximum or by union. So joining is commutative,
associative and idempotent: the same notifications build the same claim, in any order and with any repetitions
(`tests/unit/workers/settlement/test_transitions.py` checks all permutations).
"""

from enum import StrEnum

from msgspec import Struct, structs

from schemas.notification import Kind, Notification
from schemas.orders import PAYMENT_STATES, RANK, Claim, ClosedBecause, News, State


class MoveVerdict(StrEnum):
    """How one piece of news relates to the known state of the trade."""

    RISE = "rise"
    SAME = "same"
    BEHIND = "behind"  # older than the known state, which stays
    CONTRADICTION = "contradiction"  # paid, and ended without payment: one of the two is wrong


class Move(Struct, frozen=True):
    """The state after the news. In a contradiction the higher rank stands."""

    verdict: MoveVerdict
    to: State


_W, _A, _L = State.WAITING, State.AUTHORIZED, State.LAPSED
_P, _F, _R = State.PAID, State.FINISHED, State.REFUNDED


def _rise(to: State) -> Move:
    return Move(MoveVerdict.RISE, to)


def _same(to: State) -> Move:
    return Move(MoveVerdict.SAME, to)


def _behind(to: State) -> Move:
    return Move(MoveVerdict.BEHIND, to)


def _contradiction(to: State) -> Move:
    return Move(MoveVerdict.CONTRADICTION, to)


MOVES: dict[tuple[State, News], Move] = {
    (_W, News.WAITING): _same(_W),
    (_W, News.AUTHORIZED): _rise(_A),
    (_W, News.CAPTURED): _rise(_P),
    (_W, News.CAPTURE_FAILED): _same(_W),
    (_W, News.PAID): _rise(_P),
    (_W, News.FINISHED): _rise(_F),
    (_W, News.FROZEN): _rise(_P),
    (_W, News.PARTLY_REFUNDED): _rise(_P),
    (_W, News.REFUNDED): _rise(_R),
    (_W, News.EXPIRED): _rise(_L),
    (_W, News.FAILED): _rise(_L),
    (_W, News.REVERSED): _rise(_L),
    (_W, News.OTHER): _same(_W),
    #
    (_A, News.WAITING): _behind(_A),
    (_A, News.AUTHORIZED): _same(_A),
    (_A, News.CAPTURED): _rise(_P),
    (_A, News.CAPTURE_FAILED): _same(_A),
    (_A, News.PAID): _rise(_P),
    (_A, News.FINISHED): _rise(_F),
    (_A, News.FROZEN): _rise(_P),
    (_A, News.PARTLY_REFUNDED): _rise(_P),
    (_A, News.REFUNDED): _rise(_R),
    (_A, News.EXPIRED): _rise(_L),
    (_A, News.FAILED): _rise(_L),
    (_A, News.REVERSED): _rise(_L),
    (_A, News.OTHER): _same(_A),
    #
    (_L, News.WAITING): _behind(_L),
    (_L, News.AUTHORIZED): _behind(_L),
    (_L, News.CAPTURED): _contradiction(_P),
    (_L, News.CAPTURE_FAILED): _same(_L),
    (_L, News.PAID): _contradiction(_P),
    (_L, News.FINISHED): _contradiction(_F),
    (_L, News.FROZEN): _contradiction(_P),
    (_L, News.PARTLY_REFUNDED): _contradiction(_P),
    (_L, News.REFUNDED): _contradiction(_R),
    (_L, News.EXPIRED): _same(_L),
    (_L, News.FAILED): _same(_L),
    (_L, News.REVERSED): _same(_L),
    (_L, News.OTHER): _same(_L),
    #
    (_P, News.WAITING): _behind(_P),
    (_P, News.AUTHORIZED): _behind(_P),
    (_P, News.CAPTURED): _same(_P),
    (_P, News.CAPTURE_FAILED): _same(_P),
    (_P, News.PAID): _same(_P),
    (_P, News.FINISHED): _rise(_F),
    (_P, News.FROZEN): _same(_P),
    (_P, News.PARTLY_REFUNDED): _same(_P),
    (_P, News.REFUNDED): _rise(_R),
    (_P, News.EXPIRED): _contradiction(_P),
    (_P, News.FAILED): _contradiction(_P),
    (_P, News.REVERSED): _rise(_R),
    (_P, News.OTHER): _same(_P),
    #
    (_F, News.WAITING): _behind(_F),
    (_F, News.AUTHORIZED): _behind(_F),
    (_F, News.CAPTURED): _behind(_F),
    (_F, News.CAPTURE_FAILED): _same(_F),
    (_F, News.PAID): _behind(_F),
    (_F, News.FINISHED): _same(_F),
    (_F, News.FROZEN): _behind(_F),
    (_F, News.PARTLY_REFUNDED): _same(_F),
    (_F, News.REFUNDED): _rise(_R),
    (_F, News.EXPIRED): _contradiction(_F),
    (_F, News.FAILED): _contradiction(_F),
    (_F, News.REVERSED): _rise(_R),
    (_F, News.OTHER): _same(_F),
    #
    (_R, News.WAITING): _behind(_R),
    (_R, News.AUTHORIZED): _behind(_R),
    (_R, News.CAPTURED): _behind(_R),
    (_R, News.CAPTURE_FAILED): _same(_R),
    (_R, News.PAID): _behind(_R),
    (_R, News.FINISHED): _behind(_R),
    (_R, News.FROZEN): _behind(_R),
    (_R, News.PARTLY_REFUNDED): _behind(_R),
    (_R, News.REFUNDED): _same(_R),
    (_R, News.EXPIRED): _contradiction(_R),
    (_R, News.FAILED): _contradiction(_R),
    (_R, News.REVERSED): _same(_R),
    (_R, News.OTHER): _same(_R),
}

if {(state, news) for state in State for news in News} != MOVES.keys():
    raise AssertionError("the table of moves is not total")

# Read once here, because each record asks for them: Python 3.11 finds a member of an enum as slowly as it calls code.
_REVERSED, _REFUND, _UNMOVED = News.REVERSED, Kind.REFUND, MoveVerdict.SAME
_UNFREEZING = frozenset({News.CAPTURED, News.PAID, News.FINISHED, News.PARTLY_REFUNDED, News.REFUNDED, News.REVERSED})
_PAYMENTS = frozenset({News.PAID, News.FINISHED, News.FROZEN})
_LAPSES = {News.EXPIRED: ClosedBecause.EXPIRED, News.FAILED: ClosedBecause.FAILED}


def join(claim: Claim, notification: Notification) -> tuple[Claim, MoveVerdict]:
    """Return the claim with the notification's facts joined, and how the news related to the claim before."""
    news = notification.news
    move = MOVES[claim.state, news]
    joined = structs.replace(
        claim,
        state=move.to,
        lapsed=_lapsed(claim.lapsed, news),
        reversed=claim.reversed or news is _REVERSED,
        frozen=_frozen(claim, news),
        refunded_total_minor=_largest_total(claim, notification),
        partly_refunded=claim.partly_refunded or _is_refund_without_amount(notification),
    )
    if notification.authorized_until_ms:
        until_ms = max(claim.authorized_until_ms, notification.authorized_until_ms)
        joined = structs.replace(joined, authorized_until_ms=until_ms)
    joined = _closed_by_refunds(joined)
    return joined, _verdict(move.verdict, claim, joined, notification)


def with_captures(claim: Claim, sum_minor: int) -> Claim:
    """Return the claim with the sum of its successful captures, each of which fits it; 0 if there are none.

    They count once the payment is reported as authorised, or as failed, which they contradict. If it is reported as
    paid, all of its amount counts.
    """
    if not sum_minor or claim.state in PAYMENT_STATES or not claim.is_capturable:
        return claim
    to = MOVES[claim.state, News.CAPTURED].to
    captured = min(sum_minor, claim.amount_minor)
    return structs.replace(claim, state=to, frozen=False, captured_minor=captured)


def with_refunds(claim: Claim, sum_minor: int) -> Claim:
    """Return the claim with the sum of its single refunds, each of which fits it; 0 if there are none.

    A refund proves a payment.
    """
    if not sum_minor:
        return claim
    to = MOVES[claim.state, News.PARTLY_REFUNDED].to
    return _closed_by_refunds(structs.replace(claim, state=to, frozen=False, refunds_minor=sum_minor))


def _closed_by_refunds(claim: Claim) -> Claim:
    is_paid = claim.state is _P or claim.state is _F
    if is_paid and (claim.reversed or refunded_minor(claim) >= (claim.captured_minor or claim.amount_minor)):
        return structs.replace(claim, state=_R, frozen=False)
    return claim


def refunded_minor(claim: Claim) -> int:
    """Return the amount refunded so far, never more than was paid.

    Three sources are joined: a full refund, the largest cumulative sum, and the sum of single refunds. If the latter is
    above the paid amount, some are wrong, and all of the payment counts as refunded. Which of them are wrong is not
    guessed: one more refund, or a larger amount of a known one, would change the guess and might lower the sum.
    """
    if claim.state is _R:
        return claim.paid_minor
    if not claim.refunds_minor:
        return claim.refunded_total_minor
    return max(claim.refunded_total_minor, min(claim.refunds_minor, claim.paid_minor))


def reported_minor(claim: Claim) -> int:
    """Return the refunded amount as reported, also if it is more than was paid."""
    return max(claim.refunded_total_minor, claim.refunds_minor)


def is_over_refunded(claim: Claim, limit_minor: int = 0) -> bool:
    """Return whether the single refunds add up to more than was paid, and to more than an operator accepted."""
    return claim.refunds_minor > max(claim.paid_minor, limit_minor)


def is_payment(news: News) -> bool:
    """Return whether the news is that the buyer has paid: not a refund, which only proves it."""
    return news in _PAYMENTS


def _verdict(verdict: MoveVerdict, claim: Claim, joined: Claim, notification: Notification) -> MoveVerdict:
    if verdict is not _UNMOVED:
        return verdict
    if joined != claim:
        return MoveVerdict.RISE
    return MoveVerdict.BEHIND if _is_overtaken(claim, notification) else MoveVerdict.SAME


def _is_overtaken(claim: Claim, notification: Notification) -> bool:
    """Return whether news that changes nothing is older than the known facts of a trade in the same state."""
    if notification.news is News.PAID:
        return refunded_minor(claim) > 0 or claim.partly_refunded
    if notification.news is News.FROZEN:
        return not claim.frozen
    total = notification.refunded_total
    return total is not None and total.minor < claim.refunded_total_minor


def _lapsed(known: ClosedBecause | None, news: News) -> ClosedBecause | None:
    reported = _LAPSES.get(news)
    if reported is None:
        return known
    # One of the two has to win in either order of arrival, and a failure is the more specific.
    return ClosedBecause.FAILED if ClosedBecause.FAILED in (known, reported) else known or reported


def _frozen(claim: Claim, news: News) -> bool:
    if news in _UNFREEZING:
        return False
    if news is News.FROZEN:
        return claim.frozen or RANK[claim.state] < RANK[State.PAID]
    return claim.frozen


def _largest_total(claim: Claim, notification: Notification) -> int:
    total = notification.refunded_total
    return claim.refunded_total_minor if total is None else max(claim.refunded_total_minor, total.minor)


def _is_refund_without_amount(notification: Notification) -> bool:
    """Return whether it reports a refund without an amount, as the old gateway does, also at the end of the trade."""
    return notification.kind is _REFUND and notification.refunded_total is None
