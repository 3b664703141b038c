"""Questions are signed as the documents say, with the merchant's key."""

import json
from datetime import UTC, datetime
from pathlib import Path
from urllib.parse import parse_qsl, unquote, urlsplit

import pytest

from deploy.sandbox import signing
from ingest.checkout import merchant_keys, questions
from ingest.checkout.merchant_keys import MerchantKey
from ingest.checkout.questions import Question
from ingest.checkout.requests import BadRequest
from schemas.accounts import Account, Family, SignType
from tests.support import alipay

NOW = datetime(2026, 11, 30, 12, 0, 7, tzinfo=UTC)
KEY = MerchantKey(alipay.rsa_key("merchant"), app_cert_sn="a1", root_cert_sn="b2")
PUBLIC = alipay.rsa_key("merchant").public_key()
OPEN = Account(name="cn", family=Family.OPENAPI, sign_type=SignType.RSA2, app_id="2021")
OLD = Account(name="old", family=Family.MAPI, sign_type=SignType.RSA, partner="2088", charset="gbk")
ANTOM = Account(
    name="hk", family=Family.ANTOM, sign_type=SignType.RSA256, client_id="C",
    gateway_url="https://open.example/ams/api/v1/payments/inquiryPayment",
)  # fmt: skip


def parameters(question: Question) -> dict[str, str]:
    return dict(parse_qsl(question.body.decode(), strict_parsing=True))


def test_question_to_the_open_platform_signs_sign_type_too() -> None:
    question = questions.ask(OPEN, 'A"1 茶', KEY, now=NOW)
    given = parameters(question)
    assert question.url == "https://openapi.alipay.com/gateway.do"
    assert (given["method"], given["app_id"], given["app_cert_sn"]) == ("alipay.trade.query", "2021", "a1")
    assert given["timestamp"] == "2026-11-30 20:00:07", "Beijing time"
    assert json.loads(given["biz_content"]) == {"out_trade_no": 'A"1 茶'}
    text = signing.canonical(given.items(), charset="utf-8", left_out=("sign",))
    assert signing.verify(text, given["sign"], sign_type="RSA2", key=PUBLIC)


def test_question_for_a_providers_merchant_has_its_token_and_signs_it() -> None:
    given = parameters(questions.ask(OPEN, "A-1", KEY, now=NOW, app_auth_token="2026BBtoken"))
    assert given["app_auth_token"] == "2026BBtoken"
    text = signing.canonical(given.items(), charset="utf-8", left_out=("sign",))
    assert signing.verify(text, given["sign"], sign_type="RSA2", key=PUBLIC)
    assert "app_auth_token" not in parameters(questions.ask(OPEN, "A-1", KEY, now=NOW))


def test_question_to_the_old_gateway_names_the_partner() -> None:
    question = questions.ask(OLD, "A-1", KEY, now=NOW)
    given = parameters(question)
    assert question.url == "https://mapi.alipay.com/gateway.do"
    assert (given["service"], given["partner"], given["out_trade_no"]) == ("single_trade_query", "2088", "A-1")
    assert signing.verify(signing.canonical(given.items(), charset="utf-8"), given["sign"], sign_type="RSA", key=PUBLIC)


def test_question_under_md5_is_signed_with_the_shared_secret(tmp_path: Path) -> None:
    account = Account(
        name="md5", family=Family.MAPI, sign_type=SignType.MD5, seller_id="2088",
        md5_key_file=alipay.written(tmp_path, "md5.key", alipay.MD5_SECRET),
    )  # fmt: skip
    given = parameters(questions.ask(account, "A-1", merchant_keys.load(account, tmp_path), now=NOW))
    assert given["partner"] == "2088"
    text = signing.canonical(given.items(), charset="utf-8")
    assert signing.verify(text, given["sign"], sign_type="MD5", key=alipay.MD5_SECRET)


def test_question_to_antom_is_signed_in_its_header() -> None:
    question = questions.ask(ANTOM, "A-1", KEY, now=NOW)
    assert json.loads(question.body) == {"paymentRequestId": "A-1"}
    assert question.headers["request-time"] == "2026-11-30T12:00:07Z"
    assert question.path == urlsplit(question.url).path
    text = b"POST " + question.path.encode() + b"\nC.2026-11-30T12:00:07Z." + question.body
    _, _, sign = question.headers["signature"].partition("signature=")
    assert signing.verify(text, unquote(sign), sign_type="RSA256", key=PUBLIC)


def test_gateway_of_the_account_takes_the_place_of_productions() -> None:
    account = Account(
        name="cn",
        family=Family.OPENAPI,
        sign_type=SignType.RSA2,
        app_id="2021",
        gateway_url="http://sandbox/gateway.do",
    )
    assert questions.ask(account, "A-1", KEY, now=NOW).url == "http://sandbox/gateway.do"


def test_order_number_that_no_request_can_have_is_refused() -> None:
    with pytest.raises(BadRequest, match="out_trade_no"):
        questions.ask(OLD, "A" * 65, KEY, now=NOW)
