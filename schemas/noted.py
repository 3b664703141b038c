"""Kind, numbers and public fields of notifications that move no order.

The lists are closed, and come from Alipay's documents. A name with dots is the path of an inner member. Users' ids,
login names, tokens, codes and free text are in no list. What a list does not name is kept in the signed bytes alone.
"""

import re
from collections.abc import Iterable, Mapping
from hashlib import sha256
from typing import Any

from msgspec import Struct

from schemas.notification import Kind, NamedNumber, NumberKind

FIELD_CHARACTERS_MAX = 256

# Printable ASCII, no blank. `&` could hide another parameter in a form, and a backslash begins the escape of a byte
# that is no text: a number with either could equal another notification's.
_NUMBER = re.compile(r"[!-%'-\[\]-~]{1,256}")

# The beginnings of `notify_type` or `msg_method`, and the kind of the forms that have them.
_FORM_KINDS = (
    ("dut_user_", Kind.AGREEMENT),
    ("fund_auth_", Kind.PREAUTHORIZATION),
    ("alipay.fund.trans.", Kind.TRANSFER),
    ("open_app_auth_notify", Kind.APPLICATION),
    ("alipay.open.auth.appauth.", Kind.APPLICATION),
    ("alipay.merchant.tradecomplain.", Kind.DISPUTE),
)

_EVERY_FORM = {"trade_no": NumberKind.TRADE}

# The first number that a notification has is the key of its event, so all news of one agreement or pre-authorisation
# has one key.
_FORM_NUMBERS: Mapping[Kind, Mapping[str, NumberKind]] = {
    Kind.AGREEMENT: {
        "agreement_no": NumberKind.AGREEMENT,
        "external_agreement_no": NumberKind.EXTERNAL_AGREEMENT,
    },
    Kind.PREAUTHORIZATION: {
        "auth_no": NumberKind.PREAUTHORIZATION,
        "out_order_no": NumberKind.PREAUTHORIZATION_ORDER,
        "operation_id": NumberKind.OPERATION,
        "out_request_no": NumberKind.REQUEST,
    },
    Kind.TRANSFER: {
        "order_id": NumberKind.TRANSFER,
        "out_biz_no": NumberKind.REQUEST,
        "pay_fund_order_id": NumberKind.OPERATION,
    },
    Kind.APPLICATION: {
        "auth_app_id": NumberKind.APPLICATION,
        "detail.auth_app_id": NumberKind.APPLICATION,
        "notify_context.trigger_context.out_biz_no": NumberKind.REQUEST,
    },
    Kind.DISPUTE: {"complain_event_id": NumberKind.DISPUTE},
    Kind.OTHER: {
        "agreement_no": NumberKind.AGREEMENT,
        "external_agreement_no": NumberKind.EXTERNAL_AGREEMENT,
        "auth_no": NumberKind.PREAUTHORIZATION,
        "out_order_no": NumberKind.PREAUTHORIZATION_ORDER,
        "batch_no": NumberKind.BATCH,
        "order_id": NumberKind.OPERATION,
        "commodity_order_id": NumberKind.OPERATION,
        "operation_id": NumberKind.OPERATION,
        "settle_no": NumberKind.OPERATION,
        "out_biz_no": NumberKind.REQUEST,
        "out_request_no": NumberKind.REQUEST,
    },
}
_FORM_FIELDS: Mapping[Kind, tuple[str, ...]] = {
    Kind.AGREEMENT: (
        "status", "personal_product_code", "sign_scene", "sign_time", "unsign_time", "valid_time", "invalid_time",
    ),
    Kind.PREAUTHORIZATION: (
        "status", "operation_type", "amount", "rest_amount", "total_freeze_amount", "total_unfreeze_amount",
        "total_pay_amount", "trans_currency", "pre_auth_type", "gmt_create", "gmt_trans",
    ),
    Kind.TRANSFER: (
        "status", "sub_order_status", "action_type", "biz_scene", "product_code", "origin_interface", "trans_amount",
        "pay_date", "error_code", "sub_order_error_code",
    ),
    Kind.APPLICATION: ("status", "notify_context.trigger", "detail.auth_time"),
    Kind.DISPUTE: ("status",),
    Kind.OTHER: (
        "status", "trade_status", "refund_status", "operation_type", "amount", "trans_currency", "gmt_create",
        "dback_status", "dback_amount", "bank_ack_time", "est_bank_receipt_time", "success_num",
    ),
}  # fmt: skip

SUBSCRIPTION: Mapping[str, NumberKind] = {
    "subscriptionRequestId": NumberKind.SUBSCRIPTION_REQUEST,
    "subscriptionId": NumberKind.SUBSCRIPTION,
}
_MESSAGE_NUMBERS: Mapping[str, NumberKind] = {
    "disputeId": NumberKind.DISPUTE,
    "captureRequestId": NumberKind.CAPTURE,
    "captureId": NumberKind.CAPTURE,
    "refundRequestId": NumberKind.REFUND,
    "refundId": NumberKind.REFUND,
    **SUBSCRIPTION,
    "vaultingRequestId": NumberKind.VAULTING_REQUEST,
    "accessToken": NumberKind.ACCESS_TOKEN,  # before authState, which is missing when the token is cancelled
    "authState": NumberKind.AUTHORIZATION,
    "paymentId": NumberKind.TRADE,
}
_MESSAGE_FIELDS = (
    "result.resultCode", "result.resultStatus",
    "disputeTime", "disputeAmount.value", "disputeAmount.currency", "disputeReasonCode", "disputeSource",
    "disputeJudgedTime", "disputeJudgedAmount.value", "disputeJudgedAmount.currency", "disputeJudgedResult",
    "defendable", "defenseDueTime",
    "captureTime", "captureAmount.value", "captureAmount.currency",
    "refundStatus", "refundTime", "refundAmount.value", "refundAmount.currency",
    "subscriptionStatus", "subscriptionStartTime", "subscriptionEndTime", "periodRule.periodType",
    "periodRule.periodCount", "allowAccumulate", "maxAccumulateAmount.value", "maxAccumulateAmount.currency",
    "vaultingCreateTime", "paymentMethodDetail.paymentMethodType",
    "authClientId",
    "paymentAmount.value", "paymentAmount.currency", "paymentTime",
)  # fmt: skip


class Content(Struct, frozen=True):
    """The numbers and fields of one notification, as `Notification` has them."""

    numbers: tuple[NamedNumber, ...]
    fields: tuple[tuple[str, str], ...]


def form_kind(type_: str) -> Kind:
    """Return the kind of a form that moves no order, from its `notify_type` or `msg_method`."""
    return next((kind for beginning, kind in _FORM_KINDS if type_.startswith(beginning)), Kind.OTHER)


def of_form(kind: Kind, fields: Mapping[str, Any]) -> Content:
    """Return the content of a form. `fields` are its parameters, with the members of `biz_content` among them.

    A name that also follows `&` in a value is left out: the signed text would be the same without the parameter.
    """
    texts = [value for name, value in fields.items() if name != "biz_content" and isinstance(value, str)]
    hidden = {name for text in texts if "&" in text for name in re.findall(r"&([^&=]+)=", text)}
    read = {name: value for name, value in fields.items() if name not in hidden}
    return Content(numbers(read, {**_FORM_NUMBERS[kind], **_EVERY_FORM}), _shown(read, _FORM_FIELDS[kind]))


def of_message(message: Mapping[str, Any]) -> Content:
    """Return the content of one of Antom's messages."""
    return Content(numbers(message, _MESSAGE_NUMBERS), _shown(message, _MESSAGE_FIELDS))


def of_batch(batch: str, trades: Iterable[str]) -> tuple[NamedNumber, ...]:
    """Return the numbers of a batch refund, also those of trades whose refund failed."""
    named = [NamedNumber(NumberKind.BATCH, batch), *(NamedNumber(NumberKind.TRADE, trade) for trade in trades)]
    return tuple(dict.fromkeys(each for each in named if _NUMBER.fullmatch(each.number)))


def numbers(fields: Mapping[str, Any], names: Mapping[str, NumberKind]) -> tuple[NamedNumber, ...]:
    """Return the numbers under these names, in the order of the names, each once."""
    found = ((kind, number(fields, path)) for path, kind in names.items())
    return tuple(dict.fromkeys(NamedNumber(kind, _public(kind, text)) for kind, text in found if text))


def number(fields: Mapping[str, Any], path: str) -> str:
    """Return the number at this path; empty if there is none, or none that can be kept exactly."""
    text = _text(fields, path)
    return text if _NUMBER.fullmatch(text) else ""


def _shown(fields: Mapping[str, Any], names: tuple[str, ...]) -> tuple[tuple[str, str], ...]:
    found = ((path, _text(fields, path)) for path in names)
    return tuple((path, text) for path, text in found if 0 < len(text) <= FIELD_CHARACTERS_MAX and text.isprintable())


def _public(kind: NumberKind, text: str) -> str:
    return sha256(text.encode()).hexdigest() if kind is NumberKind.ACCESS_TOKEN else text


def _text(fields: Mapping[str, Any], path: str) -> str:
    value: Any = fields
    for name in path.split("."):
        value = value.get(name) if isinstance(value, Mapping) else None
    if isinstance(value, bool):
        return str(value).lower()
    return str(value) if isinstance(value, str | int) else ""
