"""What a message of Antom's means.

Antom gives its notifications no id, so their identity is the business key: type, request number, result. Payments and
refunds move orders; captures, authorizations, disputes, subscriptions and vaulting are kept as `Other`, readable.
"""

import re
from datetime import datetime
from hashlib import blake2b
from typing import Any

import msgspec

from schemas import antom, money, times
from schemas.accounts import Account
from schemas.dispositions import Disposition, Reason
from schemas.interpret_form import mask
from schemas.money import Money
from schemas.notification import Kind, Notification, Unreadable
from schemas.orders import News, Refund

_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]")
_KINDS_BY_NUMBER = (
    # the number that identifies the message, the word that says what happened, and the kind
    ("disputeId", "disputeNotificationType", Kind.DISPUTE),
    ("captureRequestId", "notifyType", Kind.CAPTURE),
    ("authClientId", "authorizationNotifyType", Kind.AUTHORIZATION),
    ("subscriptionRequestId", "subscriptionNotificationType", Kind.SUBSCRIPTION),
    ("vaultingRequestId", "notifyType", Kind.VAULTING),
)
_NOT_MOVING = frozenset({"UPDATE_AMOUNT_RESULT", "OFFLINE_PAYMENT_CODE", "CAPTURE_RESULT"})


def read(body: bytes, account: Account) -> Notification:
    """What the message says to this account.

    Raises:
        Unreadable: not one strict JSON object, a missing or impossible value, or a type that no document names.
    """
    try:
        message = antom.read(body)
    except antom.BadMessage as error:
        dead = Disposition.DEAD
        raise Unreadable(
            Reason.MALFORMED, str(error), disposition=dead, order=antom.route(body), **_identity(body)
        ) from None
    reader = _Reader(message, account)
    try:
        return reader.notification()
    except times.BadTime as error:
        raise reader.unreadable(Reason.BAD_TIME, str(error)) from None
    except money.BadMoney as error:
        raise reader.unreadable(Reason.BAD_AMOUNT, str(error)) from None


class _Reader:
    def __init__(self, message: dict[str, Any], account: Account) -> None:
        self.message = message
        self.account = account

    def notification(self) -> Notification:
        type_ = self.text("notifyType")
        if type_ == "REFUND_RESULT" or (not type_ and "refundStatus" in self.message):
            return self._refund(type_ or "REFUND_RESULT")
        if type_ in ("PAYMENT_RESULT", "PAYMENT_PENDING"):
            return self._payment(type_)
        if not type_ and self.text("subscriptionRequestId") and self.text("paymentRequestId"):
            return self._payment("PAYMENT_RESULT")  # a subscription's periodic payment: its page names no notifyType
        return self._other(type_)

    def _payment(self, type_: str) -> Notification:
        order = self.required("paymentRequestId")
        status = self.member("result", "resultStatus")
        match type_, status:
            case "PAYMENT_RESULT", "S":
                news, happened_at = News.PAID, self.time("paymentTime")
            case "PAYMENT_RESULT", "F":
                news, happened_at = News.FAILED, None
            case "PAYMENT_PENDING", "S" | "U":
                news, happened_at = News.WAITING, None
            case _:
                raise self.unreadable(Reason.UNKNOWN_STATUS, f"{type_} with a resultStatus that no document names")
        amount = self.amount("paymentAmount")
        return self._made(
            Kind.PAYMENT, news, type_, order, status, order=order, trade=self.required("paymentId"), amount=amount,
            happened_at=happened_at,
        )  # fmt: skip

    def _refund(self, type_: str) -> Notification:
        number = self.required("refundRequestId")
        status = self.required("refundStatus")
        if status != "SUCCESS":
            # A refund that failed or is under way moved no money; it stands in the timeline of nothing but itself.
            return self._made(Kind.REFUND, News.OTHER, type_, number, status)
        refund = Refund(id=number, amount=self.amount("refundAmount"), trade=self.text("paymentId"))
        return self._made(
            Kind.REFUND, News.PARTLY_REFUNDED, type_, number, status, refunds=(refund,), trade=refund.trade,
            happened_at=self.time("refundTime"),
        )  # fmt: skip

    def _other(self, type_: str) -> Notification:
        for number_name, word_name, kind in _KINDS_BY_NUMBER:
            number, word = self.text(number_name), self.text(word_name)
            if kind is Kind.AUTHORIZATION:
                number = self._authorization(number)
            if number and (word or kind is Kind.VAULTING):
                return self._made(kind, News.OTHER, word or kind.value, number, self.member("result", "resultStatus"))
        if type_ in _NOT_MOVING:
            number = self.text("paymentRequestId") or self.text("paymentId")
            return self._made(Kind.OTHER, News.OTHER, type_, number, self.member("result", "resultStatus"))
        raise self.unreadable(Reason.UNKNOWN_STATUS, "a notifyType that no document names, or none")

    def _authorization(self, client: str) -> str:
        """Which authorization is meant: one client has those of all its users, which differ in token, code or state.

        A token and a code are secrets, and identities are shown and logged: so their digest stands for them.
        """
        named = [self.text(name) for name in ("accessToken", "authCode", "authState")]
        digest = blake2b(msgspec.json.encode(named), digest_size=12).hexdigest()
        return f"{client}:{digest}" if client else ""

    def _made(self, kind: Kind, news: News, type_: str, number: str, status: str, **rest: Any) -> Notification:
        return Notification(
            account=self.account.name,
            id=":".join((type_, number, status)),
            kind=kind,
            news=news,
            type=type_,
            status=status,
            payer=mask(self.member("pspCustomerInfo", "displayCustomerId")),
            digest=blake2b(self._content(), digest_size=16).digest(),
            **({"order": self.text("paymentRequestId")} | rest),
        )

    def text(self, name: str) -> str:
        """The member where it is a text, else nothing: a member of another type says nothing to us."""
        return self._checked(self.message.get(name), name)

    def member(self, name: str, inner: str) -> str:
        outer = self.message.get(name)
        return self._checked(outer.get(inner), inner) if isinstance(outer, dict) else ""

    def required(self, name: str) -> str:
        text = self.text(name)
        if not text:
            raise self.unreadable(Reason.MISSING_FIELD, f"no {name}")
        return text

    def time(self, name: str) -> datetime | None:
        text = self.text(name)
        return times.parse_iso(text) if text else None

    def amount(self, name: str) -> Money:
        told = self.message.get(name)
        if not isinstance(told, dict):
            raise self.unreadable(Reason.MISSING_FIELD, f"no {name}")
        value, currency = told.get("value"), told.get("currency")
        if not isinstance(value, str) or not isinstance(currency, str):
            raise self.unreadable(Reason.BAD_AMOUNT, f"{name} is not a value and a currency, both in quotes")
        amount = money.parse_minor(value, currency)
        if amount.minor == 0:
            raise self.unreadable(Reason.BAD_AMOUNT, f"{name} is zero")
        return amount

    def unreadable(self, reason: Reason, detail: str) -> Unreadable:
        order = self.message.get("paymentRequestId", "")
        shown = _CONTROL.sub("\N{REPLACEMENT CHARACTER}", order) if isinstance(order, str) else ""
        return Unreadable(reason, detail, order=shown, **_identity(self._content()))

    def _content(self) -> bytes:
        return msgspec.json.encode(self.message, order="deterministic")

    def _checked(self, text: Any, name: str) -> str:
        if not isinstance(text, str):
            return ""
        if _CONTROL.search(text) is not None:
            raise self.unreadable(Reason.CONTROL_CHAR, f"a control character in {name}")
        return text


def _identity(content: bytes) -> dict[str, Any]:
    """The identity of a message that cannot be read: it has no business key, but a repetition has the same content."""
    digest = blake2b(content, digest_size=16).digest()
    return {"notification_id": f"content:{digest.hex()}", "digest": digest}
