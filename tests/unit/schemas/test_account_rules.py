"""The contradictions within one account, each reported with what to do."""

from typing import Any

import pytest

from schemas import accounts_toml
from schemas.accounts import BadAccounts


def faults_of(**settings: Any) -> str:
    """The faults of a mapi account that is right, with these settings changed; `None` takes one out."""
    whole = {"family": "mapi", "sign_type": "RSA", "keys": ["k.pem"], "seller_id": "2088", **settings}
    table = {name: value for name, value in whole.items() if value is not None}
    with pytest.raises(BadAccounts) as caught:
        accounts_toml.parse({"accounts": {"shop": table}})
    assert all(fault.startswith("account shop: ") for fault in caught.value.faults)
    return " | ".join(caught.value.faults)


@pytest.mark.parametrize(
    ("settings", "fault"),
    [
        ({"sign_type": "RSA256"}, "does not exist for family mapi"),
        ({"keys": []}, "no key"),
        ({"keys": None}, "no key"),
        ({"md5_key_file": "f"}, "md5_key_file belongs to sign_type MD5"),
        ({"sign_type": "MD5", "keys": None}, "needs md5_key_file"),
        ({"sign_type": "MD5", "md5_key_file": "f"}, "has no public keys"),
        ({"certificates": ["c"]}, "certificates belong to family openapi"),
        ({"root_certificates": ["c"]}, "root_certificates needs certificates"),
        ({"family": "antom", "merchant_key_file": "k"}, "family antom has no Requests to sign"),
        ({"sign_type": "MD5", "merchant_key_file": "k"}, "sign_type MD5 signs Requests with md5_key_file"),
        ({"sign_type": "DSA", "merchant_key_file": "k"}, "Requests cannot be signed with DSA"),
        ({"queries": "yes"}, "queries must be true or false"),
        ({"queries": True}, "queries needs merchant_key_file"),
        ({"queries": True, "sign_type": "DSA"}, "queries cannot be signed with DSA"),
        (
            {"queries": True, "merchant_key_file": "k", "seller_id": None, "notify_verify": True},
            "queries needs partner",
        ),
        ({"queries": True, "merchant_key_file": "k", "family": "antom", "client_id": "C"}, "queries needs gateway_url"),
        (
            {"queries": True, "merchant_key_file": "k", "family": "openapi", "app_id": "A", "auth_app_id": ["B"]},
            "queries at an account of several merchants",
        ),
        (
            {"queries": True, "merchant_key_file": "k", "family": "openapi", "app_id": "A", "auth_app_id": "B"},
            "queries for another merchant, auth_app_id, needs app_auth_token_file",
        ),
        ({"app_auth_token_file": "t"}, "app_auth_token_file belongs to family openapi"),
        (
            {"family": "openapi", "sign_type": "RSA2", "app_id": "A", "app_auth_token_file": "t"},
            "to an account with one merchant in auth_app_id",
        ),
        ({"merchant_certificate_file": "c"}, "merchant_certificate_file belongs to family openapi"),
        ({"notify_url": "https://pay.example/n?a=1"}, "notify_url must be a complete https address"),
        ({"gateway_url": "mapi.alipay.com"}, "gateway_url must be a complete https address"),
        ({"seller_id": None}, "needs seller_id, or notify_verify"),
        ({"notify_verify": True}, "needs partner"),
        ({"family": "openapi", "sign_type": "RSA2", "app_id": "A", "notify_verify": True}, "needs partner"),
        (
            {"family": "antom", "sign_type": None, "keys": {"1": "k"}, "client_id": "C", "notify_verify": True},
            "antom has no notify_verify",
        ),
        ({"notify_verify_url": "gateway.do"}, "notify_verify_url must be a complete"),
        ({"notify_verify_url": "ftp://x/gateway.do"}, "notify_verify_url must be a complete"),
        ({"notify_verify_url": "https:///gateway.do"}, "notify_verify_url must be a complete"),
        ({"notify_verify_url": "https://x/gateway.do?a=b"}, "notify_verify_url must be a complete"),
        ({"notify_verify_url": "https://[::x/gateway.do"}, "notify_verify_url must be a complete"),
        ({"capture": "manual"}, "capture belongs to family antom"),
        ({"family": "openapi", "sign_type": "RSA2"}, "openapi needs app_id"),
        ({"family": "antom", "sign_type": "RSA256", "keys": {"1": "k"}}, "antom needs client_id"),
        (
            {"family": "antom", "sign_type": None, "keys": {"1": "k"}, "client_id": "C", "public_path": "/a?b=c"},
            "public_path must begin with",
        ),
        (
            {"family": "antom", "sign_type": None, "keys": {"1": "k"}, "client_id": "C", "public_path": "notify"},
            "public_path must begin with",
        ),
        ({"family": "antom", "sign_type": None, "keys": {"one": "k"}, "client_id": "C"}, "must be a plain number"),
        ({"family": "antom", "sign_type": None, "keys": {"01": "k"}, "client_id": "C"}, "01 must be a plain number"),
        (
            {"family": "antom", "sign_type": "RSA2", "keys": {"1": "k"}, "client_id": "C"},
            "does not exist for family antom",
        ),
    ],
)
def test_each_contradiction_is_reported(settings: dict[str, Any], fault: str) -> None:
    assert fault in faults_of(**settings)


@pytest.mark.parametrize(
    "settings",
    [
        {"family": "mapi", "sign_type": "RSA", "keys": ["k.pem"], "seller_id": "2088", "merchant_key_file": "k"},
        {"family": "mapi", "sign_type": "MD5", "md5_key_file": "f", "seller_id": "2088"},
        {"family": "openapi", "sign_type": "RSA2", "keys": ["k.pem"], "app_id": "A", "merchant_key_file": "k"},
        {"family": "antom", "keys": {"1": "k.pem"}, "client_id": "C", "merchant_key_file": "k",
         "gateway_url": "https://open.example/ams/api/v1/payments/inquiryPayment"},
    ],
)  # fmt: skip
def test_account_of_each_family_can_ask(settings: dict[str, Any]) -> None:
    assert accounts_toml.parse({"accounts": {"shop": settings | {"queries": True}}})["shop"].queries
