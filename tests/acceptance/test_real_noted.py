"""Notifications that move no order, through the real engine: each is found, shown and told to consumers once.

Numbers and names are made up; the shapes are those of real notifications and of Alipay's documents.
"""

import json
from hashlib import sha256
from typing import Any

import jsonschema
import pytest

from tests.acceptance.test_real_inputs import APP, SELLER, Merchant
from tests.acceptance.test_real_inputs import merchant as merchant
from tests.support.paths import ROOT
from tests.support.processes import eventually

PERSONAL = ("2088102008779321", "ca***@example.com", "buyer-31", "Zhang", "secret-")
SCHEMA = json.loads((ROOT / "schemas/noted_notice.v1.json").read_text())
TOPIC = "payments.notification.noted.v1"

AGREEMENT = {
    "agreement_no": "AGR-1",
    "external_agreement_no": "EXT-1",
    "personal_product_code": "GENERAL_WITHHOLDING_P",
    "alipay_user_id": "2088102008779321",
    "alipay_logon_id": "ca***@example.com",
    "external_logon_id": "buyer-31",
}
FREEZE = {
    "notify_type": "fund_auth_freeze",
    "auth_no": "AUTH-1",
    "out_order_no": "FREEZE-1",
    "operation_id": "OP-1",
    "out_request_no": "REQ-1",
    "operation_type": "FREEZE",
    "status": "SUCCESS",
    "amount": "500.00",
    "payer_user_id": "2088102008779321",
    "payer_logon_id": "ca***@example.com",
}
FORMS: list[tuple[str, str, dict[str, str], list[str]]] = [
    ("agreement", "named", AGREEMENT | {"notify_type": "dut_user_unsign", "status": "UNSIGN"}, ["AGR-1", "EXT-1"]),
    ("preauthorization", "named", FREEZE, ["AUTH-1", "FREEZE-1", "OP-1", "REQ-1"]),
    (
        "transfer",
        "named",
        {
            "msg_method": "alipay.fund.trans.order.changed",
            "version": "1.1",
            "biz_content": json.dumps(
                {
                    "order_id": "TRANS-1",
                    "out_biz_no": "PAYOUT-1",
                    "pay_fund_order_id": "FUND-1",
                    "status": "SUCCESS",
                    "payee_info": {"name": "Zhang"},
                }
            ),
        },
        ["TRANS-1", "PAYOUT-1", "FUND-1"],
    ),
    (
        "application",
        "named",
        {
            "notify_type": "open_app_auth_notify",
            "status": "execute_auth",
            "biz_content": json.dumps(
                {"detail": {"auth_app_id": "2021000000000077", "app_auth_token": "secret-token", "user_id": "Zhang"}}
            ),
        },
        ["2021000000000077"],
    ),
    (
        "dispute",
        "named",
        {"msg_method": "alipay.merchant.tradecomplain.changed", "biz_content": '{"complain_event_id":"COMPLAIN-1"}'},
        ["COMPLAIN-1"],
    ),
    ("agreement", "app", AGREEMENT | {"notify_type": "dut_user_sign", "partner_id": SELLER}, ["AGR-1", "EXT-1"]),
]
MESSAGES: list[tuple[str, dict[str, Any], list[str]]] = [
    (
        "authorization",
        {"authorizationNotifyType": "TOKEN_CREATED", "accessToken": "secret-access", "authState": "STATE-1"},
        ["STATE-1", sha256(b"secret-access").hexdigest()],
    ),
    (
        "subscription",
        {
            "subscriptionNotificationType": "CANCEL",
            "subscriptionRequestId": "SUB-1",
            "subscriptionId": "SUB-2",
            "subscriptionStatus": "CANCELLED",
        },
        ["SUB-1", "SUB-2"],
    ),
    ("vaulting", {"vaultingRequestId": "VAULT-1", "paymentMethodDetail": {"cardToken": "secret-card"}}, ["VAULT-1"]),
    (
        "dispute",
        {"disputeNotificationType": "DISPUTE_CREATED", "disputeId": "DIS-1", "paymentId": "T-D-1"},
        ["DIS-1", "T-D-1"],
    ),
]
RESULT = {"result": {"resultCode": "SUCCESS", "resultStatus": "S", "resultMessage": "success."}}


def found_by(merchant: Merchant, account: str, number: str, type_: str) -> dict[str, Any]:
    """Return the account's notification of this type that the number leads to, once there is one."""

    def one() -> dict[str, Any] | None:
        listed = merchant.engine.get(f"/api/find?number={number}")[1]["notifications"]
        fits = [each for each in listed if (each["account"], each["type"]) == (account, type_)]
        return fits[0] if fits else None

    found: dict[str, Any] = eventually(one)
    return found


def check(merchant: Merchant, account: str, type_: str, kind: str, numbers: list[str]) -> None:
    """Check that the notification is found by each number, shown without personal data, and told once."""
    ids = {found_by(merchant, account, number, type_)["id"] for number in numbers}
    (id_,) = ids
    status, shown = merchant.engine.get(f"/api/notifications/{id_}")
    assert (status, shown["kind"], shown["reason"]) == (200, kind, "noted")
    assert {named["number"] for named in shown["numbers"]} == set(numbers)
    assert found_by(merchant, account, shown["notification_id"], type_)["id"] == id_
    feed = merchant.engine.get(f"/api/events?topic={TOPIC}&limit=1000")[1]["events"]
    (told,) = [each for each in feed if each["data"]["record_id"] == id_]
    jsonschema.validate(told["data"], SCHEMA, format_checker=jsonschema.FormatChecker())
    assert told["type"] == "alipay_notify.notification.noted.v1"
    assert (told["data"]["kind"], told["subject"]) == (kind, shown["numbers"][0]["number"])
    assert (told["data"]["numbers"], told["data"]["fields"]) == (shown["numbers"], shown["fields"])
    for personal in PERSONAL:
        assert personal not in str(shown)
        assert personal not in str(told)


@pytest.mark.parametrize(("kind", "account", "fields", "numbers"), FORMS)
def test_form_is_found_by_each_number_and_told_once(
    merchant: Merchant, kind: str, account: str, fields: dict[str, str], numbers: list[str]
) -> None:
    type_ = fields.get("notify_type") or fields["msg_method"]
    given = {"notify_id": f"noted-{account}-{type_}", **({"app_id": APP} if account == "named" else {}), **fields}
    for time in ("2026-11-30 08:00:00", "2026-11-30 08:04:00"):
        assert merchant.other(account, notify_time=time, **given) == b"success"
    check(merchant, account, type_, kind, numbers)


@pytest.mark.parametrize(("kind", "message", "numbers"), MESSAGES)
def test_message_is_found_by_each_number_and_told_once(
    merchant: Merchant, kind: str, message: dict[str, Any], numbers: list[str]
) -> None:
    for _ in range(2):
        merchant.antom_body(json.dumps(message | RESULT).encode())
    type_ = next((value for name, value in message.items() if name.endswith(("NotifyType", "NotificationType"))), kind)
    check(merchant, "antom", type_, kind, numbers)


def test_business_content_that_is_no_json_is_held(merchant: Merchant) -> None:
    form = {"notify_id": "noted-bad", "msg_method": "alipay.fund.trans.order.changed", "biz_content": '{"order_id":'}
    assert merchant.other("named", app_id=APP, **form) == b"success"
    (row,) = eventually(lambda: [each for each in merchant.held("malformed") if each["notification_id"] == "noted-bad"])
    assert row["disposition"] == "quarantined"


@pytest.mark.parametrize("is_first", [True, False], ids=["before the payment", "after the payment"])
def test_timeline_shows_notifications_that_name_the_trade(merchant: Merchant, is_first: bool) -> None:
    order = f"TL-{is_first}"
    complaint = {
        "notify_id": f"complaint-{order}",
        "msg_method": "alipay.merchant.tradecomplain.changed",
        "biz_content": json.dumps({"complain_event_id": f"C-{order}", "trade_no": f"T-{order}"}),
        "app_id": APP,
    }
    if is_first:
        assert merchant.other("cn", **complaint) == b"success"
        found_by(merchant, "cn", f"C-{order}", complaint["msg_method"])
    merchant.form("cn", order)
    merchant.order("cn", order)
    if not is_first:
        assert merchant.other("cn", **complaint) == b"success"
    assert sorted(merchant.outcomes("cn", order, entries=2)) == [("applied", "changed"), ("applied", "noted")]


def test_all_news_of_one_agreement_has_one_key(merchant: Merchant) -> None:
    for type_ in ("dut_user_sign", "dut_user_unsign"):
        fields = {
            "notify_id": f"key-{type_}",
            "notify_type": type_,
            "agreement_no": "AGR-9",
            "external_agreement_no": "E9",
        }
        assert merchant.other("named", app_id=APP, **fields) == b"success"

    def both() -> list[str] | None:
        feed = merchant.engine.get(f"/api/events?topic={TOPIC}&limit=1000")[1]["events"]
        types = [each["data"]["type"] for each in feed if each["subject"] == "AGR-9"]
        return types if len(types) == 2 else None

    assert eventually(both) == ["dut_user_sign", "dut_user_unsign"]
