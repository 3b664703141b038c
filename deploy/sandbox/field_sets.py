"""The fields that each product sends for each kind of event: one function per product.

The sets are those of real messages, not every field that a document mentions. Three details are inferred, because no
genuine sample is public: the website refund (the ten fields plus `refund_status` and `gmt_refund`), the expired openapi
trade (no `gmt_payment`), and Antom's result code for an expired payment.

`compose` is the only entry. It uses neither keys nor delivery times.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from random import Random
from typing import assert_never

from deploy.sandbox import serials
from deploy.sandbox.notifications import (
    KINDS_OF,
    NAMELESS,
    Facts,
    MessageKind,
    SandboxRefund,
    Trade,
    TradeEvent,
    UnplayableError,
    UnsignedNotification,
)
from deploy.sandbox.world import Product
from schemas import money
from schemas.currencies import EXPONENTS

_STATUS: Mapping[MessageKind, str] = {
    MessageKind.WAITING: "WAIT_BUYER_PAY",
    MessageKind.PAID: "TRADE_SUCCESS",
    MessageKind.FINISHED: "TRADE_FINISHED",
    MessageKind.FROZEN: "TRADE_PENDING",
    MessageKind.CLOSED: "TRADE_CLOSED",
    MessageKind.REFUND_CLOSED: "TRADE_SUCCESS",
}

# The fields in which Antom messages carry their business key, in the order of precedence.
_ANTOM_KEYS: tuple[str, ...] = (
    "disputeId", "captureRequestId", "refundRequestId", "paymentRequestId",
    "subscriptionRequestId", "vaultingRequestId", "accessToken",
)  # fmt: skip


def compose(trade: Trade, event: TradeEvent, *, numbers: serials.Serials, chance: Random) -> UnsignedNotification:
    """Return a notification of this event of this trade, with a new notify_id.

    Raises:
        UnplayableError: the product sends no notification of this kind.
    """
    identity = trade.account.identity
    if event.kind not in KINDS_OF[identity.product]:
        raise UnplayableError(f"{identity.name} ({identity.product}) sends no {event.kind} notification")
    fields = dict(_FIELD_SETS[identity.product](trade, event))
    if identity.product == "antom":
        notify_id = _antom_key(fields)
    else:
        notify_id = numbers.notify_id(event.at)
        fields = _with_envelope(fields, notify_id=notify_id, sign_type=trade.account.signer.sign_type, event=event)
        fields = dict(chance.sample(list(fields.items()), k=len(fields)))
    return UnsignedNotification(
        account=trade.account,
        order=trade.order,
        notify_id=notify_id,
        fields=tuple(fields.items()),
        charset=identity.charset,
        facts=_facts(trade, event),
    )


def minor_units(text: str, currency: str) -> int:
    """Return a form's amount in the smallest unit.

    Raises:
        ValueError: the text is not an amount with the currency's decimals.
    """
    whole, _, cents = text.partition(".")
    decimals = EXPONENTS.get(currency, 2)
    if not (whole + cents).isascii() or not (whole + cents).isdigit() or not whole or len(cents) != decimals:
        raise ValueError(f"{text!r} is not an amount in {currency}")
    return int(whole + cents)


def _with_envelope(fields: dict[str, str], *, notify_id: str, sign_type: str, event: TradeEvent) -> dict[str, str]:
    """Add the fields that every form has; `notify_time` is replaced at each delivery."""
    kind = "batch_refund_notify" if event.kind is MessageKind.BATCH_REFUND else "trade_status_sync"
    envelope = {"notify_id": notify_id, "notify_type": kind, "notify_time": serials.moment(event.at)}
    return envelope | fields | {"sign_type": sign_type}


def _facts(trade: Trade, event: TradeEvent) -> Facts:
    return Facts(
        kind=event.kind,
        trade_no=trade.trade_no,
        amount_minor=trade.amount_minor,
        currency=trade.currency,
        happened=event.at,
        refund=event.refund,
        names_order=event.kind not in NAMELESS[trade.account.identity.product],
    )


def _refund_of(event: TradeEvent) -> SandboxRefund:
    if event.refund is None:
        raise UnplayableError(f"a {event.kind} notification needs a refund")
    return event.refund


def _status(trade: Trade, event: TradeEvent) -> str:
    if event.kind is not MessageKind.REFUND:
        return _STATUS[event.kind]
    # A trade stays paid until its refunds reach the whole amount; then it closes.
    return "TRADE_CLOSED" if _refund_of(event).total_minor >= trade.amount_minor else "TRADE_SUCCESS"


def _in_app(trade: Trade, event: TradeEvent) -> dict[str, str]:
    if event.kind is MessageKind.BATCH_REFUND:
        return _batch_refund(trade, event)
    identity, price = trade.account.identity, money.major(trade.amount_minor, trade.currency)
    fields = {
        "out_trade_no": trade.order, "trade_no": trade.trade_no, "trade_status": _status(trade, event),
        "subject": trade.subject, "payment_type": "1", "total_fee": price, "price": price, "quantity": "1",
        "discount": "0.00", "seller_id": identity.seller_id, "seller_email": "payee@merchant.example",
        "buyer_id": trade.buyer_id, "buyer_email": trade.buyer_login, "is_total_fee_adjust": "N", "use_coupon": "N",
    }  # fmt: skip
    if trade.body:
        fields["body"] = trade.body
    return fields | _times(trade, event) | _mapi_refund(event)


def _mapi_refund(event: TradeEvent) -> dict[str, str]:
    if event.kind not in (MessageKind.REFUND, MessageKind.REFUND_CLOSED):
        return {}
    outcome = "REFUND_SUCCESS" if event.kind is MessageKind.REFUND else "REFUND_CLOSED"
    return {"refund_status": outcome, "gmt_refund": serials.moment_with_fraction(event.at)}


def _times(trade: Trade, event: TradeEvent) -> dict[str, str]:
    times = {"gmt_create": serials.moment(trade.created)}
    if event.kind not in (MessageKind.WAITING, MessageKind.CLOSED):
        times["gmt_payment"] = serials.moment(trade.paid)
    if _status(trade, event) in ("TRADE_CLOSED", "TRADE_FINISHED"):
        times["gmt_close"] = serials.moment(event.at)
    return times


def _batch_refund(trade: Trade, event: TradeEvent) -> dict[str, str]:
    refund = _refund_of(event)
    refunded = money.major(refund.amount_minor, trade.currency)
    return {
        "batch_no": refund.number,
        "success_num": "1",
        "result_details": f"{trade.trade_no}^{refunded}^SUCCESS",
    }


def _website(trade: Trade, event: TradeEvent) -> dict[str, str]:
    if event.kind is MessageKind.BATCH_REFUND:
        return _batch_refund(trade, event)
    # The website product never sends TRADE_SUCCESS: it reports a payment as TRADE_FINISHED.
    status = "TRADE_FINISHED" if event.kind is MessageKind.PAID else _status(trade, event)
    return {
        "out_trade_no": trade.order,
        "trade_no": trade.trade_no,
        "trade_status": status,
        "total_fee": money.major(trade.amount_minor, trade.currency),
        "currency": trade.currency,
    } | _mapi_refund(event)


def _open(trade: Trade, event: TradeEvent) -> dict[str, str]:
    identity, total = trade.account.identity, money.major(trade.amount_minor, trade.currency)
    fields = {
        "app_id": identity.app_id, "auth_app_id": identity.app_id, "charset": identity.charset, "version": "1.0",
        "out_trade_no": trade.order, "trade_no": trade.trade_no, "trade_status": _status(trade, event),
        "subject": trade.subject, "total_amount": total, "seller_id": identity.seller_id,
        "seller_email": "payee@merchant.example", "buyer_id": trade.buyer_id, "buyer_logon_id": trade.buyer_login,
    }  # fmt: skip
    if trade.body:
        fields["body"] = trade.body
    if event.kind not in (MessageKind.WAITING, MessageKind.CLOSED):
        bill = f'[{{"amount":"{total}","fundChannel":"ALIPAYACCOUNT"}}]'
        fields |= {"receipt_amount": total, "invoice_amount": total, "buyer_pay_amount": total}
        fields |= {"point_amount": "0.00", "fund_bill_list": bill}
    if event.kind is MessageKind.REFUND:
        refund = _refund_of(event)
        fields |= {
            "refund_fee": money.major(refund.total_minor, trade.currency),
            "gmt_refund": serials.moment_with_fraction(event.at),
            "out_biz_no": refund.number,
        }
    return fields | _times(trade, event)


def _antom(trade: Trade, event: TradeEvent) -> dict[str, str]:
    match event.kind:
        case MessageKind.WAITING | MessageKind.PAID | MessageKind.CLOSED:
            return _antom_payment(trade, event)
        case MessageKind.REFUND:
            return _antom_refund(trade, event)
        case MessageKind.CAPTURE:
            return _antom_capture(trade, event)
        case MessageKind.DISPUTE:
            return _antom_dispute(trade, event)
        case MessageKind.AUTHORIZATION:
            return _antom_authorization(trade)
        case MessageKind.SUBSCRIPTION:
            return _antom_subscription(trade, event)
        case MessageKind.VAULTING:
            return _antom_vaulting(trade, event)
        case MessageKind.FINISHED | MessageKind.FROZEN | MessageKind.REFUND_CLOSED | MessageKind.BATCH_REFUND:
            raise UnplayableError(f"Antom sends no {event.kind} message")
        case _:
            assert_never(event.kind)


def _result(status: str = "S") -> dict[str, str]:
    code, message = ("SUCCESS", "success.") if status == "S" else ("ORDER_IS_CLOSED", "The order is closed.")
    return {"result.resultCode": code, "result.resultStatus": status, "result.resultMessage": message}


def _money(name: str, minor: int, currency: str) -> dict[str, str]:
    return {f"{name}.currency": currency, f"{name}.value": str(minor)}


def _antom_payment(trade: Trade, event: TradeEvent) -> dict[str, str]:
    notify_type = "PAYMENT_PENDING" if event.kind is MessageKind.WAITING else "PAYMENT_RESULT"
    fields = {"notifyType": notify_type} | _result("F" if event.kind is MessageKind.CLOSED else "S")
    fields |= {"paymentRequestId": trade.order, "paymentId": trade.trade_no}
    fields |= _money("paymentAmount", trade.amount_minor, trade.currency)
    fields["paymentCreateTime"] = serials.iso_moment(trade.created)
    if event.kind is MessageKind.PAID:
        fields |= _money("actualPaymentAmount", trade.amount_minor, trade.currency)
        fields["paymentTime"] = serials.iso_moment(trade.paid)
    return fields | {
        "paymentMethodType": "ALIPAY_HK",
        "pspCustomerInfo.pspName": "ALIPAY_HK",
        "pspCustomerInfo.pspCustomerId": trade.buyer_id,
        "pspCustomerInfo.displayCustomerId": trade.buyer_login,
    }


def _antom_refund(trade: Trade, event: TradeEvent) -> dict[str, str]:
    refund = _refund_of(event)
    fields = {"notifyType": "REFUND_RESULT"} | _result()
    fields |= {"refundStatus": "SUCCESS", "refundRequestId": refund.number, "refundId": refund.refund_id}
    return (
        fields
        | _money("refundAmount", refund.amount_minor, trade.currency)
        | {"refundTime": serials.iso_moment(event.at)}
    )


def _antom_capture(trade: Trade, event: TradeEvent) -> dict[str, str]:
    fields = {"notifyType": "CAPTURE_RESULT"} | _result()
    fields |= {"captureRequestId": f"CAP-{trade.order}", "paymentId": trade.trade_no}
    fields["captureId"] = f"{trade.trade_no}01"
    return (
        fields
        | _money("captureAmount", trade.amount_minor, trade.currency)
        | {"captureTime": serials.iso_moment(event.at)}
    )


def _antom_dispute(trade: Trade, event: TradeEvent) -> dict[str, str]:
    fields = {"disputeNotificationType": "DISPUTE_CREATED"} | _result()
    fields |= {"paymentRequestId": trade.order, "paymentId": trade.trade_no, "disputeId": f"{trade.trade_no}02"}
    fields |= _money("disputeAmount", trade.amount_minor, trade.currency)
    return fields | {
        "disputeTime": serials.iso_moment(event.at),
        "disputeReasonCode": "GOODS_NOT_RECEIVED",
        "disputeReasonMsg": "The buyer did not receive the goods.",
    }


def _antom_authorization(trade: Trade) -> dict[str, str]:
    fields = {"authorizationNotifyType": "TOKEN_CANCELED"} | _result()
    return fields | {"authClientId": trade.account.identity.client_id, "accessToken": f"tok{trade.trade_no}"}


def _antom_subscription(trade: Trade, event: TradeEvent) -> dict[str, str]:
    fields = {"subscriptionNotificationType": "CREATE"} | _result()
    return fields | {
        "subscriptionRequestId": f"SUB-{trade.order}",
        "subscriptionId": f"{trade.trade_no}03",
        "subscriptionStatus": "ACTIVE",
        "subscriptionStartTime": serials.iso_moment(event.at),
    }


def _antom_vaulting(trade: Trade, event: TradeEvent) -> dict[str, str]:
    return _result() | {
        "vaultingRequestId": f"VLT-{trade.order}",
        "paymentMethodDetail.paymentMethodType": "CARD",
        "vaultingCreateTime": serials.iso_moment(event.at),
    }


def _antom_key(fields: Mapping[str, str]) -> str:
    """Return the business key that stands in for a notification id: kind, number and result of the message."""
    kind = next((value for name, value in fields.items() if name.lower().endswith("notifytype")), "")
    kind = kind or fields.get("disputeNotificationType", "") or fields.get("subscriptionNotificationType", "vaulting")
    number = next(fields[name] for name in _ANTOM_KEYS if name in fields)
    return f"{kind}:{number}:{fields.get('refundStatus') or fields['result.resultStatus']}"


_FIELD_SETS: Mapping[Product, Callable[[Trade, TradeEvent], dict[str, str]]] = {
    "in-app": _in_app,
    "website": _website,
    "open": _open,
    "antom": _antom,
}
