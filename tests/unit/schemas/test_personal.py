"""Personal data in bodies: hidden or erased wherever it stands, and nothing else changes."""

import json
from collections.abc import Iterator
from urllib.parse import parse_qsl, quote, urlencode

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas import form as forms
from schemas import interpret, personal
from schemas.accounts import Account
from schemas.record_format import Header, Record
from tests.support import antom_kinds, log_records
from tests.support.admin import ANTOM
from tests.support.log_records import ANTOM_HEADERS, SHOP

PAYMENT = {
    "buyer_id": "2088102116773037",
    "buyer_logon_id": "159****5620",
    "receive_name": "张三",
    "out_trade_no": "A1",
    "total_fee": "12.80",
    "fund_bill_list": '[{"amount":"0.10","fundChannel":"ALIPAYACCOUNT"}]',
    "seller_email": "shop@example.com",
    "subject": "Two tickets",
    "sign": "c2lnbmVk",
}


@pytest.mark.parametrize(
    "name",
    ["buyer_id", "buyer_open_id", "buyer_user_id", "payer_logon_id", "receive_mobile", "passback_params", "userLoginId",
     "displayCustomerId", "shopperName", "customerEmail", "zm_open_id", "openId", "accessToken", "cardNo", "clientIp"],
)  # fmt: skip
def test_names_of_people_and_their_tokens_are_personal(name: str) -> None:
    assert personal.is_personal(name)


@pytest.mark.parametrize(
    "name",
    ["out_trade_no", "seller_id", "seller_email", "pay_user_id", "buyer_pay_amount", "present_refund_buyer_amount",
     "buyer_user_type", "trade_status", "paymentRequestId", "paymentMethodType", "resultCode", "notify_id", "subject"],
)  # fmt: skip
def test_names_of_payments_and_merchants_are_not(name: str) -> None:
    assert not personal.is_personal(name)


def test_form_keeps_all_other_bytes() -> None:
    body = urlencode(PAYMENT).encode()
    hidden = personal.hidden(body)
    changed = [
        (before, after) for before, after in zip(body.split(b"&"), hidden.split(b"&"), strict=True) if before != after
    ]
    assert [after for _, after in changed] == [b"buyer_id=***", b"buyer_logon_id=***", b"receive_name=***"]


def test_escaped_names_and_json_within_values_are_found() -> None:
    inner = '{"buyer_open_id": "0742", "detail": "{\\"userId\\":\\"2088\\"}", "amount": 1.50}'
    hidden = personal.hidden(b"buyer%5Fid=2088&biz_content=" + quote(inner).encode())
    assert b"buyer%5Fid=***&" in hidden
    ((_, value),) = [pair for pair in parse_qsl(hidden.decode()) if pair[0] == "biz_content"]
    assert value == '{"buyer_open_id":"***","detail":"{\\"userId\\":\\"***\\"}","amount":1.50}'


def test_addresses_of_accounts_in_details_of_a_batch_are_hidden() -> None:
    details = "2010031906272929^80^SUCCESS$jax@example.com^2088101003147483^0.01^SUCCESS#2010^1.00^SUCCESS"
    hidden = personal.hidden_text("result_details", details)
    assert hidden == details.replace("jax@example.com", "***")


def test_message_keeps_numbers_order_and_repeated_names() -> None:
    body = b'{"pspCustomerInfo":{"userId":"1","n":2,"x":null,"on":true},"a":1.0E-5,"a":"\\ud83d","name":"\xe5\xbc\xa0"}'
    hidden = personal.hidden(body)
    assert hidden == (
        b'{"pspCustomerInfo":{"userId":"***","n":"***","x":null,"on":true},"a":1.0E-5,"a":"\\ud83d","name":"\xe5\xbc\xa0"}'
    )


@pytest.mark.parametrize("body", [b"nonsense", b'{"userId":"1"', b"[" * 100_000, b'{"a":"\xff\xfe'])
def test_body_that_cannot_be_parsed_is_hidden_as_a_whole_and_erased(body: bytes) -> None:
    assert personal.hidden(body) == b"***"
    assert personal.erased(log_records.sealed(body, "A1")).value == b""


def test_erased_record_has_no_signature_no_free_text_and_no_unknown_parameter() -> None:
    record = log_records.sealed(urlencode(PAYMENT | {"made_up": "13800000000"}).encode(), "A1")
    erased = personal.erased(record)
    kept = dict(parse_qsl(erased.value.decode()))
    assert {name for name, value in kept.items() if value == personal.ERASED} == {
        "buyer_id", "buyer_logon_id", "receive_name", "subject", "sign", "made_up",
    }  # fmt: skip
    assert (kept["out_trade_no"], kept["total_fee"]) == ("A1", "12.80")
    message = log_records.sealed(b'{"notifyType":"X","userId":"1"}', "A1", account=ANTOM)
    headers = dict(personal.erased(message).headers)
    assert (headers[Header.SIGNATURE], headers["client-id"]) == (b"", ANTOM_HEADERS["client_id"])


def test_form_with_two_readings_is_erased_as_a_whole() -> None:
    body = urlencode(PAYMENT | {"subject": "a&total_fee=99.00"}).encode()
    assert forms.is_ambiguous(forms.read(body))
    assert personal.erased(log_records.sealed(body, "A1")).value == b""


def test_hiding_and_erasing_twice_changes_nothing_more() -> None:
    record = log_records.sealed(urlencode(PAYMENT).encode(), "A1")
    assert personal.erased(personal.erased(record)) == personal.erased(record)
    assert personal.hidden(personal.hidden(record.value)) == personal.hidden(record.value)


def examples() -> Iterator[tuple[Account, bytes]]:
    paid = log_records.payment("A1", gmt_payment="2025-10-09 16:53:18", buyer_email="somebody@example.com")
    refunded = paid | {"refund_status": "REFUND_SUCCESS", "gmt_refund": "2025-10-10 16:53:18", "refund_fee": "1.00"}
    batch = {
        "notify_type": "batch_refund_notify",
        "notify_id": "N9",
        "notify_time": "2025-10-09 16:53:20",
        "batch_no": "20251009001",
        "success_num": "1",
        "seller_id": "2088001",
        "result_details": "2025100922001A1^1.00^SUCCESS$buyer@example.com^2088^0.01^SUCCESS",
    }
    for fields in (paid, paid | {"trade_status": "TRADE_FINISHED"}, refunded, batch):
        yield SHOP, urlencode(fields).encode()
    for kind in (*antom_kinds.MOVING, *antom_kinds.NOTED):
        customer = {"pspCustomerInfo": {"pspCustomerId": "20881", "displayCustomerId": "test***@example.com"}}
        yield ANTOM, json.dumps(kind.message | customer).encode()


def test_erased_notification_means_the_same() -> None:
    for account, body in examples():
        before = interpret.read(body, account)
        after = interpret.read(personal.erased(log_records.sealed(body, "A1", account=account)).value, account)
        for name in ("kind", "news", "order", "trade", "amount", "refunds", "capture", "status", "type", "fields"):
            assert getattr(after, name) == getattr(before, name), (name, body)


@given(
    st.dictionaries(
        st.sampled_from(["buyer_id", "a", "userId", "out_trade_no", "biz_content"]),
        st.recursive(
            st.none() | st.booleans() | st.integers() | st.text(max_size=8),
            lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
            max_leaves=8,
        ),
    )
)
def test_any_message_stays_json_with_the_same_members(message: dict[str, object]) -> None:
    hidden = json.loads(personal.hidden(json.dumps(message).encode()))
    assert list(hidden) == list(message)
    for name in ("a", "out_trade_no"):
        if name in message and isinstance(message[name], int | None):
            assert hidden[name] == message[name]


def test_elements_of_an_answer_are_hidden_by_their_name() -> None:
    body = b"<trade><buyer_email>a@b.c</buyer_email><trade_no>2026</trade_no><subject>Tea</subject></trade>"
    assert personal.hidden(body) == body.replace(b"a@b.c", b"***")
    erased = personal.erased(Record(b"k", body, ())).value
    assert erased == body.replace(b"a@b.c", b"erased").replace(b"Tea", b"erased")
