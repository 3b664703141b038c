"""Every refusal has a status, an outcome, a reason and a message for the log."""

from collections.abc import Callable

import pytest

from ingest import errors
from ingest.errors import Refused
from schemas.dispositions import Outcome, Refusal

KINDS = [kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, Refused)][1:]
FIXED_REASONS: dict[Callable[[str], Refused], Refusal] = {
    errors.NotConfirmed: Refusal.NOT_CONFIRMED,
    errors.NotOurs: Refusal.NOT_OURS,
    errors.WrongMethod: Refusal.METHOD,
    errors.TooSlow: Refusal.TOO_SLOW,
    errors.TooLarge: Refusal.TOO_LARGE,
    errors.Throttled: Refusal.THROTTLED,
    errors.Unavailable: Refusal.UNAVAILABLE,
}


def test_outcomes_of_refusals_are_all_but_accepted_and_gone() -> None:
    assert {kind.outcome for kind in KINDS} == {*Outcome} - {Outcome.ACCEPTED, Outcome.GONE, Outcome.AMBIGUOUS}


def test_only_throttled_and_unavailable_are_answered_503() -> None:
    assert [kind for kind in KINDS if kind.status == 503] == [errors.Throttled, errors.Unavailable]


@pytest.mark.parametrize("kind", FIXED_REASONS)
def test_error_with_one_reason_takes_only_a_detail(kind: Callable[[str], Refused]) -> None:
    error = kind("why")
    assert (error.reason, str(error)) == (FIXED_REASONS[kind], "why")


def test_reason_is_the_message_if_there_is_no_detail() -> None:
    assert str(errors.Malformed(Refusal.DUPLICATE_PARAM)) == "duplicate_param"
    assert str(errors.Unavailable()) == "unavailable"
