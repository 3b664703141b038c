"""The meaning of Antom messages, and the messages that are held or dead."""

import json
from datetime import datetime, timedelta, timezone
from hashlib import sha256
from typing import Any

import pytest
from msgspec import structs

from schemas import interpret_antom
from schemas.accounts import Account
from schemas.dispositions import Disposition, Reason
from schemas.money import Money
from schemas.notification import Kind, NamedNumber, Notification, NumberKind, Unreadable
from schemas.orders import Capture, News, Refund
from tests.support import facts

ACCOUNT, MANUAL = facts.account("antom"), facts.account("manual")
SUCCESS = {"resultCode": "SUCCESS", "resultStatus": "S", "resultMessage": "success."}
HONG_KONG = timezone(timedelta(hours=8))

PAYMENT: dict[str, Any] = {
    "notifyType": "PAYMENT_RESULT",
    "result": SUCCESS,
    "paymentRequestId": "PAY-61",
    "paymentId": "20250605194010800100188990200006161",
    "paymentAmount": {"currency": "HKD", "value": "7315"},
    "actualPaymentAmount": {"currency": "HKD", "value": "7000"},
    "paymentCreateTime": "2025-06-05T09:10:11+08:00",
    "paymentTime": "2025-06-05T09:10:31+08:00",
    "pspCustomerInfo": {"pspName": "ALIPAY_HK", "displayCustomerId": "frank@example.com"},
}
REFUND: dict[str, Any] = {
    "notifyType": "REFUND_RESULT",
    "result": SUCCESS,
    "refundStatus": "SUCCESS",
    "refundRequestId": "REF-62",
    "refundId": "20250606194010801300188990200006262",
    "refundAmount": {"currency": "HKD", "value": "1215"},
    "refundTime": "2025-06-06T10:00:00Z",
}


def read(message: dict[str, Any], account: Account = ACCOUNT) -> Notification:
    return interpret_antom.read(json.dumps(message).encode(), account)


def refused(body: bytes | dict[str, Any], account: Account = ACCOUNT) -> Unreadable:
    with pytest.raises(Unreadable) as caught:
        interpret_antom.read(body if isinstance(body, bytes) else json.dumps(body).encode(), account)
    return caught.value


def without(message: dict[str, Any], name: str) -> dict[str, Any]:
    return {known: value for known, value in message.items() if known != name}


def test_payment_amount_is_in_the_smallest_unit() -> None:
    notification = read(PAYMENT)
    assert (notification.kind, notification.news) == (Kind.PAYMENT, News.PAID)
    assert notification.amount == Money(7315, "HKD")
    assert (notification.order, notification.trade) == ("PAY-61", PAYMENT["paymentId"])
    assert notification.happened_at == datetime(2025, 6, 5, 9, 10, 31, tzinfo=HONG_KONG)
    assert notification.payer == "fra***"


def test_payment_id_is_type_number_and_result() -> None:
    assert read(PAYMENT).id == "PAYMENT_RESULT:PAY-61:S"
    assert read(PAYMENT | {"result": SUCCESS | {"resultStatus": "F"}}).id == "PAYMENT_RESULT:PAY-61:F"


def test_refund_names_only_its_own_number() -> None:
    notification = read(REFUND)
    assert (notification.kind, notification.news, notification.order, notification.id) == (
        Kind.REFUND,
        News.PARTLY_REFUNDED,
        "",
        "REFUND_RESULT:REF-62:SUCCESS",
    )
    assert notification.refunds == (Refund(id="REF-62", amount=Money(1215, "HKD")),)


def test_direct_refund_names_its_payment() -> None:
    notification = read(without(REFUND, "notifyType") | {"paymentId": "P-1"})
    assert notification.refunds == (Refund(id="REF-62", amount=Money(1215, "HKD"), trade="P-1"),)


@pytest.mark.parametrize("status", ["FAIL", "PROCESSING", "REFUND_WINDOW_EXCEED"])
def test_refund_status_decides_and_not_the_result_status(status: str) -> None:
    notification = read(REFUND | {"refundStatus": status})
    assert (notification.kind, notification.news, notification.refunds) == (Kind.REFUND, News.OTHER, ())
    assert read(REFUND | {"result": SUCCESS | {"resultStatus": "F"}}).news is News.PARTLY_REFUNDED


def test_failed_payment_is_failed_and_not_paid() -> None:
    assert read(PAYMENT | {"result": SUCCESS | {"resultStatus": "F"}}).news is News.FAILED


def test_pending_payment_is_waiting() -> None:
    assert read(PAYMENT | {"notifyType": "PAYMENT_PENDING"}).news is News.WAITING


@pytest.mark.parametrize("status", ["U", "s", "", "SUCCESS"])
def test_undocumented_result_status_is_held(status: str) -> None:
    assert refused(PAYMENT | {"result": SUCCESS | {"resultStatus": status}}).reason is Reason.UNKNOWN_STATUS


def test_periodic_payment_of_a_subscription_needs_no_type() -> None:
    notification = read(without(PAYMENT, "notifyType") | {"subscriptionRequestId": "S-1"})
    assert (notification.news, notification.order) == (News.PAID, "PAY-61")


PERIODIC = without(without(PAYMENT, "notifyType"), "paymentRequestId") | {
    "subscriptionRequestId": "S-1",
    "subscriptionId": "20250605S1",
    "periodStartTime": "2025-06-05T00:00:00+08:00",
    "phaseNo": "1",
}


def test_payment_that_names_its_subscription_alone_has_the_payment_s_number() -> None:
    notification = read(PERIODIC)
    payment_id = PAYMENT["paymentId"]
    assert (notification.kind, notification.news, notification.id) == (
        Kind.PAYMENT,
        News.PAID,
        f"PAYMENT_RESULT:{payment_id}:S",
    )
    assert (notification.order, notification.trade, notification.is_periodic) == (payment_id, payment_id, True)
    assert [(each.kind, each.number) for each in notification.numbers] == [
        (NumberKind.SUBSCRIPTION_REQUEST, "S-1"),
        (NumberKind.SUBSCRIPTION, "20250605S1"),
    ]


@pytest.mark.parametrize("name", ["subscriptionRequestId", "subscriptionId"])
def test_one_number_of_the_subscription_is_enough(name: str) -> None:
    assert read(without(PERIODIC, name)).is_periodic
    assert read(without(PERIODIC, name) | {"result": SUCCESS | {"resultStatus": "F"}}).news is News.FAILED


def test_type_of_a_subscription_s_payment_wins_over_its_shape() -> None:
    assert read(PERIODIC | {"notifyType": "PAYMENT_PENDING"}).news is News.WAITING
    assert refused(PERIODIC | {"notifyType": "PAYMENT_MAGIC"}).reason is Reason.UNKNOWN_STATUS
    assert read(PERIODIC | {"subscriptionNotificationType": "UPDATE"}).kind is Kind.SUBSCRIPTION
    assert read(PERIODIC | {"disputeNotificationType": "DISPUTE_CREATED", "disputeId": "D"}).kind is Kind.DISPUTE


def test_faulty_payment_of_a_subscription_is_held_under_the_payment_s_number() -> None:
    error = refused(PERIODIC | {"paymentAmount": {"currency": "HKD", "value": "0"}})
    assert (error.reason, error.order) == (Reason.BAD_AMOUNT, PAYMENT["paymentId"])
    assert str(refused(without(PERIODIC, "paymentId"))) == "paymentId is missing"


def test_broken_number_of_a_subscription_holds_no_payment() -> None:
    notification = read(PERIODIC | {"subscriptionId": "20250605\ud83d"})
    assert (notification.news, len(notification.numbers)) == (News.PAID, 1)


def test_only_a_manual_account_takes_an_authorised_amount_as_not_paid() -> None:
    message = PAYMENT | {"authExpiryTime": "2025-06-12T09:10:31+08:00"}
    assert (read(message).news, read(message).authorized_until_ms) == (News.PAID, 0)
    notification = read(message, MANUAL)
    assert (notification.news, notification.authorized_until_ms) == (News.AUTHORIZED, 1749690631000)
    assert notification.amount == Money(7315, "HKD")


@pytest.mark.parametrize("until", [None, "", "absent"])
def test_wallet_payment_is_paid_also_at_a_manual_account(until: str | None) -> None:
    message = PAYMENT if until == "absent" else PAYMENT | {"authExpiryTime": until}
    assert (read(message, MANUAL).news, read(message, MANUAL).authorized_until_ms) == (News.PAID, 0)


@pytest.mark.parametrize(
    "until", ["soon", "2025-06-12 09:10:31", 1749690631, "1969-01-01T00:00:00Z", "9999-12-31T23:59:59-10:00"]
)
def test_authorisation_without_a_usable_end_is_held_at_a_manual_account(until: Any) -> None:
    message = PAYMENT | {"authExpiryTime": until}
    assert refused(message, MANUAL).reason is Reason.BAD_TIME
    assert read(message).news is News.PAID


CAPTURE: dict[str, Any] = {
    "notifyType": "CAPTURE_RESULT",
    "result": SUCCESS,
    "captureRequestId": "CAP-61",
    "captureId": "2025060519401080010018899020000616101",
    "paymentId": PAYMENT["paymentId"],
    "captureAmount": {"currency": "HKD", "value": "5000"},
    "captureTime": "2025-06-06T09:10:11+08:00",
}


@pytest.mark.parametrize("mode", ["automatic", "manual"])
def test_successful_capture_has_its_own_number_and_amount(mode: str) -> None:
    notification = read(CAPTURE, MANUAL if mode == "manual" else ACCOUNT)
    assert (notification.kind, notification.news, notification.id) == (
        Kind.CAPTURE,
        News.CAPTURED,
        "CAPTURE_RESULT:CAP-61:S",
    )
    assert notification.capture == Capture(
        id=CAPTURE["captureId"], trade=PAYMENT["paymentId"], minor=5000, currency="HKD"
    )
    assert (notification.order, notification.trade) == ("", PAYMENT["paymentId"])
    assert {each.number for each in notification.numbers} >= {"CAP-61", CAPTURE["captureId"]}


def test_failed_capture_needs_no_amount() -> None:
    message = without(without(CAPTURE, "captureAmount"), "captureId") | {"result": SUCCESS | {"resultStatus": "F"}}
    notification = read(message)
    assert notification.news is News.CAPTURE_FAILED
    assert notification.capture == Capture(id="CAP-61", trade=PAYMENT["paymentId"])


def test_capture_is_recognised_by_its_shape() -> None:
    assert read(without(CAPTURE, "notifyType")).news is News.CAPTURED


@pytest.mark.parametrize("name", ["paymentId", "captureAmount"])
def test_capture_at_a_manual_account_without_a_required_member_is_held(name: str) -> None:
    assert str(refused(without(CAPTURE, name), MANUAL)) == f"{name} is missing"


def test_failed_capture_that_names_no_payment_is_held() -> None:
    message = without(CAPTURE, "paymentId") | {"result": SUCCESS | {"resultStatus": "F"}}
    assert refused(message).reason is Reason.MISSING_FIELD
    assert read(message | {"paymentRequestId": "PAY-61"}).order == "PAY-61"


@pytest.mark.parametrize("status", ["s", "", "SUCCESS"])
def test_capture_with_an_undocumented_status_is_held(status: str) -> None:
    assert refused(CAPTURE | {"result": SUCCESS | {"resultStatus": status}}).reason is Reason.UNKNOWN_STATUS


def test_other_messages_are_found_by_their_payment() -> None:
    notification = read({"disputeNotificationType": "DISPUTE_CREATED", "disputeId": "D-1", "paymentId": "P-1"})
    assert (notification.trade, notification.joins_by_trade) == ("P-1", True)
    assert [(each.kind, each.number) for each in notification.numbers] == [
        (NumberKind.DISPUTE, "D-1"),
        (NumberKind.TRADE, "P-1"),
    ]


@pytest.mark.parametrize("name", ["paymentRequestId", "paymentId", "paymentAmount"])
def test_payment_without_a_required_member_is_held_and_names_it(name: str) -> None:
    error = refused(without(PAYMENT, name))
    assert (error.reason, str(error)) == (Reason.MISSING_FIELD, f"{name} is missing")


def test_member_names_are_case_sensitive() -> None:
    message = without(PAYMENT, "paymentAmount") | {"PaymentAmount": PAYMENT["paymentAmount"]}
    assert refused(message).reason is Reason.MISSING_FIELD


def test_unknown_members_are_ignored() -> None:
    notification = read(PAYMENT | {"newMember": {"a": [1, "b"]}, "another": "text"})
    usual = read(PAYMENT)
    assert notification.content_id != usual.content_id
    assert structs.replace(notification, digest=b"", content_id="") == structs.replace(usual, digest=b"", content_id="")


@pytest.mark.parametrize(
    "value", ["10.01", 7315, 73.15, "1e3", "-1", "+1", " 1", "", "0", "000", "1" * 13, None, "７３１５"]
)
def test_amount_in_another_form_is_held(value: Any) -> None:
    for message, name in ((PAYMENT, "paymentAmount"), (REFUND, "refundAmount")):
        assert refused(message | {name: {"currency": "HKD", "value": value}}).reason is Reason.BAD_AMOUNT


@pytest.mark.parametrize("currency", ["hkd", "HK", "HKD ", "", None, 344])
def test_currency_that_is_no_code_is_held(currency: Any) -> None:
    assert refused(PAYMENT | {"paymentAmount": {"currency": currency, "value": "1"}}).reason is Reason.BAD_AMOUNT


def test_amount_in_yen_is_whole_yen() -> None:
    notification = read(PAYMENT | {"paymentAmount": {"currency": "JPY", "value": "100"}})
    assert str(notification.amount) == "100 JPY"


@pytest.mark.parametrize("type_", ["PAYMENT_MAGIC", "payment_result", "", None, 1])
def test_unknown_type_is_held(type_: Any) -> None:
    error = refused(PAYMENT | {"notifyType": type_})
    assert (error.reason, error.order) == (Reason.UNKNOWN_STATUS, "PAY-61")


def test_missing_type_is_held() -> None:
    assert refused(without(PAYMENT, "notifyType")).reason is Reason.UNKNOWN_STATUS


OTHERS: list[tuple[dict[str, Any], Kind]] = [
    ({"notifyType": "CAPTURE_RESULT", "captureRequestId": "C-1", "result": SUCCESS}, Kind.CAPTURE),
    ({"notifyType": "CAPTURE_RESULT", "captureRequestId": "C-1", "result": {"resultStatus": "U"}}, Kind.CAPTURE),
    ({"authorizationNotifyType": "AUTHCODE_CREATED", "authClientId": "C-2"}, Kind.AUTHORIZATION),
    ({"disputeNotificationType": "DISPUTE_CREATED", "disputeId": "D-1", "paymentRequestId": "PAY-61"}, Kind.DISPUTE),
    ({"subscriptionNotificationType": "CREATE", "subscriptionRequestId": "S-1"}, Kind.SUBSCRIPTION),
    ({"vaultingRequestId": "V-1", "result": SUCCESS}, Kind.VAULTING),
    ({"notifyType": "UPDATE_AMOUNT_RESULT", "paymentRequestId": "PAY-61", "result": SUCCESS}, Kind.OTHER),
]


@pytest.mark.parametrize(("message", "kind"), OTHERS)
def test_kinds_that_change_no_order_are_interpreted(message: dict[str, Any], kind: Kind) -> None:
    notification = read(message)
    assert (notification.kind, notification.news) == (kind, News.OTHER)
    assert notification.order == message.get("paymentRequestId", "")


AUTHORIZATION = {
    "authorizationNotifyType": "TOKEN_CANCELED",
    "authClientId": "C-2",
    "accessToken": "token-of-one-buyer",
    "authCode": "code-1",
    "authState": "state-1",
}


def test_noted_message_has_its_numbers_and_public_fields() -> None:
    message = {
        "disputeNotificationType": "DISPUTE_JUDGED",
        "disputeId": "D-1",
        "paymentRequestId": "PAY-61",
        "paymentId": "T-61",
        "disputeJudgedResult": "ACCEPT_BY_CUSTOMER",
        "disputeReasonMsg": "text of a person",
    }
    notification = read(message)
    assert notification.numbers == (NamedNumber(NumberKind.DISPUTE, "D-1"), NamedNumber(NumberKind.TRADE, "T-61"))
    assert notification.fields == (("disputeJudgedResult", "ACCEPT_BY_CUSTOMER"),)


def test_failed_refund_names_its_payment() -> None:
    refund = {"notifyType": "REFUND_RESULT", "refundStatus": "FAIL", "refundRequestId": "R-1", "paymentId": "T-61"}
    assert [named.number for named in read(refund).numbers] == ["R-1", "T-61"]


def test_authorization_without_a_client_is_noted() -> None:
    notification = read({"authorizationNotifyType": "TOKEN_CREATED", "accessToken": "token", "authState": "S-1"})
    digest, state = notification.numbers
    assert (digest.kind, state) == (NumberKind.ACCESS_TOKEN, NamedNumber(NumberKind.AUTHORIZATION, "S-1"))
    assert digest.number == sha256(b"token").hexdigest()
    cancelled = read({"authorizationNotifyType": "TOKEN_CANCELED", "accessToken": "token"})
    assert cancelled.numbers == (digest,)


@pytest.mark.parametrize("name", ["accessToken", "authCode", "authState"])
def test_authorizations_of_different_buyers_have_different_ids(name: str) -> None:
    first, other = read(AUTHORIZATION), read(AUTHORIZATION | {name: "another"})
    assert first.id == read(dict(AUTHORIZATION)).id
    assert first.id != other.id != read(without(AUTHORIZATION, name)).id


def test_authorization_id_contains_no_token_or_code() -> None:
    assert read(AUTHORIZATION).id.startswith("TOKEN_CANCELED:C-2:")
    assert not any(AUTHORIZATION[name] in read(AUTHORIZATION).id for name in ("accessToken", "authCode", "authState"))


@pytest.mark.parametrize(
    "body",
    [
        b'{"notifyType":NaN}',
        b'{"notifyType":Infinity}',
        b'{"notifyType":-Infinity}',
        b'{"a":1' + b"0" * 30 + b"}",
        json.dumps(PAYMENT).encode("utf-16"),
        b"\xef\xbb\xbf" + json.dumps(PAYMENT).encode(),
        json.dumps(PAYMENT).encode() + b" text",
        json.dumps(PAYMENT).encode() * 2,
        b"// comment\n" + json.dumps(PAYMENT).encode(),
        str(PAYMENT).encode(),
        b"",
        b"[]",
        b'"text"',
        b"null",
        b"\xff{}",
        b'{"notifyType":"PAYMENT_RESULT","notifyType":"PAYMENT_RESULT"}',
        b'{"result":{"resultStatus":"F","resultStatus":"S"}}',
        b'{"a":' + b"[" * 33 + b"]" * 33 + b"}",
        b"[" * 60_000,
        b'{"note":"a\nb"}',
    ],
    ids=repr,
)
def test_document_that_parsers_read_differently_is_held(body: bytes) -> None:
    error = refused(body)
    assert (error.reason, error.disposition) == (Reason.MALFORMED, Disposition.QUARANTINED)


def test_malformed_document_is_filed_under_no_number_with_a_control_character() -> None:
    assert refused(b'{"paymentRequestId":"A","x":NaN').order == ""
    assert refused(b'{"paymentRequestId":"A","x":1' + b"0" * 30 + b"}").order == "A"
    assert refused(b'{"paymentRequestId":"A\\u0000","x":1' + b"0" * 30 + b"}").order == ""


@pytest.mark.parametrize("name", ["paymentRequestId", "paymentId"])
@pytest.mark.parametrize("character", ["\n", "\x00", "\ud83d", "\x9f"])
def test_control_character_or_lone_surrogate_in_an_id_is_held(name: str, character: str) -> None:
    error = refused(PAYMENT | {name: f"PAY{character}61"})
    assert (error.reason, error.disposition) == (Reason.CONTROL_CHAR, Disposition.QUARANTINED)
    assert error.order == ("" if name == "paymentRequestId" else PAYMENT["paymentRequestId"])


@pytest.mark.parametrize(
    "more",
    [
        {"metadata": {"x": 6.0e-5}},
        {"note": "\ud800", "\udfff": "a\x00b"},
        {"paymentDescription": "a\x00b"},
        {"result": PAYMENT["result"] | {"resultMessage": "cut \ud83d"}},
    ],
    ids=ascii,
)
def test_number_or_text_that_decides_nothing_holds_no_payment(more: dict[str, Any]) -> None:
    assert read(PAYMENT | more).news is News.PAID
    assert read(PAYMENT | more).digest == read(dict(reversed((PAYMENT | more).items()))).digest


def test_contents_that_differ_in_a_lone_surrogate_have_different_digests() -> None:
    digests = {read(PAYMENT | {"note": note}).digest for note in ("\ud800", "\ud801", "\\ud800")}
    assert len(digests) == 3


@pytest.mark.parametrize(
    ("name", "payer"),
    [("Li\ud83d Weiming", "Li\\ud83d***"), ("a\x00\nweiming", "a\\x00\\n***"), ("\ud83d", "***"), (7, "")],
)
def test_payer_is_shown_escaped_and_holds_no_payment(name: str | int, payer: str) -> None:
    assert read(PAYMENT | {"pspCustomerInfo": {"displayCustomerId": name}}).payer == payer


@pytest.mark.parametrize("text", ["yesterday", "2025-06-05 09:10:31", "2025-02-30T00:00:00Z", "2025-06-05T09:10:31"])
def test_time_without_zone_or_with_impossible_date_is_held(text: str) -> None:
    assert refused(PAYMENT | {"paymentTime": text}).reason is Reason.BAD_TIME
    assert refused(REFUND | {"refundTime": text}).reason is Reason.BAD_TIME


def test_order_of_members_does_not_change_the_digest() -> None:
    assert read(dict(reversed(PAYMENT.items()))).digest == read(PAYMENT).digest
    assert read(PAYMENT | {"metadata": "x"}).digest != read(PAYMENT).digest


def test_resend_of_an_unreadable_message_has_the_same_id() -> None:
    broken = PAYMENT | {"paymentTime": "yesterday"}
    first, again = refused(broken), refused(dict(reversed(broken.items())))
    assert first.digest == again.digest != refused(broken | {"metadata": "x"}).digest
    assert first.notification_id == again.notification_id == f"content:{first.digest.hex()}"
    assert refused(b"[]").digest != refused(b"{").digest


@pytest.mark.parametrize("status", ["S", "F"])
def test_capture_is_known_by_its_shape(status: str) -> None:
    message = {name: value for name, value in CAPTURE.items() if name != "notifyType"}
    if status == "F":
        del message["captureAmount"]
    notification = read(message | {"result": {"resultStatus": status}})
    assert (notification.kind, notification.type) == (Kind.CAPTURE, "CAPTURE_RESULT")


def test_direct_refund_has_the_amount_that_went_back_to_the_payer() -> None:
    """Its page documents refundFromAmount and refundToAmount in the place of refundAmount."""
    message = {name: value for name, value in REFUND.items() if name != "refundAmount"}
    amounts = {
        "refundFromAmount": {"currency": "HKD", "value": "7900"},
        "refundToAmount": {"currency": "USD", "value": "1000"},
    }
    [refund] = read(message | amounts).refunds
    assert str(refund.amount) == "10.00 USD"
    [refund] = read(REFUND | amounts).refunds
    assert str(refund.amount) != "10.00 USD"
    assert refused(message).reason is Reason.MISSING_FIELD


REFERENCES = {"acquirerReferenceNo": "ARN-1", "subscriptionId": "SUB-2"}


def test_payment_has_the_numbers_of_its_subscription_and_its_acquirer() -> None:
    assert [named.number for named in read(PAYMENT | REFERENCES).numbers] == ["SUB-2", "ARN-1"]
    assert read(PAYMENT).numbers == ()


def test_refund_has_its_numbers_and_that_of_its_payment() -> None:
    assert [
        (named.kind.value, named.number) for named in read(REFUND | {"paymentId": "T1", "arn": "74537"}).numbers
    ] == [
        ("refund", "REF-62"),
        ("refund", REFUND["refundId"]),
        ("trade", "T1"),
        ("acquirer_reference", "74537"),
    ]


def test_message_that_cannot_be_used_has_its_numbers() -> None:
    error = refused(PAYMENT | REFERENCES | {"paymentAmount": {"currency": "HKD", "value": "1.5"}})
    assert [named.number for named in error.numbers] == ["SUB-2", PAYMENT["paymentId"], "ARN-1"]
    assert [named.number for named in refused(PAYMENT | {"notifyType": "NEW"}).numbers] == [PAYMENT["paymentId"]]


def test_message_that_two_parsers_could_read_differently_has_its_numbers() -> None:
    body = json.dumps(PAYMENT | REFERENCES).encode().replace(b'"result"', b'"x": NaN, "result"', 1)
    error = refused(body)
    assert (error.reason, error.order) == (Reason.MALFORMED, "PAY-61")
    assert [named.number for named in error.numbers] == ["SUB-2", PAYMENT["paymentId"], "ARN-1"]
