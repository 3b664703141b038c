"""Returns in three formats, wrapped or bare: described, and authentic only if signed for the account."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ingest.checkout import returns
from ingest.checkout.returns import RESULT_STATUSES, Return, ReturnVerdict
from ingest.keys import KeyRing
from schemas.accounts import Account, SignType
from schemas.dispositions import Refusal
from tests.support import alipay

MAPI = alipay.mapi()
MAPI_RING = alipay.ring(SignType.RSA, alipay.rsa_key(bits=1024))
CN = alipay.openapi()
CN_RING = alipay.ring(SignType.RSA2, alipay.rsa_key())

PAIRS = {
    "partner": alipay.SELLER,
    "seller_id": alipay.SELLER,
    "out_trade_no": "APP-1",
    "subject": "港式奶茶 %26 + 礼盒",
    "total_fee": "25.80",
    "notify_url": "https://shop.example/notify/shop-sg",
    "_input_charset": "utf-8",
    "success": "true",
}


def order_string(
    pairs: dict[str, str] | None = None, *, signer: Any = None, sign_type: str = "RSA", charset: str = "utf-8"
) -> str:
    text = "&".join(f'{name}="{value}"' for name, value in (pairs or PAIRS).items())
    sign = alipay.signature(text.encode(charset), signer or alipay.rsa_key(bits=1024), "RSA")
    return f'{text}&sign_type="{sign_type}"&sign="{sign}"'


def of_mapi(text: str, account: Account = MAPI) -> Return:
    return returns.check(text, account, MAPI_RING)


def test_mapi_app_result_is_checked_as_it_stands() -> None:
    found = of_mapi(order_string())
    assert (found.verdict, found.key_id) == (ReturnVerdict.AUTHENTIC, "k0")
    assert (found.order, found.amount, found.claims["success"]) == ("APP-1", "25.80", "true")
    assert "subject" not in found.claims
    assert found.result_status == ""


def test_app_result_is_read_from_android_s_text() -> None:
    found = of_mapi(f"resultStatus={{9000}};memo={{处理成功}};result={{{order_string()}}}")
    assert (found.verdict, found.result_status, found.result_meaning) == (ReturnVerdict.AUTHENTIC, "9000", "paid")


def test_app_result_is_read_from_a_json_map() -> None:
    found = of_mapi(json.dumps({"resultStatus": "8000", "memo": "", "result": order_string()}))
    assert (found.verdict, found.result_status) == (ReturnVerdict.AUTHENTIC, "8000")
    assert found.result_meaning == RESULT_STATUSES["8000"]


def test_gbk_app_result_is_checked_over_gbk_bytes() -> None:
    pairs = {**PAIRS, "_input_charset": "GBK"}
    assert of_mapi(order_string(pairs, charset="gbk")).verdict is ReturnVerdict.AUTHENTIC
    assert of_mapi(order_string(pairs, charset="utf-8")).reason is Refusal.BAD_SIGNATURE


@pytest.mark.parametrize("status", ["6001", "4000", "6002", "99", "1234"])
def test_empty_result_is_unsigned_with_any_status(status: str) -> None:
    for text in (
        f"resultStatus={{{status}}};memo={{}};result={{}}",
        json.dumps({"resultStatus": status, "result": ""}),
    ):
        found = of_mapi(text)
        assert (found.verdict, found.result_status, found.claims) == (ReturnVerdict.UNSIGNED, status, {})
        assert found.result_meaning == RESULT_STATUSES.get(status, "not a documented status")


def test_paid_status_without_a_signature_is_not_authentic() -> None:
    found = of_mapi("resultStatus={9000};memo={};result={}")
    assert found.verdict is ReturnVerdict.UNSIGNED


def test_changed_app_result_is_refused_with_its_claims() -> None:
    genuine = order_string()
    reordered = order_string().replace('partner="', 'PARTNER="')
    for text in (genuine.replace("25.80", "2.58"), genuine.replace('"true"', '"false"'), reordered):
        found = of_mapi(text)
        assert (found.verdict, found.reason) == (ReturnVerdict.REFUSED, Refusal.BAD_SIGNATURE)
        assert found.order == "APP-1"
    swapped = dict(sorted(PAIRS.items()))
    text = "&".join(f'{name}="{value}"' for name, value in swapped.items())
    assert of_mapi(text + genuine[genuine.index("&sign_type=") :]).reason is Refusal.BAD_SIGNATURE


def test_app_result_with_another_algorithm_is_refused() -> None:
    for sign_type in ("RSA2", "MD5", "rsa", ""):
        assert of_mapi(order_string(sign_type=sign_type)).reason is Refusal.UNSUPPORTED_SIGN_TYPE


def test_app_result_without_a_signature_is_missing_sign() -> None:
    bare = order_string().partition("&sign_type=")[0]
    for text in (bare, bare + '&sign_type="RSA"', order_string() + "&", order_string() + "\n"):
        assert of_mapi(text).reason is Refusal.MISSING_SIGN


def test_app_result_must_name_the_account_and_no_other_payee() -> None:
    def reason(**changes: str) -> Refusal | None:
        pairs = {name: value for name, value in {**PAIRS, **changes}.items() if value}
        return of_mapi(order_string(pairs)).reason

    assert reason(seller_id="payee@merchant.example") is None
    assert reason(seller_id="") is None
    assert reason(partner="") is None
    assert reason(partner="2088000000000000") is Refusal.NOT_OURS
    assert reason(seller_id="2088000000000000") is Refusal.NOT_OURS
    assert reason(seller_id="payee@merchant.example", partner="") is Refusal.NOT_OURS
    assert of_mapi(order_string(), alipay.mapi(partner=None, seller_id=None)).reason is Refusal.NOT_OURS


def test_repeated_parameter_in_a_signed_app_result_is_refused() -> None:
    text = 'total_fee="0.01"&' + "&".join(f'{name}="{value}"' for name, value in PAIRS.items())
    sign = alipay.signature(text.encode(), alipay.rsa_key(bits=1024), "RSA")
    assert of_mapi(f'{text}&sign_type="RSA"&sign="{sign}"').reason is Refusal.DUPLICATE_PARAM


@pytest.mark.parametrize("subject", ['a"b', 'a" & "b', 'x"y=z'])
def test_quote_in_a_value_makes_an_app_result_unreadable(subject: str) -> None:
    assert of_mapi(order_string({**PAIRS, "subject": subject})).verdict is ReturnVerdict.UNREADABLE


def response(inner: dict[str, Any] | str, *, signer: Any = None, **members: Any) -> str:
    raw = inner if isinstance(inner, str) else json.dumps(inner, ensure_ascii=False)
    sign = alipay.signature(raw.encode(), signer or alipay.rsa_key(), "RSA2")
    rest = {"sign": sign, "sign_type": "RSA2", **members}
    parts = "".join(f",{json.dumps(name)}:{json.dumps(value)}" for name, value in rest.items() if value is not None)
    return f'{{"alipay_trade_app_pay_response":{raw}{parts}}}'


INNER = {
    "code": "10000",
    "msg": "Success",
    "app_id": alipay.APP,
    "out_trade_no": "OP-1",
    "trade_no": "2025",
    "total_amount": "9.00",
    "seller_id": alipay.SELLER,
    "charset": "utf-8",
}


def of_cn(text: str, account: Account = CN) -> Return:
    return returns.check(text, account, CN_RING)


@pytest.mark.parametrize("name", ["out_trade_no", "msg"])
def test_json_with_a_lone_surrogate_is_unreadable(name: str) -> None:
    assert of_cn(response(json.dumps(INNER | {name: "\ud83d"}))).verdict is ReturnVerdict.UNREADABLE


def test_openapi_result_is_checked_over_its_raw_inner_object() -> None:
    odd = (
        '{ "code" : "10000",\n "app_id":"'
        + alipay.APP
        + '", "out_trade_no":"OP\\/1", "total_amount":"9.00", "nested":{"a":"}"} }'
    )
    for inner in (INNER, odd):
        found = of_cn(response(inner))
        assert (found.verdict, found.amount) == (ReturnVerdict.AUTHENTIC, "9.00")
    assert of_cn(response(odd)).order == "OP/1"
    wrapped = json.dumps({"resultStatus": "9000", "result": response(INNER), "memo": ""})
    assert of_cn(wrapped).verdict is ReturnVerdict.AUTHENTIC
    assert of_cn(f"resultStatus={{9000}};memo={{}};result={{{response(INNER)}}}").result_status == "9000"


def test_openapi_result_is_refused_for_each_fault() -> None:
    cases = {
        response(INNER).replace("9.00", "0.01"): Refusal.BAD_SIGNATURE,
        response(INNER).replace('"9.00",', '"9.00", '): Refusal.BAD_SIGNATURE,
        response(INNER, signer=alipay.rsa_key("stranger")): Refusal.BAD_SIGNATURE,
        response(INNER, sign_type="RSA"): Refusal.UNSUPPORTED_SIGN_TYPE,
        response(INNER, sign_type=None): Refusal.UNSUPPORTED_SIGN_TYPE,
        response(INNER, sign=None): Refusal.MISSING_SIGN,
        response(INNER, sign=""): Refusal.MISSING_SIGN,
        response(INNER, sign=1): Refusal.MISSING_SIGN,
        response({**INNER, "app_id": "2021000000000000"}): Refusal.NOT_OURS,
        response({**INNER, "seller_id": "2088000000000000"}): Refusal.NOT_OURS,
        response({name: value for name, value in INNER.items() if name != "app_id"}): Refusal.NOT_OURS,
    }
    for text, reason in cases.items():
        found = of_cn(text)
        assert (found.verdict, found.reason) == (ReturnVerdict.REFUSED, reason), text


def test_openapi_result_may_omit_the_payee() -> None:
    without = {name: value for name, value in INNER.items() if name != "seller_id"}
    assert of_cn(response(without)).verdict is ReturnVerdict.AUTHENTIC
    assert of_cn(response(INNER), alipay.openapi(seller_id=None)).verdict is ReturnVerdict.AUTHENTIC


@pytest.mark.parametrize(
    "text",
    [
        "{",
        "{}",
        "[1]",
        '{"sign":"x"}',
        '{"a_response":1,"sign":"x"}',
        '{"a_response":{},"b_response":{},"sign":"x"}',
        '{"a_response":{"code":"1","code":"2"},"sign":"x","sign_type":"RSA2"}',
        '{"a_response":{},"sign":"x","sign":"y"}',
        '{"a_response":{"a":NaN},"sign":"x"}',
        '{"a_response":{"charset":"utf-7"},"sign":"x","sign_type":"RSA2"}',
    ],
)
def test_json_without_a_result_is_unreadable(text: str) -> None:
    assert of_cn(text).verdict is ReturnVerdict.UNREADABLE


QUERY: dict[str, str | bytes] = {
    "app_id": alipay.APP,
    "auth_app_id": alipay.APP,
    "charset": "utf-8",
    "method": "alipay.trade.page.pay.return",
    "out_trade_no": "OP-1",
    "seller_id": alipay.SELLER,
    "timestamp": "2025-03-18 09:11:31",
    "total_amount": "9.00",
    "trade_no": "2025",
    "version": "1.0",
}


def test_redirect_s_query_is_read_alone_or_from_its_url() -> None:
    query = alipay.form(QUERY, alipay.rsa_key(), "RSA2").decode()
    for text in (
        query,
        f"?{query}",
        f"https://shop.example/return?{query}",
        f"https://shop.example/return?{query}#top",
    ):
        found = of_cn(text)
        assert (found.verdict, found.order, found.amount) == (ReturnVerdict.AUTHENTIC, "OP-1", "9.00")
        assert found.detail == ""


def test_redirect_s_query_is_refused_by_the_rules_of_forms() -> None:
    def reason(params: dict[str, str | bytes], sign_type: str = "RSA2") -> Refusal | None:
        return of_cn(alipay.form(params, alipay.rsa_key(), sign_type).decode()).reason

    query = alipay.form(QUERY, alipay.rsa_key(), "RSA2").decode()
    assert of_cn(query.replace("9.00", "0.09")).reason is Refusal.BAD_SIGNATURE
    assert reason(QUERY, "RSA") is Refusal.UNSUPPORTED_SIGN_TYPE
    assert reason({**QUERY, "seller_id": "2088000000000000"}) is Refusal.NOT_OURS
    ambiguous = of_cn(alipay.form({**QUERY, "body": "x&total_amount=1"}, alipay.rsa_key(), "RSA2").decode())
    assert (ambiguous.verdict, ambiguous.claims) == (ReturnVerdict.AUTHENTIC, {})
    assert "also fits other parameters" in ambiguous.detail
    assert of_cn(f"{query}&out_trade_no=OP-2").verdict is ReturnVerdict.UNREADABLE


SIGNED_QUERY = alipay.form(QUERY, alipay.rsa_key(), "RSA2").decode()


@pytest.mark.parametrize(
    ("text", "ignored"),
    [
        (f"s=%2Fpay%2Freturn&{SIGNED_QUERY}", ("s",)),
        (f"https://shop.example/index.php?s=/pay/return.html&{SIGNED_QUERY}", ("s",)),
        (f"_url=/pay/return&q=pay&{SIGNED_QUERY}&utm_source=x", ("_url", "q", "utm_source")),
        (f"/pay/return&{SIGNED_QUERY}", ("/pay/return",)),
        (f"s=a&s=b&s[]=c&{SIGNED_QUERY}&", ("s", "s[]", "")),
        (f"%FF=1&{SIGNED_QUERY}", ("\\xff",)),
        (f"页=1&{SIGNED_QUERY}", ("页",)),
    ],
)
def test_return_verifies_without_names_that_a_framework_added(text: str, ignored: tuple[str, ...]) -> None:
    found = of_cn(text)
    assert (found.verdict, found.order, found.ignored) == (ReturnVerdict.AUTHENTIC, "OP-1", ignored)


def test_unknown_name_that_was_signed_stays_in_a_return() -> None:
    signed = alipay.form({**QUERY, "new_name": "1", "newer": "2"}, alipay.rsa_key(), "RSA2").decode()
    assert (of_cn(signed).verdict, of_cn(signed).ignored) == (ReturnVerdict.AUTHENTIC, ())
    assert of_cn(f"s=/pay&{signed}").ignored == ("s",)
    one_signed = alipay.form({**QUERY, "new_name": "1"}, alipay.rsa_key(), "RSA2").decode()
    assert of_cn(f"s=/pay&_url=x&{one_signed}").ignored == ("s", "_url")


def test_no_name_of_alipay_is_left_out_of_a_return() -> None:
    for added in ("trade_status=TRADE_SUCCESS", "total_fee=9.00", "notify_id=1", "currency=USD"):
        found = of_cn(f"s=/pay&{added}&{SIGNED_QUERY}")
        assert (found.verdict, found.reason, found.ignored) == (ReturnVerdict.REFUSED, Refusal.BAD_SIGNATURE, ())
    assert of_cn(f"s=/pay&total_amount=1.00&{SIGNED_QUERY}").verdict is ReturnVerdict.UNREADABLE
    assert of_cn(f"s=/pay&{SIGNED_QUERY.replace('9.00', '0.09')}").verdict is ReturnVerdict.REFUSED


def test_another_merchants_return_stays_refused_with_added_names() -> None:
    other = alipay.form({**QUERY, "seller_id": "2088000000000000"}, alipay.rsa_key(), "RSA2").decode()
    found = of_cn(f"s=/pay&{other}")
    assert (found.reason, found.ignored) == (Refusal.NOT_OURS, ("s",))


def test_many_added_names_are_left_out_only_together() -> None:
    many = "&".join(f"x{number}=1" for number in range(100))
    assert len(of_cn(f"{many}&{SIGNED_QUERY}").ignored) == 100
    assert of_cn(f"{many}&{many}&{SIGNED_QUERY}").verdict is ReturnVerdict.UNREADABLE  # more than 200 parameters
    signed = alipay.form({**QUERY, "new_name": "1"}, alipay.rsa_key(), "RSA2").decode()
    assert of_cn(f"{many}&{signed}").reason is Refusal.BAD_SIGNATURE


def test_sandbox_return_that_signed_sign_type_is_authentic() -> None:
    text = alipay.canonical({**QUERY, "sign_type": "RSA2"}, left_out=("sign",))
    sign = alipay.signature(text, alipay.rsa_key(), "RSA2")
    query = alipay.urlencoded({**QUERY, "sign_type": "RSA2", "sign": sign}).decode()
    found = of_cn(query)
    assert (found.verdict, found.order, found.ignored) == (ReturnVerdict.AUTHENTIC, "OP-1", ())
    assert "sandbox" in found.detail
    assert of_cn(f"s=/pay&{query}").ignored == ("s",)
    assert of_cn(query.replace("sign_type=RSA2", "sign_type=RSA")).reason is Refusal.UNSUPPORTED_SIGN_TYPE


def test_website_return_is_described_as_naming_no_payee() -> None:
    account = alipay.mapi(SignType.MD5, seller_id=None, notify_verify=True)
    query = alipay.form(
        {"out_trade_no": "W-1", "total_fee": "42.50", "currency": "SGD"}, alipay.MD5_SECRET, "MD5"
    ).decode()
    found = returns.check(query, account, alipay.ring(SignType.MD5, alipay.MD5_SECRET))
    assert (found.verdict, found.amount, found.claims["currency"]) == (ReturnVerdict.AUTHENTIC, "42.50", "SGD")
    assert "names no payee" in found.detail


def test_undecodable_claims_are_left_out() -> None:
    for charset, value in (("utf-8", b"\xff"), ("utf-7", b"x")):
        query = alipay.form({**QUERY, "charset": charset, "method": value}, alipay.rsa_key(), "RSA2").decode()
        found = of_cn(query)
        assert (found.verdict, found.claims) == (ReturnVerdict.AUTHENTIC, {})
        assert "cannot be decoded" in found.detail


@pytest.mark.parametrize(
    "text", ["", " ", "hello", "?", "https://shop.example/return", "a=1&a=2", "resultStatus=9000", "é=1", "\ud800"]
)
def test_any_other_text_is_unreadable_or_unsigned(text: str) -> None:
    for account, ring in ((MAPI, MAPI_RING), (CN, CN_RING)):
        assert returns.check(text, account, ring).verdict in (ReturnVerdict.UNREADABLE, ReturnVerdict.UNSIGNED)


def test_return_of_antom_or_of_excessive_length_is_unreadable() -> None:
    assert returns.check("a=1", alipay.antom(), CN_RING).verdict is ReturnVerdict.UNREADABLE
    assert of_cn("a=" + "x" * 70_000).verdict is ReturnVerdict.UNREADABLE


@given(st.text(max_size=60))
def test_no_arbitrary_text_raises_or_is_authentic(text: str) -> None:
    for start in ("", "resultStatus={9000};memo={};result={", '{"a_response":', 'a="', "https://"):
        assert of_cn(start + text).verdict is not ReturnVerdict.AUTHENTIC
        assert of_mapi(start + text).verdict is not ReturnVerdict.AUTHENTIC


def test_return_under_a_retiring_algorithm_is_authentic_until_its_end() -> None:
    old = alipay.rsa_key("old")
    former = KeyRing("shop", SignType.RSA, alipay.ring(SignType.RSA, old).keys, until="x", until_ms=1000)
    ring = KeyRing("shop", SignType.RSA2, alipay.ring(SignType.RSA2, alipay.rsa_key()).keys, retiring=(former,))
    fields: dict[str, str | bytes] = {"app_id": alipay.APP, "seller_id": alipay.SELLER, "out_trade_no": "O-1"}
    query = alipay.form(fields, old, "RSA").decode()
    sandbox = alipay.signature(alipay.canonical({**fields, "sign_type": "RSA"}, left_out=()), old, "RSA")
    too = alipay.urlencoded({**fields, "sign_type": "RSA", "sign": sandbox}).decode()
    inner = f'{{"code":"10000","app_id":"{alipay.APP}","seller_id":"{alipay.SELLER}"}}'
    sign = alipay.signature(inner.encode(), old, "RSA")
    response = f'{{"alipay_trade_app_pay_response":{inner},"sign":"{sign}","sign_type":"RSA"}}'
    for text in (query, too, response):
        assert returns.check(text, alipay.openapi(), ring, 999).verdict is ReturnVerdict.AUTHENTIC
        assert returns.check(text, alipay.openapi(), ring, 1000).reason is Refusal.UNSUPPORTED_SIGN_TYPE
        assert returns.check(text, alipay.openapi(), ring).reason is Refusal.UNSUPPORTED_SIGN_TYPE
