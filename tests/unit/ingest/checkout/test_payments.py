"""A payment becomes the Request that Alipay's documents describe, and a faulty one is refused before it is signed."""

import base64
import json
import re
from datetime import UTC, datetime
from typing import Any
from urllib.parse import parse_qsl, unquote, urlsplit

import msgspec
import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding

from ingest.checkout import payments
from ingest.checkout.merchant_keys import MerchantKey
from ingest.checkout.requests import BadRequest
from ingest.key_files import Md5Secret
from schemas import accounts_toml
from schemas.accounts import Account
from schemas.money import Money
from schemas.payment_request import PaymentRequest, SignedPayment
from tests.support import alipay

NOW = datetime(2025, 3, 18, 1, 11, 20, tzinfo=UTC)
RSA_KEY = alipay.rsa_key("merchant")
KEY = MerchantKey(RSA_KEY, app_cert_sn="aa", root_cert_sn="bb_cc")
HASHES = {"RSA": hashes.SHA1(), "RSA2": hashes.SHA256()}
NOTIFY = "https://pay.example/notify/shop"
TEA = {
    "order": "WEB-1",
    "subject": "奶茶 & 50% off",
    "amount": "12.80",
    "currency": "USD",
    "notify_url": NOTIFY,
    "return_url": "https://shop.example/back?total_fee=1&out_trade_no=WEB-1",
}


def account(family: str, sign_type: str, **more: Any) -> Account:
    table: dict[str, Any] = {"family": family, "sign_type": sign_type, "keys": ["a.pem"], "seller_id": alipay.SELLER}
    table |= {"partner": "2088999900001025"} if family == "mapi" else {"app_id": alipay.APP}
    return accounts_toml.parse({"accounts": {"shop": table | more}})["shop"]


MAPI, OPENAPI = account("mapi", "RSA"), account("openapi", "RSA2")
MD5 = account("mapi", "MD5", md5_key_file="k", keys=[])
ANTOM = accounts_toml.parse({"accounts": {"a": {"family": "antom", "keys": {"1": "k"}, "client_id": "C"}}})["a"]


def sign(product: str, shop: Account = MAPI, key: MerchantKey = KEY, **changes: Any) -> SignedPayment:
    return payments.sign(PaymentRequest(**{"product": product, **TEA, **changes}), shop, key, now=NOW)


def faults(product: str, shop: Account = MAPI, **changes: Any) -> str:
    with pytest.raises(BadRequest) as caught:
        sign(product, shop, **changes)
    return " | ".join(caught.value.faults)


def quoted(text: str | None) -> tuple[dict[str, str], bytes, str]:
    """The pairs of an order string, the signed text and its signature."""
    match = re.fullmatch(r'(.*)&sign="([^"]*)"&sign_type="(RSA2?)"', text or "")
    assert match is not None
    pairs = dict(re.findall(r'(\w+)="([^"]*)"(?:&|$)', match[1]))
    return pairs | {"sign_type": match[3]}, match[1].encode(), unquote(match[2])


def query(text: str | None, charset: str = "utf-8") -> dict[str, str]:
    return dict(parse_qsl(urlsplit(text or "").query or text or "", encoding=charset, strict_parsing=True))


def check(text: bytes, sign: str, sign_type: str) -> None:
    RSA_KEY.public_key().verify(base64.b64decode(sign, validate=True), text, padding.PKCS1v15(), HASHES[sign_type])


@pytest.mark.parametrize("sign_type", ["RSA", "RSA2"])
def test_native_request_is_an_order_string_with_quotes(sign_type: str) -> None:
    signed = sign("native", account("mapi", sign_type), timeout="30m", body="two cups")
    pairs, text, signature = quoted(signed.order_string)
    check(text, signature, sign_type)
    assert pairs == {
        "service": "mobile.securitypay.pay", "partner": "2088999900001025", "seller_id": alipay.SELLER,
        "_input_charset": "utf-8", "payment_type": "1", "out_trade_no": "WEB-1", "subject": "奶茶 & 50% off",
        "body": "two cups", "total_fee": "12.80", "currency": "USD", "forex_biz": "FP", "it_b_pay": "30m",
        "product_code": "NEW_WAP_OVERSEAS_SELLER", "notify_url": NOTIFY, "return_url": TEA["return_url"],
        "sign_type": sign_type,
    }  # fmt: skip
    assert (signed.url, signed.amounts) == (None, (Money(1280, "USD"),))


def test_domestic_native_request_names_no_currency() -> None:
    pairs, _, _ = quoted(sign("native", currency="CNY").order_string)
    assert not pairs.keys() & {"currency", "forex_biz", "product_code"}
    assert pairs["total_fee"] == "12.80"


@pytest.mark.parametrize(
    ("product", "service", "code"),
    [
        ("h5", "create_forex_trade_wap", "NEW_WAP_OVERSEAS_SELLER"),
        ("page", "create_forex_trade", "NEW_OVERSEAS_SELLER"),
    ],
)
@pytest.mark.parametrize("sign_type", ["RSA", "RSA2"])
def test_website_request_is_an_address_of_the_gateway(product: str, service: str, code: str, sign_type: str) -> None:
    signed = sign(product, account("mapi", sign_type, charset="gbk"), timeout="2h")
    assert signed.url is not None
    assert signed.url.startswith("https://mapi.alipay.com/gateway.do?")
    sent = query(signed.url, "gbk")
    check(alipay.canonical(dict(sent), charset="gbk"), sent["sign"], sign_type)
    del sent["sign"]
    assert sent == {
        "service": service, "product_code": code, "partner": "2088999900001025", "_input_charset": "gbk",
        "out_trade_no": "WEB-1", "subject": "奶茶 & 50% off", "total_fee": "12.80", "currency": "USD",
        "timeout_rule": "2h", "notify_url": NOTIFY, "return_url": TEA["return_url"], "sign_type": sign_type,
    }  # fmt: skip


def test_md5_account_signs_website_requests_with_its_secret() -> None:
    signed = sign("h5", MD5, MerchantKey(Md5Secret(alipay.MD5_SECRET)), rmb="80.00", amount="")
    sent = query(signed.url)
    assert sent["sign"] == alipay.signature(alipay.canonical(dict(sent)), alipay.MD5_SECRET, "MD5")
    assert "use h5" in faults("native", MD5)


def test_price_in_rmb_is_sent_alone_and_both_amounts_are_expected() -> None:
    signed = sign("h5", rmb="80.00")
    sent = query(signed.url)
    assert (sent["rmb_fee"], sent["currency"]) == ("80.00", "USD")
    assert "total_fee" not in sent
    assert signed.amounts == (Money(8000, "CNY"), Money(1280, "USD"))
    assert sign("native", rmb="80.00", amount="").amounts == (Money(8000, "CNY"),)


@pytest.mark.parametrize("sign_type", ["RSA", "RSA2"])
@pytest.mark.parametrize(
    ("product", "method", "code"),
    [
        ("page", "alipay.trade.page.pay", "FAST_INSTANT_TRADE_PAY"),
        ("wap", "alipay.trade.wap.pay", "QUICK_WAP_WAY"),
        ("app", "alipay.trade.app.pay", "QUICK_MSECURITY_PAY"),
    ],
)
def test_open_platform_request_signs_all_its_parameters(product: str, method: str, code: str, sign_type: str) -> None:
    shop = account("openapi", sign_type, gateway_url="https://sandbox.example/gateway.do")
    signed = sign(product, shop, timeout="1c")
    text = signed.order_string if product == "app" else signed.url
    assert (signed.url is None) == (product == "app")
    sent = query(text)
    check(alipay.canonical(dict(sent), left_out=("sign",)), sent.pop("sign"), sign_type)
    content = json.loads(sent.pop("biz_content"))
    expected = {
        "app_id": alipay.APP, "method": method, "format": "JSON", "charset": "utf-8", "sign_type": sign_type,
        "timestamp": "2025-03-18 09:11:20", "version": "1.0", "notify_url": NOTIFY,
        "app_cert_sn": "aa", "alipay_root_cert_sn": "bb_cc",
    }  # fmt: skip
    assert sent == expected | ({} if product == "app" else {"return_url": TEA["return_url"]})
    assert content == {
        "out_trade_no": "WEB-1", "total_amount": "12.80", "subject": "奶茶 & 50% off", "product_code": code,
        "timeout_express": "1c", "trans_currency": "USD",
    } | ({"quit_url": TEA["return_url"]} if product == "wap" else {})  # fmt: skip
    if product != "app":
        assert signed.url is not None
        assert signed.url.startswith("https://sandbox.example/gateway.do?")


def test_accounts_currency_and_notify_url_are_the_defaults() -> None:
    shop = account("openapi", "RSA2", notify_url="https://pay.example/notify/cn")
    sent = query(sign("page", shop, currency="", notify_url="").url)
    assert sent["notify_url"] == "https://pay.example/notify/cn"
    assert "trans_currency" not in json.loads(sent["biz_content"])
    assert "notify_url is missing" in faults("page", OPENAPI, notify_url="")


def test_further_parameters_are_signed_and_replace_defaults_only() -> None:
    pairs, _, _ = quoted(sign("native", extra={"payment_inst": "ALIPAYHK", "product_code": "X"}).order_string)
    assert (pairs["payment_inst"], pairs["product_code"]) == ("ALIPAYHK", "X")
    extra = {"extend_params": {"sys_service_provider_id": "1"}, "app_auth_token": "T"}
    sent = query(sign("app", OPENAPI, extra=extra).order_string)
    assert sent["app_auth_token"] == "T"
    content = json.loads(sent["biz_content"])
    assert content["extend_params"] == {"sys_service_provider_id": "1"}
    assert "app_auth_token" not in content
    for name in ("total_fee", "rmb_fee", "currency", "sign", "sign_type", "notify_url"):
        assert f"extra may not contain {name}" in faults("native", extra={name: "9.00"}, currency="CNY")
    assert "extra may not contain total_amount" in faults("app", OPENAPI, extra={"total_amount": "9.00"})
    assert "extra: payment_inst must be a text" in faults("h5", extra={"payment_inst": {}})


@pytest.mark.parametrize(
    ("product", "shop", "fault"),
    [
        ("app", MAPI, "family mapi has no product 'app': use native, h5, page"),
        ("h5", OPENAPI, "family openapi has no product 'h5': use page, app, wap"),
        ("", OPENAPI, "use page, app, wap"),
        ("page", ANTOM, "family antom has no signed Requests"),
    ],
)
def test_product_of_another_family_names_those_that_work(product: str, shop: Account, fault: str) -> None:
    assert fault in faults(product, shop)


@pytest.mark.parametrize(
    ("changes", "fault"),
    [
        ({"amount": ""}, "amount is missing"),
        ({"amount": "12.8"}, "amount: USD amounts must have 2 decimals"),
        ({"amount": "1,280.00"}, "amount: USD"),
        ({"amount": "12.80", "currency": "JPY"}, "amount: JPY amounts must have no decimals"),
        ({"amount": "0.00"}, "amount must be above 0"),
        ({"amount": "1000000.01"}, "at most 1000000.00"),
        ({"currency": "ZZZ"}, "'ZZZ' is not a currency"),
        ({"rmb": "80"}, "rmb: CNY amounts must have 2 decimals"),
        ({"rmb": "80.00", "currency": "CNY"}, "rmb needs currency"),
        ({"order": ""}, "order is missing"),
        ({"order": "a b"}, "order may have printable ASCII"),
        ({"order": "a&total_fee=1"}, "order may have printable ASCII"),
        ({"order": "订单"}, "order may have printable ASCII"),
        ({"order": "x" * 65}, "order is longer than 64"),
        ({"subject": " "}, "subject is missing"),
        ({"subject": "x" * 257}, "subject is longer than 256"),
        ({"subject": "a&total_fee=0.01"}, "subject contains &total_fee=, so its notification would be ambiguous"),
        ({"subject": "a&trade_status=x"}, "subject contains &trade_status="),
        ({"body": "a&seller_id=1"}, "body contains &seller_id="),
        ({"subject": "a\nb"}, "subject contains a control character"),
        ({"extra": {"passback_params": "a&refund_fee=1"}}, "passback_params contains &refund_fee="),
        ({"notify_url": "https://pay.example/n?a=1"}, "notify_url must have no query"),
        ({"notify_url": "pay.example"}, "notify_url must be a complete"),
        ({"return_url": "/back"}, "return_url must be a complete"),
        ({"timeout": "4m"}, "from 5m to 12h"),
        ({"timeout": "13h"}, "from 5m to 12h"),
        ({"timeout": "1c"}, "from 5m to 12h"),
        ({"timeout": "soon"}, "timeout must be a number with m, h or d"),
    ],
)
def test_faulty_payment_is_refused_by_the_names_of_its_fields(changes: dict[str, Any], fault: str) -> None:
    assert fault in faults("h5", **changes)


def test_names_that_decide_nothing_may_follow_an_ampersand() -> None:
    for text in ("a&body=x", "uid=5&from=web", "salt&pepper=2"):
        assert sign("h5", subject=text).url
        assert sign("page", OPENAPI, subject=text).url
    assert "subject contains &out_trade_no=" in faults("page", OPENAPI, subject="a&out_trade_no=1")
    assert "passback_params contains" in faults("app", OPENAPI, extra={"passback_params": "a&total_amount=1"})


def test_open_platform_has_its_own_limits() -> None:
    assert "rmb belongs to family mapi" in faults("page", OPENAPI, rmb="80.00")
    assert sign("page", OPENAPI, amount="100000000.00").url
    assert "at most 100000000.00" in faults("page", OPENAPI, amount="100000000.01")
    assert "body is longer than 128" in faults("page", OPENAPI, body="x" * 129)
    assert sign("page", OPENAPI, timeout="15d").url
    assert "from 1m to 15d" in faults("page", OPENAPI, timeout="16d")


def test_all_faults_are_reported_together() -> None:
    assert faults("h5", order="", subject="", amount="", notify_url="", timeout="x").count(" | ") == 4


def test_request_shows_the_key_nowhere() -> None:
    assert "RSAPrivateKey" not in repr(KEY)
    secret = MerchantKey(Md5Secret(alipay.MD5_SECRET))
    signed = sign("h5", MD5, secret)
    assert alipay.MD5_SECRET.decode() not in msgspec.json.encode(signed).decode() + repr(signed) + repr(secret)


ONE, OTHER = "2021000000000008", "2021000000000009"
TOKEN = {"app_auth_token": "T"}


@pytest.mark.parametrize(
    ("served", "changes", "fault"),
    [
        ([ONE, OTHER], {"auth_app_id": ONE, "extra": TOKEN}, ""),
        ([ONE, OTHER], {"extra": TOKEN}, ""),  # the token's merchant
        ([ONE, alipay.APP], {}, ""),  # its own application
        ("any", {}, ""),
        (ONE, {"extra": TOKEN}, ""),
        (None, {}, ""),
        (None, {"auth_app_id": alipay.APP}, ""),
        ([ONE, OTHER], {"auth_app_id": ONE}, f"without it Alipay pays application {alipay.APP}, not {ONE}"),
        ([ONE, OTHER], {"auth_app_id": "2021", "extra": TOKEN}, "does not serve the merchant 2021"),
        ([ONE, OTHER], {}, "does not serve its own application"),
        ("any", {"auth_app_id": alipay.APP, "extra": TOKEN}, "another merchant's"),
        (ONE, {}, f"not {ONE}"),
        (ONE, {"auth_app_id": OTHER, "extra": TOKEN}, f"does not serve the merchant {OTHER}"),
        (None, {"auth_app_id": ONE}, f"does not serve the merchant {ONE}"),
        (None, {"extra": {"app_auth_token": 1}}, "app_auth_token must be a text"),
    ],
)
def test_provider_s_request_needs_the_token_of_the_merchant_that_is_paid(
    served: Any, changes: dict[str, Any], fault: str
) -> None:
    """Without it the buyer pays the provider itself, and the notification names no merchant of the account."""
    isv = account("openapi", "RSA2", seller_id=None, **({} if served is None else {"auth_app_id": served}))
    if not fault:
        sent = query(sign("page", isv, **changes).url)
        assert sent.get("app_auth_token", "") == changes.get("extra", {}).get("app_auth_token", "")
        assert "auth_app_id" not in sent
    else:
        assert fault in faults("page", isv, **changes)


def test_merchant_belongs_to_the_open_platform() -> None:
    assert "auth_app_id belongs to family openapi" in faults("h5", auth_app_id=ONE)
