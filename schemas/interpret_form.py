"""Interpret the forms of the old gateway and the Open Platform.

A status is ambiguous by itself: `TRADE_CLOSED` means both "never paid" and "fully refunded". Other fields resolve it: a
refund needs `gmt_refund`, an end without payment must have no `gmt_payment`. If the fields contradict each other, the
form is held for an operator. Free text (subject, body) decides nothing.
"""

import codecs
import re
from collections.abc import Mapping
from contextlib import suppress
from datetime import datetime
from hashlib import blake2b
from typing import Any

from schemas import ambiguous, antom, money, noted, scopes, times
from schemas import form as forms
from schemas.accounts import AUTH_APP_ID, CHARSETS, Account, Family
from schemas.dispositions import Reason
from schemas.form import DECIDING_NAMES, KNOWN_NAMES, Form
from schemas.money import Money
from schemas.notification import Kind, NamedNumber, Notification, Unreadable
from schemas.orders import News, Refund

BATCH_ENTRIES_MAX = 1000

_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\ud800-\udfff]")  # and lone surrogates, which only JSON can have
_TRADE_SYNC, _BATCH_REFUND = forms.TRADE_SYNC.decode(), forms.BATCH_REFUND.decode()
_OPENAPI, _PAID, _PAYMENT = Family.OPENAPI, News.PAID, Kind.PAYMENT  # read once, because each payment asks for them
_REFUNDED, _CANCELLED = "refundFPAction", "reverseAction"  # of notify_action_type
_REFUND_FIELDS = ("gmt_refund", "refund_status", "refund_amount", "out_biz_no", "out_request_no")
_DELIVERY_FIELDS = frozenset({b"notify_time"})  # differ between two deliveries of the same content


def read(form: Form, account: Account, *, is_confirmed: bool = False) -> Notification:
    """Return the meaning of a form for this account. `is_confirmed`: notify_verify confirmed that it is for it.

    Raises:
        Unreadable: an ambiguous form, undecodable text, a missing or impossible value, fields that contradict each
            other, or a batch refund that may be another merchant's.
    """
    if forms.is_ambiguous(form):
        raise _ambiguous(form, account)
    digest = _digest(form)
    fields = _Fields(text(form, account, digest), digest)
    if account.auth_app_ids:
        _check_merchant(form, fields)
    type_ = _type(fields)
    try:
        if type_ == _TRADE_SYNC:
            return _trade(fields, account, digest)
        if type_ == _BATCH_REFUND and account.family is Family.MAPI:
            if not (is_confirmed or account.has_secret or account.is_named_in(form.fields)):
                raise fields.unreadable(Reason.NAMES_NOBODY, "names no merchant, and notify_verify did not confirm it")
            return _batch_refund(fields, account, digest)
        return _noted(fields, account, digest)
    except times.BadTime as error:
        raise fields.unreadable(Reason.BAD_TIME, str(error)) from None
    except money.UnknownCurrency as error:
        raise fields.unreadable(Reason.UNKNOWN_CURRENCY, str(error)) from None
    except money.BadMoney as error:
        raise fields.unreadable(Reason.BAD_AMOUNT, str(error)) from None


def _ambiguous(form: Form, account: Account) -> Unreadable:
    """Return the error for an ambiguous form. Its numbers may be conjured, so its signature stands for them.

    It is found by each number that any of its readings has, and filed under none.
    """
    digest = forms.signature_digest(form)
    detail = "a value contains & and the name of a parameter, so the signature also fits other parameters"
    return Unreadable(
        Reason.AMBIGUOUS,
        detail,
        notification_id=f"sign-{digest.hex()}",
        digest=digest,
        numbers=ambiguous.numbers(form, account),
        scopes=ambiguous.scopes_of(form, account),
    )


# Parameter names as text. The known ones are decoded once.
_NAMES = {name: name.decode("ascii") for name in KNOWN_NAMES}
_CHARSETS = {spelled.encode(): name for name in CHARSETS for spelled in (name, name.upper())}


class _Fields:
    """The decoded fields of a form. `unreadable` makes an error with the order and id to look the message up by."""

    def __init__(self, fields: dict[str, str], digest: bytes) -> None:
        self.values = fields
        self._digest = digest
        # `get` returns nothing for an absent or empty parameter: Alipay omits some, sends some. As control characters
        # are not printable, one check of all values usually replaces a search in each.
        self.get = fields.get if "".join(fields.values()).isprintable() else self._searched

    def _searched(self, name: str) -> str | None:
        text = self.values.get(name)
        if text is not None and _CONTROL.search(text) is not None:
            raise self.unreadable(Reason.CONTROL_CHAR, f"a control character in {name}")
        return text

    def required(self, name: str) -> str:
        text = self.get(name)
        if not text:
            raise self.unreadable(Reason.MISSING_FIELD, f"{name} is missing")
        return text

    def time(self, name: str) -> datetime | None:
        text = self.get(name)
        return times.parse_local(text) if text else None

    def unreadable(self, reason: Reason, detail: str) -> Unreadable:
        # A number with a control character is not filed at all: its replacement could equal another message's number.
        order, id_ = (kept(self.values.get(name, "")) for name in ("out_trade_no", "notify_id"))
        digest = self._digest if id_ else b""
        return Unreadable(reason, detail, order=order, notification_id=id_, digest=digest, numbers=_named(self.values))


def _check_merchant(form: Form, fields: _Fields) -> None:
    """Hold a form of a service provider whose merchant cannot be a part of the order's key; under no order number."""
    merchant = scopes.merchant(form.fields)
    if merchant and AUTH_APP_ID.fullmatch(merchant.decode("ascii", "replace")) is None:
        error = fields.unreadable(Reason.MISSING_FIELD, "auth_app_id is not the number of an application")
        error.numbers += ambiguous.claimed_orders([error.order])
        error.order = ""
        raise error


def text(form: Form, account: Account, digest: bytes = b"") -> dict[str, str]:
    """Return the form's values as text, in the charset of its `charset` field, else in the account's.

    Free text may be broken: Alipay cuts a subject inside a character, or declares GB2312 and sends GBK. It decides
    nothing, so it is decoded for display alone: in that charset, the account's, or gb18030, else with escapes.

    Raises:
        Unreadable: a deciding value is not text in that charset, or the charset is not supported.
    """
    named = form.fields.get(b"charset", b"")
    charset = _CHARSETS.get(named) or named.decode("ascii", "replace").lower() or account.charset
    if charset not in CHARSETS:
        detail = f"the charset is not supported; supported are {', '.join(CHARSETS)}"
        raise Unreadable(Reason.CHARSET, detail, **_numbers(form, digest))
    # Decoding all values at once takes a quarter of the time. No supported charset has a character that contains the
    # byte 0, so a value that ends within a character cannot consume the separator: it is an error here too.
    try:
        values = b"\x00".join(form.fields.values()).decode(charset).split("\x00")
        if len(values) == len(form.fields):
            return dict(zip(_names(form), values, strict=True))
    except UnicodeDecodeError:
        pass
    return {
        name.decode("ascii"): _decoded(name, value, charset, account, form, digest)
        for name, value in form.fields.items()
    }


def _names(form: Form) -> list[str]:
    """Return the names of the form's fields as text."""
    try:
        return list(map(_NAMES.__getitem__, form.fields))
    except KeyError:
        return [name.decode("ascii") for name in form.fields]


def _decoded(name: bytes, value: bytes, charset: str, account: Account, form: Form, digest: bytes) -> str:
    """Return one value of a form that cannot be decoded as a whole."""
    if name not in DECIDING_NAMES:
        return _shown(value, (charset, account.charset, "gb18030"))
    if b"\x00" in value:
        raise Unreadable(Reason.CONTROL_CHAR, f"U+0000 in {name.decode()}", **_numbers(form, digest))
    try:
        return value.decode(charset, _WITHIN_JSON if name == b"biz_content" else "strict")
    except UnicodeDecodeError:
        detail = f"{name.decode()} is not {charset} text"
        raise Unreadable(Reason.CHARSET, detail, **_numbers(form, digest)) from None


_WITHIN_JSON = "escape_within_json"


def _escape_within_json(error: UnicodeError) -> tuple[str, int]:
    """Return undecodable bytes as they can stand in a JSON text, which doubles a backslash."""
    assert isinstance(error, UnicodeDecodeError)
    return "".join(f"\\\\x{byte:02x}" for byte in error.object[error.start : error.end]), error.end


codecs.register_error(_WITHIN_JSON, _escape_within_json)


def _shown(value: bytes, charsets: tuple[str, ...]) -> str:
    for charset in charsets:
        with suppress(UnicodeDecodeError):
            return value.decode(charset)
    return value.decode(charsets[0], "backslashreplace")


def for_display(form: Form, default_charset: str) -> dict[str, str]:
    """Return all values of any form as text: readable if a charset fits, else with escapes."""
    named = form.fields.get(b"charset", b"").decode("ascii", "replace").lower()
    charset = named if named in CHARSETS else default_charset
    return {
        name.decode("ascii"): value.decode(charset, "backslashreplace")
        if name in DECIDING_NAMES
        else _shown(value, (charset, default_charset, "gb18030"))
        for name, value in form.fields.items()
    }


def kept(number: str) -> str:
    """Return a number by which a message can be filed; empty if it has a control character."""
    return "" if _CONTROL.search(number) is not None else number


def _numbers(form: Form, digest: bytes) -> dict[str, Any]:
    """Return order number and notification id of a form with undecodable text, if they are printable ASCII."""
    plain = {name.decode("ascii"): value.decode() for name, value in form.fields.items() if value.isascii()}
    order, id_ = (plain.get(name, "") for name in ("out_trade_no", "notify_id"))
    order, id_ = order if order.isprintable() else "", id_ if id_.isprintable() else ""
    return {
        "order": order,
        "notification_id": id_,
        "digest": digest if id_ else b"",
        "numbers": _named(plain),
    }


def _named(values: Mapping[str, str]) -> tuple[NamedNumber, ...]:
    """Return the numbers by which a form is found that is held because it cannot be read."""
    type_ = values.get("notify_type") or values.get("msg_method", "")
    return noted.of_form(Kind.PAYMENT if type_ == _TRADE_SYNC else noted.form_kind(type_), values).numbers


def _digest(form: Form) -> bytes:
    """Return a digest of the content: all fields but `notify_time` and the signature, which differ in each delivery."""
    return blake2b(forms.joined(form, forms.filled(form) - _DELIVERY_FIELDS), digest_size=16).digest()


def _type(fields: _Fields) -> str:
    """Return `notify_type`, or `msg_method` of Alipay's message service, whose messages change no order."""
    return fields.get("notify_type") or fields.get("msg_method") or fields.required("notify_type")


def _envelope(fields: _Fields, account: Account, digest: bytes) -> dict[str, Any]:
    payer = fields.values.get("buyer_logon_id") or fields.values.get("buyer_email") or ""
    return {
        "account": account.name,
        "id": fields.required("notify_id"),
        "type": _type(fields),
        "status": fields.get("trade_status") or "",
        "order": fields.get("out_trade_no") or "",
        "trade": fields.get("trade_no") or "",
        "sent_at": fields.time("notify_time"),
        "payer": mask(payer),
        "digest": digest,
    }


def _noted(fields: _Fields, account: Account, digest: bytes) -> Notification:
    """Return a notification that moves no order. Many name what they are about in the JSON of `biz_content`."""
    read: dict[str, Any] = fields.values
    if content := fields.values.get("biz_content"):  # JSON's grammar says which control characters it may have
        try:
            read = read | antom.read(content.encode())
        except antom.BadMessage as error:
            raise fields.unreadable(Reason.MALFORMED, f"biz_content: {error}") from None
    envelope = _envelope(fields, account, digest)
    kind = noted.form_kind(envelope["type"])
    found = noted.of_form(kind, read)
    for part, name in (("order", "out_trade_no"), ("trade", "trade_no"), ("status", "status")):
        envelope[part] = envelope[part] or noted.number(read, name)
    return Notification(kind=kind, news=News.OTHER, numbers=found.numbers, fields=found.fields, **envelope)


def mask(payer: str) -> str:
    """Mask a login name: keep three characters (`206***`), or none if the name has six or fewer.

    Control characters and lone surrogates among the three are escaped, because a database cannot hold them all.
    """
    return f"{_escaped(payer[:3])}***" if len(payer) > 6 else "***" if payer else ""


def _escaped(text: str) -> str:
    return text if text.isprintable() else _CONTROL.sub(lambda found: found[0].encode("unicode_escape").decode(), text)


def _trade(fields: _Fields, account: Account, digest: bytes) -> Notification:
    for name in ("notify_id", "out_trade_no", "trade_no", "trade_status"):
        fields.required(name)
    openapi = account.family is _OPENAPI
    currency = fields.get("trans_currency" if openapi else "currency") or account.currency
    amount = money.parse_major(fields.required("total_amount" if openapi else "total_fee"), currency)
    if amount.minor == 0:
        raise fields.unreadable(Reason.BAD_AMOUNT, "the amount is zero")
    refunded = _refunded_so_far(fields, currency)
    has_refund = refunded is not None or _has_succeeded_refund(fields)
    news, happened_at = _news(fields, has_refund=has_refund)
    if has_refund and news is News.REFUNDED and (refunded is None or refunded.minor < amount.minor):
        refunded = amount  # refunds close a trade only when they have reached its whole amount
    return Notification(
        kind=Kind.REFUND if has_refund else _PAYMENT,
        news=news,
        amount=amount,
        refunded_total=refunded,
        mentions_refund=has_refund or any(map(fields.values.get, _REFUND_FIELDS)),
        happened_at=happened_at,
        numbers=noted.of_payment_form(fields.values),
        **_envelope(fields, account, digest),
    )


def _refunded_so_far(fields: _Fields, currency: str) -> Money | None:
    """Return `refund_fee`, a cumulative sum; `None` without a refund (payments may have 0.00).

    A companion must confirm it, because an optional field could be a part of free text.
    """
    refunded = money.parse_major(fee, currency) if (fee := fields.get("refund_fee")) else None
    if refunded is None or refunded.minor == 0:
        return None
    if not fields.get("gmt_refund") and fields.get("notify_action_type") not in (_REFUNDED, _CANCELLED):
        raise fields.unreadable(Reason.BAD_REFUND, "refund_fee without gmt_refund, refundFPAction or reverseAction")
    return refunded


def _has_succeeded_refund(fields: _Fields) -> bool:
    """Return whether the old gateway reports a refund without an amount: by `refund_status` or `notify_action_type`."""
    if fields.get("notify_action_type") == _REFUNDED:
        return True
    if fields.get("refund_status") != "REFUND_SUCCESS":
        return False
    if not fields.get("gmt_refund"):
        raise fields.unreadable(Reason.BAD_REFUND, "REFUND_SUCCESS without gmt_refund")
    return True


def _news(fields: _Fields, *, has_refund: bool) -> tuple[News, datetime | None]:
    """Return the news and the time of its event, which is never `notify_time`."""
    status = fields.required("trade_status")
    paid_at, refunded_at, closed_at = fields.time("gmt_payment"), fields.time("gmt_refund"), fields.time("gmt_close")
    is_cancelled = fields.get("notify_action_type") == _CANCELLED
    if is_cancelled and status != "TRADE_CLOSED" and not has_refund:
        raise fields.unreadable(Reason.BAD_CLOSE, "reverseAction, but trade_status is not TRADE_CLOSED")
    match status:
        case "WAIT_BUYER_PAY" if has_refund:
            raise fields.unreadable(Reason.BAD_REFUND, "a refund, but trade_status is WAIT_BUYER_PAY")
        case "WAIT_BUYER_PAY":
            return News.WAITING, None
        case "TRADE_SUCCESS" | "TRADE_PENDING" if has_refund:
            return News.PARTLY_REFUNDED, refunded_at
        case "TRADE_SUCCESS":
            return _PAID, paid_at
        case "TRADE_PENDING":
            return News.FROZEN, paid_at
        case "TRADE_FINISHED":
            return News.FINISHED, paid_at
        case "TRADE_CLOSED" if has_refund:
            return News.REFUNDED, refunded_at
        case "TRADE_CLOSED" if is_cancelled:
            return News.REVERSED, closed_at
        case "TRADE_CLOSED" if paid_at is not None:
            raise fields.unreadable(Reason.BAD_CLOSE, "TRADE_CLOSED with gmt_payment, but without a refund")
        case "TRADE_CLOSED":
            return News.EXPIRED, closed_at
    raise fields.unreadable(Reason.UNKNOWN_STATUS, "trade_status is undocumented")


def _batch_refund(fields: _Fields, account: Account, digest: bytes) -> Notification:
    batch = fields.required("batch_no")
    entries = fields.required("result_details").split("#")
    if len(entries) > BATCH_ENTRIES_MAX:
        raise fields.unreadable(Reason.BAD_REFUND, f"more than {BATCH_ENTRIES_MAX} entries")
    read = (_batch_entry(entry, batch, fields, account) for entry in entries)
    refunds = tuple(refund for refund in read if refund is not None)
    if len({refund.id for refund in refunds}) != len(refunds):
        raise fields.unreadable(Reason.BAD_REFUND, "two refunds of one trade in one batch")
    return Notification(
        kind=Kind.BATCH_REFUND,
        news=News.PARTLY_REFUNDED,
        refunds=refunds,
        happened_at=None,
        numbers=noted.of_batch(batch, noted.refunded_trades(fields.required("result_details"))),
        **_envelope(fields, account, digest),
    )


def _batch_entry(entry: str, batch: str, fields: _Fields, account: Account) -> Refund | None:
    """Parse `trade_no^amount^result`; return `None` if the result is not SUCCESS.

    The part after a `$` is the refund of the merchant's fee, which does not concern the order.
    """
    parts = entry.split("$")[0].split("^")
    if len(parts) != 3 or not all(parts):
        raise fields.unreadable(Reason.BAD_REFUND, "an entry of result_details is not trade_no^amount^result")
    trade, amount, result = parts
    if result != "SUCCESS":
        return None
    refunded = money.parse_major(amount, account.currency)
    if refunded.minor == 0:
        raise fields.unreadable(Reason.BAD_AMOUNT, "the refund's amount is zero")
    return Refund(id=f"{batch}/{trade}", amount=refunded, trade=trade)
