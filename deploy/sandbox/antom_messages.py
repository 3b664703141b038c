"""The fields of Antom's messages: one function per kind. Names are flat here, such as `paymentAmount.value`.

Antom's messages have no id. `business_key` stands in for it, in the receiver's form: type, number and result.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from typing import assert_never

from deploy.sandbox import serials
from deploy.sandbox.notifications import MessageKind, Trade, TradeEvent, UnplayableError

# The fields with a message's business key, in the order of precedence.
_KEYS: tuple[str, ...] = (
    "disputeId", "captureRequestId", "refundRequestId", "paymentRequestId", "paymentId",
    "subscriptionRequestId", "vaultingRequestId", "accessToken",
)  # fmt: skip
_AUTHORIZED_FOR = timedelta(days=7)
_PERIOD = timedelta(days=30)


def fields(trade: Trade, event: TradeEvent) -> dict[str, str]:
    """Return the fields of the message about this event.

    Raises:
        UnplayableError: Antom sends no message of this kind.
    """
    match event.kind:
        case MessageKind.WAITING | MessageKind.PAID | MessageKind.CLOSED:
            return _payment(trade, event)
        case MessageKind.AUTHORIZED:
            expiry = serials.iso_moment(event.at + _AUTHORIZED_FOR)
            return _payment(trade, event) | {"paymentMethodType": "CARD", "authExpiryTime": expiry}
        case MessageKind.REFUND:
            return _refund(trade, event)
        case MessageKind.CAPTURE | MessageKind.CAPTURE_FAILED:
            return _capture(trade, event)
        case MessageKind.DISPUTE:
            return _dispute(trade, event)
        case MessageKind.AUTHORIZATION:
            return _authorization(trade)
        case MessageKind.SUBSCRIPTION:
            return _subscription(trade, event)
        case MessageKind.SUBSCRIPTION_PAYMENT:
            return _subscription_payment(trade, event)
        case MessageKind.VAULTING:
            return _vaulting(trade, event)
        case MessageKind.OTHER:
            return _result()
        case MessageKind.FINISHED | MessageKind.FROZEN | MessageKind.REFUND_CLOSED | MessageKind.BATCH_REFUND:
            raise UnplayableError(f"Antom sends no {event.kind} message")
        case MessageKind.REFUND_ACTION | MessageKind.REVERSED:
            raise UnplayableError(f"Antom sends no {event.kind} message")
        case _:
            assert_never(event.kind)


def _result(status: str = "S") -> dict[str, str]:
    code, message = ("SUCCESS", "success.") if status == "S" else ("ORDER_IS_CLOSED", "The order is closed.")
    return {"result.resultCode": code, "result.resultStatus": status, "result.resultMessage": message}


def _money(name: str, minor: int, currency: str) -> dict[str, str]:
    return {f"{name}.currency": currency, f"{name}.value": str(minor)}


def _payment(trade: Trade, event: TradeEvent) -> dict[str, str]:
    notify_type = "PAYMENT_PENDING" if event.kind is MessageKind.WAITING else "PAYMENT_RESULT"
    fields = {"notifyType": notify_type} | _result("F" if event.kind is MessageKind.CLOSED else "S")
    fields |= {"paymentRequestId": trade.order, "paymentId": trade.trade_no}
    fields |= _money("paymentAmount", trade.amount_minor, trade.currency)
    fields["paymentCreateTime"] = serials.iso_moment(trade.created)
    if event.kind in (MessageKind.PAID, MessageKind.AUTHORIZED):
        fields |= _money("actualPaymentAmount", trade.amount_minor, trade.currency)
        fields["paymentTime"] = serials.iso_moment(trade.paid)
    return fields | {
        "paymentMethodType": "ALIPAY_HK",
        "pspCustomerInfo.pspName": "ALIPAY_HK",
        "pspCustomerInfo.pspCustomerId": trade.buyer_id,
        "pspCustomerInfo.displayCustomerId": trade.buyer_login,
    }


def _refund(trade: Trade, event: TradeEvent) -> dict[str, str]:
    refund = event.required_refund()
    fields = {"notifyType": "REFUND_RESULT"} | _result()
    fields |= {"refundStatus": "SUCCESS", "refundRequestId": refund.number, "refundId": refund.refund_id}
    return (
        fields
        | _money("refundAmount", refund.amount_minor, trade.currency)
        | {"refundTime": serials.iso_moment(event.at)}
    )


def _capture(trade: Trade, event: TradeEvent) -> dict[str, str]:
    # A capture that is tried again has a new number.
    succeeds = event.kind is MessageKind.CAPTURE
    fields = {"notifyType": "CAPTURE_RESULT"} | _result("S" if succeeds else "F")
    fields |= {"captureRequestId": f"CAP-{trade.order}-{2 if succeeds else 1}", "paymentId": trade.trade_no}
    fields["captureId"] = f"{trade.trade_no}0{2 if succeeds else 1}"
    return (
        fields
        | _money("captureAmount", trade.amount_minor, trade.currency)
        | {"captureTime": serials.iso_moment(event.at)}
    )


def _dispute(trade: Trade, event: TradeEvent) -> dict[str, str]:
    fields = {"disputeNotificationType": "DISPUTE_CREATED"} | _result()
    fields |= {"paymentRequestId": trade.order, "paymentId": trade.trade_no, "disputeId": f"{trade.trade_no}02"}
    fields |= _money("disputeAmount", trade.amount_minor, trade.currency)
    return fields | {
        "disputeTime": serials.iso_moment(event.at),
        "disputeReasonCode": "GOODS_NOT_RECEIVED",
        "disputeReasonMsg": "The buyer did not receive the goods.",
    }


def _authorization(trade: Trade) -> dict[str, str]:
    fields = {"authorizationNotifyType": "TOKEN_CANCELED"} | _result()
    return fields | {"authClientId": trade.account.identity.client_id, "accessToken": f"tok{trade.trade_no}"}


def _subscription(trade: Trade, event: TradeEvent) -> dict[str, str]:
    fields = {"subscriptionNotificationType": "CREATE"} | _result()
    return fields | {
        "subscriptionRequestId": f"SUB-{trade.order}",
        "subscriptionId": f"SUBID-{trade.order}",
        "subscriptionStatus": "ACTIVE",
        "subscriptionStartTime": serials.iso_moment(event.at),
    }


def _subscription_payment(trade: Trade, event: TradeEvent) -> dict[str, str]:
    """Return one period's payment. It has no notifyType and no paymentRequestId; its order is the payment."""
    fields = _result() | {"paymentId": trade.trade_no, "paymentTime": serials.iso_moment(event.at)}
    return (
        fields
        | _money("paymentAmount", trade.amount_minor, trade.currency)
        | {
            "subscriptionRequestId": f"SUB-{trade.order}",
            "subscriptionId": f"SUBID-{trade.order}",
            "periodStartTime": serials.iso_moment(event.at),
            "periodEndTime": serials.iso_moment(event.at + _PERIOD),
            "phaseNo": "1",
        }
    )


def _vaulting(trade: Trade, event: TradeEvent) -> dict[str, str]:
    return _result() | {
        "vaultingRequestId": f"VLT-{trade.order}",
        "paymentMethodDetail.paymentMethodType": "CARD",
        "vaultingCreateTime": serials.iso_moment(event.at),
    }


def business_key(fields: Mapping[str, str]) -> str:
    """Return the business key that stands in for a notification id: type, number and result of the message."""
    type_ = next((value for name, value in fields.items() if name.lower().endswith("notifytype")), "")
    type_ = type_ or fields.get("disputeNotificationType", "") or fields.get("subscriptionNotificationType", "")
    type_ = type_ or ("PAYMENT_RESULT" if "paymentId" in fields else "vaulting")
    number = next((fields[name] for name in _KEYS if name in fields), "")
    return f"{type_}:{number}:{fields.get('refundStatus') or fields.get('result.resultStatus', '')}"
