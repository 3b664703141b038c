"""Interpret Alipay's answer to a question about an order: as a notification of the same facts.

Its facts get the names that they have in a notification, and are read by the same rules (`interpret_form`,
`interpret_antom`). So an order ends the same whichever of the two arrives, and whichever comes first. Its id is made of
its facts: the same answer again is a duplicate, and no notification has its id.

The answer about a closed trade names no refunds. If the trade was paid, it was refunded in whole, because nothing else
closes a paid trade.
"""

from collections.abc import Mapping
from hashlib import blake2b
from typing import Any

import msgspec
from msgspec import structs

from schemas import answers, interpret_antom, interpret_form
from schemas.accounts import Account, Family
from schemas.answers import QUESTIONS, BadAnswer
from schemas.dispositions import Disposition, Reason
from schemas.form import Form
from schemas.notification import Notification, Unreadable

NOT_FOUND = frozenset({"ACQ.TRADE_NOT_EXIST", "TRADE_NOT_EXIST", "ORDER_NOT_EXIST"})

_WAITING = frozenset({"PROCESSING", "PENDING"})
_ENDED = {"SUCCESS": "S", "FAIL": "F", "CANCELLED": "F"}
_OF_FORM = ("out_trade_no", "trade_no", "trade_status", "total_amount", "total_fee", "currency", "trans_currency")
_PAID_AT = ("send_pay_date", "gmt_payment")
_PAID_AMOUNTS = ("receipt_amount", "buyer_pay_amount")


def error_of(body: bytes, family: Family) -> str:
    """Return Alipay's code of the error that it answers; empty if it has the trade.

    Raises:
        BadAnswer: it is no answer to this family's question.
    """
    if family is Family.MAPI:
        return answers.read_old(body).error
    fields = answers.fields(body, family)
    if family is Family.OPENAPI:
        return "" if fields.get("code") == "10000" else _text(fields, "sub_code") or _text(fields, "code") or "no code"
    result = fields["result"]
    return "" if result.get("resultStatus") == "S" else _text(result, "resultCode") or "no code"


def is_waiting(body: bytes, family: Family) -> bool:
    """Return whether the buyer has not paid yet, by an answer without an error.

    Raises:
        BadAnswer: it is no answer to this family's question.
    """
    fields = answers.fields(body, family)
    if family is Family.ANTOM:
        return fields.get("paymentStatus") in _WAITING
    return fields.get("trade_status") == "WAIT_BUYER_PAY"


def order_of(body: bytes, family: Family) -> str:
    """Return the order that an answer is about; empty if it names none.

    Raises:
        BadAnswer: it is no answer to this family's question.
    """
    return _text(answers.fields(body, family), "paymentRequestId" if family is Family.ANTOM else "out_trade_no")


def read(body: bytes, account: Account) -> Notification:
    """Return the meaning of an answer for this account.

    Raises:
        Unreadable: it is no answer, or an error; a missing or impossible value, or fields that contradict each other.
    """
    try:
        error = error_of(body, account.family)
        fields = answers.fields(body, account.family)
    except BadAnswer as bad:
        raise Unreadable(Reason.MALFORMED, str(bad), disposition=Disposition.DEAD) from None
    if error:
        raise Unreadable(Reason.MALFORMED, f"an answer with the error {error[:80]}", disposition=Disposition.DEAD)
    if account.family is Family.ANTOM:
        return _message(fields, account)
    return _form(fields, account)


def _form(fields: Mapping[str, Any], account: Account) -> Notification:
    stated = {name: _text(fields, name) for name in _OF_FORM}
    paid_at = next((text for name in _PAID_AT if (text := _text(fields, name))), "")
    if stated["trade_status"] == "TRADE_CLOSED":
        stated |= _closed(fields, paid_at)
    elif paid_at:
        stated["gmt_payment"] = paid_at
    stated = {name: text for name, text in stated.items() if text}
    stated |= {"notify_type": "trade_status_sync", "notify_id": f"query-{_digest(stated).hex()}", "charset": "utf-8"}
    read_as = {name.encode(): text.encode("utf-8", "backslashreplace") for name, text in stated.items()}
    notification = interpret_form.read(Form(read_as, None, None, has_escaped_ampersand=False), account)
    return structs.replace(notification, type=QUESTIONS[account.family])


def _closed(fields: Mapping[str, Any], paid_at: str) -> dict[str, str]:
    """Return the other fields of a notification of a closed trade: refunded in whole, or never paid."""
    closed_at = _text(fields, "gmt_close") or _text(fields, "gmt_last_modified_time") or paid_at
    is_paid = bool(paid_at) or any(_text(fields, name).strip("0.") for name in _PAID_AMOUNTS)
    if not is_paid:
        return {"gmt_close": closed_at}
    return {"gmt_refund": closed_at or _text(fields, "gmt_create"), "refund_status": "REFUND_SUCCESS"}


def _message(fields: Mapping[str, Any], account: Account) -> Notification:
    status = _text(fields, "paymentStatus")
    stated: dict[str, Any] = {
        "notifyType": "PAYMENT_PENDING" if status in _WAITING else "PAYMENT_RESULT",
        "result": {"resultStatus": "S" if status in _WAITING else _ENDED.get(status, status)},
    }
    for name in ("paymentRequestId", "paymentId", "paymentAmount", "paymentTime", "authExpiryTime"):
        if name in fields:
            stated[name] = fields[name]
    notification = interpret_antom.read(msgspec.json.encode(stated), account)
    id_ = f"inquiryPayment:{notification.order}:{status}"
    return structs.replace(
        notification,
        id=id_,
        content_id=f"{id_}:{notification.digest.hex()}",
        type=QUESTIONS[Family.ANTOM],
        status=status,
    )


def _digest(stated: Mapping[str, str]) -> bytes:
    return blake2b(msgspec.json.encode(stated, order="sorted"), digest_size=16).digest()


def _text(fields: Mapping[str, Any], name: str) -> str:
    text = fields.get(name)
    return text if isinstance(text, str) else ""
