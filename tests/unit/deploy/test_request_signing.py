"""Requests are signed with the key files of the accounts, and refused in words that name the setting."""

from pathlib import Path

import pytest

from deploy.request_signing import RequestSigner
from schemas import accounts_toml
from schemas.accounts import Account
from schemas.payment_request import PaymentRequest
from tests.support import alipay
from workers.admin.requests import NoMerchantKey, UnsignableRequest

TEA = PaymentRequest(
    product="h5", order="A1", subject="Tea", amount="1.00", currency="USD", notify_url="https://a.example/n"
)


def account(**more: object) -> Account:
    table = {"family": "mapi", "sign_type": "RSA", "keys": ["a.pem"], "seller_id": alipay.SELLER}
    return accounts_toml.parse({"accounts": {"shop": table | more}})["shop"]


def test_request_is_signed_with_the_key_beside_the_accounts(tmp_path: Path) -> None:
    (tmp_path / "merchant.key").write_bytes(alipay.private_pem(alipay.rsa_key("merchant", bits=1024)))
    signer = RequestSigner(tmp_path, now_ms=lambda: 0)
    assert "sign=" in (signer(TEA, account(merchant_key_file="merchant.key")).url or "")


def test_missing_or_unusable_key_names_the_setting_or_the_file(tmp_path: Path) -> None:
    signer = RequestSigner(tmp_path, now_ms=lambda: 0)
    for shop, words in (
        (account(), "account shop has no merchant_key_file"),
        (account(sign_type="DSA"), "sign_type DSA"),
        (account(merchant_key_file="gone.key"), r"account shop cannot sign: gone\.key cannot be read"),
    ):
        with pytest.raises(NoMerchantKey, match=words):
            signer(TEA, shop)


def test_faults_of_the_payment_come_before_those_of_the_key(tmp_path: Path) -> None:
    with pytest.raises(UnsignableRequest, match="use native, h5, page"):
        RequestSigner(tmp_path, now_ms=lambda: 0)(
            PaymentRequest(product="app", order="A1", subject="Tea", amount="1.00"), account()
        )
