"""State words of merchants' books."""

import pytest

from deploy.shadow.shapes import OldState
from deploy.shadow.state_words import UnknownState, state_of


@pytest.mark.parametrize(
    ("word", "state"),
    [
        ("PAID", OldState.PAID),
        ("TRADE_FINISHED", OldState.FINISHED),
        (" Partially Refunded ", OldState.PARTLY_REFUNDED),
        ("fully-refunded", OldState.REFUNDED),
        ("待支付", OldState.WAITING),
        ("Canceled", OldState.CLOSED),
    ],
)
def test_known_words_are_read_in_any_case(word: str, state: OldState) -> None:
    assert state_of(word, {}) is state


def test_words_of_the_merchant_come_first_and_others_are_refused() -> None:
    assert state_of("Paid", {"paid": OldState.WAITING}) is OldState.WAITING
    assert state_of("3", {"3": OldState.PAID}) is OldState.PAID
    with pytest.raises(UnknownState, match="--state 4=paid"):
        state_of("4", {"3": OldState.PAID})
