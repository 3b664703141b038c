"""The merchant of a filter. That of a path and of a registration: test_orders.py."""

import pytest

from tests.support.admin import ACCOUNTS
from workers.admin import merchants
from workers.admin.responses import ApiError


def test_filter_without_a_merchant_has_no_scope() -> None:
    assert merchants.filtered_scope(ACCOUNTS, "isv", None) is None
    assert merchants.filtered_scope(ACCOUNTS, None, "") is None


def test_filter_by_a_merchant_needs_its_account() -> None:
    with pytest.raises(ApiError, match="auth_app_id needs account"):
        merchants.filtered_scope(ACCOUNTS, None, "2021000000000009")
    assert merchants.filtered_scope(ACCOUNTS, "isv", "2021000000000009") == "isv/2021000000000009"
    assert merchants.filtered_scope(ACCOUNTS, "removed", "2021000000000009") == "removed/2021000000000009"


def test_first_merchant_keeps_the_scope_of_the_account() -> None:
    assert merchants.scope_of(ACCOUNTS["isv"], "2021000000000008") == "isv"
    with pytest.raises(ApiError, match="not the number of an application"):
        merchants.scope_of(ACCOUNTS["isv"], "a/b")
