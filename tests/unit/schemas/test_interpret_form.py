"""The meaning of forms, and the forms that are held because their fields are missing or contradictory."""

from datetime import datetime
from typing import Any
from urllib.parse import quote_from_bytes, quote_plus

import pytest
from msgspec import structs

from schemas import form, interpret_form, money, times
from schemas.accounts import Account, SignType
from schemas.currencies import EXPONENTS
from schemas.dispositions import Disposition, Reason
from schemas.money import Money
from schemas.notification import Kind, NamedNumber, Notification, NumberKind, Unreadable
from schemas.orders import News, Refund
from tests.support import facts
from tests.support.log_records import PROVIDER

MAPI, OPENAPI = facts.account("mapi"), facts.account("openapi")
REFUNDED_AT = {"gmt_refund": "2025-06-02 08:09:10.25"}

IN_APP = {
    "notify_id": "2025060100222120406099990000031415",
    "notify_type": "trade_status_sync",
    "notify_time": "2025-06-01 12:04:08",
    "trade_no": "2025060122001499990500003141",
    "out_trade_no": "APP-31",
    "trade_status": "TRADE_SUCCESS",
    "total_fee": "17.35",
    "seller_id": "2088000000000001",
    "buyer_email": "ca***@example.com",
    "subject": "丝袜奶茶 + 菠萝包",
    "body": "100% fresh & hot",
    "gmt_create": "2025-06-01 12:03:50",
    "gmt_payment": "2025-06-01 12:04:05",
    "discount": "-1.00",
}
WEBSITE = {
    "notify_id": "2025060100222130507099990000031416",
    "notify_type": "trade_status_sync",
    "notify_time": "2025-06-01 13:05:07",
    "trade_no": "2025060122001499990500003142",
    "out_trade_no": "WEB-32",
    "trade_status": "TRADE_FINISHED",
    "total_fee": "63.20",
    "currency": "HKD",
}
PLATFORM = {
    "notify_id": "2025060200222080911099990000031417",
    "notify_type": "trade_status_sync",
    "notify_time": "2025-06-02 08:09:11",
    "charset": "utf-8",
    "app_id": "2021000000000001",
    "trade_no": "2025060122001499990500003143",
    "out_trade_no": "OP-33",
    "trade_status": "TRADE_SUCCESS",
    "total_amount": "240.00",
    "subject": "Harbour cruise",
    "buyer_logon_id": "do***@example.com",
    "gmt_payment": "2025-06-01 20:00:01",
    "fund_bill_list": '[{"amount":"240.00","fundChannel":"PCREDIT"}]',
}


def encoded(fields: dict[str, str], charset: str = "utf-8") -> bytes:
    pairs = (f"{name}={quote_plus(value, encoding=charset)}" for name, value in fields.items())
    return "&".join(pairs).encode()


def read(fields: dict[str, str], account: Account, charset: str = "utf-8") -> Notification:
    return interpret_form.read(form.read(encoded(fields, charset)), account)


def decoded(fields: dict[str, str], account: Account, charset: str = "utf-8") -> dict[str, str]:
    read(fields, account, charset)
    return interpret_form.text(form.read(encoded(fields, charset)), account)


def refused(fields: dict[str, str], account: Account, charset: str = "utf-8") -> Unreadable:
    with pytest.raises(Unreadable) as caught:
        read(fields, account, charset)
    return caught.value


def reason(fields: dict[str, str], account: Account) -> Reason:
    return refused(fields, account).reason


def beijing(*moment: int) -> datetime:
    return datetime(*moment, tzinfo=times.BEIJING)  # type: ignore[misc,arg-type]


def test_in_app_payment_is_paid_in_the_account_s_currency() -> None:
    notification = read(IN_APP, MAPI)
    assert (notification.kind, notification.news) == (Kind.PAYMENT, News.PAID)
    assert notification.amount == Money(1735, "USD")
    assert (notification.order, notification.trade, notification.id) == (
        "APP-31",
        IN_APP["trade_no"],
        IN_APP["notify_id"],
    )
    assert notification.happened_at == beijing(2025, 6, 1, 12, 4, 5)
    assert notification.sent_at == beijing(2025, 6, 1, 12, 4, 8)
    assert notification.payer == "ca****"


def test_website_payment_is_finished_in_its_own_currency() -> None:
    notification = read(WEBSITE, MAPI)
    assert (notification.news, notification.amount) == (News.FINISHED, Money(6320, "HKD"))
    assert (notification.order, notification.payer) == ("WEB-32", "")


def test_openapi_partial_refund_reports_the_cumulative_sum() -> None:
    notification = read(PLATFORM | REFUNDED_AT | {"refund_fee": "31.40", "out_biz_no": "RF-1"}, OPENAPI)
    assert (notification.kind, notification.news) == (Kind.REFUND, News.PARTLY_REFUNDED)
    assert (notification.amount, notification.refunded_total) == (Money(24000, "CNY"), Money(3140, "CNY"))
    assert notification.happened_at == beijing(2025, 6, 2, 8, 9, 10, 250_000)


@pytest.mark.parametrize("so_far", ["240.00", "31.40"])
def test_openapi_trade_closed_by_refunds_is_fully_refunded(so_far: str) -> None:
    notification = read(PLATFORM | REFUNDED_AT | {"trade_status": "TRADE_CLOSED", "refund_fee": so_far}, OPENAPI)
    assert (notification.kind, notification.news, notification.refunded_total) == (
        Kind.REFUND,
        News.REFUNDED,
        Money(24000, "CNY"),
    )


def test_refunded_sum_above_the_amount_survives_the_closing() -> None:
    notification = read(PLATFORM | REFUNDED_AT | {"trade_status": "TRADE_CLOSED", "refund_fee": "240.01"}, OPENAPI)
    assert notification.refunded_total == Money(24001, "CNY")


def test_mapi_partial_refund_has_no_amount() -> None:
    notification = read(IN_APP | REFUNDED_AT | {"refund_status": "REFUND_SUCCESS"}, MAPI)
    assert (notification.kind, notification.news, notification.refunded_total) == (
        Kind.REFUND,
        News.PARTLY_REFUNDED,
        None,
    )


def test_mapi_full_refund_closes_the_trade() -> None:
    closed = {"trade_status": "TRADE_CLOSED", "refund_status": "REFUND_SUCCESS"}
    notification = read(IN_APP | REFUNDED_AT | closed, MAPI)
    assert (notification.kind, notification.news, notification.refunded_total) == (
        Kind.REFUND,
        News.REFUNDED,
        Money(1735, "USD"),
    )


def test_unsuccessful_refund_is_no_refund() -> None:
    notification = read(IN_APP | REFUNDED_AT | {"refund_status": "REFUND_CLOSED"}, MAPI)
    assert (notification.kind, notification.news) == (Kind.PAYMENT, News.PAID)


@pytest.mark.parametrize(
    ("status", "news"),
    [("WAIT_BUYER_PAY", News.WAITING), ("TRADE_PENDING", News.FROZEN), ("TRADE_FINISHED", News.FINISHED)],
)
def test_status_without_a_refund_decides_the_news(status: str, news: News) -> None:
    assert read(IN_APP | {"trade_status": status}, MAPI).news is news
    assert read(PLATFORM | {"trade_status": status, "refund_fee": "0.00"}, OPENAPI).news is news


def test_trade_closed_without_a_payment_is_expired() -> None:
    fields = {name: value for name, value in IN_APP.items() if name != "gmt_payment"}
    notification = read(fields | {"trade_status": "TRADE_CLOSED", "gmt_close": "2025-06-01 13:00:00"}, MAPI)
    assert (notification.news, notification.happened_at) == (News.EXPIRED, beijing(2025, 6, 1, 13, 0, 0))


def test_trade_closed_after_payment_without_a_refund_is_held() -> None:
    assert reason(IN_APP | {"trade_status": "TRADE_CLOSED"}, MAPI) is Reason.BAD_CLOSE
    assert reason(PLATFORM | {"trade_status": "TRADE_CLOSED", "refund_fee": "0.00"}, OPENAPI) is Reason.BAD_CLOSE


@pytest.mark.parametrize("gmt_refund", [{}, {"gmt_refund": ""}])
def test_refund_without_gmt_refund_is_held_because_free_text_could_fake_it(gmt_refund: dict[str, str]) -> None:
    assert reason(PLATFORM | gmt_refund | {"refund_fee": "10.00"}, OPENAPI) is Reason.BAD_REFUND
    assert reason(IN_APP | gmt_refund | {"refund_status": "REFUND_SUCCESS"}, MAPI) is Reason.BAD_REFUND


def test_gmt_refund_alone_is_no_refund() -> None:
    assert read(PLATFORM | REFUNDED_AT, OPENAPI).news is News.PAID
    assert read(IN_APP | REFUNDED_AT, MAPI).news is News.PAID


@pytest.mark.parametrize("name", ["gmt_refund", "refund_status", "refund_amount", "out_biz_no", "out_request_no"])
def test_any_trace_of_a_refund_is_mentioned(name: str) -> None:
    value = {"gmt_refund": "2025-06-02 13:00:00", "refund_status": "REFUND_CLOSED"}.get(name, "1")
    for fields, account in ((PLATFORM, OPENAPI), (IN_APP, MAPI)):
        assert not read(fields, account).mentions_refund
        notification = read(fields | {name: value}, account)
        assert (notification.kind, notification.mentions_refund) == (Kind.PAYMENT, True)


@pytest.mark.parametrize("status", ["WAIT_BUYER_PAY", "TRADE_SUCCESS", "TRADE_PENDING", "TRADE_FINISHED"])
def test_cancelled_trade_that_is_not_closed_is_held(status: str) -> None:
    cancelled = {"trade_status": status, "notify_action_type": "reverseAction"}
    assert reason(IN_APP | cancelled, MAPI) is Reason.BAD_CLOSE
    assert reason(PLATFORM | cancelled, OPENAPI) is Reason.BAD_CLOSE
    if status != "WAIT_BUYER_PAY":
        assert read(IN_APP | cancelled | {"refund_fee": "1.00"}, MAPI).kind is Kind.REFUND


def test_free_text_decides_nothing() -> None:
    text = "refund_status=REFUND_SUCCESS trade_status=TRADE_CLOSED total_amount=0.01"
    free_text = {"subject": text, "body": text, "passback_params": text, "discount": "-999.00"}
    notification = read(PLATFORM | free_text, OPENAPI)
    assert (notification.news, notification.amount, notification.refunded_total) == (
        News.PAID,
        Money(24000, "CNY"),
        None,
    )


def test_refund_of_an_unpaid_trade_is_held() -> None:
    refund = REFUNDED_AT | {"trade_status": "WAIT_BUYER_PAY"}
    assert reason(PLATFORM | refund | {"refund_fee": "1.00"}, OPENAPI) is Reason.BAD_REFUND
    assert reason(IN_APP | refund | {"refund_status": "REFUND_SUCCESS"}, MAPI) is Reason.BAD_REFUND


def test_refund_beside_another_status_is_kept() -> None:
    so_far = REFUNDED_AT | {"refund_fee": "31.40"}
    frozen = read(PLATFORM | so_far | {"trade_status": "TRADE_PENDING"}, OPENAPI)
    assert (frozen.news, frozen.refunded_total) == (News.PARTLY_REFUNDED, Money(3140, "CNY"))
    finished = read(PLATFORM | so_far | {"trade_status": "TRADE_FINISHED"}, OPENAPI)
    assert (finished.kind, finished.news, finished.refunded_total) == (Kind.REFUND, News.FINISHED, Money(3140, "CNY"))


@pytest.mark.parametrize(
    "amount",
    ["1e3", "NaN", "1,000.00", " 1.00", "1.00 ", "Infinity", "99999999999.99", "0.00", "-1.00", "+1.00", "1", "1.0",
     "1.000", ".50", "１.00", "1_0.00", "0x1.00"],
)  # fmt: skip
def test_amount_in_another_form_is_held(amount: str) -> None:
    assert reason(IN_APP | {"total_fee": amount}, MAPI) is Reason.BAD_AMOUNT
    assert reason(PLATFORM | {"total_amount": amount}, OPENAPI) is Reason.BAD_AMOUNT


@pytest.mark.parametrize("refund_fee", ["1e3", "NaN", " 1.00", "-1.00", "1"])
def test_refunded_sum_in_another_form_is_held(refund_fee: str) -> None:
    assert reason(PLATFORM | REFUNDED_AT | {"refund_fee": refund_fee}, OPENAPI) is Reason.BAD_AMOUNT


@pytest.mark.parametrize("currency", ["XYZ", "XAU", "usd"])
def test_currency_without_decimals_is_held_and_named(currency: str) -> None:
    error = refused(WEBSITE | {"currency": currency}, MAPI)
    assert error.reason is Reason.UNKNOWN_CURRENCY
    assert currency in str(error)


@pytest.mark.parametrize("currency", sorted(EXPONENTS))
def test_both_form_families_know_every_currency_of_iso_4217(currency: str) -> None:
    text = money.major(1280, currency)
    assert read(WEBSITE | {"currency": currency, "total_fee": text}, MAPI).amount == Money(1280, currency)
    overseas = PLATFORM | {"trans_currency": currency, "total_amount": text}
    assert read(overseas, OPENAPI).amount == Money(1280, currency)


def test_overseas_trade_and_its_refunds_are_in_trans_currency() -> None:
    notification = read(PLATFORM | REFUNDED_AT | {"trans_currency": "EUR", "refund_fee": "3.00"}, OPENAPI)
    assert notification.amount is not None
    assert (notification.amount.currency, notification.refunded_total) == ("EUR", Money(300, "EUR"))


def test_open_platform_trade_without_currency_is_in_the_account_s() -> None:
    account = structs.replace(OPENAPI, currency="USD")
    amount = read(PLATFORM, account).amount
    assert amount is not None
    assert amount.currency == "USD"


OLD_REFUND = {"notify_action_type": "refundFPAction", "refund_fee": "4.00"}


@pytest.mark.parametrize("companion", [{}, REFUNDED_AT, {"notify_action_type": ""} | REFUNDED_AT])
def test_refund_fee_of_the_old_gateway_is_a_cumulative_sum(companion: dict[str, str]) -> None:
    notification = read(IN_APP | OLD_REFUND | companion, MAPI)
    assert (notification.kind, notification.news) == (Kind.REFUND, News.PARTLY_REFUNDED)
    assert notification.refunded_total == Money(400, MAPI.currency)


def test_refund_fee_without_a_companion_is_held() -> None:
    for fields, account in ((IN_APP, MAPI), (PLATFORM, OPENAPI)):
        assert reason(fields | {"refund_fee": "4.00"}, account) is Reason.BAD_REFUND


def test_refund_action_without_a_sum_is_a_refund_of_unknown_amount() -> None:
    notification = read(IN_APP | {"notify_action_type": "refundFPAction"}, MAPI)
    assert (notification.kind, notification.refunded_total) == (Kind.REFUND, None)


def test_cancelled_trade_is_refunded_by_its_sum_or_reversed_without_one() -> None:
    closed = IN_APP | {"trade_status": "TRADE_CLOSED", "notify_action_type": "reverseAction"}
    refunded = read(closed | {"refund_fee": IN_APP["total_fee"]}, MAPI)
    assert (refunded.news, refunded.refunded_total) == (News.REFUNDED, refunded.amount)
    assert read(closed, MAPI).news is News.REVERSED


def test_yen_have_no_decimals() -> None:
    assert read(WEBSITE | {"currency": "JPY", "total_fee": "1200"}, MAPI).amount == Money(1200, "JPY")
    assert reason(WEBSITE | {"currency": "JPY", "total_fee": "12.50"}, MAPI) is Reason.BAD_AMOUNT


@pytest.mark.parametrize("status", ["TRADE_MAGIC", "trade_success", "TRADE_SUCCESS "])
def test_undocumented_status_is_held(status: str) -> None:
    assert reason(IN_APP | {"trade_status": status}, MAPI) is Reason.UNKNOWN_STATUS


@pytest.mark.parametrize("name", ["notify_id", "notify_type", "out_trade_no", "trade_no", "trade_status", "total_fee"])
def test_missing_or_empty_field_is_held_and_named(name: str) -> None:
    absent = {known: value for known, value in IN_APP.items() if known != name}
    for fields in (absent, IN_APP | {name: ""}):
        error = refused(fields, MAPI)
        assert (error.reason, str(error)) == (Reason.MISSING_FIELD, f"{name} is missing")


@pytest.mark.parametrize("account", [MAPI, OPENAPI], ids=["mapi", "openapi"])
def test_unknown_type_changes_no_order_and_stays_readable(account: Account) -> None:
    unknown = {
        "notify_id": "n",
        "notify_type": "servicemarket_order_notify",
        "commodity_order_id": "c-1",
        "method": "m",
    }
    notification = read(unknown, account)
    assert (notification.kind, notification.news, notification.id, notification.order) == (
        Kind.OTHER,
        News.OTHER,
        "n",
        "",
    )


@pytest.mark.parametrize("sent", ["2099-01-01 00:00:00", "1970-01-01 00:00:00"])
def test_notify_time_does_not_change_the_time_of_the_event(sent: str) -> None:
    resent = read(IN_APP | {"notify_time": sent}, MAPI)
    plain = read(IN_APP, MAPI)
    assert structs.replace(resent, sent_at=plain.sent_at) == plain


@pytest.mark.parametrize("name", ["notify_time", "gmt_payment", "gmt_refund", "gmt_close"])
@pytest.mark.parametrize("text", ["2025-02-30 00:00:00", "yesterday", "2025-06-01T12:00:00Z", "2025-06-01 24:00:00"])
def test_impossible_time_is_held(name: str, text: str) -> None:
    assert reason(IN_APP | {name: text}, MAPI) is Reason.BAD_TIME


BATCH = {
    "notify_id": "b-1",
    "notify_type": "batch_refund_notify",
    "batch_no": "20250603001",
    "success_num": "1",
    "partner_id": "2088000000000001",
}


def entries(details: str) -> tuple[Refund, ...]:
    return read(BATCH | {"result_details": details}, MAPI).refunds


def test_batch_refunds_have_ids_of_batch_and_trade() -> None:
    notification = read(BATCH | {"result_details": "T7^3.10^SUCCESS#T8^4.00^SUCCESS$fee@x^2088^0.10^SUCCESS"}, MAPI)
    assert (notification.kind, notification.news, notification.order) == (Kind.BATCH_REFUND, News.PARTLY_REFUNDED, "")
    assert notification.refunds == (
        Refund(id="20250603001/T7", amount=Money(310, "USD"), trade="T7"),
        Refund(id="20250603001/T8", amount=Money(400, "USD"), trade="T8"),
    )


NAMELESS = {name: value for name, value in BATCH.items() if name != "partner_id"} | {
    "result_details": "T7^3.10^SUCCESS"
}


def test_batch_that_names_no_merchant_is_held_and_can_be_found() -> None:
    for fields in (NAMELESS, NAMELESS | {"seller_id": "2088000000000002"}, NAMELESS | {"pay_user_id": ""}):
        error = refused(fields, MAPI)
        assert (error.reason, error.notification_id, error.order) == (Reason.NAMES_NOBODY, "b-1", "")
        assert error.digest


def test_batch_is_applied_if_named_confirmed_or_signed_with_the_accounts_secret() -> None:
    for name in ("seller_id", "partner_id", "pay_user_id"):
        assert read(NAMELESS | {name: str(MAPI.seller_id)}, MAPI).refunds
    secret = structs.replace(MAPI, sign_type=SignType.MD5)
    assert read(NAMELESS, secret).refunds
    signed = form.read(encoded(NAMELESS))
    assert interpret_form.read(signed, MAPI, is_confirmed=True).refunds


@pytest.mark.parametrize(
    ("type_", "kind"),
    [
        ("dut_user_sign", Kind.AGREEMENT),
        ("dut_user_unsign", Kind.AGREEMENT),
        ("fund_auth_freeze", Kind.PREAUTHORIZATION),
        ("fund_auth_unfreeze", Kind.PREAUTHORIZATION),
        ("fund_auth_operation_cancel", Kind.PREAUTHORIZATION),
        ("open_app_auth_notify", Kind.APPLICATION),
    ],
)
def test_mandates_and_authorisations_are_noted(type_: str, kind: Kind) -> None:
    for account in (MAPI, OPENAPI):
        notification = read({"notify_id": "n-1", "notify_type": type_}, account)
        assert (notification.kind, notification.news, notification.id) == (kind, News.OTHER, "n-1")
        assert (notification.numbers, notification.fields, notification.status) == ((), (), "")


def test_noted_form_has_its_numbers_and_its_status() -> None:
    notification = read(
        {"notify_id": "n", "notify_type": "dut_user_unsign", "agreement_no": "A1", "external_agreement_no": "E1",
         "status": "UNSIGN", "alipay_user_id": "2088102008779321", "alipay_logon_id": "ca***@example.com"},
        OPENAPI,
    )  # fmt: skip
    assert notification.status == "UNSIGN"
    assert notification.fields == (("status", "UNSIGN"),)
    assert notification.numbers == (
        NamedNumber(NumberKind.AGREEMENT, "A1"),
        NamedNumber(NumberKind.EXTERNAL_AGREEMENT, "E1"),
    )


def test_business_content_names_order_trade_and_numbers() -> None:
    content = '{"out_trade_no":"N1","trade_no":"T1","out_request_no":"R1","dback_status":"S"}'
    fields = {"notify_id": "n", "msg_method": "alipay.trade.refund.depositback.completed", "biz_content": content}
    notification = read(fields, OPENAPI)
    assert (notification.order, notification.trade) == ("N1", "T1")
    assert notification.numbers == (NamedNumber(NumberKind.REQUEST, "R1"), NamedNumber(NumberKind.TRADE, "T1"))


@pytest.mark.parametrize("content", ["{", "[]", '{"a":1,"a":2}', "<xml/>", '{"a":' + "[" * 33 + "]" * 33 + "}"])
def test_business_content_that_is_no_strict_json_object_is_held(content: str) -> None:
    error = refused({"notify_id": "n-1", "msg_method": "x", "biz_content": content}, OPENAPI)
    assert (error.reason, error.disposition, error.notification_id) == (
        Reason.MALFORMED,
        Disposition.QUARANTINED,
        "n-1",
    )


def test_business_content_over_several_lines_is_read() -> None:
    fields = {"notify_id": "n", "msg_method": "x", "biz_content": '{\r\n\t"order_id": "O1"\n}'}
    assert read(fields, OPENAPI).numbers == (NamedNumber(NumberKind.OPERATION, "O1"),)
    assert reason(fields | {"biz_content": '{"order_id": "O\n1"}'}, OPENAPI) is Reason.MALFORMED


@pytest.mark.parametrize("broken", ["游船".encode("gbk"), "游船".encode()[:-1], b"\xff"])
def test_business_content_with_undecodable_free_text_is_read(broken: bytes) -> None:
    body = encoded({"notify_id": "n", "msg_method": "x", "biz_content": '{"memo":"?","order_id":"O1","status":"?"}'})
    body = body.replace(b"%3F", quote_from_bytes(broken).encode())
    notification = interpret_form.read(form.read(body), OPENAPI)
    assert notification.numbers == (NamedNumber(NumberKind.OPERATION, "O1"),)
    [(name, status)] = notification.fields
    assert (name, "\N{REPLACEMENT CHARACTER}" in status) == ("status", False)
    assert status.startswith(("\\x", "游\\x"))


def test_batch_names_its_number_and_the_trades_of_failed_refunds_too() -> None:
    batch = read(BATCH | {"batch_no": "B1", "result_details": "T7^3.10^TRADE_HAS_CLOSED#T8^4.00^SUCCESS"}, MAPI)
    assert [named.number for named in batch.numbers] == ["B1", "T7", "T8"]


def test_message_service_is_noted_under_its_method() -> None:
    message = {"notify_id": "n-1", "msg_method": "alipay.fund.trans.order.changed", "version": "1.1"}
    notification = read(message | {"biz_content": '{"pay_date":"2026-11-30 08:00:00","url":"?a=1&b=2"}'}, OPENAPI)
    assert (notification.kind, notification.type) == (Kind.TRANSFER, "alipay.fund.trans.order.changed")
    assert read(IN_APP | {"msg_method": "x"}, MAPI).type == "trade_status_sync"
    assert reason({"notify_id": "n-1"}, OPENAPI) is Reason.MISSING_FIELD
    assert reason({"msg_method": "x"}, OPENAPI) is Reason.MISSING_FIELD


def test_only_successful_entries_of_a_batch_are_refunds() -> None:
    assert [refund.trade for refund in entries("T7^3.10^TRADE_HAS_CLOSED#T8^4.00^SUCCESS")] == ["T8"]


@pytest.mark.parametrize(
    "details",
    ["T7", "T7^3.10", "T7^3.10^SUCCESS^x", "^3.10^SUCCESS", "T7^^SUCCESS", "T7^3.10^", "#", "T7^3.10^SUCCESS#",
     "$T7^3.10^SUCCESS", "T7|3.10|SUCCESS", "T7^1.00^SUCCESS#T7^1.00^SUCCESS"],
)  # fmt: skip
def test_malformed_result_details_are_held(details: str) -> None:
    assert reason(BATCH | {"result_details": details}, MAPI) is Reason.BAD_REFUND


@pytest.mark.parametrize("amount", ["1e3", "0.00", "-1.00", "1"])
def test_batch_entry_with_an_invalid_amount_is_held(amount: str) -> None:
    assert reason(BATCH | {"result_details": f"T7^{amount}^SUCCESS"}, MAPI) is Reason.BAD_AMOUNT


def test_batch_with_too_many_entries_is_held() -> None:
    details = "#".join(f"T{n}^1.00^S" for n in range(interpret_form.BATCH_ENTRIES_MAX + 1))
    assert reason(BATCH | {"result_details": details}, MAPI) is Reason.BAD_REFUND
    details = "#".join(f"{n}^1^S" for n in range(interpret_form.BATCH_ENTRIES_MAX))
    assert entries(details) == ()


def test_text_is_decoded_with_the_signed_charset() -> None:
    fields = PLATFORM | {"charset": "GBK", "subject": "维多利亚港游船"}
    assert decoded(fields, OPENAPI, "gbk")["subject"] == "维多利亚港游船"


def test_text_without_a_signed_charset_uses_the_account_s_charset() -> None:
    account = structs.replace(MAPI, charset="gbk")
    assert decoded(IN_APP, account, "gbk")["subject"] == IN_APP["subject"]
    assert decoded(IN_APP, MAPI, "gbk")["subject"] == IN_APP["subject"], "free text is tried as gb18030 too"


def test_characters_of_four_bytes_stay_intact() -> None:
    rare = "\N{CJK UNIFIED IDEOGRAPH-20000}"
    fields = PLATFORM | {"charset": "gb18030", "subject": rare}
    assert decoded(fields, OPENAPI, "gb18030")["subject"] == rare
    assert decoded(PLATFORM | {"subject": "\N{BUBBLE TEA}"}, OPENAPI)["subject"] == "\N{BUBBLE TEA}"


@pytest.mark.parametrize("charset", ["utf-7", "x-user-defined", "utf-16", "rot13", "latin-1", "utf8", "\u00e9"])
def test_unsupported_charset_is_held(charset: str) -> None:
    error = refused(PLATFORM | {"charset": charset}, OPENAPI)
    assert (error.reason, error.notification_id) == (Reason.CHARSET, PLATFORM["notify_id"])


@pytest.mark.parametrize(
    ("bytes_", "shown"),
    [
        ("游船".encode()[:-1], "游\\xe8\\x88"),  # cut inside a character
        ("游船".encode("gbk"), "游船"),  # sent in GBK, declared nowhere
        (b"\xff\xfe", "\\xff\\xfe"),
    ],
)
def test_broken_free_text_is_shown_and_decides_nothing(bytes_: bytes, shown: str) -> None:
    body = encoded(PLATFORM | {"body": "?"}).replace(b"body=%3F", b"body=" + quote_from_bytes(bytes_).encode())
    signed = form.read(body)
    assert interpret_form.text(signed, OPENAPI)["body"] == shown
    assert interpret_form.read(signed, OPENAPI).news is News.PAID


def test_characters_beyond_the_declared_charset_are_shown() -> None:
    fields = PLATFORM | {"charset": "gb2312", "subject": "镕"}
    assert decoded(fields, OPENAPI, "gbk")["subject"] == "镕"


@pytest.mark.parametrize("name", ["out_trade_no", "notify_id", "trade_no"])
def test_undecodable_number_is_held_and_filed_under_no_number(name: str) -> None:
    body = encoded(PLATFORM).replace(f"{name}=".encode(), f"{name}=%FF".encode())
    with pytest.raises(Unreadable) as caught:
        interpret_form.read(form.read(body), OPENAPI)
    assert caught.value.reason is Reason.CHARSET
    assert "\N{REPLACEMENT CHARACTER}" not in caught.value.order + caught.value.notification_id


def test_nul_is_held_only_in_a_field_that_decides() -> None:
    error = refused(IN_APP | {"out_trade_no": "A\x00B"}, MAPI)
    assert (error.reason, error.order) == (Reason.CONTROL_CHAR, "")
    for name in ("subject", "unknown_name"):
        assert read(IN_APP | {name: "A\x00B"}, MAPI).order == IN_APP["out_trade_no"]


def test_two_numbers_with_control_characters_never_meet() -> None:
    for character in ("\t", "\x1f", "\x7f"):
        error = refused(IN_APP | {"out_trade_no": f"K{character}L", "notify_id": f"n{character}1"}, MAPI)
        assert (error.order, error.notification_id, error.digest) == ("", "", b"")


@pytest.mark.parametrize("name", ["notify_id", "out_trade_no", "trade_no", "trade_status", "total_fee", "notify_type"])
@pytest.mark.parametrize("character", ["\r", "\n", "\t", "\x1b", "\x7f", "\x85"])
def test_control_character_in_an_id_is_held(name: str, character: str) -> None:
    error = refused(IN_APP | {name: IN_APP[name] + character}, MAPI)
    assert error.reason is Reason.CONTROL_CHAR
    assert character not in error.order + error.notification_id


@pytest.mark.parametrize("text", ["a\r\nb\tc", "line\u2028line", "\u202egnp.exe", "  two  blanks  "])
def test_free_text_is_unchanged(text: str) -> None:
    assert decoded(IN_APP | {"subject": text}, MAPI)["subject"] == text


def test_ids_are_not_normalised() -> None:
    composed, decomposed = read(IN_APP | {"out_trade_no": "é"}, MAPI), read(IN_APP | {"out_trade_no": "e\u0301"}, MAPI)
    assert composed.order != decomposed.order


def test_deliveries_of_the_same_content_have_the_same_digest() -> None:
    first = read(IN_APP, MAPI)
    again = read(dict(reversed(IN_APP.items())) | {"notify_time": "2025-06-01 12:08:08"}, MAPI)
    blank = read(IN_APP | {"invoice": ""}, MAPI)
    assert first.digest == again.digest == blank.digest


@pytest.mark.parametrize("change", [{"total_fee": "17.36"}, {"subject": "x"}, {"new_parameter": "1"}])
def test_different_content_has_a_different_digest(change: dict[str, str]) -> None:
    assert read(IN_APP, MAPI).digest != read(IN_APP | change, MAPI).digest


def test_unreadable_form_keeps_its_id_and_digest() -> None:
    first = refused(IN_APP | {"total_fee": "1e3"}, MAPI)
    again = refused(IN_APP | {"total_fee": "1e3", "notify_time": "2025-06-01 12:08:08"}, MAPI)
    other = refused(IN_APP | {"total_fee": "1e4"}, MAPI)
    assert (first.notification_id, first.order, first.disposition) == (
        IN_APP["notify_id"],
        "APP-31",
        Disposition.QUARANTINED,
    )
    assert first.digest == again.digest != other.digest


def test_unreadable_form_with_an_altered_id_has_no_digest() -> None:
    assert refused(IN_APP | {"notify_id": "n\n"}, MAPI).digest == b""
    assert refused(IN_APP | {"notify_id": ""}, MAPI).digest == b""


@pytest.mark.parametrize(
    ("payer", "shown"),
    [("carol@example.com", "car***"), ("13800138000", "138***"), ("bob@x", "***"), ("", "")],
)
def test_payer_is_masked(payer: str, shown: str) -> None:
    assert interpret_form.mask(payer) == shown


def test_both_logins_of_a_payer_are_masked() -> None:
    logins: dict[str, Any] = {"buyer_logon_id": "", "buyer_email": "erin@example.com"}
    assert read(IN_APP | logins, MAPI).payer == "eri***"


def test_ambiguous_form_is_held_under_its_signature_alone() -> None:
    hidden = encoded(PLATFORM | {"subject": "S&total_amount=9999.00&trade_aaa=", "sign": "c2ln"})
    resplit = encoded(
        PLATFORM | {"subject": "S", "total_amount": "9999.00", "trade_aaa": "&total_amount=240.00", "sign": "c2ln"}
    )
    found = []
    for body in (hidden, resplit):
        with pytest.raises(Unreadable) as caught:
            interpret_form.read(form.read(body), OPENAPI)
        error = caught.value
        assert (error.reason, error.disposition, error.order) == (Reason.AMBIGUOUS, Disposition.QUARANTINED, "")
        assert {NamedNumber(NumberKind.CLAIMED_ORDER, "OP-33")} <= {*error.numbers}
        found.append((error.notification_id, error.digest))
    assert found[0] == found[1]
    assert found[0][1]


AGREED = {"agreement_no": "AG1", "out_biz_no": "R1"}


@pytest.mark.parametrize("account", [MAPI, OPENAPI], ids=["mapi", "openapi"])
def test_payment_has_the_numbers_of_its_agreement_and_its_refund(account: Account) -> None:
    fields = (IN_APP if account is MAPI else PLATFORM) | AGREED
    assert [(named.kind.value, named.number) for named in read(fields, account).numbers] == [
        ("agreement", "AG1"),
        ("request", "R1"),
    ]


@pytest.mark.parametrize(
    "wrong",
    [{"total_fee": "1e2"}, {"gmt_payment": "yesterday"}, {"notify_id": ""}, {"charset": "latin-1"}, {"body": "\x00"}],
)
def test_payment_that_cannot_be_read_has_its_numbers(wrong: dict[str, str]) -> None:
    wrong = {"trade_status": "\x01", **wrong} if "body" in wrong else wrong
    with pytest.raises(Unreadable) as caught:
        read(IN_APP | AGREED | wrong, MAPI)
    assert [(named.kind.value, named.number) for named in caught.value.numbers] == [
        ("agreement", "AG1"),
        ("request", "R1"),
        ("trade", IN_APP["trade_no"]),
    ]


def test_broken_bytes_in_a_number_leave_the_other_numbers() -> None:
    body = encoded({name: value for name, value in (IN_APP | AGREED).items() if name != "out_trade_no"})
    with pytest.raises(Unreadable) as caught:
        interpret_form.read(form.read(body + b"&out_trade_no=%FF"), MAPI)
    assert (caught.value.reason, caught.value.order) == (Reason.CHARSET, "")
    assert [named.number for named in caught.value.numbers] == ["AG1", "R1", IN_APP["trade_no"]]


def test_batch_refund_that_names_nobody_has_its_number_and_its_trades() -> None:
    batch = facts.batch("b", "T1^1.00^SUCCESS#T2^1.00^TRADE_HAS_CLOSED", "B1")["fields"]
    with pytest.raises(Unreadable) as caught:
        read({name: value for name, value in batch.items() if name != "partner_id"}, MAPI)
    assert caught.value.reason is Reason.NAMES_NOBODY
    assert [(named.kind.value, named.number) for named in caught.value.numbers] == [
        ("batch", "B1"),
        ("trade", "T1"),
        ("trade", "T2"),
    ]


def test_order_of_an_unknown_merchant_is_a_claim_only() -> None:
    with pytest.raises(Unreadable) as caught:
        read(PLATFORM | {"auth_app_id": "x/y"}, PROVIDER)
    assert caught.value.order == ""
    assert NamedNumber(NumberKind.CLAIMED_ORDER, "OP-33") in caught.value.numbers
