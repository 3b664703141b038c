"""The fields that each product sends for each kind of event: one function per product; `antom_messages` has Antom's.

The sets are those of real messages, not every field that a document mentions. Three details are inferred, because no
genuine sample is public: the website refund (the ten fields plus `refund_status` and `gmt_refund`), the expired openapi
trade (no `gmt_payment`), and Antom's result code for an expired payment.

`compose` is the only entry. It uses neither keys nor delivery times.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from random import Random

from deploy.sandbox import antom_messages, serials
from deploy.sandbox.identities import Product
from deploy.sandbox.notifications import (
    KINDS_OF,
    NAMELESS,
    Facts,
    MessageKind,
    Trade,
    TradeEvent,
    UnplayableError,
    UnsignedNotification,
)
from schemas import money
from schemas.currencies import EXPONENTS

_STATUS: Mapping[MessageKind, str] = {
    MessageKind.WAITING: "WAIT_BUYER_PAY",
    MessageKind.PAID: "TRADE_SUCCESS",
    MessageKind.FINISHED: "TRADE_FINISHED",
    MessageKind.FROZEN: "TRADE_PENDING",
    MessageKind.CLOSED: "TRADE_CLOSED",
    MessageKind.REFUND_CLOSED: "TRADE_SUCCESS",
    MessageKind.REVERSED: "TRADE_CLOSED",
}
_REFUNDS = (MessageKind.REFUND, MessageKind.REFUND_ACTION)
_NOTIFY_TYPE: Mapping[MessageKind, str] = {MessageKind.BATCH_REFUND: "batch_refund_notify"}


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
        notify_id = antom_messages.business_key(fields)
    else:
        notify_id = numbers.notify_id(event.at)
        fields = _with_envelope(fields, notify_id=notify_id, sign_type=trade.account.signer.sign_type, event=event)
        fields = dict(chance.sample(list(fields.items()), k=len(fields)))
    return UnsignedNotification(
        account=trade.account,
        order=trade.trade_no if event.kind is MessageKind.SUBSCRIPTION_PAYMENT else trade.order,
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
    envelope = {"notify_id": notify_id, "notify_time": serials.moment(event.at)}
    if event.kind is not MessageKind.OTHER:  # its type is a field of the scenario, or there is none
        envelope["notify_type"] = _NOTIFY_TYPE.get(event.kind, "trade_status_sync")
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


def _status(trade: Trade, event: TradeEvent) -> str:
    if event.kind not in _REFUNDS:
        return _STATUS[event.kind]
    # A trade stays paid until its refunds reach the whole amount; then it closes.
    return "TRADE_CLOSED" if event.required_refund().total_minor >= trade.amount_minor else "TRADE_SUCCESS"


def _in_app(trade: Trade, event: TradeEvent) -> dict[str, str]:
    if event.kind is MessageKind.BATCH_REFUND:
        return _batch_refund(trade, event)
    if event.kind is MessageKind.OTHER:
        return {"partner_id": trade.account.identity.partner}
    identity, price = trade.account.identity, money.major(trade.amount_minor, trade.currency)
    fields = {
        "out_trade_no": trade.order, "trade_no": trade.trade_no, "trade_status": _status(trade, event),
        "subject": trade.subject, "payment_type": "1", "total_fee": price, "price": price, "quantity": "1",
        "discount": "0.00", "seller_id": identity.seller_id, "seller_email": "payee@merchant.example",
        "buyer_id": trade.buyer_id, "buyer_email": trade.buyer_login, "is_total_fee_adjust": "N", "use_coupon": "N",
    }  # fmt: skip
    if trade.body:
        fields["body"] = trade.body
    if trade.currency != identity.currency:
        fields["currency"] = trade.currency
    return fields | _times(trade, event) | _mapi_refund(event) | _mapi_action(trade, event)


def _mapi_action(trade: Trade, event: TradeEvent) -> dict[str, str]:
    """Return what acquiring and auto-debit say of a refund or a cancelled trade, in place of `refund_status`."""
    moment = {"gmt_refund": serials.moment(event.at)}
    if event.kind is MessageKind.REVERSED:
        whole = money.major(trade.amount_minor, trade.currency)
        return moment | {"notify_action_type": "reverseAction", "refund_fee": whole}
    if event.kind is MessageKind.REFUND_ACTION:
        total = money.major(event.required_refund().total_minor, trade.currency)
        return moment | {"notify_action_type": "refundFPAction", "refund_fee": total}
    return {}


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
    refund = event.required_refund()
    refunded = money.major(refund.amount_minor, trade.currency)
    return {
        "batch_no": refund.number,
        "success_num": "1",
        "result_details": f"{trade.trade_no}^{refunded}^SUCCESS",
    }


def _website(trade: Trade, event: TradeEvent) -> dict[str, str]:
    if event.kind is MessageKind.BATCH_REFUND:
        return _batch_refund(trade, event)
    if event.kind is MessageKind.OTHER:
        return {"partner_id": trade.account.identity.partner}
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
    merchant = identity.auth_app_id or identity.app_id
    named = {"app_id": identity.app_id, "auth_app_id": merchant, "charset": identity.charset, "version": "1.0"}
    if event.kind is MessageKind.OTHER:
        return named
    fields = named | {
        "out_trade_no": trade.order, "trade_no": trade.trade_no, "trade_status": _status(trade, event),
        "subject": trade.subject, "total_amount": total, "seller_id": identity.seller_id,
        "seller_email": "payee@merchant.example", "buyer_id": trade.buyer_id, "buyer_logon_id": trade.buyer_login,
    }  # fmt: skip
    if trade.body:
        fields["body"] = trade.body
    if trade.currency != identity.currency:
        fields["trans_currency"] = trade.currency
    if event.kind not in (MessageKind.WAITING, MessageKind.CLOSED):
        bill = f'[{{"amount":"{total}","fundChannel":"ALIPAYACCOUNT"}}]'
        fields |= {"receipt_amount": total, "invoice_amount": total, "buyer_pay_amount": total}
        fields |= {"point_amount": "0.00", "fund_bill_list": bill}
    if event.kind is MessageKind.REFUND:
        refund = event.required_refund()
        fields |= {
            "refund_fee": money.major(refund.total_minor, trade.currency),
            "gmt_refund": serials.moment_with_fraction(event.at),
            "out_biz_no": refund.number,
        }
    return fields | _times(trade, event)


_FIELD_SETS: Mapping[Product, Callable[[Trade, TradeEvent], dict[str, str]]] = {
    "in-app": _in_app,
    "website": _website,
    "open": _open,
    "antom": antom_messages.fields,
}
