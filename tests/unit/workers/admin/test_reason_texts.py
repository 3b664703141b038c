"""A text for each reason and flag; for a held reason it also has advice."""

import pytest

from schemas.dispositions import Reason
from workers.admin import reason_texts

DECISIONS = ("retry", "discard", "refund")
WAITING_OR_DONE = {
    Reason.CHANGED, Reason.NOTED, Reason.SAME_ID, Reason.SAME_FACT, Reason.OLD_NEWS,
    Reason.UNKNOWN_ORDER, Reason.UNKNOWN_TRADE, Reason.UNKNOWN_REFUND, Reason.NEWER_ENVELOPE, Reason.UNKNOWN_ACCOUNT,
    Reason.UNVERIFIED, Reason.LOCKED,
}  # fmt: skip


def test_texts_are_sentences() -> None:
    for text in (*reason_texts.REASONS.values(), *reason_texts.FLAGS.values()):
        assert text[0].isupper()
        assert text.endswith(".")


@pytest.mark.parametrize("reason", sorted(set(Reason) - WAITING_OR_DONE))
def test_reason_that_needs_a_decision_has_advice(reason: Reason) -> None:
    text = reason_texts.REASONS[reason].lower()
    assert any(word in text for word in DECISIONS)
