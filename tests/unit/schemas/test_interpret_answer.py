"""An answer means what a notification of the same facts would mean."""

import json
from typing import Any

import pytest

from schemas import interpret, interpret_answer
from schemas.accounts import Account, CaptureMode, Family, SignType
from schemas.dispositions import Disposition, Reason
from schemas.money import Money
from schemas.notification import Notification, Unreadable
from schemas.orders import News

OPEN = Account(name="cn", family=Family.OPENAPI, sign_type=SignType.RSA2, app_id="2021")
OLD = Account(name="old", family=Family.MAPI, sign_type=SignType.RSA, partner="2088", currency="USD")
ANTOM = Account(name="hk", family=Family.ANTOM, sign_type=SignType.RSA256, client_id="C")
PAID = {
    "code": "10000", "out_trade_no": "A-1", "trade_no": "2026", "trade_status": "TRADE_SUCCESS",
    "total_amount": "12.80", "send_pay_date": "2026-11-30 10:00:00",
}  # fmt: skip
PAYMENT = {
    "result": {"resultStatus": "S", "resultCode": "SUCCESS"}, "paymentStatus": "SUCCESS", "paymentRequestId": "A-1",
    "paymentId": "P-1", "paymentAmount": {"value": "1280", "currency": "HKD"}, "paymentTime": "2026-11-30T10:00:00Z",
}  # fmt: skip


def of_open(**changes: Any) -> bytes:
    inner = {name: value for name, value in (PAID | changes).items() if value is not None}
    return json.dumps({"alipay_trade_query_response": inner, "sign": "s"}).encode()


def of_old(**changes: str) -> bytes:
    told = PAID | {"total_fee": "12.80", "gmt_payment": "2026-11-30 10:00:00"} | changes
    told = {name: value for name, value in told.items() if name not in ("code", "total_amount", "send_pay_date")}
    trade = "".join(f"<{name}>{value}</{name}>" for name, value in told.items() if value)
    return f"<alipay><is_success>T</is_success><response><trade>{trade}</trade></response></alipay>".encode()


def of_antom(**changes: Any) -> bytes:
    return json.dumps(PAYMENT | changes).encode()


def read(body: bytes, account: Account) -> Notification:
    return interpret.read(body, account, is_answer=True)


def test_paid_trade_is_a_payment_of_its_own_type() -> None:
    for body, account, amount, type_ in (
        (of_open(), OPEN, Money(1280, "CNY"), "alipay.trade.query"),
        (of_old(), OLD, Money(1280, "USD"), "single_trade_query"),
        (of_antom(), ANTOM, Money(1280, "HKD"), "inquiryPayment"),
    ):
        told = read(body, account)
        assert (told.news, told.order, told.amount, told.type) == (News.PAID, "A-1", amount, type_)
        assert told.happened_at is not None


def test_same_answer_has_the_same_id_and_another_one_has_another() -> None:
    first, again = read(of_open(), OPEN), read(of_open(buyer_logon_id="b***@example.com", store_name="x"), OPEN)
    assert (first.id, first.digest) == (again.id, again.digest)
    assert read(of_open(total_amount="12.81"), OPEN).id != first.id
    assert read(of_antom(), ANTOM).id == "inquiryPayment:A-1:SUCCESS"


@pytest.mark.parametrize(
    ("changes", "news"),
    [
        ({"trade_status": "TRADE_FINISHED"}, News.FINISHED),
        ({"trade_status": "TRADE_PENDING"}, News.FROZEN),
        ({"trade_status": "WAIT_BUYER_PAY", "send_pay_date": None}, News.WAITING),
        ({"trade_status": "TRADE_CLOSED", "send_pay_date": None}, News.EXPIRED),
        ({"trade_status": "TRADE_CLOSED"}, News.REFUNDED),
        ({"trade_status": "TRADE_CLOSED", "send_pay_date": None, "buyer_pay_amount": "0.00"}, News.EXPIRED),
    ],
)
def test_status_of_a_form_family_has_its_news(changes: dict[str, Any], news: News) -> None:
    assert read(of_open(**changes), OPEN).news is news


def test_paid_trade_that_is_closed_without_any_date_is_held() -> None:
    body = of_open(trade_status="TRADE_CLOSED", send_pay_date=None, buyer_pay_amount="12.80")
    with pytest.raises(Unreadable) as raised:
        read(body, OPEN)
    assert (raised.value.reason, raised.value.order) == (Reason.BAD_REFUND, "A-1")


@pytest.mark.parametrize(
    ("status", "news"),
    [("FAIL", News.FAILED), ("CANCELLED", News.FAILED), ("PROCESSING", News.WAITING), ("PENDING", News.WAITING)],
)
def test_status_of_antom_has_its_news(status: str, news: News) -> None:
    assert read(of_antom(paymentStatus=status), ANTOM).news is news


def test_authorised_amount_is_not_paid_at_an_account_that_captures() -> None:
    account = Account(
        name="hk", family=Family.ANTOM, sign_type=SignType.RSA256, client_id="C", capture=CaptureMode.MANUAL
    )
    assert read(of_antom(authExpiryTime="2026-12-30T10:00:00Z"), account).news is News.AUTHORIZED


def test_price_in_another_currency_keeps_it() -> None:
    assert read(of_open(trans_currency="USD"), OPEN).amount == Money(1280, "USD")


@pytest.mark.parametrize(
    ("body", "account", "reason"),
    [
        (of_open(trade_status="NEW"), OPEN, Reason.UNKNOWN_STATUS),
        (of_open(total_amount="12.8x"), OPEN, Reason.BAD_AMOUNT),
        (of_open(total_amount=None), OPEN, Reason.MISSING_FIELD),
        (of_open(send_pay_date="soon"), OPEN, Reason.BAD_TIME),
        (of_antom(paymentStatus="NEW"), ANTOM, Reason.UNKNOWN_STATUS),
        (of_antom(paymentAmount={"value": "0", "currency": "HKD"}), ANTOM, Reason.BAD_AMOUNT),
    ],
)
def test_answer_that_makes_no_sense_is_held_under_its_order(body: bytes, account: Account, reason: Reason) -> None:
    with pytest.raises(Unreadable) as raised:
        read(body, account)
    assert (raised.value.reason, raised.value.order) == (reason, "A-1")
    assert raised.value.disposition is Disposition.QUARANTINED


@pytest.mark.parametrize(
    ("body", "account"),
    [
        (b"out_trade_no=A-1&trade_status=TRADE_SUCCESS", OPEN),
        (b'{"alipay_trade_query_response":{"code":"40004","sub_code":"ACQ.TRADE_NOT_EXIST"}}', OPEN),
        (b"<alipay><is_success>F</is_success><error>TRADE_NOT_EXIST</error></alipay>", OLD),
        (b'{"result":{"resultStatus":"F","resultCode":"ORDER_NOT_EXIST"}}', ANTOM),
    ],
)
def test_what_tells_nothing_of_a_trade_is_no_notification(body: bytes, account: Account) -> None:
    with pytest.raises(Unreadable) as raised:
        read(body, account)
    assert raised.value.disposition is Disposition.DEAD


def test_error_is_named_by_its_code() -> None:
    code = interpret_answer.error_of
    assert code(of_open(), Family.OPENAPI) == code(of_old(), Family.MAPI) == code(of_antom(), Family.ANTOM) == ""
    assert code(of_open(code="40004", sub_code="ACQ.TRADE_NOT_EXIST"), Family.OPENAPI) in interpret_answer.NOT_FOUND
    assert code(of_open(code=None), Family.OPENAPI) == "no code"
    assert code(of_antom(result={"resultStatus": "U", "resultCode": "UNKNOWN_EXCEPTION"}), Family.ANTOM) != ""


def test_order_and_state_are_read_without_an_account() -> None:
    for body, family in ((of_open(), Family.OPENAPI), (of_old(), Family.MAPI), (of_antom(), Family.ANTOM)):
        assert interpret_answer.order_of(body, family) == "A-1"
        assert not interpret_answer.is_waiting(body, family)
    assert interpret_answer.is_waiting(of_open(trade_status="WAIT_BUYER_PAY"), Family.OPENAPI)
    assert interpret_answer.is_waiting(of_antom(paymentStatus="PENDING"), Family.ANTOM)
