"""Every kind of message that Antom's documents name, and the members by which two of one kind differ.

`news` maps a member to another value of it. A message with it is other news about the same thing; the same message sent
again is not.
"""

from typing import Any

from msgspec import Struct

SUCCESS = {"resultCode": "SUCCESS", "resultStatus": "S", "resultMessage": "success."}
FAILED = {"resultCode": "PROCESS_FAIL", "resultStatus": "F", "resultMessage": "failed."}
UNKNOWN = {"resultCode": "UNKNOWN", "resultStatus": "U", "resultMessage": "unknown."}
HKD = {"currency": "HKD", "value": "10000"}
LESS = {"currency": "HKD", "value": "4000"}


class AntomKind(Struct, frozen=True):
    """One kind of message, with the id that it has had in each release; empty if its content is its id."""

    name: str
    message: dict[str, Any]
    id: str
    news: dict[str, Any]

    def changed(self) -> list[dict[str, Any]]:
        """The messages with other news, one for each member."""
        return [self.message | {member: value} for member, value in self.news.items()]


def _payment(type_: str, result: dict[str, str], **news: Any) -> AntomKind:
    status = result["resultStatus"]
    message = {
        "notifyType": type_, "result": result, "paymentRequestId": f"P-{type_}-{status}",
        "paymentId": f"T-{type_}-{status}", "paymentAmount": HKD, "paymentCreateTime": "2025-06-05T09:10:11+08:00",
    }  # fmt: skip
    if status == "S":
        message["paymentTime"] = "2025-06-05T09:10:31+08:00"
    return AntomKind(f"{type_} {status}", message, f"{type_}:{message['paymentRequestId']}:{status}", news)


def _periodic() -> AntomKind:
    message = {
        "result": SUCCESS, "paymentId": "T-period", "paymentAmount": HKD, "paymentTime": "2025-06-05T09:10:31+08:00",
        "subscriptionRequestId": "SR-0", "subscriptionId": "SI-0", "phaseNo": "1",
        "periodStartTime": "2025-06-01T00:00:00+08:00", "periodEndTime": "2025-07-01T00:00:00+08:00",
    }  # fmt: skip
    return AntomKind("a subscription's payment", message, "PAYMENT_RESULT:T-period:S", {})


def _capture(result: dict[str, str], **news: Any) -> AntomKind:
    status = result["resultStatus"]
    message = {
        "notifyType": "CAPTURE_RESULT", "result": result, "captureRequestId": f"C-{status}",
        "captureId": f"CI-{status}", "paymentId": "T-PAYMENT_RESULT-S", "captureAmount": LESS,
        "captureTime": "2025-06-06T10:00:00Z",
    }  # fmt: skip
    return AntomKind(f"CAPTURE_RESULT {status}", message, f"CAPTURE_RESULT:C-{status}:{status}", news)


def _refund(status: str, *, type_: str = "REFUND_RESULT", **news: Any) -> AntomKind:
    number = f"R-{type_}-{status}"
    message: dict[str, Any] = {
        "refundStatus": status, "refundRequestId": number, "refundId": f"RI-{number}",
        "refundTime": "2025-06-06T10:00:00Z", "paymentId": "T-PAYMENT_RESULT-S",
    }  # fmt: skip
    if type_:
        message |= {"notifyType": type_, "result": SUCCESS, "refundAmount": LESS}
    else:
        message |= {"refundFromMethod": "BALANCE", "refundToAmount": LESS, "refundFromAmount": LESS}
    return AntomKind(f"{type_ or 'direct refund'} {status}", message, f"REFUND_RESULT:{number}:{status}", news)


def _authorization(event: str) -> AntomKind:
    message = {"authorizationNotifyType": event, "authClientId": "AC-1", "authState": f"AS-{event}", "result": SUCCESS}
    return AntomKind(event, message, "", {"reason": "USER_CANCELLED", "userId": "2088"})


def _dispute(event: str) -> AntomKind:
    message = {
        "disputeNotificationType": event, "disputeId": "D-1", "paymentRequestId": "P-PAYMENT_RESULT-S",
        "paymentId": "T-PAYMENT_RESULT-S", "disputeTime": "2025-06-07T10:00:00Z", "disputeAmount": LESS,
        "disputeReasonCode": "10.4",
    }  # fmt: skip
    news = {
        "disputeAmount": HKD, "defenseDueTime": "2025-06-20T10:00:00Z", "disputeJudgedResult": "VALIDATE_FAIL",
        "disputeAcceptReason": "TIMEOUT", "defendable": True,
    }  # fmt: skip
    return AntomKind(event, message, f"{event}:D-1:", news)


def _subscription(event: str) -> AntomKind:
    message = {
        "subscriptionNotificationType": event, "subscriptionRequestId": "S-1", "subscriptionId": "SI-1",
        "subscriptionStatus": "ACTIVE", "subscriptionStartTime": "2025-06-01T00:00:00+08:00",
        "periodRule": {"periodType": "MONTH", "periodCount": 1},
    }  # fmt: skip
    news = {
        "periodRule": {"periodType": "MONTH", "periodCount": 3}, "subscriptionStatus": "TERMINATED",
        "subscriptionEndTime": "2026-06-01T00:00:00+08:00", "maxAccumulateAmount": LESS,
    }  # fmt: skip
    return AntomKind(f"subscription {event}", message, f"{event}:S-1:", news)


# Kinds that move an order, or name one: their effects have rules of their own.
MOVING: list[AntomKind] = [
    _payment("PAYMENT_RESULT", SUCCESS),
    _payment("PAYMENT_RESULT", FAILED),
    _payment("PAYMENT_PENDING", SUCCESS),
    _payment("PAYMENT_PENDING", UNKNOWN),
    _periodic(),
    _capture(SUCCESS),
    _capture(FAILED),
    _refund("SUCCESS"),
    _refund("SUCCESS", type_=""),
]

_DIRECT_REFUNDS = (
    "PROCESSING", "REFUND_AMOUNT_EXCEED", "MERCHANT_BALANCE_NOT_ENOUGH", "PROCESS_FAIL", "PARAM_ILLEGAL",
    "REFUND_WINDOW_EXCEED", "ACCESS_DENIED", "INVALID_ACCESS_TOKEN",
)  # fmt: skip
_DISPUTES = (
    "DISPUTE_CREATED", "DISPUTE_JUDGED", "DISPUTE_CANCELLED", "DEFENSE_SUPPLIED", "DEFENSE_DUE_ALERT",
    "DISPUTE_ACCEPTED", "RDR_RESOLVED",
)  # fmt: skip

# Kinds that move no order: each of their news is noted.
NOTED: list[AntomKind] = [
    AntomKind(
        "UPDATE_AMOUNT_RESULT",
        {"notifyType": "UPDATE_AMOUNT_RESULT", "result": SUCCESS, "paymentRequestId": "P-1", "updateRequestId": "U-1",
         "paymentAmount": HKD},
        "UPDATE_AMOUNT_RESULT:P-1:S",
        {"updateRequestId": "U-2", "paymentAmount": LESS, "authExpiryTime": "2025-06-20T10:00:00Z"},
    ),
    AntomKind(
        "OFFLINE_PAYMENT_CODE",
        {"notifyType": "OFFLINE_PAYMENT_CODE", "result": SUCCESS, "paymentRequestId": "P-1", "paymentId": "T-1"},
        "OFFLINE_PAYMENT_CODE:P-1:S",
        {"paymentAmount": HKD, "paymentId": "T-2"},
    ),
    _capture(UNKNOWN, captureAmount=HKD, captureTime="2025-06-06T11:00:00Z"),
    *(_refund(status, refundAmount=HKD) for status in ("FAIL", "PROCESSING")),
    *(_refund(status, type_="", refundFromMethod="CARD") for status in _DIRECT_REFUNDS),
    *map(_authorization, ("AUTHCODE_CREATED", "TOKEN_CREATED", "TOKEN_CANCELED")),
    *map(_dispute, _DISPUTES),
    *map(_subscription, ("CREATE", "CHANGE", "CANCEL", "UPDATE", "TERMINATE")),
    AntomKind(
        "vaulting",
        {"vaultingRequestId": "V-1", "result": SUCCESS, "vaultingCreateTime": "2025-06-07T10:00:00Z",
         "paymentMethodDetail": {"paymentMethodType": "CARD"}},
        "vaulting:V-1:S",
        {"paymentMethodDetail": {"paymentMethodType": "ALIPAY_CN"}, "vaultingCreateTime": "2025-06-08T10:00:00Z"},
    ),
]  # fmt: skip
