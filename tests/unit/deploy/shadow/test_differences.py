"""The comparison of one notification, or one order, with the old handler's reaction: every pair of reactions."""

from itertools import product
from typing import Any

import pytest

from deploy.shadow import differences
from deploy.shadow.differences import DecidedOrder, MismatchKind, SeenNotification
from deploy.shadow.shapes import HandlerAnswer, OldAction, OldState
from schemas.dispositions import HELD, Disposition, Reason, Refusal
from schemas.orders import ClosedBecause, Status

REASONS = {
    Disposition.APPLIED: Reason.CHANGED,
    Disposition.DUPLICATE: Reason.SAME_ID,
    Disposition.STALE: Reason.OLD_NEWS,
    Disposition.PARKED: Reason.UNKNOWN_TRADE,
    Disposition.QUARANTINED: Reason.AMOUNT_MISMATCH,
    Disposition.DEAD: Reason.OUR_FAULT,
}
PAID = DecidedOrder(status=Status.PAID, amount_minor=1280, currency="CNY")
REFUNDED = DecidedOrder(
    status=Status.CLOSED, closed_because=ClosedBecause.REFUNDED, amount_minor=1280, currency="CNY", refunded_minor=1280
)


def kind(disposition: Disposition | None, **reaction: Any) -> str | None:
    given: dict[str, Any] = {"answer": None, "action": None, "detail": "", "refusal": ""} | reaction
    if disposition is not None:
        given.setdefault("reason", REASONS[disposition])
    seen = SeenNotification(disposition=disposition, **({"reason": None} | given))
    found = differences.of_notification(seen)
    return None if found is None else found.kind.value


@pytest.mark.parametrize("refusal", Refusal)
def test_what_is_refused_here_differs_only_if_the_old_handler_took_it(refusal: Refusal) -> None:
    assert kind(None, refusal=refusal.value, answer=HandlerAnswer.ACKNOWLEDGED) == "accepted_refused"
    assert kind(None, refusal=refusal.value, answer=HandlerAnswer.REFUSED) is None
    assert kind(None, refusal=refusal.value, answer=HandlerAnswer.ACKNOWLEDGED, action=OldAction.REFUSED) is None
    assert (
        kind(None, refusal=refusal.value, answer=HandlerAnswer.REFUSED, action=OldAction.APPLIED) == "accepted_refused"
    )


def test_without_a_known_reaction_nothing_differs() -> None:
    assert [kind(each) for each in (None, *Disposition)] == [None] * (len(Disposition) + 1)


@pytest.mark.parametrize("disposition", [Disposition.APPLIED, Disposition.DUPLICATE, Disposition.STALE])
def test_good_notification_has_to_be_acknowledged(disposition: Disposition) -> None:
    assert kind(disposition, answer=HandlerAnswer.ACKNOWLEDGED) is None
    assert kind(disposition, answer=HandlerAnswer.REFUSED) == "refused_accepted"
    assert kind(disposition, answer=HandlerAnswer.NOT_ACKNOWLEDGED) == "not_acknowledged"
    assert kind(disposition, answer=HandlerAnswer.ACKNOWLEDGED, action=OldAction.REFUSED) == "refused_accepted"
    assert kind(disposition, answer=HandlerAnswer.ACKNOWLEDGED, action=OldAction.IGNORED) is None


def test_held_notification_differs_if_the_old_handler_counted_it() -> None:
    for disposition in HELD - {Disposition.PARKED}:
        assert kind(disposition, answer=HandlerAnswer.ACKNOWLEDGED) == "accepted_held"
        assert kind(disposition, answer=HandlerAnswer.ACKNOWLEDGED, action=OldAction.IGNORED) is None
        assert kind(disposition, answer=HandlerAnswer.REFUSED) is None


def test_what_waits_is_undecided_unless_the_books_lack_its_order() -> None:
    taken = {"answer": HandlerAnswer.ACKNOWLEDGED}
    assert kind(Disposition.PARKED, **taken) is None
    assert kind(Disposition.PARKED, reason=Reason.UNKNOWN_ORDER, **taken) is None
    assert kind(Disposition.PARKED, reason=Reason.UNKNOWN_ORDER, is_exported=True, **taken) == "accepted_held"


def test_repeat_that_was_applied_again_was_taken_twice() -> None:
    applied = {"answer": HandlerAnswer.ACKNOWLEDGED, "action": OldAction.APPLIED}
    assert kind(Disposition.DUPLICATE, was_applied_before=True, **applied) == "taken_twice"
    assert kind(Disposition.DUPLICATE, **applied) is None
    assert kind(Disposition.STALE, **applied) == "taken_late"
    assert kind(Disposition.APPLIED, **applied) is None


@pytest.mark.parametrize(
    ("old", "ours"),
    [
        (OldState.WAITING, DecidedOrder(status=Status.WAITING)),
        (OldState.PAID, PAID),
        (OldState.PAID, DecidedOrder(status=Status.FINISHED)),
        (OldState.FINISHED, DecidedOrder(status=Status.FINISHED)),
        (OldState.PARTLY_REFUNDED, DecidedOrder(status=Status.PAID, refunded_minor=1)),
        (OldState.REFUNDED, REFUNDED),
        (OldState.CLOSED, REFUNDED),
        (OldState.CLOSED, DecidedOrder(status=Status.CLOSED, closed_because=ClosedBecause.EXPIRED)),
        (None, PAID),
    ],
)
def test_same_state_in_other_words_is_no_difference(old: OldState | None, ours: DecidedOrder) -> None:
    assert differences.of_order(old, None, ours) is None


def test_every_state_that_is_not_the_same_differs() -> None:
    agreeing = {(OldState.PAID, PAID), (OldState.REFUNDED, REFUNDED), (OldState.CLOSED, REFUNDED)}
    for old, ours in product(OldState, (PAID, REFUNDED)):
        found = differences.of_order(old, None, ours)
        assert (found is None) == ((old, ours) in agreeing)


def test_difference_of_an_order_shows_both_sides() -> None:
    found = differences.of_order(OldState.WAITING, None, PAID)
    assert found is not None
    assert found.detail == "books: waiting; here: PAID 12.80 CNY"
    found = differences.of_order(OldState.REFUNDED, 1000, REFUNDED)
    assert found is not None
    assert found.reason == "refunded_sum"
    assert found.detail == "books: refunded, 10.00 refunded; here: CLOSED (refunded) 12.80 CNY, 12.80 refunded"
    missing = differences.of_order(None, None, PAID, is_missing=True)
    assert missing is not None
    assert missing.kind is MismatchKind.STATE_DIFFERS
