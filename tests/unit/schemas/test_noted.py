"""The numbers and public fields of notifications that move no order."""

from typing import Any

import pytest

from schemas import noted
from schemas.notification import Kind, NamedNumber, NumberKind

AGREEMENT = {
    "agreement_no": "20215225715271617440",
    "external_agreement_no": "SN-1",
    "status": "NORMAL",
    "sign_time": "2026-11-30 08:00:00",
    "alipay_user_id": "2088102008779321",
    "alipay_logon_id": "ca***@example.com",
    "external_logon_id": "buyer-1",
}
PREAUTHORIZATION = {
    "auth_no": "2019062110002001000281886861",
    "out_order_no": "O-1",
    "operation_id": "20190621025153980002",
    "out_request_no": "RN-1",
    "amount": "500.00",
    "payer_user_id": "2088622903359001",
    "payer_logon_id": "158****7723",
}
TRANSFER = {
    "order_id": "20260110110070001502260006780837",
    "out_biz_no": "PAYOUT-1",
    "pay_fund_order_id": "20260110110070001506260006780838",
    "status": "SUCCESS",
    "trans_amount": "12.80",
    "payee_info": {"identity": "2088123412341234", "name": "Zhang"},
}
APPLICATION = {
    "auth_app_id": "2021001172619424",
    "status": "execute_auth",
    "notify_context": {"trigger": "x", "trigger_context": {"out_biz_no": "INVITE-1"}},
    "detail": {
        "app_auth_token": "secret-token",
        "app_refresh_token": "secret-refresh",
        "app_auth_code": "secret-code",
        "user_id": "2088102150527498",
        "auth_app_id": "2021001172619424",
        "auth_time": 1494052735734,
    },
}
SECRETS = (
    "2088", "example.com", "158****", "buyer-1", "Zhang", "secret-", "token-of-one-buyer", "code-1",
)  # fmt: skip


@pytest.mark.parametrize(
    ("kind", "fields", "numbers", "shown"),
    [
        (
            Kind.AGREEMENT,
            AGREEMENT,
            {"agreement": "20215225715271617440", "external_agreement": "SN-1"},
            {"status": "NORMAL", "sign_time": "2026-11-30 08:00:00"},
        ),
        (
            Kind.PREAUTHORIZATION,
            PREAUTHORIZATION,
            {
                "preauthorization": "2019062110002001000281886861",
                "preauthorization_order": "O-1",
                "operation": "20190621025153980002",
                "request": "RN-1",
            },
            {"amount": "500.00"},
        ),
        (
            Kind.TRANSFER,
            TRANSFER,
            {
                "transfer": "20260110110070001502260006780837",
                "request": "PAYOUT-1",
                "operation": "20260110110070001506260006780838",
            },
            {"status": "SUCCESS", "trans_amount": "12.80"},
        ),
        (
            Kind.APPLICATION,
            APPLICATION,
            {"application": "2021001172619424", "request": "INVITE-1"},
            {"status": "execute_auth", "notify_context.trigger": "x", "detail.auth_time": "1494052735734"},
        ),
        (Kind.DISPUTE, {"complain_event_id": "C-1", "trade_no": "T1"}, {"dispute": "C-1", "trade": "T1"}, {}),
        (Kind.OTHER, {"settle_no": "S-1", "trade_no": "T1"}, {"operation": "S-1", "trade": "T1"}, {}),
    ],
    ids=lambda value: str(value) if isinstance(value, Kind) else "",
)
def test_forms_have_their_numbers_and_public_fields(
    kind: Kind, fields: dict[str, Any], numbers: dict[str, str], shown: dict[str, str]
) -> None:
    content = noted.of_form(kind, fields)
    assert {named.kind.value: named.number for named in content.numbers} == numbers
    assert dict(content.fields) == shown
    assert not any(secret in repr(content) for secret in SECRETS)


def test_messages_have_their_numbers_and_no_secret() -> None:
    message = {
        "result": {"resultCode": "SUCCESS", "resultStatus": "S"},
        "authClientId": "C-2",
        "accessToken": "token-of-one-buyer",
        "authCode": "code-1",
        "authState": "state-1",
        "userLoginId": "ca***@example.com",
        "subscriptionRequestId": "S-1",
        "subscriptionId": "S-2",
        "vaultingRequestId": "V-1",
        "allowAccumulate": True,
        "maxAccumulateAmount": {"value": "100", "currency": "USD"},
    }
    content = noted.of_message(message)
    assert [named.kind.value for named in content.numbers] == [
        "subscription_request",
        "subscription",
        "vaulting_request",
        "access_token",
        "authorization",
    ]
    assert dict(content.fields)["allowAccumulate"] == "true"
    assert dict(content.fields)["maxAccumulateAmount.value"] == "100"
    assert not any(secret in repr(content) for secret in SECRETS)


@pytest.mark.parametrize(
    ("type_", "kind"),
    [
        ("dut_user_sign", Kind.AGREEMENT),
        ("alipay.fund.trans.order.changed", Kind.TRANSFER),
        ("alipay.open.auth.appauth.cancelled", Kind.APPLICATION),
        ("alipay.merchant.tradecomplain.changed", Kind.DISPUTE),
        ("alipay.trade.refund.depositback.completed", Kind.OTHER),
        ("", Kind.OTHER),
    ],
)
def test_kind_follows_from_the_type(type_: str, kind: Kind) -> None:
    assert noted.form_kind(type_) is kind


@pytest.mark.parametrize("number", ["", "a b", "a&b", "a\\xff", "a\n", "单1", "\ufffd", "x" * 257, None, 1.5, [], {}])
def test_number_that_cannot_be_kept_exactly_is_left_out(number: Any) -> None:
    assert noted.of_form(Kind.AGREEMENT, {"agreement_no": number}).numbers == ()
    assert noted.of_message({"disputeId": number}).numbers == ()
    assert noted.of_batch(str(number) if isinstance(number, str) else "", ()) == ()


def test_longest_number_is_kept() -> None:
    assert noted.of_batch("x" * 256, ["T1", "T1"])[1:] == (NamedNumber(NumberKind.TRADE, "T1"),)


def test_field_that_is_too_long_or_not_printable_is_left_out() -> None:
    assert noted.of_form(Kind.AGREEMENT, {"status": "x" * 257, "sign_scene": "a\x00b"}).fields == ()


def test_name_that_another_value_may_hide_is_left_out() -> None:
    fields = AGREEMENT | {"external_logon_id": "x&external_agreement_no=SN-1&status=UNSIGN"}
    content = noted.of_form(Kind.AGREEMENT, fields)
    assert [named.kind for named in content.numbers] == [NumberKind.AGREEMENT]
    assert dict(content.fields) == {"sign_time": "2026-11-30 08:00:00"}


def test_address_within_business_content_hides_nothing() -> None:
    fields = AGREEMENT | {"biz_content": '{"url":"?a=1&status=2"}'}
    assert dict(noted.of_form(Kind.AGREEMENT, fields).fields)["status"] == "NORMAL"


def test_batch_of_payouts_has_the_numbers_of_each_entry() -> None:
    entry = "{}^buyer@example.com^Zhang^20.00^{}^^{}^20081024143652|"
    fields = {
        "batch_no": "B1",
        "success_details": entry.format("S1", "S", "200810248427067") + entry.format("S2", "S", "200810248427068"),
        "fail_details": entry.format("F 1", "F", "200810248427069") + "x",
    }
    content = noted.of_form(Kind.OTHER, fields)
    assert [(named.kind.value, named.number) for named in content.numbers] == [
        ("batch", "B1"),
        ("request", "S1"),
        ("operation", "200810248427067"),
        ("request", "S2"),
        ("operation", "200810248427068"),
        ("operation", "200810248427069"),
        ("request", "x"),
    ]
    assert not any(personal in repr(content) for personal in ("Zhang", "example.com"))


def test_payment_form_has_all_numbers_but_its_order_s() -> None:
    fields = {"trade_no": "T1", "out_trade_no": "A", "agreement_no": "AG1", "out_request_no": "R1", "subject": "S"}
    assert noted.of_payment_form(fields) == (
        NamedNumber(NumberKind.AGREEMENT, "AG1"),
        NamedNumber(NumberKind.REQUEST, "R1"),
    )
    assert noted.of_payment_form({"trade_no": "T1", "out_trade_no": "A"}) == ()
    assert noted.of_payment_form(fields | {"subject": "S&agreement_no=AG1"})[0].kind is NumberKind.REQUEST


def test_payment_message_has_all_numbers_but_its_order_s() -> None:
    message = {
        "paymentId": "T1",
        "paymentRequestId": "A",
        "subscriptionId": "S1",
        "acquirerInfo": {"acquirerTransactionId": "Q1", "acquirerName": "bank"},
    }
    assert noted.of_payment_message(message) == (
        NamedNumber(NumberKind.SUBSCRIPTION, "S1"),
        NamedNumber(NumberKind.ACQUIRER_REFERENCE, "Q1"),
    )
    assert noted.of_payment_message({"paymentId": "T1", "paymentRequestId": "A"}) == ()


def test_named_numbers_are_kept_once_and_exactly() -> None:
    given = [(NumberKind.TRADE, text) for text in ("T1", "", "T 2", "T&3", "T1")]
    assert noted.named(*given) == (NamedNumber(NumberKind.TRADE, "T1"),)


def test_form_with_refunds_of_several_trades_has_each_trade() -> None:
    fields = {"batch_no": "B1", "result_details": "T1^1.00^SUCCESS$a@b^2088^0.10^SUCCESS#T2^x#", "trade_no": "T1"}
    assert [named.number for named in noted.of_form(Kind.OTHER, fields).numbers] == ["B1", "T1", "T2"]
