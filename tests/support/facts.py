"""Notifications for tests, as plain facts for `tests.support.model` and as the bytes that we parse.

Everything is invented. A fact is one notification: its id and its decoded fields, or its message. Each retry has a new
`notify_time`, as Alipay's has.
"""

import itertools
import json
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlencode

from schemas import accounts_toml, interpret
from schemas.accounts import Account
from schemas.money import Money
from schemas.notification import Notification
from schemas.record_format import Record
from tests.support import log_records
from workers.settlement.plan import ParsedRecord, Position

RECEIVED_AT_MS = 1_743_472_800_000

Fact = dict[str, Any]

_MAPI = {"family": "mapi", "sign_type": "RSA", "keys": ["k.pem"], "seller_id": "2088000000000001", "currency": "USD"}
_OPENAPI = {"family": "openapi", "sign_type": "RSA2", "keys": ["k.pem"], "app_id": "2021000000000001"}
_ANTOM = {"family": "antom", "keys": {"1": "k.pem"}, "client_id": "SANDBOX_1"}
_MANUAL = _ANTOM | {"capture": "manual"}
_TABLES: dict[str, dict[str, Any]] = {"mapi": _MAPI, "openapi": _OPENAPI, "antom": _ANTOM, "manual": _MANUAL}

ACCOUNTS: dict[str, Account] = accounts_toml.parse(
    {
        "accounts": {
            f"{family}-{orders}": table | {"orders": orders}
            for (family, table), orders in itertools.product(_TABLES.items(), ("any", "registered"))
        }
    }
)


def account(family: str, orders: str = "any") -> Account:
    return ACCOUNTS[f"{family}-{orders}"]


def amounts(registration: Mapping[str, Any]) -> tuple[Money, ...] | None:
    """The amounts of the model's registration, as ours; `None` if it has only refunds."""
    if "amounts" in registration:
        return tuple(Money(minor, currency) for minor, currency in registration["amounts"])
    return (Money(registration["amount_minor"], registration["currency"]),) if "amount_minor" in registration else None


def settings(account: Account) -> dict[str, Any]:
    """The settings of an account for the model."""
    return {
        "family": account.family.value,
        "currency": account.currency,
        "currencies": account.currencies,
        "orders": account.orders.value,
        "capture": account.capture.value,
    }


def form(id_: str, status: str, amount: str = "100.00", *, order: str = "A", trade: str = "T1", **more: str) -> Fact:
    """A trade's form with the fields of both the old gateway and the Open Platform; each family reads its own."""
    fields = {
        "notify_id": id_,
        "notify_type": "trade_status_sync",
        "notify_time": "2025-04-01 10:00:00",
        "out_trade_no": order,
        "trade_no": trade,
        "trade_status": status,
        "total_fee": amount,
        "total_amount": amount,
    }
    return {"id": id_, "fields": fields | more}


REFUNDED_AT = "2025-04-02 11:12:13.141"
PAID_AT = {"gmt_payment": "2025-04-01 09:59:58"}


def refund(id_: str, status: str = "TRADE_SUCCESS", **more: str) -> Fact:
    """The old gateway's refund, without an amount."""
    return form(id_, status, **({"refund_status": "REFUND_SUCCESS", "gmt_refund": REFUNDED_AT} | more))


def refunded(id_: str, so_far: str, status: str = "TRADE_SUCCESS", **more: str) -> Fact:
    """The Open Platform's refund, with the total refunded so far."""
    return form(id_, status, **({"refund_fee": so_far, "gmt_refund": REFUNDED_AT} | more))


def batch(id_: str, details: str, number: str | None = None) -> Fact:
    """The old gateway's batch of refunds."""
    fields = {"notify_id": id_, "notify_type": "batch_refund_notify", "partner_id": _MAPI["seller_id"]}
    return {"id": id_, "fields": fields | {"batch_no": number or f"batch-{id_}", "result_details": details}}


def payment(id_: str, kind: str = "PAYMENT_RESULT", status: str = "S", **more: Any) -> Fact:
    """Antom's payment. Its identity comes from the order's number; the id only distinguishes facts."""
    order, trade = more.pop("order", "A"), more.pop("trade", "T1")
    amount = {"currency": more.pop("currency", "HKD"), "value": more.pop("value", "10000")}
    message = {
        "notifyType": kind,
        "result": {"resultCode": "SUCCESS", "resultStatus": status, "resultMessage": "success."},
        "paymentRequestId": order,
        "paymentId": trade,
        "paymentAmount": amount,
    }
    return {"id": id_, "message": message | more}


AUTHORIZED = {"authExpiryTime": "2025-04-08T09:59:58+08:00"}


def periodic(id_: str, status: str = "S", **more: Any) -> Fact:
    """Antom's payment of a subscription, which names neither type nor order."""
    message = payment(id_, status=status, **more)["message"]
    named = {"subscriptionRequestId": "S1", "subscriptionId": "2025S1", "periodStartTime": "2025-04-01T00:00:00+08:00"}
    kept = {name: value for name, value in message.items() if name not in ("notifyType", "paymentRequestId")}
    return {"id": id_, "message": kept | named}


def capture(number: str, value: str | None, currency: str = "HKD", **more: Any) -> Fact:
    """Antom's capture of a payment; without a value it has failed. One with another request is a fact of its own."""
    status = "F" if value is None else "S"
    message = {
        "notifyType": "CAPTURE_RESULT",
        "result": {"resultCode": "SUCCESS", "resultStatus": status, "resultMessage": "success."},
        "captureRequestId": f"request-{number}",
        "captureId": number,
        "paymentId": "T1",
        **({} if value is None else {"captureAmount": {"currency": currency, "value": value}}),
    }
    return {
        "id": "/".join((number, more["captureRequestId"])) if "captureRequestId" in more else number,
        "message": message | more,
    }


def antom_refund(number: str, value: str, currency: str = "HKD", **more: str) -> Fact:
    """Antom's refund. It names its refund number and, without `paymentId`, nothing else."""
    message = {
        "notifyType": "REFUND_RESULT",
        "result": {"resultCode": "SUCCESS", "resultStatus": "S", "resultMessage": "success."},
        "refundStatus": "SUCCESS",
        "refundRequestId": number,
        "refundAmount": {"currency": currency, "value": value},
    }
    return {"id": number, "message": message | more}


def body(fact: Fact, *, resend: int = 0) -> bytes:
    """The unsigned bytes of one attempt; `resend` moves its `notify_time`, if the family has one."""
    if "message" in fact:
        return json.dumps(fact["message"], separators=(",", ":")).encode()
    return urlencode(fact["fields"] | {"notify_time": f"2025-04-01 10:{resend % 60:02}:00"}).encode()


def notification(fact: Fact, account: Account, *, resend: int = 0) -> Notification:
    return interpret.read(body(fact, resend=resend), account)


def record(value: bytes, account: Account, *, number: str = "A") -> Record:
    """The bytes as a receiver would have logged them."""
    return log_records.sealed(value, number, account=account, received_at_ms=RECEIVED_AT_MS)


def reading(notification: Notification, account: Account, position: Position) -> ParsedRecord:
    return ParsedRecord(
        position=position,
        record=Record(b"", b"", ()),
        account=account.name,
        received_at_ms=RECEIVED_AT_MS,
        notification=notification,
    )
