"""Interpret Antom's messages.

Antom's notifications have no id, so their id here is type, request number and result. `notifyType` gives the kind; if
it is absent, the documented shape does. Payments, captures and refunds change orders. Authorizations, disputes,
subscriptions and vaulting are recorded with news `OTHER`, and change none.
"""

import json
import re
from datetime import datetime
from hashlib import blake2b
from typing import Any

import msgspec

from schemas import antom, money, noted, times
from schemas.accounts import Account, CaptureMode
from schemas.dispositions import Reason
from schemas.interpret_form import kept, mask
from schemas.money import Money
from schemas.notification import Kind, Notification, Unreadable
from schemas.orders import Capture, News, Refund
from schemas.record_format import EPOCH_MS_MAX

_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\ud800-\udfff]")  # and lone surrogates
_KINDS_BY_NUMBER = (
    # the field with the message's number, the field with its event, and its kind
    ("disputeId", "disputeNotificationType", Kind.DISPUTE),
    ("authClientId", "authorizationNotifyType", Kind.AUTHORIZATION),
    ("subscriptionRequestId", "subscriptionNotificationType", Kind.SUBSCRIPTION),
    ("vaultingRequestId", "notifyType", Kind.VAULTING),
)
_WITHOUT_EFFECT = frozenset({"UPDATE_AMOUNT_RESULT", "OFFLINE_PAYMENT_CODE"})


def read(body: bytes, account: Account) -> Notification:
    """Return the meaning of a message for this account.

    Raises:
        Unreadable: not one strict JSON object, a missing or impossible value, or an undocumented type.
    """
    try:
        message = antom.read(body)
    except antom.BadMessage as error:
        # Held and not dead: the body is authentic, so an operator has to see it.
        loose = antom.read_loosely(body)
        numbers = noted.of_message(loose).numbers
        order = kept(antom.route(body)) or noted.number(loose, "paymentRequestId")
        raise Unreadable(Reason.MALFORMED, str(error), order=order, numbers=numbers, **_identity(body)) from None
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
        if type_ in ("PAYMENT_RESULT", "PAYMENT_PENDING") or (not type_ and self._is_periodic()):
            return self._payment(type_ or "PAYMENT_RESULT")
        if type_ == "CAPTURE_RESULT" or (not type_ and self._is_capture()):
            return self._capture(type_ or "CAPTURE_RESULT")
        return self._other(type_)

    def _payment(self, type_: str) -> Notification:
        is_periodic = self._is_periodic()
        order = self.text("paymentRequestId") if is_periodic else self.required("paymentRequestId")
        trade = self.required("paymentId")
        status, until_ms = self.member("result", "resultStatus"), 0
        match type_, status:
            case "PAYMENT_RESULT", "S":
                until_ms = self._authorized_until_ms()
                news, happened_at = News.AUTHORIZED if until_ms else News.PAID, self.time("paymentTime")
            case "PAYMENT_RESULT", "F":
                news, happened_at = News.FAILED, None
            case "PAYMENT_PENDING", "S" | "U":
                news, happened_at = News.WAITING, None
            case _:
                raise self.unreadable(Reason.UNKNOWN_STATUS, f"{type_} with an undocumented resultStatus")
        amount = self.amount("paymentAmount")
        return self._made(
            Kind.PAYMENT, news, type_, order or trade, status, order=order or trade, trade=trade, amount=amount,
            happened_at=happened_at, authorized_until_ms=until_ms, is_periodic=is_periodic,
            numbers=noted.of_payment_message(self.message),
        )  # fmt: skip

    def _is_periodic(self) -> bool:
        """Return whether this is a subscription's payment, which is documented without notifyType and order number."""
        is_payment = any(name in self.message for name in ("paymentRequestId", "paymentId", "paymentAmount"))
        is_other = "subscriptionNotificationType" in self.message or "disputeNotificationType" in self.message
        return is_payment and not is_other and any(map(self.message.get, noted.SUBSCRIPTION))

    def _is_capture(self) -> bool:
        return "captureAmount" in self.message or "captureRequestId" in self.message

    def _authorized_until_ms(self) -> int:
        """Return when the authorisation of the amount ends; 0 if the account takes the amount as paid."""
        until = self.message.get("authExpiryTime")
        if self.account.capture is CaptureMode.AUTOMATIC or until in (None, ""):
            return 0
        until_ms = times.iso_to_epoch_ms(until) if isinstance(until, str) else 0
        if not 0 < until_ms <= EPOCH_MS_MAX:
            raise self.unreadable(Reason.BAD_TIME, "authExpiryTime is not a time between 1970 and 9999")
        return until_ms

    def _capture(self, type_: str) -> Notification:
        status, trade, order = (
            self.member("result", "resultStatus"),
            self.text("paymentId"),
            self.text("paymentRequestId"),
        )
        number, id_ = self.text("captureRequestId"), self.text("captureId")
        is_automatic = self.account.capture is CaptureMode.AUTOMATIC
        if status == "U" or (status == "S" and is_automatic and not (trade or order)):
            return self._noted(Kind.CAPTURE, type_, number or id_, status)
        if not (number or id_) or not (trade or order):
            missing = "paymentId" if number or id_ else "captureRequestId"
            raise self.unreadable(Reason.MISSING_FIELD, f"{missing} is missing")
        if status == "S":
            amount = self.amount("captureAmount")
            news = News.CAPTURED
            capture = Capture(id=id_ or number, trade=trade, minor=amount.minor, currency=amount.currency)
        elif status == "F":
            news, capture = News.CAPTURE_FAILED, Capture(id=id_ or number, trade=trade)
        else:
            raise self.unreadable(Reason.UNKNOWN_STATUS, f"{type_} with an undocumented resultStatus")
        return self._made(
            Kind.CAPTURE, news, type_, number or id_, status, trade=trade, capture=capture,
            happened_at=self.time("captureTime"), **self._described(),
        )  # fmt: skip

    def _refund(self, type_: str) -> Notification:
        number = self.required("refundRequestId")
        status = self.required("refundStatus")
        if status != "SUCCESS":
            # A failed or pending refund moved no money, so it concerns no order.
            return self._noted(Kind.REFUND, type_, number, status)
        # A direct refund has the amount that went back to the payer under another name.
        is_direct = "refundToAmount" in self.message and "refundAmount" not in self.message
        amount = self.amount("refundToAmount") if is_direct else self.amount("refundAmount")
        refund = Refund(id=number, amount=amount, trade=self.text("paymentId"))
        return self._made(
            Kind.REFUND, News.PARTLY_REFUNDED, type_, number, status, refunds=(refund,), trade=refund.trade,
            happened_at=self.time("refundTime"), joins_by_trade=False, numbers=noted.of_message(self.message).numbers,
        )  # fmt: skip

    def _other(self, type_: str) -> Notification:
        for number_name, event_name, kind in _KINDS_BY_NUMBER:
            number, event = self.text(number_name), self.text(event_name)
            if kind is Kind.AUTHORIZATION:
                number = self._authorization(number)
            if number and (event or kind is Kind.VAULTING):
                return self._noted(kind, event or kind.value, number, self.member("result", "resultStatus"))
        if type_ in _WITHOUT_EFFECT:
            number = self.text("paymentRequestId") or self.text("paymentId")
            return self._noted(Kind.OTHER, type_, number, self.member("result", "resultStatus"))
        raise self.unreadable(Reason.UNKNOWN_STATUS, "notifyType is missing or undocumented")

    def _authorization(self, client: str) -> str:
        """Return an id for an authorization: the client's, and a digest of its token, code and state.

        One client has authorizations of many users, which differ in these three. They are replaced by their digest
        because token and code are secrets, while ids are displayed and logged.
        """
        named = [self.text(name) for name in ("accessToken", "authCode", "authState")]
        digest = blake2b(msgspec.json.encode(named), digest_size=12).hexdigest()
        return f"{client}:{digest}" if client or any(named) else ""

    def _noted(self, kind: Kind, type_: str, number: str, status: str) -> Notification:
        """Return a notification that changes no order; it stands on the timeline of the payment that it names."""
        trade = kept(self.text("paymentId"))
        return self._made(kind, News.OTHER, type_, number, status, trade=trade, **self._described())

    def _described(self) -> dict[str, Any]:
        """Return the message's numbers, and its fields that are not personal."""
        content = noted.of_message(self.message)
        return {"numbers": content.numbers, "fields": content.fields}

    def _made(self, kind: Kind, news: News, type_: str, number: str, status: str, **rest: Any) -> Notification:
        given: dict[str, Any] = {"order": self.text("paymentRequestId"), "joins_by_trade": bool(rest.get("trade"))}
        id_, digest = ":".join((type_, number, status)), blake2b(self._content(), digest_size=16).digest()
        return Notification(
            account=self.account.name,
            id=id_,
            content_id=f"{id_}:{digest.hex()}",
            kind=kind,
            news=news,
            type=type_,
            status=status,
            payer=mask(self._payer()),
            digest=digest,
            **(given | rest),
        )

    def text(self, name: str) -> str:
        """Return the member if it is a string, else an empty string."""
        return self._checked(self.message.get(name), name)

    def member(self, name: str, inner: str) -> str:
        outer = self.message.get(name)
        return self._checked(outer.get(inner), inner) if isinstance(outer, dict) else ""

    def _payer(self) -> str:
        """Return the payer's display name as it is, because it decides nothing."""
        customer = self.message.get("pspCustomerInfo")
        name = customer.get("displayCustomerId") if isinstance(customer, dict) else None
        return name if isinstance(name, str) else ""

    def required(self, name: str) -> str:
        text = self.text(name)
        if not text:
            raise self.unreadable(Reason.MISSING_FIELD, f"{name} is missing")
        return text

    def time(self, name: str) -> datetime | None:
        text = self.text(name)
        return times.parse_iso(text) if text else None

    def amount(self, name: str) -> Money:
        member = self.message.get(name)
        if not isinstance(member, dict):
            raise self.unreadable(Reason.MISSING_FIELD, f"{name} is missing")
        value, currency = member.get("value"), member.get("currency")
        if not isinstance(value, str) or not isinstance(currency, str):
            raise self.unreadable(Reason.BAD_AMOUNT, f"{name} needs a value and a currency, both as strings")
        amount = money.parse_minor(value, currency)
        if amount.minor == 0:
            raise self.unreadable(Reason.BAD_AMOUNT, f"{name} is zero")
        return amount

    def unreadable(self, reason: Reason, detail: str) -> Unreadable:
        name = "paymentRequestId" if "paymentRequestId" in self.message or not self._is_periodic() else "paymentId"
        order = self.message.get(name, "")
        return Unreadable(
            reason,
            detail,
            order=kept(order) if isinstance(order, str) else "",
            numbers=noted.of_message(self.message).numbers,
            **_identity(self._content()),
        )

    def _content(self) -> bytes:
        try:
            return msgspec.json.encode(self.message, order="deterministic")
        except UnicodeEncodeError:  # a lone surrogate
            return json.dumps(self.message, sort_keys=True, separators=(",", ":")).encode()

    def _checked(self, text: Any, name: str) -> str:
        if not isinstance(text, str):
            return ""
        if _CONTROL.search(text) is not None:
            raise self.unreadable(Reason.CONTROL_CHAR, f"a control character or lone surrogate in {name}")
        return text


def _identity(content: bytes) -> dict[str, Any]:
    """Return an id for an unreadable message, made of its content, so that a resend has the same id."""
    digest = blake2b(content, digest_size=16).digest()
    return {"notification_id": f"content:{digest.hex()}", "digest": digest}
