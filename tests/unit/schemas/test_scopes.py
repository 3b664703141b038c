"""The scope of an order: the account, and the merchant at accounts of service providers."""

import pytest
from msgspec import UNSET

from schemas import scopes
from tests.support import alipay

ANY = alipay.openapi(auth_app_ids=("any",))
LISTED = alipay.openapi(auth_app_ids=("2021000000000001", "2021000000000002"), first_auth_app_id="2021000000000001")


def test_account_with_one_merchant_or_none_is_its_own_scope() -> None:
    for account in (alipay.openapi(), alipay.openapi(auth_app_id="2021000000000001")):
        assert scopes.of(account, "2021000000000001") == "shop-cn"
        assert scopes.of_form(account, {b"auth_app_id": b"2021000000000001"}) == "shop-cn"


def test_each_merchant_of_a_service_provider_has_a_scope() -> None:
    assert scopes.of_form(ANY, {b"auth_app_id": b"2021000000000002", b"app_id": b"A"}) == "shop-cn/2021000000000002"
    assert scopes.of_form(ANY, {b"auth_app_id": b"", b"app_id": b"A1"}) == "shop-cn/A1"
    assert scopes.of_form(ANY, {}) == "shop-cn"


def test_first_merchant_keeps_the_scope_of_the_account() -> None:
    assert scopes.of(LISTED, "2021000000000001") == "shop-cn"
    assert scopes.of(LISTED, "2021000000000002") == "shop-cn/2021000000000002"


@pytest.mark.parametrize("number", ["", "a/b", "a:b", "x" * 33, "数", "a\n"])
def test_text_that_is_no_number_becomes_no_part_of_a_scope(number: str) -> None:
    assert scopes.of(ANY, number) == "shop-cn"


def test_scope_is_split_into_what_it_is_joined_from() -> None:
    for account, auth_app_id in (("shop", UNSET), ("isv", "2021000000000001")):
        assert scopes.split(scopes.joined(account, auth_app_id)) == (account, auth_app_id)
        assert scopes.account_of(scopes.joined(account, auth_app_id)) == account
        assert scopes.merchant_of(scopes.joined(account, auth_app_id)) == (auth_app_id or "")


def test_scope_that_a_refused_request_claims_is_never_an_error() -> None:
    assert scopes.claimed(ANY, b"a=b&auth_app_id=2021000000000002&sign=x") == "shop-cn/2021000000000002"
    for body in (b"", b"\xff&auth_app_id=\xff", b"xauth_app_id=1"):
        assert scopes.claimed(ANY, body) == "shop-cn"
