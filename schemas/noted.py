"""The numbers by which notifications are found; kind and public fields of those that move no order.

Every number that identifies something is in the lists, whatever becomes of its notification: applied, noted or held.
The lists are closed, and come from Alipay's documents. A name with dots is the path of an inner member. Users' ids,
login names, tokens, codes and free text are in no list. What a list does not name is kept in the signed bytes alone.
"""

import re
from collections.abc import Iterable, Iterator, Mapping
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
_MANY_OF_FORMS = {
    "agreement_no": NumberKind.AGREEMENT,
    "external_agreement_no": NumberKind.EXTERNAL_AGREEMENT,
    "auth_no": NumberKind.PREAUTHORIZATION,
    "out_order_no": NumberKind.PREAUTHORIZATION_ORDER,
    "batch_no": NumberKind.BATCH,
    "order_id": NumberKind.OPERATION,
    "commodity_order_id": NumberKind.OPERATION,
    "operation_id": NumberKind.OPERATION,
    "settle_no": NumberKind.OPERATION,
    "settlement_id": NumberKind.OPERATION,
    "bank_seq_no": NumberKind.ACQUIRER_REFERENCE,
    "out_biz_no": NumberKind.REQUEST,
    "out_request_no": NumberKind.REQUEST,
}

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
    Kind.PAYMENT: _MANY_OF_FORMS,
    Kind.OTHER: _MANY_OF_FORMS,
}
_FORM_FIELDS: Mapping[Kind, tuple[str, ...]] = {
    Kind.PAYMENT: (),
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
    "subscriptionOrderId": NumberKind.OPERATION,
    "updateRequestId": NumberKind.REQUEST,
    "acquirerReferenceNo": NumberKind.ACQUIRER_REFERENCE,
    "acquirerInfo.referenceRequestId": NumberKind.ACQUIRER_REFERENCE,
    "acquirerInfo.acquirerTransactionId": NumberKind.ACQUIRER_REFERENCE,
    "arn": NumberKind.ACQUIRER_REFERENCE,
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


# The entries of a batch of payouts, `batch_trans_notify`: the merchant's number, five details, Alipay's number, a time.
_PAYOUTS = ("success_details", "fail_details")
_PAYOUT_NUMBERS = ((0, NumberKind.REQUEST), (6, NumberKind.OPERATION))
ENTRIES_MAX = 1000  # of one batch

# All parameters of forms that are numbers, except those in `biz_content`.
NUMBERS_OF_FORMS = tuple(
    sorted({name for names in (_EVERY_FORM, *_FORM_NUMBERS.values()) for name in names if "." not in name})
)

# All parameters of forms, and members of their `biz_content`, that are numbers or public fields.
NAMES_OF_FORMS = frozenset(
    name for names in (_EVERY_FORM, *_FORM_NUMBERS.values(), *_FORM_FIELDS.values()) for name in names
)

_PAYMENT_FORM_NAMES = frozenset(_MANY_OF_FORMS)
_PAYMENT_MESSAGE_NUMBERS = {path: kind for path, kind in _MESSAGE_NUMBERS.items() if path != "paymentId"}
_PAYMENT_MESSAGE_NAMES = frozenset(path.partition(".")[0] for path in _PAYMENT_MESSAGE_NUMBERS)


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
    read = _unhidden(fields)
    found = numbers(read, {**_FORM_NUMBERS[kind], **_EVERY_FORM})
    refunds = ((NumberKind.TRADE, trade) for trade in refunded_trades(_text(read, "result_details")))
    return Content(_once((*found, *named(*refunds), *_of_payouts(read))), _shown(read, _FORM_FIELDS[kind]))


def of_payment_form(fields: Mapping[str, str]) -> tuple[NamedNumber, ...]:
    """Return the numbers of a form about an order's payment, without that of its trade, which the order has."""
    # Most payments have none of these, and every payment is asked.
    if _PAYMENT_FORM_NAMES.isdisjoint(fields):
        return ()
    return numbers(_unhidden(fields), _MANY_OF_FORMS)


def of_payment_message(message: Mapping[str, Any]) -> tuple[NamedNumber, ...]:
    """Return the numbers of one of Antom's payments, without that of its trade, which the order has."""
    if _PAYMENT_MESSAGE_NAMES.isdisjoint(message):
        return ()
    return numbers(message, _PAYMENT_MESSAGE_NUMBERS)


def _unhidden(fields: Mapping[str, Any]) -> dict[str, Any]:
    """Return the parameters without those whose name also follows `&` in a value."""
    texts = [value for name, value in fields.items() if name != "biz_content" and isinstance(value, str)]
    hidden = {name for text in texts if "&" in text for name in re.findall(r"&([^&=]+)=", text)}
    return {name: value for name, value in fields.items() if name not in hidden}


def _of_payouts(fields: Mapping[str, Any]) -> Iterator[NamedNumber]:
    """Yield the numbers of a batch of payouts, paid or failed."""
    entries = [entry for name in _PAYOUTS for entry in _text(fields, name).split("|")]
    for entry in entries[:ENTRIES_MAX]:
        parts = entry.split("^")
        for place, kind in _PAYOUT_NUMBERS:
            if place < len(parts) and _NUMBER.fullmatch(parts[place]):
                yield NamedNumber(kind, parts[place])


def of_message(message: Mapping[str, Any]) -> Content:
    """Return the content of one of Antom's messages."""
    return Content(numbers(message, _MESSAGE_NUMBERS), _shown(message, _MESSAGE_FIELDS))


def refunded_trades(details: str) -> list[str]:
    """Return the trades in the `result_details` of a batch refund, also those whose refund failed."""
    return [entry.partition("^")[0] for entry in details.split("#")[:ENTRIES_MAX]]


def of_batch(batch: str, trades: Iterable[str]) -> tuple[NamedNumber, ...]:
    """Return the numbers of a batch refund, also those of trades whose refund failed."""
    return named((NumberKind.BATCH, batch), *((NumberKind.TRADE, trade) for trade in trades))


def named(*given: tuple[NumberKind, str]) -> tuple[NamedNumber, ...]:
    """Return these numbers, each once, without those that are empty or cannot be kept exactly."""
    return _once(NamedNumber(kind, text) for kind, text in given if _NUMBER.fullmatch(text))


def _once(found: Iterable[NamedNumber]) -> tuple[NamedNumber, ...]:
    return tuple(dict.fromkeys(found))


def numbers(fields: Mapping[str, Any], names: Mapping[str, NumberKind]) -> tuple[NamedNumber, ...]:
    """Return the numbers under these names, in the order of the names, each once."""
    found = ((kind, number(fields, path)) for path, kind in names.items())
    return _once(NamedNumber(kind, _public(kind, text)) for kind, text in found if text)


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
