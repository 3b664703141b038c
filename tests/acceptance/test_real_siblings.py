"""More of what Alipay may send, through the real engine: relatives of the inputs of the files beside this one.

Each table has a short story per line: what is sent, one notification after the other, and how it ends.
"""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest

from tests.acceptance import test_real_inputs
from tests.acceptance.test_real_captures import EXPIRES, found, periodic, result
from tests.acceptance.test_real_inputs import APP, CLIENT, KEY, SELLER, Merchant
from tests.support import alipay
from tests.support.processes import Engine, eventually

ACCOUNTS = f"""
{test_real_inputs.ACCOUNTS}

[accounts.manual]
family = "antom"
client_id = "{CLIENT}"
capture = "manual"
keys = {{ 1 = "{KEY}" }}

[accounts.japan]
family = "mapi"
sign_type = "RSA"
keys = ["{KEY}"]
seller_id = "{SELLER}"
currency = "JPY"

[accounts.gulf]
family = "openapi"
sign_type = "RSA2"
keys = ["{KEY}"]
app_id = "{APP}"
currencies = ["KWD", "JPY"]

[accounts.gbk]
family = "mapi"
sign_type = "RSA"
keys = ["{KEY}"]
seller_id = "{SELLER}"
charset = "gbk"
"""
REPLACEMENT = "\N{REPLACEMENT CHARACTER}"
CHANGED, DUPLICATE, STALE, NOTED = (
    ("applied", "changed"),
    ("duplicate", "same_fact"),
    ("stale", "old_news"),
    ("applied", "noted"),
)


def held(reason: str) -> tuple[str, str]:
    return "quarantined", reason


@pytest.fixture(scope="module")
def merchant(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Merchant]:
    directory: Path = tmp_path_factory.mktemp("merchant")
    test_real_inputs.prepare(directory)
    (directory / "accounts.toml").write_text(ACCOUNTS)
    with Engine(directory / "accounts.toml", directory / "data") as engine:
        yield Merchant(engine)


def state(page: dict[str, Any]) -> tuple[Any, ...]:
    return page["status"], page["closed_because"], page["refunded"], page["flags"]


# --- the old gateway and the Open Platform: each line sends its forms in this order

REFUND = {"gmt_refund": "2026-11-30 09:00:00.123"}
CLOSED = {"trade_status": "TRADE_CLOSED"}
FINISHED, FROZEN = {"trade_status": "TRADE_FINISHED"}, {"trade_status": "TRADE_PENDING"}
JPY, KWD = ({"trans_currency": code, "total_amount": amount} for code, amount in (("JPY", "1280"), ("KWD", "1.280")))
FORMS: dict[str, tuple[str, list[dict[str, str]], tuple[Any, ...], list[tuple[str, str]]]] = {
    "a sum and its time": (
        "app", [{}, REFUND | {"refund_fee": "4.00"}], ("PAID", None, "4.00", []), [CHANGED, CHANGED],
    ),
    "an action and no time": (
        "app", [{}, {"refund_fee": "4.00", "notify_action_type": "refundFPAction"}],
        ("PAID", None, "4.00", []), [CHANGED, CHANGED],
    ),
    "an action in lower case is no companion": (
        "app", [{}, {"refund_fee": "4.00", "notify_action_type": "refundfpaction"}],
        ("PAID", None, "0.00", []), [CHANGED, held("bad_refund")],
    ),
    "an action with a sum of zero": (
        "app", [{}, REFUND | {"refund_fee": "0.00", "notify_action_type": "refundFPAction"}],
        ("PAID", None, "0.00", ["refund_amount_unknown"]), [CHANGED, CHANGED],
    ),
    "an older sum": (
        "app", [{}, REFUND | {"refund_fee": "4.00"}, REFUND | {"refund_fee": "3.00"}],
        ("PAID", None, "4.00", []), [CHANGED, CHANGED, STALE],
    ),
    "another refund with the same sum": (
        "cn", [{}, *[REFUND | {"refund_fee": "4.00", "out_biz_no": number} for number in ("1", "2")]],
        ("PAID", None, "4.00", []), [CHANGED, CHANGED, NOTED],
    ),
    "two refunds without a sum": (
        "app", [{}, REFUND | {"refund_status": "REFUND_SUCCESS"},
                {"gmt_refund": "2026-11-30 10:00:00", "refund_status": "REFUND_SUCCESS"}],
        ("PAID", None, "0.00", ["refund_amount_unknown"]), [CHANGED, CHANGED, NOTED],
    ),
    "a refund without success, then with it": (
        "app", [{}, REFUND | {"refund_status": "REFUND_CLOSED"}, REFUND | {"refund_status": "REFUND_SUCCESS"}],
        ("PAID", None, "0.00", ["refund_amount_unknown"]), [CHANGED, NOTED, CHANGED],
    ),
    "closed with success and the time of payment": (
        "app", [{}, CLOSED | REFUND | {"refund_status": "REFUND_SUCCESS", "gmt_payment": "2026-11-30 08:00:00"}],
        ("CLOSED", "refunded", "12.80", []), [CHANGED, CHANGED],
    ),
    "the refund before the payment": (
        "app", [CLOSED | REFUND | {"refund_fee": "12.80"}, {}], ("CLOSED", "refunded", "12.80", []), [CHANGED, STALE],
    ),
    "cancelled, with success and a sum": (
        "app", [{}, {"refund_fee": "12.80", "notify_action_type": "reverseAction"}],
        ("CLOSED", "refunded", "12.80", []), [CHANGED, CHANGED],
    ),
    "cancelled before its payment is reported": (
        "app", [CLOSED | {"notify_action_type": "reverseAction"}, {}],
        ("CLOSED", "refunded", "12.80", []), [CHANGED, CHANGED],
    ),
    "cancelled without being closed": (
        "app", [{}, {"notify_action_type": "reverseAction"}], ("PAID", None, "0.00", []), [CHANGED, held("bad_close")],
    ),
    "closed by the merchant, unpaid": (
        "app", [{"trade_status": "WAIT_BUYER_PAY"}, CLOSED | {"notify_action_type": "closeTradeAction"}],
        ("CLOSED", "expired", "0.00", []), [CHANGED, CHANGED],
    ),
    "closed by the merchant, though paid": (
        "app", [{}, CLOSED | {"notify_action_type": "closeTradeAction"}],
        ("PAID", None, "0.00", ["paid_and_expired"]), [CHANGED, held("paid_and_expired")],
    ),
    "finished, then refunded in part and in full": (
        "app", [FINISHED, FINISHED | REFUND | {"refund_fee": "4.00"}, FINISHED | REFUND | {"refund_fee": "12.80"}],
        ("CLOSED", "refunded", "12.80", []), [CHANGED, CHANGED, CHANGED],
    ),
    "frozen, then released": ("app", [FROZEN, {}], ("PAID", None, "0.00", []), [CHANGED, CHANGED]),
    "released, then frozen": ("app", [{}, FROZEN], ("PAID", None, "0.00", []), [CHANGED, STALE]),
    "an escrow product": (
        "app", [{"trade_status": "WAIT_SELLER_SEND_GOODS"}], (None, None, None, []), [held("unknown_status")],
    ),
    "a refund of a closed, unpaid trade": (
        "cn", [CLOSED, REFUND | {"refund_fee": "4.00"}],
        ("PAID", None, "4.00", ["paid_and_expired"]), [CHANGED, held("paid_and_expired")],
    ),
    "the Open Platform's action": (
        "cn", [{}, {"refund_fee": "4.00", "notify_action_type": "refundFPAction"}],
        ("PAID", None, "4.00", []), [CHANGED, CHANGED],
    ),
    "yen without decimals, refunded with .00": (
        "gulf", [JPY, JPY | REFUND | {"refund_fee": "400.00"}], ("PAID", None, "400", []), [CHANGED, CHANGED],
    ),
    "dinars with three decimals": (
        "gulf", [KWD, KWD | REFUND | {"refund_fee": "0.400"}], ("PAID", None, "0.400", []), [CHANGED, CHANGED],
    ),
    "dinars with two decimals": (
        "gulf", [KWD | {"total_amount": "1.28"}], (None, None, None, []), [held("bad_amount")],
    ),
    "a currency in lower case": (
        "cn", [{"trans_currency": "eur"}], (None, None, None, []), [held("unknown_currency")],
    ),
    "a settlement currency beside the trade's": (
        "cn", [{"trans_currency": "EUR", "settle_currency": "CNY", "settle_amount": "99.00", "pay_currency": "CNY"}],
        ("PAID", None, "0.00", []), [CHANGED],
    ),
    "the refund without the trade's currency": (
        "cn", [{"trans_currency": "EUR"}, REFUND | {"refund_fee": "4.00"}],
        ("PAID", None, "4.00", ["currency_mismatch"]), [CHANGED, held("currency_mismatch")],
    ),
    "yen of the account": (
        "japan", [{"total_fee": "1280"}, REFUND | {"total_fee": "1280", "refund_fee": "400"}],
        ("PAID", None, "400", []), [CHANGED, CHANGED],
    ),
    "yen with decimals": ("japan", [{"total_fee": "12.80"}], (None, None, None, []), [held("bad_amount")]),
    "details that decide nothing": (
        "cn", [{"gmt_create": "never", "discount_amount": "-1", "point_amount": "x", "receipt_amount": ""}],
        ("PAID", None, "0.00", []), [CHANGED],
    ),
    "empty values": (
        "cn", [{"refund_fee": "", "gmt_refund": "", "trans_currency": "", "notify_action_type": "", "charset": ""}],
        ("PAID", None, "0.00", []), [CHANGED],
    ),
    "no time of delivery": ("cn", [{"notify_time": ""}], ("PAID", None, "0.00", []), [CHANGED]),
    "a time of delivery that is none": (
        "cn", [{"notify_time": "2026-02-30 08:00:00"}], (None, None, None, []), [held("bad_time")],
    ),
    "a refund_fee in another form": (
        "cn", [{}, REFUND | {"refund_fee": "4"}], ("PAID", None, "0.00", []), [CHANGED, held("bad_amount")],
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", FORMS)
def test_forms_end_where_they_belong(merchant: Merchant, name: str) -> None:
    account, forms, end, outcomes = FORMS[name]
    order = name.replace(" ", "-").replace(",", "")
    for fields in forms:
        send(merchant, account, order, fields)
    page = merchant.order(account, order, entries=len(forms))
    assert (state(page), merchant.outcomes(account, order)) == (end, outcomes)


def send(merchant: Merchant, account: str, order: str, fields: dict[str, str | bytes] | dict[str, str]) -> None:
    if account != "gulf":
        merchant.form(account, order, **fields)
        return
    given: dict[str, str | bytes] = {
        "notify_type": "trade_status_sync", "notify_id": f"{order}-{len(fields)}", "app_id": APP,
        "out_trade_no": order, "trade_no": f"T-{order}", "trade_status": "TRADE_SUCCESS",
    }  # fmt: skip
    assert merchant.post_form(account, alipay.form(given | fields, alipay.rsa_key(), "RSA2")) == b"success"


# --- text: what is declared, what is sent

SUBJECTS = {"gbk": "港式镕", "gb18030": "㐀𠀀", "utf-8": "🧋 游船"}


@pytest.mark.parametrize("declared", ["", "GBK", "gb2312", "UTF-8", "GB18030"])
@pytest.mark.parametrize("sent", SUBJECTS)
def test_no_charset_of_a_subject_holds_a_payment(merchant: Merchant, sent: str, declared: str) -> None:
    order, text = f"CS-{sent}-{declared}", SUBJECTS[sent].encode(sent)
    merchant.form("cn", order, subject=text, body=text, **({"charset": declared} if declared else {}))
    assert merchant.outcomes("cn", order) == [CHANGED]


@pytest.mark.parametrize("sent", SUBJECTS)
def test_subject_of_a_held_payment_is_readable_without_a_declared_charset(merchant: Merchant, sent: str) -> None:
    order = f"HS-{sent}"
    merchant.form("cn", order, total_amount="1", subject=SUBJECTS[sent].encode(sent))
    (row,) = eventually(lambda: merchant.engine.get(f"/api/held?account=cn&order={order}")[1]["held"])
    shown = merchant.engine.get(f"/api/held/{row['id']}")[1]["fields"]["subject"]
    assert shown == SUBJECTS[sent]


def test_order_number_in_the_account_s_charset_is_kept_exactly(merchant: Merchant) -> None:
    merchant.form("gbk", "订单-1".encode("gbk"))  # type: ignore[arg-type]
    assert merchant.outcomes("gbk", "订单-1") == [CHANGED]


def test_order_number_in_another_charset_is_filed_under_none(merchant: Merchant) -> None:
    body = alipay.form(
        {
            "notify_type": "trade_status_sync", "notify_id": "broken-number", "app_id": APP,
            "out_trade_no": "订船".encode("gbk"), "trade_no": "T-broken", "trade_status": "TRADE_SUCCESS",
            "total_amount": "12.80",
        },
        alipay.rsa_key(), "RSA2",
    )  # fmt: skip
    assert merchant.post_form("cn", body) == b"success"
    rows = eventually(lambda: [each for each in merchant.held("charset") if each["notification_id"] == "broken-number"])
    assert [row["order"] for row in rows] == [""]
    page = merchant.engine.get(f"/api/held/{rows[0]['id']}")[1]
    assert REPLACEMENT not in json.dumps(page, ensure_ascii=False)


BUSINESS = {
    "over several lines": b'{\n  "order_id": "BC-1",\r\n\t"status": "SUCCESS"\n}',
    "with the bytes of another charset": b'{"order_id":"BC-2","status":"SUCCESS","memo":"'
    + "收款船".encode("gbk")
    + b'"}',
    "cut inside a character": b'{"order_id":"BC-3","status":"SUCCESS","memo":"' + "船".encode()[:-1] + b'"}',
    "with half an emoji": b'{"order_id":"BC-4","status":"SUCCESS","memo":"\\ud83d"}',
}


@pytest.mark.parametrize("name", BUSINESS)
def test_business_content_is_noted_whatever_its_free_text(merchant: Merchant, name: str) -> None:
    content = BUSINESS[name]
    number = content.partition(b"BC-")[2][:1].decode()
    given: dict[str, str | bytes] = {
        "notify_id": f"bc-{number}", "msg_method": "alipay.fund.trans.order.changed", "app_id": APP, "version": "1.1",
        "biz_content": content,
    }  # fmt: skip
    assert merchant.post_form("named", alipay.form(given, alipay.rsa_key(), "RSA2")) == b"success"
    listed = eventually(lambda: merchant.engine.get(f"/api/find?number=BC-{number}")[1]["notifications"])
    assert [(each["disposition"], each["reason"]) for each in listed] == [NOTED]
    shown = merchant.engine.get(f"/api/notifications/{listed[0]['id']}")[1]
    assert shown["fields"] == {"status": "SUCCESS"}
    assert REPLACEMENT not in json.dumps(shown, ensure_ascii=False)


# --- Antom: each line sends its messages about one order


def message(order: str, **members: Any) -> bytes:
    """Return PAYMENT_RESULT of the order with other members; those that are None are left out."""
    given = json.loads(Merchant.payment(order)) | members
    return json.dumps({name: value for name, value in given.items() if value is not None}).encode()


def about(order: str, **members: Any) -> bytes:
    return json.dumps({**result(), "paymentId": f"T-{order}", **members}).encode()


def brl(value: str) -> dict[str, str]:
    return {"currency": "BRL", "value": value}


FAILED = result("F")
NOTHING: tuple[Any, ...] = (None, None, None, [])
REFUNDED = {"refundStatus": "SUCCESS", "refundId": "RI"}
ANTOM: dict[str, tuple[str, list[tuple[str, dict[str, Any]]], tuple[Any, ...], list[tuple[str, str]]]] = {
    "a second payment": (
        "antom", [("pay", {}), ("pay", {"paymentId": "T-second"})],
        ("PAID", None, "0.00", ["second_trade"]), [CHANGED, held("second_trade")],
    ),
    "another amount": (
        "antom", [("pay", {}), ("pay", {"paymentAmount": brl("1300")})],
        ("PAID", None, "0.00", ["amount_mismatch"]), [CHANGED, held("amount_mismatch")],
    ),
    "another currency": (
        "antom", [("pay", {}), ("pay", {"paymentAmount": {"currency": "USD", "value": "1280"}})],
        ("PAID", None, "0.00", ["currency_mismatch"]), [CHANGED, held("currency_mismatch")],
    ),
    "other details": (
        "antom", [("pay", {}), ("pay", {"metadata": '{"a":1}'}), ("pay", {"paymentTime": "2026-11-30T00:00:00.000Z"})],
        ("PAID", None, "0.00", []), [CHANGED, DUPLICATE, DUPLICATE],
    ),
    "two failed attempts, then a payment": (
        "antom",
        [("pay", FAILED | {"paymentId": "T-1"}), ("pay", FAILED | {"paymentId": "T-2"}), ("pay", {"paymentId": "T-3"})],
        ("PAID", None, "0.00", []), [CHANGED, STALE, CHANGED],
    ),
    "pending, then paid": (
        "antom", [("pay", {"notifyType": "PAYMENT_PENDING"}), ("pay", {})],
        ("PAID", None, "0.00", []), [CHANGED, CHANGED],
    ),
    "paid, then pending": (
        "antom", [("pay", {}), ("pay", {"notifyType": "PAYMENT_PENDING", **result("U")})],
        ("PAID", None, "0.00", []), [CHANGED, STALE],
    ),
    "a result without a kind": ("antom", [("pay", {"notifyType": None})], NOTHING, [held("unknown_status")]),
    "an unknown result": ("antom", [("pay", result("U"))], NOTHING, [held("unknown_status")]),
    "an expiry that is none, where it decides nothing": (
        "antom", [("pay", {"authExpiryTime": "soon"})], ("PAID", None, "0.00", []), [CHANGED],
    ),
    "an expiry that is none, where it decides": (
        "manual", [("pay", {"authExpiryTime": "soon"})], (None, None, None, []), [held("bad_time")],
    ),
    "an authorisation with a later end": (
        "manual", [("pay", {"authExpiryTime": EXPIRES}), ("pay", {"authExpiryTime": "2026-12-09T08:00:00+08:00"})],
        ("WAITING", None, "0.00", []), [CHANGED, CHANGED],
    ),
    "authorised, then reported without an end": (
        "manual", [("pay", {"authExpiryTime": EXPIRES}), ("pay", {})], ("PAID", None, "0.00", []), [CHANGED, CHANGED],
    ),
    "a failed capture without a kind and an amount": (
        "antom", [("pay", {"authExpiryTime": EXPIRES}), ("about", FAILED | {"captureRequestId": "CR-1"})],
        ("PAID", None, "0.00", ["capture_failed"]), [CHANGED, CHANGED],
    ),
    "a capture without a kind": (
        "manual",
        [("pay", {"authExpiryTime": EXPIRES}), ("about", {"captureRequestId": "CR-2", "captureAmount": brl("1280")})],
        ("PAID", None, "0.00", []), [CHANGED, CHANGED],
    ),
    "a capture that is told twice with other details": (
        "manual",
        [("pay", {"authExpiryTime": EXPIRES}),
         *[("about", {"captureRequestId": "CR-3", "captureAmount": brl("500"), **more})
           for more in ({}, {"arn": "1"})]],
        ("PAID", None, "0.00", []), [CHANGED, CHANGED, DUPLICATE],
    ),
    "a capture's number with another amount": (
        "manual",
        [("pay", {"authExpiryTime": EXPIRES}),
         *[("about", {"captureRequestId": "CR-4", "captureAmount": brl(value)}) for value in ("500", "600")]],
        ("PAID", None, "0.00", []), [CHANGED, CHANGED, held("id_conflict")],
    ),
    "a capture with an unknown result": (
        "antom", [("pay", {}), ("about", result("U") | {"captureRequestId": "CR-5"})],
        ("PAID", None, "0.00", []), [CHANGED, NOTED],
    ),
    "a refund without a kind": (
        "antom", [("pay", {}), ("about", REFUNDED | {"refundRequestId": "RR-1", "refundAmount": brl("400")})],
        ("PAID", None, "4.00", []), [CHANGED, CHANGED],
    ),
    "a direct refund": (
        "antom",
        [("pay", {}), ("about", REFUNDED | {"refundRequestId": "RR-2", "refundToAmount": brl("400"),
                                           "refundFromAmount": {"currency": "USD", "value": "80"}})],
        ("PAID", None, "4.00", []), [CHANGED, CHANGED],
    ),
    "a direct refund under way, then done": (
        "antom",
        [("pay", {}), *[("about", {"refundStatus": status, "refundRequestId": "RR-3", "refundToAmount": brl("400")})
                        for status in ("PROCESSING", "SUCCESS")]],
        ("PAID", None, "4.00", []), [CHANGED, NOTED, CHANGED],
    ),
    "a refund that is told twice with other details": (
        "antom",
        [("pay", {}), *[("about", REFUNDED | {"refundRequestId": "RR-4", "refundAmount": brl("400"), **more})
                        for more in ({}, {"metadata": "{}"})]],
        ("PAID", None, "4.00", []), [CHANGED, CHANGED, DUPLICATE],
    ),
    "a refund's number with another amount": (
        "antom",
        [("pay", {}), *[("about", REFUNDED | {"refundRequestId": "RR-5", "refundAmount": brl(value)})
                        for value in ("400", "500")]],
        ("PAID", None, "4.00", []), [CHANGED, CHANGED, held("id_conflict")],
    ),
    "a dispute that moves on": (
        "antom",
        [("pay", {}), *[("about", {"disputeNotificationType": "DISPUTE_CREATED", "disputeId": "DI-1",
                                  "defenseDueTime": f"2026-12-{day}T00:00:00Z"}) for day in ("01", "02")]],
        ("PAID", None, "0.00", []), [CHANGED, NOTED, NOTED],
    ),
    "a dispute whose money came back": (
        "antom",
        [("pay", {}), ("about", {"disputeNotificationType": "RDR_RESOLVED", "disputeId": "DI-2",
                                 "disputeAmount": brl("1280"), "captureId": "C-9"})],
        ("PAID", None, "0.00", []), [CHANGED, NOTED],
    ),
    "a new amount of an authorisation": (
        "antom",
        [("pay", {}), ("pay", {"notifyType": "UPDATE_AMOUNT_RESULT", "updateRequestId": "U-1"})],
        ("PAID", None, "0.00", []), [CHANGED, NOTED],
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", ANTOM)
def test_messages_end_where_they_belong(merchant: Merchant, name: str) -> None:
    account, messages, end, outcomes = ANTOM[name]
    order = name.replace(" ", "-").replace(",", "").replace("'", "")
    for make, members in messages:
        body = message(order, **members) if make == "pay" else about(order, **members)
        merchant.antom_body(body, account)
    page = merchant.order(account, order, entries=len(messages))
    assert (state(page), merchant.outcomes(account, order)) == (end, outcomes)


def test_accepted_second_payment_is_the_one_that_counts(merchant: Merchant) -> None:
    merchant.antom_body(message("ACC-1"))
    merchant.antom_body(message("ACC-1", paymentId="T-ACC-2"))
    assert merchant.outcomes("antom", "ACC-1", entries=2)[1] == held("second_trade")
    (row,) = merchant.engine.get("/api/held?account=antom&order=ACC-1")[1]["held"]
    status, _ = merchant.engine.post(f"/api/held/{row['id']}/accept", {"reason": "it was paid", "by": "ana"})
    page = merchant.order("antom", "ACC-1")
    assert (status, page["trade"], page["flags"]) == (200, "T-ACC-2", [])
    merchant.antom_body(message("ACC-1", paymentId="T-ACC-2"))
    assert merchant.outcomes("antom", "ACC-1", entries=3)[2] == ("duplicate", "same_id")


def test_conflict_that_is_replayed_stays_held_while_it_is_one(merchant: Merchant) -> None:
    for value in ("400", "500"):
        if value == "400":
            merchant.antom_body(message("REP-1"))
        merchant.antom_body(about("REP-1", **REFUNDED, refundRequestId="REP-R", refundAmount=brl(value)))
    assert merchant.outcomes("antom", "REP-1", entries=3)[2] == held("id_conflict")
    (row,) = merchant.engine.get("/api/held?account=antom&order=REP-1")[1]["held"]
    assert row["notification_id"].startswith("REFUND_RESULT:REP-R:SUCCESS:")
    merchant.engine.post(f"/api/held/{row['id']}/replay", {"reason": "once more", "by": "ana"})
    eventually(lambda: merchant.engine.get(f"/api/held/{row['id']}")[1]["attempts"] == 1)
    assert merchant.order("antom", "REP-1")["refunded"] == "4.00"


def test_event_lists_both_amounts_that_were_reported(merchant: Merchant) -> None:
    merchant.form("cn", "CL-1")
    merchant.form("cn", "CL-1", total_amount="9.00")
    page = merchant.order("cn", "CL-1", entries=2)
    assert (page["amount"], page["flags"]) == ("9.00", ["amount_mismatch"])

    def last() -> dict[str, Any] | None:
        feed = merchant.engine.get("/api/events?limit=1000")[1]["events"]
        own = [each["data"] for each in feed if each["data"].get("order") == "CL-1" and "claims" in each["data"]]
        return own[-1] if own else None

    claims = eventually(last)["claims"]
    assert [(claim["amount_minor"], claim["currency"], claim["status"]) for claim in claims] == [
        (900, "CNY", "PAID"),
        (1280, "CNY", "PAID"),
    ]


CODES = {"IDR": "1280.00", "MGA": "1280.00", "BHD": "128.000", "CLF": "12.8000", "ISK": "128000", "CNH": None}


@pytest.mark.parametrize("currency", CODES)
def test_antom_payment_in_a_rarer_currency_is_applied(merchant: Merchant, currency: str) -> None:
    merchant.antom(f"CU-{currency}", currency, "128000")
    page = merchant.order("antom", f"CU-{currency}")
    assert (page["status"], page["amount"], page["amount_minor"]) == ("PAID", CODES[currency], 128000)


@pytest.mark.parametrize(("currency", "value"), [("brl", "1"), ("USDT", "1"), ("", "1"), ("BRL", "0"), ("BRL", "1.0")])
def test_amount_that_is_none_is_held_under_its_order(merchant: Merchant, currency: str, value: str) -> None:
    order = f"NO-{currency}-{value}"
    merchant.antom(order, currency, value)
    assert merchant.outcomes("antom", order) == [held("bad_amount")]


SUBSCRIPTIONS: dict[str, tuple[dict[str, Any], str]] = {
    "failed": (result("F"), "CLOSED"),
    "with a kind": ({"notifyType": "PAYMENT_RESULT"}, "PAID"),
    "with a number as a number": ({"phaseNo": 1}, "PAID"),
    "with its subscription alone": ({"subscriptionRequestId": ""}, "PAID"),
    "with members of next year": ({"subscriptionOrderId": "SO-1", "newMember": {"a": []}}, "PAID"),
}


@pytest.mark.parametrize("name", SUBSCRIPTIONS)
def test_payment_of_a_subscription_in_another_shape_is_applied(merchant: Merchant, name: str) -> None:
    more, status = SUBSCRIPTIONS[name]
    order = f"SUB-{name.replace(' ', '-')}"
    merchant.antom_body(periodic(order, **more))
    page = merchant.order("antom", order)
    assert (page["status"], merchant.outcomes("antom", order)) == (status, [CHANGED])
    assert order in found(merchant, "antom", "20261130SUB1")


def test_refund_of_a_subscription_s_payment_finds_it_by_the_payment(merchant: Merchant) -> None:
    merchant.antom_body(periodic("T-SUB-R"))
    merchant.antom_body(about("SUB-R", **REFUNDED, refundRequestId="SUB-R-1", refundAmount=brl("1280")))
    page = merchant.order("antom", "T-SUB-R", entries=2)
    assert state(page) == ("CLOSED", "refunded", "12.80", [])


# --- who is named

OTHER = "2088000000000002"
NAMES: list[tuple[str, dict[str, str], bytes]] = [
    ("app", {"notify_type": "dut_user_sign", "pay_user_id": SELLER}, b"success"),
    ("app", {"notify_type": "dut_user_sign", "pay_user_id": OTHER}, b"fail"),
    ("app", {"notify_type": "dut_user_sign", "seller_id": "", "partner_id": SELLER}, b"success"),
    ("app", {"notify_type": "dut_user_sign", "seller_id": OTHER, "partner_id": SELLER}, b"fail"),
    ("app", {"notify_type": "batch_trans_notify", "pay_user_id": SELLER, "batch_no": "BT-1"}, b"success"),
    ("app", {"notify_type": "trade_status_sync", "partner_id": SELLER, "out_trade_no": "N-1"}, b"fail"),
    ("app", {"notify_type": "dut_user_new", "partner_id": SELLER, "refund_fee": "1.00"}, b"fail"),
    ("app", {"notify_type": "batch_refund_notify", "batch_no": "B", "seller_id": OTHER}, b"fail"),
    ("named", {"notify_type": "fund_auth_freeze", "app_id": APP, "payee_user_id": OTHER}, b"success"),
    ("named", {"notify_type": "fund_auth_unfreeze", "app_id": ""}, b"fail"),
    ("named", {"notify_type": "dut_user_sign", "app_id": APP, "auth_app_id": "2021000000000088"}, b"fail"),
    ("named", {"notify_type": "new_type", "app_id": APP, "refund_status": "REFUND_SUCCESS"}, b"fail"),
    ("named", {"msg_method": "alipay.trade.order.settle.notify", "app_id": APP, "seller_id": ""}, b"success"),
    ("named", {"app_id": APP, "trade_no": "T", "version": "1.0"}, b"fail"),
    ("named", {"app_id": APP, "version": "1.0"}, b"success"),
]


@pytest.mark.parametrize(("account", "fields", "answer"), NAMES)
def test_form_is_ours_by_what_it_names(merchant: Merchant, account: str, fields: dict[str, str], answer: bytes) -> None:
    assert merchant.other(account, notify_id=f"named-{quote(json.dumps(fields))}", **fields) == answer


# --- a value with & in it

AMPERSANDS: list[tuple[dict[str, str], str]] = [
    ({"subject": "a&b=c&d"}, "changed"),
    ({"body": "?x=1&Total_amount=9&total_amounts=9&total_amount =9"}, "changed"),
    ({"passback_params": "a=1&subject=x&gmt_create=y"}, "changed"),
    ({"subject": "a&trade_status=TRADE_CLOSED"}, "ambiguous"),
    ({"passback_params": "x&trans_currency=EUR"}, "ambiguous"),
    ({"body": "x&refund_fee=1.00&y=2"}, "ambiguous"),
    ({"subject": "x&sign=abc"}, "ambiguous"),
    ({"subject": "&notify_id=n"}, "ambiguous"),
    ({"seller_email": "a&seller_id=2088"}, "ambiguous"),
]


@pytest.mark.parametrize(("fields", "end"), AMPERSANDS)
def test_only_deciding_names_after_an_ampersand_are_ambiguous(
    merchant: Merchant, fields: dict[str, str], end: str
) -> None:
    order = f"AMP-{AMPERSANDS.index((fields, end))}"
    before = len(merchant.held("ambiguous"))
    merchant.form("cn", order, **fields)
    if end == "changed":
        assert merchant.outcomes("cn", order) == [CHANGED]
    else:
        eventually(lambda: len(merchant.held("ambiguous")) == before + 1)
        page = merchant.engine.get(f"/api/orders/cn/{order}")[1]
        assert (page.get("status"), page.get("flags", [])) == (None, [])
