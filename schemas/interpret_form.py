"""What a form of the old gateway or of the Open Platform means.

Alipay's words are ambiguous on their own (`TRADE_CLOSED` is both "nobody paid" and "all was refunded"), so each piece
of news needs its companions: a refund its `gmt_refund`, an end without payment the absence of `gmt_payment`. A form
whose words contradict each other is held for a person, never guessed at. Free text (subject, body) decides nothing.
"""

import re
from datetime import datetime
from hashlib import blake2b
from typing import Any

from schemas import form as forms
from schemas import money, times
from schemas.accounts import CHARSETS, Account, Family
from schemas.dispositions import Reason
from schemas.form import KNOWN_NAMES, Form
from schemas.money import Money
from schemas.notification import Kind, Notification, Unreadable
from schemas.orders import News, Refund

BATCH_ENTRIES_MAX = 1000

_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]")
_TRADE_SYNC = "trade_status_sync"
_BATCH_REFUND = "batch_refund_notify"
_OPENAPI_CURRENCY = "CNY"
_OF_ONE_DELIVERY = frozenset({b"notify_time"})


def read(form: Form, account: Account) -> Notification:
    """What the form says to this account.

    Raises:
        Unreadable: undecodable text, a missing or impossible value, or words that contradict each other.
    """
    digest = _digest(form)
    identity = _Identity(text(form, account, digest), digest)
    type_ = identity.required("notify_type")
    try:
        if type_ == _TRADE_SYNC:
            return _trade(identity, account, digest)
        if type_ == _BATCH_REFUND and account.family is Family.MAPI:
            return _batch_refund(identity, account, digest)
        return Notification(kind=Kind.OTHER, news=News.OTHER, **_envelope(identity, account, digest))
    except times.BadTime as error:
        raise identity.unreadable(Reason.BAD_TIME, str(error)) from None
    except money.BadMoney as error:
        raise identity.unreadable(Reason.BAD_AMOUNT, str(error)) from None


class _Names(dict[bytes, str]):
    """Names as text: the known ones, made once, any other when it is asked for."""

    def __missing__(self, name: bytes) -> str:
        return name.decode("ascii")


_NAMES = _Names({name: name.decode("ascii") for name in KNOWN_NAMES})


class _Identity:
    """The decoded fields, and the two numbers by which a person would look for the message if it cannot be read."""

    def __init__(self, fields: dict[str, str], digest: bytes) -> None:
        self.fields = fields
        self._digest = digest
        # Nearly always nothing needs a closer look: no control character is printable.
        self._is_plain = "".join(fields.values()).isprintable()

    def optional(self, name: str) -> str:
        """The value, empty where absent: of the two customs for blanks ours is that they say nothing."""
        text = self.fields.get(name, "")
        if not self._is_plain and _CONTROL.search(text) is not None:
            raise self.unreadable(Reason.CONTROL_CHAR, f"a control character in {name}")
        return text

    def required(self, name: str) -> str:
        text = self.fields.get(name) if self._is_plain else self.optional(name)
        if not text:
            raise self.unreadable(Reason.MISSING_FIELD, f"no {name}")
        return text

    def time(self, name: str) -> datetime | None:
        text = self.optional(name)
        return times.parse_local(text) if text else None

    def unreadable(self, reason: Reason, detail: str) -> Unreadable:
        order = _CONTROL.sub("\N{REPLACEMENT CHARACTER}", self.fields.get("out_trade_no", ""))
        told_id = self.fields.get("notify_id", "")
        shown_id = _CONTROL.sub("\N{REPLACEMENT CHARACTER}", told_id)
        # An id that had to be altered to be shown is not the sender's id: such a message repeats nothing.
        digest = self._digest if told_id and shown_id == told_id else b""
        return Unreadable(reason, detail, order=order, notification_id=shown_id, digest=digest)


def text(form: Form, account: Account, digest: bytes = b"") -> dict[str, str]:
    """The form's values as text, in the charset that is signed with them, or else the account's.

    Raises:
        Unreadable: it is not text in that charset, or the charset is none of ours.
    """
    charset = form.fields.get(b"charset", b"").decode("ascii", "replace").lower() or account.charset
    if charset not in CHARSETS:
        detail = f"a charset that is not read here; known are {', '.join(CHARSETS)}"
        raise Unreadable(Reason.CHARSET, detail, **_numbers(form, digest))
    # Decoded in one piece, a quarter of the time of value by value. No charset of ours has a character that holds the
    # byte 0, so a value cut off within a character cannot swallow the mark after it: that is an error here too.
    try:
        values = b"\x00".join(form.fields.values()).decode(charset).split("\x00")
    except UnicodeDecodeError:
        raise Unreadable(Reason.CHARSET, f"text that is not {charset}", **_numbers(form, digest)) from None
    if len(values) != len(form.fields):
        raise Unreadable(Reason.CONTROL_CHAR, "U+0000 in a value", **_numbers(form, digest))
    return dict(zip(map(_NAMES.__getitem__, form.fields), values, strict=True))


def _numbers(form: Form, digest: bytes) -> dict[str, Any]:
    """Order and notification number of a form whose text cannot be trusted, where at least these are plain ASCII."""
    plain = {"order": form.fields.get(b"out_trade_no", b""), "notification_id": form.fields.get(b"notify_id", b"")}
    numbers: dict[str, Any] = {
        name: value.decode() for name, value in plain.items() if value.isascii() and value.decode().isprintable()
    }
    return numbers | {"digest": digest if numbers.get("notification_id") else b""}


def _digest(form: Form) -> bytes:
    """Equal for two deliveries of one content: everything but `notify_time` and the signature, which change."""
    return blake2b(forms.joined(form, forms.filled(form) - _OF_ONE_DELIVERY), digest_size=16).digest()


def _envelope(identity: _Identity, account: Account, digest: bytes) -> dict[str, Any]:
    payer = identity.fields.get("buyer_logon_id") or identity.fields.get("buyer_email") or ""
    return {
        "account": account.name,
        "id": identity.required("notify_id"),
        "type": identity.required("notify_type"),
        "status": identity.optional("trade_status"),
        "order": identity.optional("out_trade_no"),
        "trade": identity.optional("trade_no"),
        "sent_at": identity.time("notify_time"),
        "payer": mask(payer),
        "digest": digest,
    }


def mask(payer: str) -> str:
    """A login name such that its owner recognises it and nobody else learns it: `206***`, of a short one nothing."""
    return f"{payer[:3]}***" if len(payer) > 6 else "***" if payer else ""


def _trade(identity: _Identity, account: Account, digest: bytes) -> Notification:
    for name in ("notify_id", "out_trade_no", "trade_no", "trade_status"):
        identity.required(name)
    openapi = account.family is Family.OPENAPI
    currency = _OPENAPI_CURRENCY if openapi else identity.optional("currency") or account.currency
    amount = money.parse_major(identity.required("total_amount" if openapi else "total_fee"), currency)
    if amount.minor == 0:
        raise identity.unreadable(Reason.BAD_AMOUNT, "an amount of zero")
    refunded = _refunded_so_far(identity, currency) if openapi else None
    has_refund = refunded is not None or _has_succeeded_refund(identity)
    news, happened_at = _news(identity, has_refund=has_refund)
    if news is News.REFUNDED and (refunded is None or refunded.minor < amount.minor):
        refunded = amount  # a trade closes by refunds only when they have reached the whole of it
    return Notification(
        kind=Kind.REFUND if has_refund else Kind.PAYMENT,
        news=news,
        amount=amount,
        refunded_total=refunded,
        happened_at=happened_at,
        **_envelope(identity, account, digest),
    )


def _refunded_so_far(identity: _Identity, currency: str) -> Money | None:
    """The Open Platform's `refund_fee`, a cumulative sum; `None` where there was no refund (payments carry 0.00)."""
    text = identity.optional("refund_fee")
    refunded = money.parse_major(text, currency) if text else None
    if refunded is None or refunded.minor == 0:
        return None
    if not identity.optional("gmt_refund"):
        raise identity.unreadable(Reason.BAD_REFUND, "refund_fee without gmt_refund")
    return refunded


def _has_succeeded_refund(identity: _Identity) -> bool:
    """Whether the old gateway's `refund_status` says so, which tells no amount."""
    if identity.optional("refund_status") != "REFUND_SUCCESS":
        return False
    if not identity.optional("gmt_refund"):
        raise identity.unreadable(Reason.BAD_REFUND, "REFUND_SUCCESS without gmt_refund")
    return True


def _news(identity: _Identity, *, has_refund: bool) -> tuple[News, datetime | None]:
    """The news and the moment it happened, which is never `notify_time`."""
    status = identity.required("trade_status")
    paid_at, refunded_at, closed_at = (identity.time(name) for name in ("gmt_payment", "gmt_refund", "gmt_close"))
    match status:
        case "WAIT_BUYER_PAY" if has_refund:
            raise identity.unreadable(Reason.BAD_REFUND, "a refund of what nobody has paid yet")
        case "WAIT_BUYER_PAY":
            return News.WAITING, None
        case "TRADE_SUCCESS" | "TRADE_PENDING" if has_refund:
            return News.PARTLY_REFUNDED, refunded_at
        case "TRADE_SUCCESS":
            return News.PAID, paid_at
        case "TRADE_PENDING":
            return News.FROZEN, paid_at
        case "TRADE_FINISHED":
            return News.FINISHED, paid_at
        case "TRADE_CLOSED" if has_refund:
            return News.REFUNDED, refunded_at
        case "TRADE_CLOSED" if paid_at is not None:
            raise identity.unreadable(Reason.BAD_CLOSE, "closed after payment, and no refund that explains it")
        case "TRADE_CLOSED":
            return News.EXPIRED, closed_at
    raise identity.unreadable(Reason.UNKNOWN_STATUS, "a trade_status that no document names")


def _batch_refund(identity: _Identity, account: Account, digest: bytes) -> Notification:
    batch = identity.required("batch_no")
    entries = identity.required("result_details").split("#")
    if len(entries) > BATCH_ENTRIES_MAX:
        raise identity.unreadable(Reason.BAD_REFUND, f"more than {BATCH_ENTRIES_MAX} entries")
    read = (_batch_entry(entry, batch, identity, account) for entry in entries)
    refunds = tuple(refund for refund in read if refund is not None)
    if len({refund.id for refund in refunds}) != len(refunds):
        raise identity.unreadable(Reason.BAD_REFUND, "two refunds of one trade in one batch")
    return Notification(
        kind=Kind.BATCH_REFUND,
        news=News.PARTLY_REFUNDED,
        refunds=refunds,
        happened_at=None,
        **_envelope(identity, account, digest),
    )


def _batch_entry(entry: str, batch: str, identity: _Identity, account: Account) -> Refund | None:
    """The refund that `trade_no^amount^result` names, `None` where its result is not SUCCESS.

    What follows a `$` is the fee's own refund, which moves the merchant's fee and not the order.
    """
    parts = entry.split("$")[0].split("^")
    if len(parts) != 3 or not all(parts):
        raise identity.unreadable(Reason.BAD_REFUND, "result_details is not trade_no^amount^result")
    trade, amount, result = parts
    if result != "SUCCESS":
        return None
    refunded = money.parse_major(amount, account.currency)
    if refunded.minor == 0:
        raise identity.unreadable(Reason.BAD_AMOUNT, "a refund of zero")
    return Refund(id=f"{batch}/{trade}", amount=refunded, trade=trade)
