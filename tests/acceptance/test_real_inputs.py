"""What Alipay really sends, through the real engine: each input over HTTP, and what becomes of its order.

Numbers and names are made up; the shapes are those of real notifications and of Alipay's documents.
"""

import asyncio
import http.client
import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote, quote_from_bytes, urlsplit

import pytest

from deploy.embedded import directory
from schemas import record_format
from schemas.record_format import Header, Record, RecordContents
from tests.support import alipay
from tests.support.processes import Engine, eventually

KEY = "keys/alipay.pem"
SELLER, APP, CLIENT = "2088101122136241", "2021000000000001", "SANDBOX_5Y0000000000000001"
ACCOUNTS = f"""
[accounts.app]
family = "mapi"
sign_type = "RSA"
keys = ["{KEY}"]
seller_id = "{SELLER}"
currency = "USD"

[accounts.web]
family = "mapi"
sign_type = "RSA"
keys = ["{KEY}"]
seller_id = "{SELLER}"
orders = "registered"

[accounts.cn]
family = "openapi"
sign_type = "RSA2"
keys = ["{KEY}"]
app_id = "{APP}"
currencies = ["EUR"]

[accounts.named]
family = "openapi"
sign_type = "RSA2"
keys = ["{KEY}"]
app_id = "{APP}"
seller_id = "{SELLER}"

[accounts.secret]
family = "mapi"
sign_type = "MD5"
md5_key_file = "keys/md5.txt"
seller_id = "{SELLER}"

[accounts.antom]
family = "antom"
client_id = "{CLIENT}"
keys = {{ 1 = "{KEY}" }}

[accounts.brazil]
family = "antom"
client_id = "{CLIENT}"
currency = "BRL"
keys = {{ 1 = "{KEY}" }}
"""


class Merchant:
    """One engine with accounts of all families, and Alipay's hand."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self._sent = 0

    def form(self, account: str, order: str, **fields: str | bytes) -> None:
        """Send one notification of a trade, as Alipay signs it; the answer has to be `success`."""
        self._sent += 1
        openapi = account == "cn"
        given: dict[str, str | bytes] = {
            "notify_type": "trade_status_sync",
            "notify_id": f"{order}-{self._sent}",
            "notify_time": "2026-11-30 08:00:00",
            "out_trade_no": order,
            "trade_no": f"T-{order}",
            "trade_status": "TRADE_SUCCESS",
            **({"app_id": APP, "total_amount": "12.80"} if openapi else {"seller_id": SELLER, "total_fee": "12.80"}),
            **fields,
        }
        body = alipay.form(given, alipay.rsa_key(), "RSA2" if openapi else "RSA")
        assert (
            self._post(f"/notify/{account}", body, {"Content-Type": "application/x-www-form-urlencoded"}) == b"success"
        )

    def other(self, account: str, **fields: str) -> bytes:
        """Send a form with exactly these fields; return the answer."""
        signer = alipay.MD5_SECRET if account == "secret" else alipay.rsa_key()
        sign_type = {"secret": "MD5", "named": "RSA2", "cn": "RSA2"}.get(account, "RSA")
        return self.post_form(account, alipay.form(fields, signer, sign_type))

    def post_form(self, account: str, body: bytes) -> bytes:
        return self._post(f"/notify/{account}", body, {"Content-Type": "application/x-www-form-urlencoded"})

    def held(self, reason: str) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = self.engine.get(f"/api/held?reason={reason}")[1]["held"]
        return found

    def antom(self, order: str, currency: str, value: str, account: str = "antom") -> None:
        self.antom_body(self.payment(order, currency, value), account)

    @staticmethod
    def payment(order: str, currency: str = "BRL", value: str = "1280", **more: Any) -> bytes:
        """Return the body of PAYMENT_RESULT, with lone surrogates and NUL as JSON escapes."""
        message = {
            "notifyType": "PAYMENT_RESULT",
            "result": {"resultCode": "SUCCESS", "resultStatus": "S", "resultMessage": "success."},
            "paymentRequestId": order,
            "paymentId": f"T-{order}",
            "paymentAmount": {"currency": currency, "value": value},
            "paymentTime": "2026-11-30T08:00:00+08:00",
            **more,
        }
        return json.dumps(message).encode()

    def antom_body(self, body: bytes, account: str = "antom") -> None:
        """Send a body as Antom signs it; the answer has to be success."""
        path = f"/notify/{account}"
        headers = alipay.antom_headers(body, alipay.rsa_key(), path=path, client_id=CLIENT)
        assert b'"S"' in self._post(path, body, {"Content-Type": "application/json", **headers})

    def register(self, account: str, order: str, **expectation: Any) -> int:
        status, _ = self.engine.put(f"/api/orders/{account}/{order}", expectation)
        return status

    def order(self, account: str, order: str, *, entries: int = 1) -> dict[str, Any]:
        """Return the order's page once so many notifications stand on its timeline."""

        def page() -> dict[str, Any] | None:
            status, answer = self.engine.get(f"/api/orders/{account}/{quote(order)}")
            done = status == 200 and sum(each["kind"] == "notification" for each in answer["timeline"]) >= entries
            return answer if done else None

        found: dict[str, Any] = eventually(page)
        return found

    def outcomes(self, account: str, order: str, *, entries: int = 1) -> list[tuple[str, str]]:
        timeline = self.order(account, order, entries=entries)["timeline"]
        return [(each["disposition"], each["reason"]) for each in timeline if each["kind"] == "notification"]

    def _post(self, path: str, body: bytes, headers: dict[str, str]) -> bytes:
        address = urlsplit(self.engine.public)
        connection = http.client.HTTPConnection(str(address.hostname), address.port, timeout=10)
        try:
            connection.request("POST", path, body, headers)
            return connection.getresponse().read()
        finally:
            connection.close()


def prepare(home: Path) -> None:
    """Write the accounts and their keys."""
    (home / "keys").mkdir()
    (home / KEY).write_bytes(alipay.pem(alipay.rsa_key()))
    (home / "keys" / "md5.txt").write_bytes(alipay.MD5_SECRET)
    (home / "accounts.toml").write_text(ACCOUNTS)


@pytest.fixture(scope="module")
def merchant(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Merchant]:
    directory: Path = tmp_path_factory.mktemp("merchant")
    prepare(directory)
    with Engine(directory / "accounts.toml", directory / "data") as engine:
        yield Merchant(engine)


def seen(page: dict[str, Any]) -> tuple[str, str | None, str | None, list[str]]:
    return page["status"], page["amount"], page["currency"], page["flags"]


@pytest.mark.parametrize(
    ("currency", "value", "text"),
    [
        ("BRL", "1280", "12.80"),
        ("TWD", "30000", "300.00"),
        ("VND", "250000", "250000"),
        ("CLP", "1280", "1280"),
        ("KWD", "1280", "1.280"),
        ("XYZ", "1280", None),
    ],
)
def test_antom_payment_is_applied_in_any_currency(
    merchant: Merchant, currency: str, value: str, text: str | None
) -> None:
    order = f"A-{currency}"
    assert merchant.register("antom", order, amount_minor=int(value), currency=currency) == 201
    merchant.antom(order, currency, value)
    assert seen(merchant.order("antom", order)) == ("PAID", text, currency, [])


def test_account_may_have_any_currency_of_iso_4217(merchant: Merchant) -> None:
    assert merchant.register("brazil", "B-1", amount="12.80") == 201
    merchant.antom("B-1", "BRL", "1280", "brazil")
    assert seen(merchant.order("brazil", "B-1")) == ("PAID", "12.80", "BRL", [])


@pytest.mark.parametrize("currency", ["ILS", "AED", "ZAR", "CZK", "LKR", "MUR", "TWD"])
def test_website_payment_is_applied_in_its_own_currency(merchant: Merchant, currency: str) -> None:
    merchant.form("app", f"W-{currency}", currency=currency)
    assert seen(merchant.order("app", f"W-{currency}")) == ("PAID", "12.80", currency, [])


def test_unknown_currency_of_a_form_is_held_and_named(merchant: Merchant) -> None:
    merchant.form("app", "W-XAU", currency="XAU")
    assert merchant.outcomes("app", "W-XAU") == [("quarantined", "unknown_currency")]
    status, answer = merchant.engine.put("/api/orders/app/W-XAU", {"amount": "12.80", "currency": "XAU"})
    assert status == 400
    assert "XAU" in answer["detail"]


def test_registered_overseas_trade_is_paid_in_its_currency(merchant: Merchant) -> None:
    assert merchant.register("cn", "O-1", amount="12.80", currency="USD") == 201
    merchant.form("cn", "O-1", trans_currency="USD")
    assert seen(merchant.order("cn", "O-1")) == ("PAID", "12.80", "USD", [])


def test_unexpected_overseas_currency_is_held(merchant: Merchant) -> None:
    merchant.form("cn", "O-2", trans_currency="USD")
    assert merchant.outcomes("cn", "O-2") == [("quarantined", "currency_mismatch")]
    assert merchant.order("cn", "O-2")["status"] is None


def test_listed_overseas_currency_is_believed_with_its_refunds(merchant: Merchant) -> None:
    merchant.form("cn", "O-3", trans_currency="EUR")
    merchant.form("cn", "O-3", trans_currency="EUR", refund_fee="3.00", gmt_refund="2026-11-30 09:00:00.123")
    page = merchant.order("cn", "O-3", entries=2)
    assert (*seen(page), page["refunded"]) == ("PAID", "12.80", "EUR", [], "3.00")


def test_old_gateway_s_refunds_are_cumulative_sums(merchant: Merchant) -> None:
    merchant.form("app", "D-1", total_fee="20.00")
    refund = {"total_fee": "20.00", "gmt_refund": "2026-11-30 09:00:00", "notify_action_type": "refundFPAction"}
    merchant.form("app", "D-1", refund_fee="4.00", **refund)
    page = merchant.order("app", "D-1", entries=2)
    assert (*seen(page), page["refunded"]) == ("PAID", "20.00", "USD", [], "4.00")
    merchant.form("app", "D-1", trade_status="TRADE_CLOSED", refund_fee="20.00", **refund)
    page = merchant.order("app", "D-1", entries=3)
    assert (page["status"], page["closed_because"], page["refunded"]) == ("CLOSED", "refunded", "20.00")
    assert merchant.outcomes("app", "D-1") == [("applied", "changed")] * 3


@pytest.mark.parametrize("sum_", [{"refund_fee": "20.00"}, {}])
def test_cancelled_trade_is_closed_as_refunded(merchant: Merchant, sum_: dict[str, str]) -> None:
    order = f"D-2-{len(sum_)}"
    merchant.form("app", order, total_fee="20.00")
    merchant.form(
        "app", order, total_fee="20.00", trade_status="TRADE_CLOSED", notify_action_type="reverseAction", **sum_
    )
    page = merchant.order("app", order, entries=2)
    assert (page["status"], page["closed_because"], page["flags"]) == ("CLOSED", "refunded", [])


def test_trade_cancelled_before_payment_is_closed_and_not_refunded(merchant: Merchant) -> None:
    merchant.form("app", "D-3", trade_status="TRADE_CLOSED", notify_action_type="reverseAction")
    page = merchant.order("app", "D-3")
    assert (page["status"], page["closed_because"], page["refunded_minor"]) == ("CLOSED", "expired", 0)


def test_refund_without_a_sum_flags_the_order(merchant: Merchant) -> None:
    merchant.form("app", "D-4", notify_action_type="refundFPAction")
    assert merchant.order("app", "D-4")["flags"] == ["refund_amount_unknown"]


@pytest.mark.parametrize("text", ["维多利亚港游船".encode("gbk"), "维多利亚港游船".encode()[:-1], b"\x80\xff"])
def test_broken_free_text_holds_no_payment(merchant: Merchant, text: bytes) -> None:
    order = f"E-{quote_from_bytes(text)[-9:].replace('%', '')}"
    merchant.form("cn", order, subject=text, body=text)
    assert merchant.outcomes("cn", order) == [("applied", "changed")]


def test_parameters_inside_passback_params_hold_no_payment(merchant: Merchant) -> None:
    merchant.form("app", "I-1", passback_params="uid=5&body=abc")
    assert merchant.outcomes("app", "I-1") == [("applied", "changed")]


def test_numbers_with_control_characters_land_on_no_page(merchant: Merchant) -> None:
    merchant.form("app", "K\N{REPLACEMENT CHARACTER}L")
    assert merchant.outcomes("app", "K\N{REPLACEMENT CHARACTER}L") == [("applied", "changed")]
    for character in ("\t", "\x1f"):
        merchant.form("app", f"K{character}L")
    held = eventually(
        lambda: [
            row
            for row in merchant.engine.get("/api/held?reason=control_char")[1]["held"]
            if row["account"] == "app" and not row["order"]
        ]
    )
    assert held
    assert len(merchant.outcomes("app", "K\N{REPLACEMENT CHARACTER}L")) == 1


@pytest.mark.parametrize(
    "fields",
    [
        {"notify_type": "dut_user_sign", "agreement_no": "20265555"},
        {"notify_type": "dut_user_unsign", "agreement_no": "20265555"},
        {"notify_type": "fund_auth_freeze", "auth_no": "2026113000", "out_order_no": "FREEZE-1"},
        {"notify_type": "fund_auth_operation_cancel", "auth_no": "2026113000"},
        {"notify_type": "open_app_auth_notify", "biz_content": '{"detail":{"app_id":"2021000000000077"}}'},
        {
            "msg_method": "alipay.fund.trans.order.changed",
            "version": "1.1",
            "biz_content": '{"out_biz_no":"X","link":"https://a.example/?a=1&b=2"}',
        },
    ],
)
def test_message_without_payee_that_moves_no_money_is_noted(merchant: Merchant, fields: dict[str, str]) -> None:
    order = f"F-{fields.get('notify_type', 'message')}"
    given = {"notify_id": f"id-{order}", "out_trade_no": order, **fields}
    assert merchant.other("named", app_id=APP, **given) == b"success"
    assert merchant.outcomes("named", order) == [("applied", "noted")]
    status, answer = merchant.engine.get(f"/api/find?number=id-{order}")
    assert (status, answer["matches"]) == (200, [{"account": "named", "order": order}])
    assert [(each["disposition"], each["reason"]) for each in answer["notifications"]] == [("applied", "noted")]
    assert merchant.other("named", app_id="2021000000000002", **given) == b"fail"
    assert merchant.other("named", app_id=APP, seller_id="2088000000000002", **given) == b"fail"


def test_trade_without_payee_is_refused(merchant: Merchant) -> None:
    trade = {"notify_id": "f-2", "notify_type": "trade_status_sync", "out_trade_no": "F-2", "trade_no": "T-F-2"}
    assert merchant.other("named", app_id=APP, trade_status="TRADE_SUCCESS", total_amount="1.00", **trade) == b"fail"


def test_old_gateway_s_mandate_is_noted_by_its_partner(merchant: Merchant) -> None:
    mandate = {"notify_id": "f-3", "notify_type": "dut_user_sign", "out_trade_no": "F-3"}
    assert merchant.other("app", **mandate) == b"fail"
    assert merchant.other("app", partner_id="2088000000000002", **mandate) == b"fail"
    assert merchant.other("app", partner_id=SELLER, **mandate) == b"success"
    assert merchant.outcomes("app", "F-3") == [("applied", "noted")]


def test_batch_refund_without_a_merchant_is_held_once(merchant: Merchant) -> None:
    merchant.form("app", "F-4")
    merchant.order("app", "F-4")
    batch = {
        "notify_id": "f-4-batch",
        "notify_type": "batch_refund_notify",
        "batch_no": "20261130001",
        "success_num": "1",
        "result_details": "T-F-4^2.00^SUCCESS",
    }
    for moment in ("08:00:00", "08:05:00"):
        assert merchant.other("app", notify_time=f"2026-11-30 {moment}", **batch) == b"success"
    merchant.form("app", "F-4-after")
    merchant.order("app", "F-4-after")
    assert [row["notification_id"] for row in merchant.held("names_nobody")] == ["f-4-batch"]
    assert merchant.order("app", "F-4")["refunded_minor"] == 0


def test_batch_refund_under_the_account_s_own_secret_is_applied(merchant: Merchant) -> None:
    trade = {"notify_type": "trade_status_sync", "out_trade_no": "F-5", "trade_no": "T-F-5", "seller_id": SELLER}
    paid = {"notify_id": "f-5", "trade_status": "TRADE_SUCCESS", "total_fee": "12.80"}
    assert merchant.other("secret", **trade, **paid) == b"success"
    merchant.order("secret", "F-5")
    batch = {"notify_id": "f-5-batch", "notify_type": "batch_refund_notify", "batch_no": "20261130002"}
    assert merchant.other("secret", result_details="T-F-5^2.00^SUCCESS", **batch) == b"success"
    assert eventually(lambda: merchant.order("secret", "F-5")["refunded"] == "2.00")


@pytest.mark.parametrize("metadata", [b"6.0E-5", b"1e999", b"-12345678901234567890", b'"\\ud83d"', b'"\\u0000"'])
def test_antom_s_metadata_holds_no_payment(merchant: Merchant, metadata: bytes) -> None:
    order = f"J-{metadata.hex()}"
    merchant.antom_body(merchant.payment(order, metadata={"x": "?"}).replace(b'"?"', metadata))
    assert merchant.outcomes("antom", order) == [("applied", "changed")]


def test_antom_payer_cut_inside_an_emoji_holds_no_payment(merchant: Merchant) -> None:
    merchant.antom_body(merchant.payment("J-cut", pspCustomerInfo={"displayCustomerId": "Li\ud83d and more"}))
    assert merchant.outcomes("antom", "J-cut") == [("applied", "changed")]


def test_number_cut_inside_an_emoji_is_held_under_no_number(merchant: Merchant) -> None:
    merchant.antom_body(merchant.payment("J-\ud83d"))
    rows = eventually(
        lambda: [
            row
            for row in merchant.engine.get("/api/held?reason=control_char")[1]["held"]
            if row["account"] == "antom" and not row["order"]
        ]
    )
    status, page = merchant.engine.get(f"/api/held/{rows[0]['id']}")
    assert status == 200
    assert "\N{REPLACEMENT CHARACTER}" not in json.dumps(page, ensure_ascii=False)


def test_senders_of_unreadable_bodies_do_not_stop_the_worker(merchant: Merchant) -> None:
    for number in range(21):
        merchant.antom_body(merchant.payment(f"J-{number}", metadata={"x": 10**20}))
    merchant.antom("J-after", "BRL", "1280")
    assert merchant.outcomes("antom", "J-after") == [("applied", "changed")]
    assert merchant.outcomes("antom", "J-20") == [("quarantined", "malformed")]
    assert merchant.engine.get("/readyz?verbose")[1]["ok"]


def journal_record(order: str, **changed: bytes | None) -> Record:
    """Return the record of an authentic payment with some headers changed, or without them."""
    fields = {
        "notify_type": "trade_status_sync",
        "notify_id": f"id-{order}",
        "out_trade_no": order,
        "trade_no": f"T-{order}",
        "trade_status": "TRADE_SUCCESS",
        "seller_id": SELLER,
        "total_fee": "12.80",
    }
    contents = RecordContents(
        account="app",
        family="mapi",
        received_at_ms=int(time.time() * 1000),
        path=b"/notify/app",
        content_type=b"application/x-www-form-urlencoded",
        key_id=KEY,
        confirmed=False,
        body=alipay.form(fields, alipay.rsa_key(), "RSA"),
    )
    record = record_format.encode(contents, order)
    headers = {**dict(record.headers), **{Header[name.upper()].value: value for name, value in changed.items()}}
    return Record(
        record.key, record.value, tuple((name, value) for name, value in headers.items() if value is not None)
    )


def merchant_of(home: Path, *records: Record) -> Merchant:
    """Start an engine of its own whose journal has these records."""
    prepare(home)

    async def append() -> None:
        async with directory.open_files(home / "data", now_ms=lambda: int(time.time() * 1000)) as files:
            for record in records:
                await files.journal.append(record)

    (home / "data").mkdir(mode=0o700)
    asyncio.run(append())
    engine = Engine(home / "accounts.toml", home / "data")
    engine.start()
    return Merchant(engine)


def test_records_without_advice_are_applied_as_received_now(tmp_path: Path) -> None:
    before = time.strftime("%Y-%m-%dT%H:%M", time.gmtime(time.time() - 60))
    given: dict[str, dict[str, bytes | None]] = {
        "L-1": {"content_type": None},
        "L-2": {"received_at": None, "key_id": None, "path": None, "confirmed": None},
        "L-3": {"received_at": b"0"},
        "L-4": {"received_at": b"4102444800000"},
    }
    merchant = merchant_of(tmp_path, *(journal_record(order, **changed) for order, changed in given.items()))
    try:
        for order in given:
            assert merchant.outcomes("app", order) == [("applied", "changed")]
            (entry,) = (each for each in merchant.order("app", order)["timeline"] if each["kind"] == "notification")
            assert before <= entry["received_at"] < "2100"
    finally:
        merchant.engine.end()


def test_engine_whose_worker_stopped_itself_says_so_and_still_receives(tmp_path: Path) -> None:
    """Its receiver can make messages durable, so Alipay need not send them again."""
    merchant = merchant_of(tmp_path, *[Record(b"x", b"x", ())] * 20)
    try:

        def failing() -> set[str]:
            status, answer = merchant.engine.get("/readyz?verbose")
            assert status == 200
            return {check["name"] for check in answer["checks"] if not check["ok"]}

        assert "worker" in eventually(failing, within_s=60)
    finally:
        merchant.engine.end()


def test_ambiguous_form_is_held_once_however_it_is_split(merchant: Merchant) -> None:
    trade = {"notify_id": "i-2", "notify_type": "trade_status_sync", "out_trade_no": "I-2", "trade_no": "T-I-2"}
    genuine: dict[str, str | bytes] = {
        "app_id": APP,
        "seller_id": SELLER,
        "trade_status": "TRADE_SUCCESS",
        "subject": "A&total_amount=9.00&trade_aaa=",
        "total_amount": "0.01",
        **trade,
    }
    signed = alipay.signed(genuine, alipay.rsa_key(), "RSA2")
    resplit = {**signed, "subject": "A", "total_amount": "9.00", "trade_aaa": "&total_amount=0.01"}
    assert alipay.canonical(resplit) == alipay.canonical(signed)
    for form in (signed, resplit, signed):
        assert merchant.post_form("named", alipay.urlencoded(form)) == b"success"
    merchant.form("cn", "I-2-after")
    merchant.order("cn", "I-2-after")
    [row] = eventually(lambda: merchant.held("ambiguous"))
    assert (row["account"], row["order"], row["disposition"]) == ("named", "", "quarantined")
    assert merchant.engine.get("/api/orders/named/I-2")[0] == 404
    found = merchant.engine.get("/api/find?number=I-2")[1]
    assert (found["matches"], [each["id"] for each in found["notifications"]]) == ([], [row["id"]])
    timeline = merchant.engine.put("/api/orders/named/I-2", {"amount": "9.00", "currency": "CNY"})[1]["timeline"]
    (entry,) = [each for each in timeline if each["kind"] != "registered"]
    assert (entry["kind"], entry["position"]) == ("claim", row["id"]), "mentioned as a claim only"


def test_return_with_a_framework_s_parameter_is_authentic(merchant: Merchant) -> None:
    merchant.form("cn", "RET-1")
    assert merchant.order("cn", "RET-1")["status"] == "PAID"
    fields: dict[str, str | bytes] = {
        "app_id": APP,
        "out_trade_no": "RET-1",
        "total_amount": "12.80",
        "charset": "utf-8",
    }
    query = alipay.form(fields, alipay.rsa_key(), "RSA2").decode()
    status, answer = merchant.engine.post("/api/returns/cn", {"query": f"s=%2Fpay%2Freturn&{query}"})
    assert (status, answer["authentic"], answer["ignored"]) == (200, True, ["s"])
    assert (answer["claims"]["out_trade_no"], answer["order"]["status"]) == ("RET-1", "PAID")
    changed = f"s=%2Fpay&{query}&trade_status=TRADE_FINISHED"
    status, answer = merchant.engine.post("/api/returns/cn", {"query": changed})
    assert (answer["authentic"], answer["ignored"]) == (False, [])
