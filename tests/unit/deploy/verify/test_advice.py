"""Texts of the explanation: every cause begins with Alipay's term and has a remedy."""

import pytest

from deploy.verify import advice
from deploy.verify.variants import Variant
from schemas.dispositions import Refusal


@pytest.mark.parametrize("variant", Variant)
def test_every_variant_has_a_cause_and_a_remedy(variant: Variant) -> None:
    found = advice.departures((variant,), "a key")
    assert found.cause.startswith(advice.FAILED)
    assert found.cause.endswith(".")
    assert found.remedy.endswith(".")
    assert "{key}" not in found.cause


def test_two_variants_share_one_sentence_and_repeat_no_remedy() -> None:
    found = advice.departures((Variant.BODY_COMPACTED, Variant.BODY_SPACED), "a key")
    assert found.cause.count(advice.FAILED) == 1
    assert ", and " in found.cause
    assert found.remedy == advice.departures((Variant.BODY_SPACED,), "a key").remedy


@pytest.mark.parametrize("reason", Refusal)
def test_every_refusal_has_a_cause(reason: Refusal) -> None:
    found = advice.refusal(reason, "the detail")
    assert found.cause.startswith(advice.FAILED)
    assert found.cause.endswith("(the detail).")
    assert advice.refusal(reason, reason.value).cause.count(f"({reason.value})") == 0


def test_valid_signature_with_another_sign_type_allows_to_change_the_account() -> None:
    right = advice.sign_type("RSA", "RSA2", holds=True, otherwise=advice.OTHER_TEXT)
    assert "names sign_type RSA and the account is pinned to RSA2" in right.cause
    assert "change sign_type" in right.remedy
    wrong = advice.sign_type("", "RSA2", holds=False, otherwise=advice.OTHER_TEXT)
    assert "names no sign_type" in wrong.cause
    assert wrong.cause.count(advice.FAILED) == 1
    assert wrong.remedy.startswith("Do not change the account")


def test_blanks_around_a_body_have_a_remedy_of_their_own() -> None:
    assert "line end" in advice.grammar("", is_padded=True).remedy
    assert "no = in it" in advice.grammar("no = in it", is_padded=False).cause
