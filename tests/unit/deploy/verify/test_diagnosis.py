"""What people have, diagnosed: each notation of a genuine message verifies, and finds its account."""

import json

import pytest
from msgspec import structs

from deploy.verify import advice, diagnosis
from deploy.verify.diagnosis import Unclear
from deploy.verify.explain import Explanation
from deploy.verify.variants import Variant
from schemas.accounts import Account, SignType
from schemas.dispositions import Refusal
from tests.support import alipay
from tests.unit.deploy.verify.test_dumps import print_r, var_dump, var_export

SHOP = alipay.mapi(seller_id="2088999900000001", partner="2088999900000001")
CN = alipay.openapi(seller_id=alipay.SELLER)
TWO = structs.replace(alipay.openapi(app_id="2021000000000002", seller_id=None), name="shop-two")
ANTOM = alipay.antom()
ACCOUNTS = [SHOP, CN, ANTOM]
RINGS = {
    SHOP.name: alipay.ring(SignType.RSA, alipay.rsa_key(bits=1024)),
    CN.name: alipay.ring(SignType.RSA2, alipay.rsa_key()),
    TWO.name: alipay.ring(SignType.RSA2, alipay.rsa_key("two")),
    ANTOM.name: alipay.ring(SignType.RSA256, alipay.rsa_key("antom"), ids=("1",)),
}
FORM: dict[str, str | bytes] = {
    "app_id": alipay.APP,
    "seller_id": alipay.SELLER,
    "charset": "utf-8",
    "notify_id": "N-1",
    "notify_type": "trade_status_sync",
    "out_trade_no": "OP-1",
    "subject": '港式奶茶 "x", a=b c:d + 10%',
    "fund_bill_list": '[{"amount":"9.00","fundChannel":"ALIPAYACCOUNT"}]',
    "total_amount": "9.00",
}
SIGNED = {name: str(value) for name, value in alipay.signed(FORM, alipay.rsa_key(), "RSA2").items()}
BODY = alipay.urlencoded(SIGNED).decode()
LISTS = {name: [value] for name, value in SIGNED.items()}
MESSAGE = '{"notifyType":"PAYMENT_RESULT","paymentRequestId":"PAY/1","name":"奶茶"}'
SIGNING = alipay.antom_headers(MESSAGE.encode(), alipay.rsa_key("antom"))
HEAD = "\n".join(f"{name}: {value}" for name, value in SIGNING.items())


def diagnosed(content: str | bytes, accounts: list[Account] = ACCOUNTS) -> Explanation:
    encoded = content.encode() if isinstance(content, str) else content
    readings = diagnosis.read(encoded, headers={}, path="")
    return diagnosis.diagnose(readings, accounts, RINGS, {})


DECODED = {
    "json": json.dumps(SIGNED),
    "json of lists": json.dumps(LISTS, ensure_ascii=False, indent=4),
    "json log line": json.dumps({"level": "info", "params": SIGNED}),
    "python": repr(SIGNED),
    "django": f"<QueryDict: {LISTS!r}>",
    "werkzeug": f"ImmutableMultiDict({list(SIGNED.items())!r})",
    "python log line": f"2026-11-30 08:00:00 INFO notify {SIGNED!r}",
    "print_r": print_r(SIGNED),
    "var_dump": var_dump(SIGNED),
    "var_export": var_export(SIGNED),
    "java": "{" + ", ".join(f"{name}={value}" for name, value in SIGNED.items()) + "}",
    "go": "map[" + " ".join(f"{name}:[{value}]" for name, value in sorted(SIGNED.items())) + "]",
    "lines": "\n".join(f"{name}={value}" for name, value in SIGNED.items()),
    "devtools": "\n".join(f"{name}: {value}" for name, value in SIGNED.items()),
}


@pytest.mark.parametrize("name", DECODED)
def test_decoded_parameters_verify_and_the_raw_body_is_asked_for(name: str) -> None:
    found = diagnosed(DECODED[name])
    assert (found.accepted, found.account, found.is_decoded) == (True, "shop-cn", True)
    assert "from decoded parameters" in found.remedy
    assert "the raw body would prove more" in found.remedy


RAW = {
    "body": BODY,
    "request": f"POST /notify/shop-cn HTTP/1.1\r\nContent-Length: {len(BODY)}\r\n\r\n{BODY}\n",
    "log line": f"2026-11-30 08:00:00 INFO notify body={BODY}",
    "json log line": json.dumps({"level": "info", "raw": BODY}),
    "curl": f"curl https://shop.example/notify/shop-cn --data-raw '{BODY}'",
    "lambda": json.dumps({"headers": {"Content-Type": "application/x-www-form-urlencoded"}, "body": BODY}),
    "antom headers": f"{HEAD}\n\n{MESSAGE}",
    "antom request": f"POST /notify/antom-hk HTTP/1.1\n{HEAD}\n\n{MESSAGE}",
    "antom lambda": json.dumps({"headers": {name.title(): text for name, text in SIGNING.items()}, "body": MESSAGE}),
    "antom curl": "curl https://shop.example/n "
    + " ".join(f"-H '{name}: {value}'" for name, value in SIGNING.items())
    + f" -d '{MESSAGE}'",
}


@pytest.mark.parametrize("name", RAW)
def test_raw_bodies_verify_wherever_they_stand(name: str) -> None:
    found = diagnosed(RAW[name])
    assert (found.accepted, found.is_decoded) == (True, False)
    assert found.account == ("antom-hk" if name.startswith("antom") else "shop-cn")


def test_parsed_body_of_antom_is_written_compactly() -> None:
    found = diagnosed(json.dumps({"headers": SIGNING, "body": json.loads(MESSAGE)}))
    assert (found.accepted, found.account, found.is_decoded) == (True, "antom-hk", True)


@pytest.mark.parametrize("charset", ["gbk", "GBK"])
def test_decoded_gbk_form_verifies(charset: str) -> None:
    signed = alipay.signed({**FORM, "charset": charset}, alipay.rsa_key(), "RSA2", charset="gbk")
    assert diagnosed(repr(signed)).accepted
    without = {name: value for name, value in FORM.items() if name != "charset"}
    assert diagnosed(repr(alipay.signed(without, alipay.rsa_key(), "RSA2", charset="gbk"))).accepted
    assert diagnosed(print_r({k: str(v) for k, v in signed.items()}).encode("gbk")).accepted


@pytest.mark.parametrize("name", DECODED)
def test_changed_dump_is_refused_and_named_from_its_parameters(name: str) -> None:
    found = diagnosed(DECODED[name].replace("9.00", "0.01"))
    assert (found.accepted, found.account, found.reason) == (False, "shop-cn", Refusal.BAD_SIGNATURE)
    assert found.cause == advice.OTHER_TEXT.cause


def test_parameter_that_a_framework_added_to_a_dump_is_named() -> None:
    found = diagnosed(repr({"s": "/notify", **SIGNED}))
    assert (found.accepted, found.ignored, found.departures) == (False, ("s",), (Variant.PARAMETER_ADDED,))


def test_blanks_in_the_signature_of_a_dump_are_named() -> None:
    numbered = (alipay.signed({**FORM, "notify_id": f"N-{number}"}, alipay.rsa_key(), "RSA2") for number in range(100))
    signed = next(each for each in numbered if "+" in str(each["sign"]))
    found = diagnosed(repr({**signed, "sign": str(signed["sign"]).replace("+", " ")}))
    assert found.departures == (Variant.SIGN_BLANK_TO_PLUS,)


def test_android_s_map_is_a_return() -> None:
    inner = json.dumps({"app_id": alipay.APP, "out_trade_no": "OP-1"}, separators=(",", ":"))
    sign = alipay.signature(inner.encode(), alipay.rsa_key(), "RSA2")
    result = f'{{"alipay_trade_app_pay_response":{inner},"sign":"{sign}","sign_type":"RSA2"}}'
    for text in (
        f"{{resultStatus=9000, memo=, result={result}}}",
        f"{{memo=, resultStatus=9000, result={result}}}",
        repr({"resultStatus": "9000", "memo": "", "result": result}),
        f"D/alipay: resultStatus={{9000}};memo={{}};result={{{result}}}"[len("D/alipay: ") :],
    ):
        found = diagnosed(text, [CN])
        assert found.accepted, text
        assert "wait for the notification" in found.cause


def test_return_with_a_framework_s_parameter_names_it() -> None:
    fields = {name: value for name, value in FORM.items() if name not in ("notify_id", "notify_type")}
    query = alipay.form(fields, alipay.rsa_key(), "RSA2").decode()
    for text in (
        f"s=/pay/return&{query}",
        f"https://shop.example/index.php?s=/pay/return&{query}",
        f"GET /index.php?s=/pay/return&{query} HTTP/1.1\r\nHost: shop.example\r\n\r\n",
        f'10.0.0.1 - - [30/Nov/2026] "GET /index.php?s=/pay/return&{query} HTTP/1.1" 200 1',
    ):
        found = diagnosed(text)
        assert (found.accepted, found.account, found.ignored) == (True, "shop-cn", ("s",)), text
    refused = diagnosed(f"https://shop.example/index.php?s=/pay/return&{query.replace('9.00', '0.01')}")
    assert (refused.accepted, refused.cause) == (False, advice.OTHER_TEXT.cause)


NAMED = {
    "mandate": {"notify_type": "dut_user_unsign", "agreement_no": "2026", "app_id": alipay.APP, "notify_id": "1"},
    "message service": {"msg_method": "alipay.fund.trans.order.changed", "biz_content": "{}", "app_id": alipay.APP},
    "old mandate": {"notify_type": "dut_user_sign", "partner_id": "2088999900000001", "notify_id": "1"},
    "payout": {"notify_type": "batch_trans_notify", "pay_user_id": "2088999900000001", "notify_id": "1"},
}  # fmt: skip


@pytest.mark.parametrize("name", NAMED)
def test_account_is_found_by_each_identity(name: str) -> None:
    fields: dict[str, str | bytes] = dict(NAMED[name])
    is_openapi = "app_id" in fields
    signer, sign_type = (alipay.rsa_key(), "RSA2") if is_openapi else (alipay.rsa_key(bits=1024), "RSA")
    found = diagnosed(repr(alipay.signed(fields, signer, sign_type)), [SHOP, TWO, CN, ANTOM])
    assert (found.accepted, found.account) == (True, "shop-cn" if is_openapi else "shop-sg")


def test_number_of_no_account_is_named_as_another_application() -> None:
    strange = alipay.signed({**FORM, "app_id": "9021000000000001"}, alipay.rsa_key("strange"), "RSA2")
    found = diagnosed(repr(strange))
    assert "app_id 9021000000000001" in found.cause
    assert "it is from the sandbox (沙箱)" in found.cause
    other = alipay.signed({**FORM, "app_id": "2021000000000009"}, alipay.rsa_key(), "RSA2")
    found = diagnosed(repr(other))
    assert (found.reason, "another application" in found.cause) == (Refusal.NOT_OURS, True)


def test_message_that_may_be_for_several_accounts_is_unclear() -> None:
    with pytest.raises(Unclear) as unclear:
        diagnosed("a=1&sign=x&sign_type=RSA")
    assert unclear.value.accounts == ["shop-sg", "shop-cn"]
    with pytest.raises(Unclear):
        diagnosed("", [])


def test_antom_s_body_without_headers_asks_for_them() -> None:
    found = diagnosed(MESSAGE)
    assert (found.account, found.reason) == ("antom-hk", Refusal.MISSING_SIGN)
    assert "client-id" in found.remedy
