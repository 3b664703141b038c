"""What each attempt says of its notification: it is there, it is not, or nobody knows."""

from deploy.load import ledger
from deploy.load.ledger import OrderTold
from deploy.load.open_loop import Outcome
from tests.unit.deploy.load.telling import NAMED, attempt, order, told


def counts(outcome: Outcome, status: int) -> tuple[int, int, int]:
    heard = order((told("n1"), outcome, status)).heard["n1"]
    return heard.acknowledged, heard.uncertain, heard.turned_away


def test_success_is_certain_a_4xx_too_and_all_else_is_not() -> None:
    assert counts("ok", 200) == (1, 0, 0)
    assert counts("refused", 401) == (0, 0, 1)
    assert counts("refused", 503) == (0, 1, 0)
    assert counts("refused", 302) == (0, 1, 0)
    assert counts("silent", 0) == (0, 1, 0)
    assert counts("unsent", 0) == (0, 0, 0)


def test_attempts_at_copies_and_repetitions_count_for_one_notification() -> None:
    one, other = told("n1"), told("n1")
    orders = ledger.orders([one, other], [attempt(0, "silent"), attempt(1), attempt(0, number=2)])
    heard = orders[NAMED].heard["n1"]
    assert (heard.acknowledged, heard.uncertain) == (2, 1)


def test_forgeries_are_kept_apart_from_what_is_genuine() -> None:
    made = order((told("n1"), "ok", 200), (told("n9", forged=True), "refused", 401))
    assert (set(made.heard), set(made.forged)) == ({"n1"}, {"n9"})


def test_an_order_of_which_nothing_was_called_has_nothing_to_be_looked_at() -> None:
    assert not OrderTold(account="a", order="o").was_called
    assert not order((told("n1"), "unsent", 0)).was_called
    assert order((told("n1"), "refused", 401)).was_called
