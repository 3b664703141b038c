"""Signed requests verify on Alipay's side, and parameters that would fail there are refused."""

import base64
import hashlib
import re
from pathlib import Path
from urllib.parse import parse_qs, parse_qsl, unquote, urlsplit

import pytest
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import padding

from ingest.checkout import requests
from ingest.checkout.requests import BadRequest
from ingest.key_files import BadKey, Md5Secret
from tests.support import alipay

KEY = alipay.rsa_key("merchant", bits=1024)
GATEWAY = "https://mapi.alipay.com/gateway.do"
WEBSITE = {
    "service": "create_forex_trade_wap",
    "partner": alipay.SELLER,
    "notify_url": "https://shop.example/notify/shop-web",
    "return_url": "https://shop.example/return?from=alipay",
    "out_trade_no": "WEB-1",
    "subject": "港式奶茶 x2 + 礼盒, 10% off & more",
    "total_fee": "42.50",
    "currency": "SGD",
    "body": "",
}
APP = {
    "service": "mobile.securitypay.pay",
    "partner": alipay.SELLER,
    "_input_charset": "utf-8",
    "it_b_pay": "30m",
    "out_trade_no": "APP-1",
    "subject": "奶茶",
    "total_fee": "25.80",
    "seller_id": alipay.SELLER,
    "body": "",
}
HASHES = {"RSA": hashes.SHA1(), "RSA2": hashes.SHA256()}


def check(text: bytes, sign: str, sign_type: str = "RSA") -> None:
    KEY.public_key().verify(base64.b64decode(sign, validate=True), text, padding.PKCS1v15(), HASHES[sign_type])


def faults(**changes: str | None) -> str:
    params = {name: value for name, value in {**WEBSITE, **changes}.items() if value is not None}
    with pytest.raises(BadRequest) as caught:
        requests.redirect_url(GATEWAY, params, key=KEY)
    return " | ".join(caught.value.faults)


@pytest.mark.parametrize("sign_type", ["RSA", "RSA2"])
def test_order_string_is_signed_with_quotes_in_the_given_order(sign_type: str) -> None:
    text = requests.app_order_string(APP, key=KEY, sign_type=sign_type)
    match = re.fullmatch(r'(.*)&sign="([^"]*)"&sign_type="(RSA2?)"', text)
    assert match is not None
    assert match[3] == sign_type
    check(match[1].encode(), unquote(match[2]), sign_type)
    assert re.fullmatch(r"[A-Za-z0-9%]+", match[2])
    assert [pair.partition("=")[0] for pair in match[1].split("&")] == [name for name in APP if name != "body"]
    assert 'subject="奶茶"' in match[1]


def test_order_string_is_signed_over_the_bytes_of_its_charset() -> None:
    text = requests.app_order_string({**APP, "_input_charset": "gbk"}, key=KEY)
    signed, _, rest = text.partition('&sign="')
    check(signed.encode("gbk"), unquote(rest.partition('"')[0]))


@pytest.mark.parametrize("charset", ["utf-8", "gbk"])
@pytest.mark.parametrize("sign_type", ["RSA", "RSA2"])
def test_redirect_is_sorted_signed_and_encoded_once(charset: str, sign_type: str) -> None:
    url = requests.redirect_url(GATEWAY, WEBSITE, key=KEY, sign_type=sign_type, charset=charset)
    assert url.isascii()
    assert url.startswith(f"{GATEWAY}?_input_charset={charset}&")
    sent = dict(parse_qsl(urlsplit(url).query, encoding=charset, strict_parsing=True))
    assert sent.pop("sign_type") == sign_type
    sign = sent.pop("sign")
    assert sent == {name: value for name, value in WEBSITE.items() if value} | {"_input_charset": charset}
    check(alipay.canonical(dict(sent), charset=charset), sign, sign_type)


def test_redirect_may_be_signed_with_a_shared_secret() -> None:
    url = requests.redirect_url(GATEWAY, WEBSITE, key=Md5Secret(alipay.MD5_SECRET), sign_type="MD5")
    sent = {name: values[0] for name, values in parse_qs(urlsplit(url).query).items()}
    text = alipay.canonical(dict(sent))
    assert sent["sign"] == hashlib.md5(text + alipay.MD5_SECRET).hexdigest()
    assert alipay.MD5_SECRET.decode() not in url


def test_other_gateway_services_need_no_amount() -> None:
    params = {"service": "forex_refund", "partner": alipay.SELLER, "out_return_no": "R-1", "return_amount": "1.00"}
    assert "forex_refund" in requests.redirect_url(GATEWAY, params, key=KEY)
    with pytest.raises(BadRequest, match="partner is missing"):
        requests.redirect_url(GATEWAY, {"service": "forex_refund"}, key=KEY)


def test_openapi_order_string_signs_its_sign_type() -> None:
    params = {
        "app_id": alipay.APP,
        "method": "alipay.trade.app.pay",
        "charset": "utf-8",
        "sign_type": "RSA2",
        "timestamp": "2025-03-18 09:11:20",
        "version": "1.0",
        "notify_url": "https://shop.example/notify/shop-cn",
        "biz_content": '{"out_trade_no":"OP-1","total_amount":"9.00","subject":"票"}',
    }
    sent = dict(parse_qsl(requests.app_pay_order_string(params, key=KEY), strict_parsing=True))
    sign = sent.pop("sign")
    assert sent == params
    check("&".join(f"{name}={sent[name]}" for name in sorted(sent)).encode(), sign, "RSA2")
    with pytest.raises(BadRequest) as caught:
        requests.app_pay_order_string({"notify_url": "/x"}, key=KEY)
    assert len(caught.value.faults) == 8


@pytest.mark.parametrize(
    ("changes", "fault"),
    [
        ({"rmb_fee": "1.00"}, "give exactly one amount"),
        ({"total_fee": None}, "give exactly one amount"),
        ({"total_fee": "42.5"}, "total_fee: SGD amounts must have 2 decimals"),
        ({"total_fee": "1e3"}, "total_fee"),
        ({"total_fee": "0.00"}, "must be above 0 and at most"),
        ({"total_fee": "1000000.01"}, "must be above 0 and at most"),
        ({"total_fee": "1.50", "currency": "JPY"}, "JPY amounts must have no decimals"),
        ({"currency": "XXX"}, "'XXX' is not a currency of ISO 4217 with decimals"),
        ({"currency": None}, "currency is missing"),
        ({"partner": ""}, "partner is missing"),
        ({"out_trade_no": None}, "out_trade_no is missing"),
        ({"subject": None}, "subject is missing"),
        ({"subject": "a&total_fee=1"}, "ambiguous"),
        ({"subject": "a\nb"}, "control character"),
        ({"subject": "x" * 257}, "longer than 256"),
        ({"out_trade_no": "x" * 65}, "longer than 64"),
        ({"notify_url": "https://shop.example/n?id=1"}, "notify_url must have no query"),
        ({"notify_url": "https://shop.example/n#x"}, "notify_url must have no query"),
        ({"notify_url": "/n"}, "notify_url must be a complete"),
        ({"notify_url": "ftp://shop.example/n"}, "notify_url must be a complete"),
        ({"notify_url": "https://shop.example/" + "n" * 200}, "notify_url is longer than 200"),
        ({"return_url": "shop.example"}, "return_url must be a complete"),
        ({"return_url": "https://[shop"}, "return_url must be a complete"),
        ({"sign": "x"}, "sign must not be given"),
        ({"bad name": "x"}, "is not a valid parameter name"),
        ({"_input_charset": "gbk"}, "_input_charset differs from the charset"),
    ],
)
def test_invalid_parameter_is_refused_and_named(changes: dict[str, str | None], fault: str) -> None:
    assert fault in faults(**changes)


def test_all_faults_are_reported_together() -> None:
    found = faults(total_fee="x", notify_url="x", out_trade_no=None)
    assert found.count(" | ") == 2


def test_yen_have_no_decimals_and_rmb_fee_is_in_rmb() -> None:
    assert "total_fee=1200" in requests.redirect_url(
        GATEWAY, {**WEBSITE, "total_fee": "1200", "currency": "JPY"}, key=KEY
    )
    in_rmb = {name: value for name, value in WEBSITE.items() if name != "total_fee"} | {"rmb_fee": "88.00"}
    assert "rmb_fee=88.00" in requests.redirect_url(GATEWAY, in_rmb, key=KEY)


def test_key_algorithm_and_charset_must_match() -> None:
    for key, sign_type in ((KEY, "MD5"), (KEY, "RSA256"), (Md5Secret(alipay.MD5_SECRET), "RSA")):
        with pytest.raises(BadRequest, match="sign_type must be"):
            requests.redirect_url(GATEWAY, WEBSITE, key=key, sign_type=sign_type)
    with pytest.raises(BadRequest, match="the charset must be one of"):
        requests.redirect_url(GATEWAY, WEBSITE, key=KEY, charset="utf-7")
    with pytest.raises(BadRequest, match="subject cannot be encoded in gbk"):
        requests.redirect_url(GATEWAY, {**WEBSITE, "subject": "😀"}, key=KEY, charset="gbk")
    with pytest.raises(BadRequest, match="the gateway must be"):
        requests.redirect_url("mapi.alipay.com", WEBSITE, key=KEY)
    with pytest.raises(BadRequest, match="shorten"):
        requests.redirect_url(GATEWAY, {**WEBSITE, "goods": "😀" * 1000}, key=KEY)


def test_quote_in_an_order_string_is_refused() -> None:
    with pytest.raises(BadRequest, match='subject contains a "'):
        requests.app_order_string({**APP, "subject": 'a"b'}, key=KEY)


def test_private_key_is_loaded_from_pem_and_from_base64(tmp_path: Path) -> None:
    pem = alipay.private_pem(KEY)
    der = KEY.private_bytes(serialization.Encoding.DER, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    for content in (pem, base64.b64encode(der)):
        (tmp_path / "key").write_bytes(content)
        assert requests.load_private_key(tmp_path / "key").private_numbers() == KEY.private_numbers()


def test_invalid_private_key_is_refused_without_its_bytes(tmp_path: Path) -> None:
    encrypted = KEY.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.BestAvailableEncryption(b"pw")
    )
    curve = alipay.dsa_key().private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    for content in (b"", b"x y", alipay.pem(KEY), encrypted, curve):
        (tmp_path / "key").write_bytes(content)
        with pytest.raises(BadKey, match=r"^key is "):
            requests.load_private_key(tmp_path / "key")
