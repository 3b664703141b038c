"""Returns are recognised in what people paste, and explained."""

import json

import pytest

from deploy.verify import explain_return
from deploy.verify.capture import Captured
from deploy.verify.explain import Explanation
from schemas.accounts import Account, SignType
from schemas.dispositions import Refusal
from tests.support import alipay

CN = alipay.openapi()
RING = alipay.ring(SignType.RSA2, alipay.rsa_key())
FORM: dict[str, str | bytes] = {
    "app_id": alipay.APP,
    "seller_id": alipay.SELLER,
    "out_trade_no": "OP-1",
    "charset": "utf-8",
}
QUERY = alipay.form(FORM, alipay.rsa_key(), "RSA2").decode()
NOTIFICATION = alipay.form({**FORM, "notify_id": "N-1"}, alipay.rsa_key(), "RSA2").decode()


def text_of(body: str, account: Account = CN, target: str = "") -> str:
    return explain_return.text_of(Captured(body=body.encode(), target=target), account)


def explained(text: str) -> Explanation:
    return explain_return.explain_return(text, CN, RING, Captured(body=text.encode()))


@pytest.mark.parametrize(
    "body",
    [
        QUERY,
        f"?{QUERY}",
        f"https://shop.example/return?s=/pay&{QUERY}",
        f"is_success=T&notify_id=RqPnCo&{QUERY}",
        'partner="2088"&sign="x"',
        "resultStatus={6001};memo={};result={}",
        '{"alipay_trade_app_pay_response":{},"sign":"x"}',
    ],
)
def test_return_is_recognised(body: str) -> None:
    assert text_of(body) == body
    assert text_of(f"{body}\n") == body
    assert text_of(body, alipay.antom()) == ""


@pytest.mark.parametrize("body", [NOTIFICATION, "a=1", '{"app_id":"2021"}', "", "https://shop.example/"])
def test_anything_else_is_no_return(body: str) -> None:
    assert text_of(body) == ""


def test_query_of_a_captured_get_request_is_a_return() -> None:
    assert text_of("", target=f"/return?{QUERY}") == QUERY


def test_query_is_taken_from_its_address() -> None:
    for text in (
        QUERY,
        f"?{QUERY}",
        f"https://shop.example/return?{QUERY}",
        f"https://shop.example/return?{QUERY}#top",
    ):
        assert explain_return.query_of(text) == QUERY
    for text in ("resultStatus={6001}", "{}", 'partner="2088"&sign="x"', ""):
        assert explain_return.query_of(text) == ""


def test_app_s_return_is_explained() -> None:
    inner = json.dumps({"app_id": alipay.APP, "out_trade_no": "OP-1"})
    sign = alipay.signature(inner.encode(), alipay.rsa_key(), "RSA2")
    text = f'{{"alipay_trade_app_pay_response":{inner},"sign":"{sign}","sign_type":"RSA2"}}'
    assert explained(text).accepted
    for changed in (text.replace("OP-1", "OP-2"), "resultStatus={6001};memo={};result={}", "{}", 'a="1"'):
        found = explained(changed)
        assert not found.accepted
        assert found.cause
        assert found.remedy


def test_ignored_names_and_notes_are_told() -> None:
    found = explained(f"s=%2Fpay&{QUERY}")
    assert (found.accepted, found.ignored) == (True, ("s",))
    assert "s is none of Alipay's names" in found.cause
    text = alipay.canonical({**FORM, "sign_type": "RSA2"}, left_out=("sign",))
    sign = alipay.signature(text, alipay.rsa_key(), "RSA2")
    sandbox = alipay.urlencoded({**FORM, "sign_type": "RSA2", "sign": sign}).decode()
    assert "sandbox" in explained(sandbox).cause
    assert explained(QUERY.replace("OP-1", "OP-2")).reason is Refusal.BAD_SIGNATURE
    other = alipay.form({**FORM, "app_id": "2021"}, alipay.rsa_key(), "RSA2").decode()
    assert explained(other).reason is Refusal.NOT_OURS
