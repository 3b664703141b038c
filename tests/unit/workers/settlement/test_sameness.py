"""No two messages that differ in what decides are duplicates: every kind of message with every deciding field.

The fields come from the code's own lists, so that a new one is tried too. Each pair of authentic messages differs in
one field only, and is delivered under one notification id and under two. The exceptions are those of
deploy/docs/alipay.md, "When two notifications say the same".
"""

import asyncio
import copy
import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from ingest import authenticate
from ingest.errors import Refused
from schemas import antom, interpret_antom, noted
from schemas.accounts import Account
from schemas.form import DECIDING_NAMES
from tests.support import alipay, facts
from tests.unit.workers.in_memory import MemoryWorker

NAMES = sorted(name.decode() for name in DECIDING_NAMES - {b"sign", b"sign_type"})
SELLER, OTHER = "2088000000000001", "2088000000000009"
APP, OTHER_APP = "2021000000000001", "2021000000000009"

ENVELOPE = {"notify_id": "N1", "notify_time": "2025-04-01 10:00:00"}
TRADE = ENVELOPE | {
    "notify_type": "trade_status_sync",
    "out_trade_no": "A",
    "trade_no": "T1",
    "trade_status": "TRADE_SUCCESS",
    "gmt_payment": "2025-04-01 09:59:58",
    "charset": "utf-8",
}
UNPAID = {"gmt_payment": "", "gmt_close": "2025-04-01 12:00:00", "trade_status": "TRADE_CLOSED"}
AT = {"gmt_refund": "2025-04-02 11:12:13"}
OLD = TRADE | {"total_fee": "100.00", "seller_id": SELLER, "currency": "USD"}
NEW = TRADE | {"total_amount": "100.00", "app_id": APP, "auth_app_id": APP}
NUMBERED = AT | {"refund_fee": "40.00", "out_biz_no": "R1", "out_request_no": "R1"}
AGREEMENT = {"notify_type": "dut_user_sign", "agreement_no": "AG1", "external_agreement_no": "EX1"}
BATCH = ENVELOPE | {"notify_type": "batch_refund_notify", "partner_id": SELLER, "batch_no": "B1"}
KINDS: dict[tuple[str, str], dict[str, str]] = {
    ("mapi", "payment"): OLD,
    ("mapi", "waiting"): OLD | {"trade_status": "WAIT_BUYER_PAY", "gmt_payment": ""},
    ("mapi", "finished"): OLD | {"trade_status": "TRADE_FINISHED"},
    ("mapi", "frozen"): OLD | {"trade_status": "TRADE_PENDING"},
    ("mapi", "expired"): OLD | UNPAID,
    ("mapi", "reversed"): OLD | UNPAID | {"notify_action_type": "reverseAction"},
    ("mapi", "refund"): OLD | AT | {"refund_status": "REFUND_SUCCESS"},
    ("mapi", "refund by sum"): OLD | AT | {"refund_fee": "40.00", "notify_action_type": "refundFPAction"},
    ("mapi", "full refund"): OLD | AT | {"trade_status": "TRADE_CLOSED", "refund_status": "REFUND_SUCCESS"},
    ("mapi", "batch refund"): BATCH | {"result_details": "T1^40.00^SUCCESS"},
    ("mapi", "payout"): ENVELOPE
    | {"notify_type": "batch_trans_notify", "pay_user_id": SELLER, "success_details": "1^a^b^1^S", "fail_details": "x"},
    ("mapi", "mandate"): ENVELOPE | AGREEMENT | {"partner_id": SELLER},
    ("openapi", "payment"): NEW,
    ("openapi", "overseas payment"): NEW | {"trans_currency": "CNY"},
    ("openapi", "waiting"): NEW | {"trade_status": "WAIT_BUYER_PAY", "gmt_payment": ""},
    ("openapi", "finished"): NEW | {"trade_status": "TRADE_FINISHED"},
    ("openapi", "frozen"): NEW | {"trade_status": "TRADE_PENDING"},
    ("openapi", "expired"): NEW | UNPAID,
    ("openapi", "refund"): NEW | NUMBERED,
    ("openapi", "refund with its amount"): NEW
    | NUMBERED
    | {"refund_amount": "40.00", "refund_status": "REFUND_SUCCESS"},
    ("openapi", "full refund"): NEW | NUMBERED | {"refund_fee": "100.00", "trade_status": "TRADE_CLOSED"},
    ("openapi", "mandate"): ENVELOPE | AGREEMENT | {"app_id": APP},
    ("openapi", "message service"): ENVELOPE
    | {"msg_method": "alipay.fund.trans.order.changed", "app_id": APP, "biz_content": '{"out_biz_no":"X1"}'},
}  # fmt: skip
MOVES_MONEY = [key for key in KINDS if key[1] not in ("payout", "mandate", "message service")]

VALUES: dict[str, tuple[str, ...]] = {
    "charset": ("gbk", "GBK"),
    "_input_charset": ("gbk", "utf-8"),
    "notify_id": ("N2",),
    "notify_type": ("trade_status_sync", "batch_refund_notify", "dut_user_sign", "of_another_kind"),
    "notify_action_type": ("refundFPAction", "reverseAction", "closeTradeAction", "payByAccountAction"),
    "notify_time": ("2025-04-01 10:05:00",),
    "app_id": (OTHER_APP,),
    "auth_app_id": (OTHER_APP,),
    "seller_id": (OTHER,),
    "partner_id": (OTHER,),
    "pay_user_id": (OTHER,),
    "alipay_cert_sn": ("abc",),
    "msg_method": ("alipay.other",),
    "biz_content": ('{"out_biz_no":"X2"}',),
    "out_trade_no": ("B",),
    "trade_no": ("T2",),
    "trade_status": ("WAIT_BUYER_PAY", "TRADE_SUCCESS", "TRADE_FINISHED", "TRADE_PENDING", "TRADE_CLOSED", "MAGIC"),
    "out_biz_no": ("R2",),
    "out_request_no": ("R2",),
    "batch_no": ("B2",),
    "result_details": (
        "T1^30.00^SUCCESS", "T1^40.00^NOT_ENOUGH", "T2^40.00^SUCCESS", "T1^40.00^SUCCESS#T2^1.00^SUCCESS",
        "T1^40.00^SUCCESS$a^b^0.10^SUCCESS",
    ),
    "success_details": ("2^a^b^2.00^S",),
    "fail_details": ("y",),
    "total_fee": ("100.01", "99.99"),
    "total_amount": ("100.01", "99.99"),
    "currency": ("EUR", "JPY"),
    "trans_currency": ("USD",),
    "refund_fee": ("41.00", "39.00", "0.00", "100.00"),
    "refund_amount": ("41.00", "30.00"),
    "refund_status": ("REFUND_SUCCESS", "REFUND_CLOSED"),
    "gmt_payment": ("2025-04-01 09:59:59",),
    "gmt_refund": ("2025-04-02 11:12:14",),
    "gmt_close": ("2025-04-01 12:00:01",),
    "agreement_no": ("AG2",),
    "external_agreement_no": ("EX2",),
}  # fmt: skip

# The exceptions. Of one delivery, or of the spelling; times, which order nothing; and what this kind does not have.
ALWAYS_THE_SAME = {
    "notify_id",
    "notify_time",
    "charset",
    "_input_charset",
    "alipay_cert_sn",
    "gmt_payment",
    "gmt_close",
}
OF_OTHER_KINDS = {
    "batch_no", "result_details", "success_details", "fail_details", "msg_method", "biz_content", "agreement_no",
    "external_agreement_no", "pay_user_id",
}  # fmt: skip
OF_THE_OTHER_FAMILY = {
    "mapi": {"total_amount", "trans_currency", "app_id", "auth_app_id"},
    "openapi": {"total_fee", "currency", "partner_id", "seller_id"},  # this account has no seller_id
}
SAME_VALUES = {
    ("currency", "USD", ""), ("trans_currency", "CNY", ""), ("refund_fee", "", "0.00"),  # as if absent
    ("notify_action_type", "", "closeTradeAction"), ("notify_action_type", "", "payByAccountAction"),  # as trade_status
    ("auth_app_id", APP, ""),
}  # fmt: skip
OF_A_BATCH = {"batch_no", "result_details", "partner_id", "notify_type"}
FEE_OF_THE_MERCHANT = ("result_details", "T1^40.00^SUCCESS", "T1^40.00^SUCCESS$a^b^0.10^SUCCESS")


def says_the_same(family: str, kind: str, name: str, before: str, after: str) -> bool:
    """Whether the documents or our own rules say that this change of one field is no other fact."""
    if kind == "batch refund":
        return name not in OF_A_BATCH or (name, before, after) == FEE_OF_THE_MERCHANT
    is_unread = name in ALWAYS_THE_SAME | OF_OTHER_KINDS | OF_THE_OTHER_FAMILY[family]
    return is_unread or (name, before, after) in SAME_VALUES


def deliver(worker: MemoryWorker, account: Account, fields: Mapping[str, str]) -> tuple[str, str]:
    """Return what becomes of a form, as Alipay signs it."""
    signer = alipay.rsa_key(bits=1024)
    sent = {name: value for name, value in fields.items() if value}
    body = alipay.form(sent, signer, account.sign_type.value)
    try:
        number = authenticate.check(account, alipay.ring(account.sign_type, signer), body).number
    except Refused as refused:
        return "refused", refused.reason.value
    return processed(worker, account, body, number.decode())


def processed(worker: MemoryWorker, account: Account, body: bytes, number: str) -> tuple[str, str]:
    (position,) = asyncio.run(worker.process(facts.record(body, account, number=number)))
    delivery = worker.store.deliveries[position]
    return delivery.disposition.value, delivery.reason.value


def changes(fields: Mapping[str, str]) -> Iterator[tuple[str, str, str]]:
    """Yield each deciding name with its value here and another one; an empty one stands for its absence."""
    for name in NAMES:
        before = fields.get(name, "")
        for after in (*VALUES[name], ""):
            if after != before:
                yield name, before, after


def first_delivered(family: str, kind: str) -> MemoryWorker:
    """Return a worker that has applied a message of this kind, and what it is about."""
    worker, account = MemoryWorker(), facts.account(family)
    if kind == "batch refund":
        assert deliver(worker, account, OLD | {"notify_id": "N0"}) == ("applied", "changed")
    assert deliver(worker, account, KINDS[family, kind])[0] == "applied"
    return worker


def test_every_deciding_name_has_other_values() -> None:
    assert VALUES.keys() == set(NAMES)


@pytest.mark.parametrize(("family", "kind"), KINDS)
def test_one_id_is_a_duplicate_only_with_the_same_content(family: str, kind: str) -> None:
    fields = KINDS[family, kind]
    found = set()
    for name, _, after in changes(fields):
        if name != "notify_id":
            outcome = deliver(first_delivered(family, kind), facts.account(family), fields | {name: after})
            found |= {name} if outcome[0] == "duplicate" else set()
            assert outcome[0] != "applied", name
    assert found == {"notify_time"}


@pytest.mark.parametrize(("family", "kind"), MOVES_MONEY)
def test_another_id_is_a_duplicate_only_of_the_same_fact(family: str, kind: str) -> None:
    fields = KINDS[family, kind]
    wrong = []
    for name, before, after in changes(fields):
        second = {**fields, "notify_id": "N9", name: after}
        if deliver(first_delivered(family, kind), facts.account(family), second)[0] == "duplicate":
            wrong += [] if says_the_same(family, kind, name, before, after) else [(name, before, after)]
    assert wrong == []


@pytest.mark.parametrize(("family", "kind"), [key for key in KINDS if key not in MOVES_MONEY])
def test_what_moves_no_order_is_noted_under_each_id(family: str, kind: str) -> None:
    fields = KINDS[family, kind]
    for name, _, after in changes(fields):
        second = {**fields, "notify_id": "N9", name: after}
        if name not in ("notify_type", "msg_method"):
            outcome = deliver(first_delivered(family, kind), facts.account(family), second)
            assert outcome == ("applied", "noted") or outcome[0] in ("refused", "quarantined"), (name, after)


# Antom: a message has no id of its own, so the facts decide

PAID_AT = "2025-04-01T10:00:00+08:00"
REFUND = facts.antom_refund("R1", "4000", paymentId="T1", refundId="RR1", refundTime=PAID_AT)["message"]
MESSAGES: dict[str, dict[str, Any]] = {
    "payment": facts.payment("x", paymentTime=PAID_AT)["message"],
    "pending": facts.payment("x", "PAYMENT_PENDING", "U")["message"],
    "failed": facts.payment("x", status="F")["message"],
    "authorized": facts.payment("x", paymentTime=PAID_AT, **facts.AUTHORIZED)["message"],
    "periodic": facts.periodic("x", paymentTime=PAID_AT)["message"],
    "capture": facts.capture("C1", "10000", captureTime=PAID_AT)["message"],
    "failed capture": facts.capture("C1", None, captureTime=PAID_AT)["message"],
    "refund": REFUND,
    "failed refund": REFUND | {"refundStatus": "FAIL"},
    "dispute": {
        "disputeNotificationType": "DISPUTE_CREATED", "paymentRequestId": "A", "paymentId": "T1", "disputeId": "D1",
        "disputeAmount": {"currency": "HKD", "value": "100"},
    },
    "subscription": {
        "subscriptionNotificationType": "CREATE", "subscriptionRequestId": "S1", "subscriptionId": "2S1",
        "subscriptionStatus": "ACTIVE", "result": {"resultStatus": "S"},
    },
    "authorization": {
        "authorizationNotifyType": "AUTHCODE_CREATED", "authClientId": "C", "authState": "state", "authCode": "code",
    },
    "vaulting": {"vaultingRequestId": "V1", "vaultingCreateTime": PAID_AT, "result": {"resultStatus": "S"}},
    "new amount": {
        "notifyType": "UPDATE_AMOUNT_RESULT", "paymentRequestId": "A", "paymentId": "T1",
        "result": {"resultStatus": "S"},
    },
}  # fmt: skip
ABOUT_A_PAYMENT = ("capture", "failed capture", "refund", "failed refund")

OTHER_VALUES: dict[str, tuple[Any, ...]] = {
    "notifyType": (
        "PAYMENT_RESULT",
        "PAYMENT_PENDING",
        "CAPTURE_RESULT",
        "REFUND_RESULT",
        "UPDATE_AMOUNT_RESULT",
        "NEW",
    ),
    "resultStatus": ("S", "F", "U", "X"),
    "refundStatus": ("SUCCESS", "FAIL", "PROCESSING"),
    "currency": ("USD",),
    "value": ("9999", "100"),
    "authExpiryTime": ("2025-04-09T09:59:58+08:00",),
}
REMOVED = object()

# What decides about each kind that moves money; of the others each member counts. How an authorisation ends counts
# where it is no payment.
_OF_PAYMENT = ("notifyType", "paymentRequestId", "paymentId", "paymentAmount", "result.resultStatus")
_OF_CAPTURE = ("notifyType", "captureRequestId", "captureId", "paymentId", "captureAmount", "result.resultStatus")
_OF_REFUND = ("notifyType", "refundRequestId", "paymentId", "refundAmount", "refundStatus")
DECIDING = {
    **dict.fromkeys(("payment", "pending", "failed", "authorized", "periodic"), _OF_PAYMENT),
    **dict.fromkeys(("capture", "failed capture"), _OF_CAPTURE),
    "refund": _OF_REFUND,
}
EXPIRES = "authExpiryTime"

# One capture is one captureId; a pending payment is pending with either result; one payment of a subscription is known
# by both of its numbers; without notifyType the shape gives the kind.
SAME_MEMBERS = {
    ("capture", "captureRequestId"),
    ("failed capture", "captureRequestId"),
    ("pending", "result.resultStatus"),
    ("periodic", "paymentRequestId"),
}
SAME_KINDS = {
    ("capture", REMOVED), ("failed capture", REMOVED), ("refund", REMOVED), ("periodic", "PAYMENT_RESULT"),
}  # fmt: skip


def decides(kind: str, family: str, path: str, value: Any) -> bool:
    if kind not in DECIDING:
        return True
    if path == EXPIRES:
        return family == "manual" and kind in ("payment", "authorized", "periodic")
    if (kind, path) in SAME_MEMBERS or (path == "notifyType" and (kind, value) in SAME_KINDS):
        return False
    # A failed capture has no amount.
    return any(path == name or path.startswith(f"{name}.") for name in DECIDING[kind]) and not (
        kind == "failed capture" and path.startswith("captureAmount")
    )


def members() -> list[str]:
    """Return the paths of all members that the code reads by name."""
    source = Path(interpret_antom.__file__).read_text(encoding="utf-8")
    single = set(re.findall(r'self\.(?:text|required|amount|time)\("(\w+)"', source))
    single |= {name for each in interpret_antom._KINDS_BY_NUMBER for name in each[:2]}
    amounts = {f"{name}.{inner}" for name in single if name.endswith("Amount") for inner in ("value", "currency")}
    listed = {*noted._MESSAGE_NUMBERS, *noted._MESSAGE_FIELDS, "authExpiryTime", "result.resultStatus"}
    assert {"paymentRequestId", "paymentId", "refundRequestId", "captureRequestId", "notifyType"} <= single
    return sorted(single | amounts | listed)


def changed(message: dict[str, Any], path: str, value: Any) -> dict[str, Any] | None:
    """Return the message with one member changed or removed; `None` if that changes nothing."""
    copied = copy.deepcopy(message)
    inner: Any = copied
    *outer, name = path.split(".")
    for each in outer:
        inner = inner.get(each)
        if not isinstance(inner, dict):
            return None
    if value is REMOVED:
        inner.pop(name, None)
    else:
        inner[name] = value
    return None if copied == message else copied


def deliver_message(worker: MemoryWorker, account: Account, message: dict[str, Any]) -> tuple[str, str]:
    body = json.dumps(message).encode()
    return processed(worker, account, body, antom.route(body))


@pytest.mark.parametrize("family", ["antom", "manual"])
@pytest.mark.parametrize("kind", MESSAGES)
def test_antom_message_is_a_duplicate_only_of_the_same_fact(kind: str, family: str) -> None:
    account, message, wrong = facts.account(family), MESSAGES[kind], []
    for path in members():
        for value in (*OTHER_VALUES.get(path.rpartition(".")[2], ("X9",)), REMOVED):
            second = changed(message, path, value)
            if second is None:
                continue
            worker = MemoryWorker()
            if kind in ABOUT_A_PAYMENT:
                deliver_message(worker, account, MESSAGES["authorized" if family == "manual" else "payment"])
            assert deliver_message(worker, account, message)[0] == "applied"
            if deliver_message(worker, account, second)[0] == "duplicate" and decides(kind, family, path, value):
                wrong.append((path, value))
    assert wrong == []


@pytest.mark.parametrize("kind", DECIDING)
def test_antom_message_with_other_details_is_a_duplicate(kind: str) -> None:
    worker, account = MemoryWorker(), facts.account("antom")
    if kind in ABOUT_A_PAYMENT:
        deliver_message(worker, account, MESSAGES["payment"])
    deliver_message(worker, account, MESSAGES[kind])
    for details in ({"metadata": "{}"}, {"acquirerReferenceNo": "1"}, {"metadata": "{}"}):
        outcome = deliver_message(worker, account, MESSAGES[kind] | details)
        assert outcome[0] == "duplicate", (kind, details)


def test_second_payment_of_an_order_is_found_out_by_its_facts() -> None:
    """Antom gives both messages the same number, so no id could tell them apart."""
    for second, reason in (
        ({"paymentId": "T2"}, "second_trade"),
        ({"paymentAmount": {"currency": "HKD", "value": "1"}}, "amount_mismatch"),
        ({"paymentAmount": {"currency": "USD", "value": "10000"}}, "currency_mismatch"),
    ):
        worker, account = MemoryWorker(), facts.account("antom")
        deliver_message(worker, account, MESSAGES["payment"])
        assert deliver_message(worker, account, MESSAGES["payment"] | second) == ("quarantined", reason)
        assert deliver_message(worker, account, MESSAGES["payment"] | second) == ("duplicate", "same_id")


@pytest.mark.parametrize("kind", MESSAGES)
def test_antom_message_that_comes_again_is_a_duplicate(kind: str) -> None:
    worker, account = MemoryWorker(), facts.account("antom")
    if kind in ABOUT_A_PAYMENT:
        deliver_message(worker, account, MESSAGES["payment"])
    assert deliver_message(worker, account, MESSAGES[kind])[0] == "applied"
    assert deliver_message(worker, account, MESSAGES[kind]) == ("duplicate", "same_id")
