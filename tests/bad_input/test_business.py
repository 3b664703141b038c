"""Rows B, and the dispositions of every row that is authentic: what becomes of it behind the receiver.

Driven over HTTP against the whole engine as its own process. Each row ends with its record in exactly one disposition;
held notifications change no order.
"""

import json
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit

import pytest

from tests.bad_input import merchant, wire
from tests.bad_input.judge import ANTOM_SUCCESS
from tests.bad_input.merchant import Params, Signer, encode
from tests.support import alipay
from tests.support.processes import Engine, eventually

CN, REG, SG, HK = "shop-cn", "shop-reg", "shop-sg", "antom-hk"
HELD = ("parked", "quarantined", "dead")


class Desk:
    """Where notifications are sent and orders are looked at."""

    def __init__(self, engine: Engine, signer: Signer) -> None:
        self.engine = engine
        self.signer = signer
        port = urlsplit(engine.public).port
        assert port is not None
        self.port = port

    def post(self, params: Params, account: str = CN, charset: str = "utf-8") -> None:
        """A form that is acknowledged."""
        answer = wire.send(self.port, wire.post(f"/notify/{account}", encode(params, charset)))
        assert (answer.status, answer.body) == (200, b"success")

    def pay(self, account: str = CN, **changes: str) -> Params:
        """A genuine payment, acknowledged; its parameters."""
        params = merchant.payment(**changes)
        self.post(self.signer.cn(params), account)
        return params

    def message(self, body: bytes) -> None:
        """An Antom message that is acknowledged."""
        headers = self.signer.antom(body)
        headers["signature"] = alipay.antom_header(headers["signature"])
        answer = wire.send(self.port, wire.post(f"/notify/{HK}", body, headers=headers, content_type=wire.JSON))
        assert json.loads(answer.body) == ANTOM_SUCCESS

    def register(self, amount: str, *, account: str = REG, currency: str = "CNY") -> str:
        """An order that the merchant expects; its number."""
        number = merchant.fresh("R-")
        status, _ = self.engine.put(f"/api/orders/{account}/{number}", {"amount": amount, "currency": currency})
        assert status in (200, 201)
        return number

    def order(self, number: str, account: str = CN) -> dict[str, Any]:
        status, order = self.engine.get(f"/api/orders/{account}/{quote(number, safe='')}")
        return order if status == 200 else {}

    def dispositions(self, number: str, account: str = CN, *, count: int = 1) -> list[tuple[str, str]]:
        """Disposition and reason of each notification of the order, once there are this many, oldest first."""

        def entries() -> list[tuple[str, str]]:
            timeline = self.order(number, account).get("timeline", [])
            found = [entry for entry in timeline if entry["kind"] == "notification" and entry["disposition"]]
            return [(entry["disposition"], entry["reason"]) for entry in found] if len(found) >= count else []

        found: list[tuple[str, str]] = eventually(entries)
        assert len(found) == count
        return found

    def counted(self) -> dict[str, float]:
        """How many records ended in each disposition."""
        metrics = self.engine.metrics()
        names = ("applied", "duplicate", "stale", *HELD)
        return {name: metrics.get(f'alipay_notify_processed_total{{result="{name}"}}', 0.0) for name in names}

    def disposition_of(self, send: Callable[[], None]) -> str:
        """Where the one record that `send` makes ends."""
        before = self.counted()
        send()

        def grown() -> list[str]:
            now = self.counted()
            return [name for name in now for _ in range(int(now[name] - before[name]))]

        (disposition,) = eventually(grown)
        return str(disposition)


@pytest.fixture(scope="module")
def desk(signer: Signer, accounts_file: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Desk]:
    engine = Engine(accounts_file, tmp_path_factory.mktemp("business") / "engine")
    engine.start()
    yield Desk(engine, signer)
    engine.end()


# --- one payment, many times


def test_b01_a_hundred_copies_are_one_payment(desk: Desk) -> None:
    params = desk.signer.cn(merchant.payment())
    for _ in range(20):
        desk.post(params)
    with ThreadPoolExecutor(8) as threads:
        list(threads.map(lambda _: desk.post(params), range(80)))
    dispositions = desk.dispositions(params["out_trade_no"], count=100)
    assert dispositions.count(("applied", "changed")) == 1
    assert [disposition for disposition, _ in dispositions].count("duplicate") == 99
    assert desk.order(params["out_trade_no"])["version"] == 1


def test_b02_resend_by_alipay_is_a_duplicate(desk: Desk) -> None:
    params = desk.pay()
    desk.post(desk.signer.cn(params | {"notify_time": "2026-02-03 11:04:31"}))
    assert [d for d, _ in desk.dispositions(params["out_trade_no"], count=2)] == ["applied", "duplicate"]


def test_b03_same_fact_under_another_id_changes_nothing(desk: Desk) -> None:
    params = desk.pay()
    desk.post(desk.signer.cn(params | {"notify_id": merchant.fresh("other")}))
    assert desk.dispositions(params["out_trade_no"], count=2)[1][0] in ("duplicate", "stale")
    assert desk.order(params["out_trade_no"])["version"] == 1


def test_same_id_with_other_content_is_held(desk: Desk) -> None:
    params = desk.pay()
    desk.post(desk.signer.cn(params | {"total_amount": "0.01"}))
    assert desk.dispositions(params["out_trade_no"], count=2)[1] == ("quarantined", "id_conflict")
    assert desk.order(params["out_trade_no"])["amount_minor"] == 12050


def test_s19_another_signature_is_not_another_notification(desk: Desk) -> None:
    params = merchant.mapi_payment()
    desk.post(desk.signer.dsa(params), "shop-dsa")
    desk.post(desk.signer.dsa(params), "shop-dsa")
    assert [d for d, _ in desk.dispositions(params["out_trade_no"], "shop-dsa", count=2)] == ["applied", "duplicate"]


def test_c14_another_parameter_order_is_not_another_notification(desk: Desk) -> None:
    params = desk.signer.cn(merchant.payment())
    desk.post(params)
    desk.post(dict(reversed(params.items())))
    assert [d for d, _ in desk.dispositions(params["out_trade_no"], count=2)] == ["applied", "duplicate"]


# --- money


MISMATCHES = {
    "B07": ({"total_amount": "0.01"}, "amount_mismatch"),
    "B08-more": ({"total_amount": "2000.01"}, "amount_mismatch"),
}


@pytest.mark.parametrize("name", MISMATCHES)
def test_amount_other_than_registered_pays_nothing(desk: Desk, name: str) -> None:
    changes, reason = MISMATCHES[name]
    number = desk.register("2000.00")
    desk.pay(REG, out_trade_no=number, **changes)
    assert desk.dispositions(number, REG) == [("quarantined", reason)]
    order = desk.order(number, REG)
    assert order["status"] not in ("PAID", "FINISHED")
    assert reason in order["flags"]


def test_b08_currency_other_than_registered_pays_nothing(desk: Desk) -> None:
    number = desk.register("31.40", account=SG, currency="USD")
    desk.post(desk.signer.sg(merchant.mapi_payment(out_trade_no=number)), SG)
    assert desk.dispositions(number, SG) == [("quarantined", "currency_mismatch")]
    assert desk.order(number, SG)["status"] not in ("PAID", "FINISHED")


NO_AMOUNTS = (
    *("1e3", "NaN", "Infinity", "0x10", "1_0.00", "٣.٠٠", "", "0.00", "99999999999.99"),
    *("1,000.00", " 1.00", "1.00 ", "1.00\n", "-1.00", "+1.00", "1.0", "1", "1.000"),
)


@pytest.mark.parametrize("amount", NO_AMOUNTS)
def test_b09_b10_b11_invalid_amount_pays_nothing(desk: Desk, amount: str) -> None:
    params = desk.pay(total_amount=amount)
    ((disposition, reason),) = desk.dispositions(params["out_trade_no"])
    assert disposition == "quarantined"
    assert reason in ("bad_amount", "missing_field", "control_char")
    assert desk.order(params["out_trade_no"])["status"] not in ("PAID", "FINISHED")


def test_b12_sums_of_refunds_are_exact(desk: Desk) -> None:
    params = desk.pay(total_amount="3.00")
    number = params["out_trade_no"]
    for step in range(1, 11):
        refund = {"gmt_refund": "2026-02-04 08:00:00.250", "out_biz_no": f"{number}-{step}"}
        refund |= {"refund_fee": f"{step // 10}.{step % 10}0", "notify_id": merchant.fresh("b12")}
        desk.post(desk.signer.cn(params | refund))
    desk.dispositions(number, count=11)
    assert desk.order(number)["refunded_minor"] == 100


def test_h12_refund_without_its_companion_refunds_nothing(desk: Desk) -> None:
    params = desk.pay()
    desk.post(desk.signer.cn(params | {"refund_fee": "20.00", "notify_id": merchant.fresh("h12")}))
    assert desk.dispositions(params["out_trade_no"], count=2)[1][0] in HELD
    assert desk.order(params["out_trade_no"])["refunded_minor"] == 0


# --- orders and their course


def test_b13_unknown_order_waits_for_its_registration(desk: Desk) -> None:
    params = desk.pay(REG)
    number = params["out_trade_no"]
    assert desk.dispositions(number, REG) == [("parked", "unknown_order")]
    status, _ = desk.engine.put(f"/api/orders/{REG}/{number}", {"amount": "120.50", "currency": "CNY"})
    assert status in (200, 201)
    eventually(lambda: desk.order(number, REG).get("status") == "PAID")


def test_b15_success_after_finished_is_stale(desk: Desk) -> None:
    params = desk.pay(trade_status="TRADE_FINISHED")
    desk.post(desk.signer.cn(params | {"trade_status": "TRADE_SUCCESS", "notify_id": merchant.fresh("b15")}))
    assert desk.dispositions(params["out_trade_no"], count=2)[1][0] == "stale"
    assert desk.order(params["out_trade_no"])["status"] == "FINISHED"


def test_b16_year_old_finish_is_applied(desk: Desk) -> None:
    params = desk.pay(
        trade_status="TRADE_FINISHED", gmt_create="2025-01-02 10:00:00", gmt_payment="2025-01-02 10:00:01"
    )
    assert desk.dispositions(params["out_trade_no"])[0][0] == "applied"


@pytest.mark.parametrize("refund_first", [False, True])
def test_b17_refund_and_payment_end_alike_in_either_order(desk: Desk, refund_first: bool) -> None:
    params = merchant.payment()
    refund = params | {
        "gmt_refund": "2026-02-04 08:00:00.250",
        "out_biz_no": merchant.fresh("RF"),
        "refund_fee": "20.00",
    }
    refund |= {"notify_id": merchant.fresh("b17")}
    for one in (refund, params) if refund_first else (params, refund):
        desk.post(desk.signer.cn(one))
        desk.dispositions(params["out_trade_no"], count=1 if one is (refund if refund_first else params) else 2)
    order = desk.order(params["out_trade_no"])
    assert (order["status"], order["refunded_minor"], order["amount_minor"]) == ("PAID", 2000, 12050)


def test_b19_refund_above_the_payment_is_held(desk: Desk) -> None:
    params = desk.pay()
    refund = {"gmt_refund": "2026-02-04 08:00:00.250", "out_biz_no": merchant.fresh("RF"), "refund_fee": "120.51"}
    desk.post(desk.signer.cn(params | refund | {"notify_id": merchant.fresh("b19")}))
    assert desk.dispositions(params["out_trade_no"], count=2)[1][0] == "quarantined"
    assert desk.order(params["out_trade_no"])["refunded_minor"] == 0


def test_b19_refund_of_an_expired_order_is_held(desk: Desk) -> None:
    closed = {"trade_status": "TRADE_CLOSED", "gmt_close": "2026-02-03 11:30:00"}
    params = {name: value for name, value in merchant.payment(**closed).items() if name != "gmt_payment"}
    desk.post(desk.signer.cn(params))
    assert desk.dispositions(params["out_trade_no"]) == [("applied", "changed")]
    refund = {"gmt_refund": "2026-02-04 08:00:00.250", "refund_fee": "20.00", "trade_status": "TRADE_SUCCESS"}
    desk.post(desk.signer.cn(params | refund | {"notify_id": merchant.fresh("b19")}))
    assert desk.dispositions(params["out_trade_no"], count=2)[1] == ("quarantined", "paid_and_expired")
    assert desk.order(params["out_trade_no"])["flags"] == ["paid_and_expired"]


@pytest.mark.parametrize(("status", "expected"), [("WAIT_BUYER_PAY", "WAITING"), ("TRADE_PENDING", "PAID")])
def test_b21_waiting_is_not_paid_and_pending_is_paid_but_frozen(desk: Desk, status: str, expected: str) -> None:
    account, params = SG, merchant.mapi_payment(trade_status=status)
    desk.post(desk.signer.sg(params), account)
    assert desk.dispositions(params["out_trade_no"], account)[0][0] == "applied"
    order = desk.order(params["out_trade_no"], account)
    assert order["status"] == expected
    assert order["flags"] == (["frozen"] if status == "TRADE_PENDING" else [])


@pytest.mark.parametrize("status", ["TRADE_MAGIC", "", "trade_success", "TRADE_SUCCESS\u200b"])
def test_b22_unknown_status_changes_nothing(desk: Desk, status: str) -> None:
    params = desk.pay(trade_status=status)
    assert desk.dispositions(params["out_trade_no"])[0][0] == "quarantined"
    assert desk.order(params["out_trade_no"])["status"] not in ("PAID", "FINISHED")


@pytest.mark.parametrize("type_", ["trade_wonder_sync", "TRADE_STATUS_SYNC", "trade_status_sync "])
def test_b23_unknown_type_changes_nothing_and_is_in_the_timeline(desk: Desk, type_: str) -> None:
    params = desk.pay(notify_type=type_)
    assert desk.dispositions(params["out_trade_no"]) == [("applied", "noted")]
    assert desk.order(params["out_trade_no"])["status"] not in ("PAID", "FINISHED")


@pytest.mark.parametrize("time", ["2099-01-01 00:00:00", "1970-01-01 00:00:00"])
def test_b24_odd_time_does_not_decide_the_order(desk: Desk, time: str) -> None:
    params = desk.pay(notify_time=time)
    assert desk.dispositions(params["out_trade_no"])[0][0] == "applied"


@pytest.mark.parametrize("name", ["gmt_payment", "notify_time", "gmt_refund", "gmt_close"])
def test_b24_impossible_date_is_held(desk: Desk, name: str) -> None:
    params = desk.pay(**{name: "2025-02-30 10:00:00"})
    assert desk.dispositions(params["out_trade_no"]) == [("quarantined", "bad_time")]


BATCHES = {
    "stray": "2026^1.00#^|$$#SUCCESS",
    "empty": "",
    "bare": "#",
    "many": "#".join(f"T{n}^0.01^SUCCESS" for n in range(700)),
}


@pytest.mark.parametrize("name", BATCHES)
def test_b25_batch_refund_is_parsed_within_bounds(desk: Desk, name: str) -> None:
    params = {
        "notify_type": "batch_refund_notify",
        "notify_id": merchant.fresh("b25"),
        "notify_time": "2026-02-03 10:00:07",
        "batch_no": merchant.fresh("20260203"),
        "success_num": "1",
        "result_details": BATCHES[name],
        "seller_id": merchant.SG_SELLER,
    }
    assert desk.disposition_of(lambda: desk.post(desk.signer.sg(params), SG)) in (*HELD, "applied")


@pytest.mark.parametrize("number", ["' OR 1=1--", "{}", "*", "../../x", "%s%n", "<script>", "=HYPERLINK(1)", "$where"])
def test_b27_order_number_is_only_text(desk: Desk, number: str) -> None:
    own = merchant.fresh(number)
    desk.pay(REG, out_trade_no=own)
    assert desk.dispositions(own, REG) == [("parked", "unknown_order")]


# --- parameters that could be split otherwise, empty, or huge

HIDDEN = "S&total_amount=9999.00&trade_aaa="


def test_c08_resplit_form_and_its_original_are_one_held_row_and_touch_no_order(desk: Desk) -> None:
    number = desk.register("9999.00")
    signed = desk.signer.cn(merchant.payment(out_trade_no=number, subject=HIDDEN, total_amount="0.01"))
    resplit = signed | {"subject": "S", "total_amount": "9999.00", "trade_aaa": "&total_amount=0.01"}
    assert merchant.text_of(resplit) == merchant.text_of({k: v for k, v in signed.items() if not k.startswith("sign")})
    assert desk.disposition_of(lambda: desk.post(resplit, REG)) == "quarantined"
    for copy in (signed, resplit, dict(reversed(resplit.items()))):
        assert desk.disposition_of(lambda copy=copy: desk.post(copy, REG)) == "duplicate"  # type: ignore[misc]
    (row,) = desk.engine.get("/api/held?reason=ambiguous")[1]["held"]
    assert (row["account"], row["order"]) == (REG, "")
    order = desk.order(number, REG)
    assert (order["status"], order["flags"], order["version"]) == ("WAITING", [], 0)


AMPERSANDS = {
    "C10": "a & b = 100% + \"c\" & 'd' &e",
    "C11": "a&b=c",
    "C11-near": "x&Total_amount=1&total_amounts=2&total_amount =3",
    "C11-escaped": "a%26total_amount%3D9",
}


@pytest.mark.parametrize("name", AMPERSANDS)
def test_c10_c11_ampersand_before_no_deciding_name_holds_nothing(desk: Desk, name: str) -> None:
    params = desk.pay(subject=AMPERSANDS[name], body=AMPERSANDS[name])
    assert desk.dispositions(params["out_trade_no"])[0] == ("applied", "changed")
    assert desk.order(params["out_trade_no"])["amount_minor"] == 12050


def test_c16_empty_value_is_absent_whether_it_was_signed_or_not(desk: Desk) -> None:
    params = merchant.payment(buyer_logon_id="", refund_fee="", trans_currency="")
    for blanks in (False, True, False):
        desk.post(desk.signer.cn(params, blanks=blanks))
    desk.post(desk.signer.cn({name: value for name, value in params.items() if value}))
    dispositions = desk.dispositions(params["out_trade_no"], count=4)
    assert dispositions == [("applied", "changed"), *[("duplicate", "same_id")] * 3]


def test_c23_deep_json_in_a_value_is_only_text(desk: Desk) -> None:
    params = desk.pay(fund_bill_list='{"a":' * 2400)
    assert desk.dispositions(params["out_trade_no"])[0] == ("applied", "changed")


# --- text, and bytes that are none


TEXTS = {
    "E12": ("GBK", "港式奶茶两杯"),
    "E14": ("gb18030", "㐀𠀀"),
    "E20": ("utf-8", "a\r\nb\tc\u2028d\u202ee"),
    "E29": ("utf-8", "🧋 × 2"),
    "C10": ("utf-8", "a & b = 100% + \"c\" & 'd' &e"),
}


@pytest.mark.parametrize("name", TEXTS)
def test_text_in_every_supported_charset_is_applied(desk: Desk, name: str) -> None:
    charset, subject = TEXTS[name]
    params = merchant.payment(subject=subject, charset=charset)
    desk.post(desk.signer.cn(params, charset=charset), charset=charset)
    assert desk.dispositions(params["out_trade_no"])[0][0] == "applied"


@pytest.mark.parametrize("charset", ["utf-7", "x-user-defined", "rot13", "utf-16"])
def test_e15_unsupported_charset_is_held(desk: Desk, charset: str) -> None:
    assert desk.disposition_of(lambda: desk.post(desk.signer.cn(merchant.payment(charset=charset)))) in (
        "quarantined",
        "dead",
    )


@pytest.mark.parametrize(("name", "outcome"), [("subject", "applied"), ("out_trade_no", "quarantined")])
def test_bytes_invalid_in_their_charset_are_held_where_they_decide(desk: Desk, name: str, outcome: str) -> None:
    payment = merchant.payment(charset="utf-8")
    params = desk.signer.cn({**payment, name: f"{payment.get(name, '')}\xff\xfe"}, charset="latin-1")
    assert desk.disposition_of(lambda: desk.post(params, charset="latin-1")) == outcome


@pytest.mark.parametrize("field", ["out_trade_no", "trade_no", "notify_id", "trade_status"])
def test_e19_nul_in_an_identity_is_held(desk: Desk, field: str) -> None:
    params = merchant.payment(**{field: merchant.fresh("x\0y")})
    assert desk.disposition_of(lambda: desk.post(desk.signer.cn(params))) in ("quarantined", "dead")


# --- antom


MESSAGES: dict[str, tuple[bytes, tuple[str, ...]]] = {
    "N20-nan": (merchant.antom_payment().replace(b'"7700"', b"NaN"), HELD),
    "N20-infinity": (merchant.antom_payment().replace(b'"7700"', b"Infinity"), HELD),
    "N20-exponent": (merchant.antom_payment().replace(b'"7700"', b"1e999"), HELD),
    "N24": (merchant.antom_payment().decode().encode("utf-16"), HELD),
    "N25": (b"\xef\xbb\xbf" + merchant.antom_payment(), HELD),
    "N26-after": (merchant.antom_payment() + b" and more", HELD),
    "N26-two": (merchant.antom_payment() + merchant.antom_payment(), HELD),
    "N26-comment": (b"/* note */" + merchant.antom_payment(), HELD),
    "N26-quotes": (merchant.antom_payment().replace(b'"', b"'"), HELD),
    "N30-decimal": (merchant.antom_payment().replace(b'"7700"', b'"77.00"'), HELD),
    "N30-number": (merchant.antom_payment().replace(b'"7700"', b"7700"), HELD),
    "N32-unknown": (merchant.antom_payment().replace(b"PAYMENT_RESULT", b"PAYMENT_MIRACLE"), (*HELD, "applied")),
    "N32-case": (merchant.antom_payment().replace(b"PAYMENT_RESULT", b"payment_result"), (*HELD, "applied")),
    "N32-none": (merchant.antom_payment().replace(b'"notifyType":"PAYMENT_RESULT",', b""), HELD),
    "N32-no-shape": (b'{"result":{"resultStatus":"S"},"newId":"1"}', HELD),
    "N20-metadata": (merchant.antom_payment().replace(b"{", b'{"metadata":{"x":1e999,"y":-6.0E-5},', 1), ("applied",)),
    "N20-deep-metadata": (
        merchant.antom_payment().replace(b"{", b'{"metadata":' + b"[" * 32 + b"]" * 32 + b",", 1),
        HELD,
    ),
    "N33-case": (merchant.antom_payment().replace(b"paymentAmount", b"PaymentAmount"), HELD),
    "N33-extra": (merchant.antom_payment().replace(b'{"notifyType"', b'{"more":{"a":1},"notifyType"'), ("applied",)),
    "N-deep": (b"[" * 20_000, HELD),
    "N-digits": (merchant.antom_payment().replace(b'"7700"', b"9" * 5000), HELD),
    "N-twice": (merchant.antom_payment().replace(b'{"notifyType"', b'{"paymentRequestId":"x","notifyType"'), HELD),
    "N-surrogate": (merchant.antom_payment().replace(b'"HK-', b'"HK-\\ud800'), HELD),
    "N-nul": (merchant.antom_payment().replace(b'"HK-', b'"HK-\\u0000'), HELD),
    "N-surrogate-in-text": (merchant.antom_payment().replace(b'"ok"', b'"\\ud800"'), ("applied",)),
    "N-nul-in-text": (merchant.antom_payment().replace(b'"ok"', b'"\\u0000"'), ("applied",)),
    "N-bytes": (b"\x00\xff\xfe", HELD),
}


@pytest.mark.parametrize("name", MESSAGES)
def test_ambiguous_message_is_held(desk: Desk, name: str) -> None:
    body, expected = MESSAGES[name]
    before = desk.engine.metrics().get('alipay_notify_amount_minor_units_total{account="antom-hk",currency="HKD"}', 0)
    assert desk.disposition_of(lambda: desk.message(body)) in expected
    after = desk.engine.metrics().get('alipay_notify_amount_minor_units_total{account="antom-hk",currency="HKD"}', 0)
    assert after - before == (7700 if expected == ("applied",) else 0)


def test_n30_yen_have_no_decimals(desk: Desk) -> None:
    number = merchant.fresh("JP-")
    desk.message(merchant.antom_payment(number).replace(b'"HKD","value":"7700"', b'"JPY","value":"100"'))
    desk.dispositions(number, HK)
    order = desk.order(number, HK)
    assert (order["status"], order["amount_minor"], order["currency"]) == ("PAID", 100, "JPY")


def test_n31_failed_payment_is_never_paid(desk: Desk) -> None:
    number = merchant.fresh("F-")
    desk.message(merchant.antom_payment(number).replace(b'"resultStatus":"S"', b'"resultStatus":"F"'))
    desk.dispositions(number, HK)
    assert desk.order(number, HK)["status"] not in ("PAID", "FINISHED")


def test_every_acknowledged_record_has_exactly_one_disposition(desk: Desk) -> None:
    """A parked notification that came due was processed twice, so the sums are equal when nothing is parked."""

    def accepted() -> float:
        received = desk.engine.metrics().items()
        return sum(value for name, value in received if "received_total{" in name and "accepted" in name)

    before, settled = accepted(), sum(desk.counted().values())
    for _ in range(20):
        desk.pay()
    eventually(lambda: sum(desk.counted().values()) - settled == 20)
    assert accepted() - before == 20
