"""Simulated histories: every promise holds in each, and every planted defect is noticed."""

import itertools

import pytest

from tests.simulation import history, shrink
from tests.simulation.history import Seed
from tests.simulation.mutants import MUTANTS

HISTORIES = 400
NOTICED_WITHIN = 600


@pytest.mark.parametrize("first", range(0, HISTORIES, 50))
def test_every_promise_holds_in_every_history(first: int) -> None:
    wrong = {seed: verdict.wrong for seed in range(first, first + 50) if (verdict := history.play(Seed(seed))).wrong}
    assert wrong == {}, "see `python -m tests.simulation --seed N`"


@pytest.mark.parametrize("name", MUTANTS)
def test_planted_defect_is_noticed(name: str) -> None:
    with MUTANTS[name]():
        assert any(history.play(Seed(seed)).wrong for seed in range(NOTICED_WITHIN))


def test_same_seed_is_the_same_history() -> None:
    for number in range(10):
        assert history.play(Seed(number)) == history.play(Seed(number))


def test_histories_meet_what_they_are_for() -> None:
    """A run in which nothing happens proves nothing."""
    happened = " ".join(what for seed in range(60) for _, what in history.play(Seed(seed)).happened)
    for what in (
        "is killed",
        "stands still",
        "is stopped",
        "is away",
        "flushed",
        "replayed",
        "the receiver is killed",
        "fatal",
    ):
        assert what in happened
    for place in ("log", "store", "redis", "topics"):
        for fault in ("not done", "slow", "answer lost"):
            assert f"→ {place}: {fault}" in happened


def test_wrong_history_is_made_shorter_and_stays_wrong() -> None:
    with MUTANTS["acknowledges_before_the_log"]():
        wrong = itertools.islice(filter(lambda seed: history.play(seed).wrong, map(Seed, range(NOTICED_WITHIN))), 3)
        pairs = [(history.play(seed), history.play(shrink.shortest(seed))) for seed in wrong]
    for long, short in pairs:
        assert short.wrong
        assert short.notices <= long.notices
        assert len(short.happened) <= len(long.happened)
    assert any(short.notices < long.notices for long, short in pairs)  # one that is short already stays as it is
