"""Forgeries: notifications that Alipay did not sign. Each looks genuine, and none may have an effect."""

from __future__ import annotations

from typing import Literal

import msgspec
from cryptography.hazmat.primitives.asymmetric import rsa

from deploy.sandbox import signing
from deploy.sandbox.notifications import Edits, UnsignedNotification, edited

Way = Literal["changed", "placeholder", "other-key"]
WAYS: tuple[Way, ...] = ("changed", "placeholder", "other-key")

# Valid base64, so that it reaches the signature check and must be refused there.
_PLACEHOLDER = "UNSIGNED/PLACEHOLDER++=="
_OTHER_MD5_KEY = b"0123456789abcdef-not-alipays-key"

# Fields that a forger would change; the first one that a notification has is used.
_WORTH_CHANGING = (
    "total_fee", "total_amount", "paymentAmount.value", "refundAmount.value", "captureAmount.value",
    "disputeAmount.value", "result_details", "result.resultCode", "notify_type", "version",
)  # fmt: skip


class Forger:
    """Forges in each of the three ways. It generates its own keys when needed, of the size of the genuine ones."""

    def __init__(self) -> None:
        self._signers: dict[tuple[signing.SignType, int], signing.Signer] = {}

    def forge(self, notification: UnsignedNotification, way: Way) -> UnsignedNotification:
        """Return the notification: changed after signing, with a placeholder signature, or signed with another key."""
        match way:
            case "changed":
                name = next(name for name in _WORTH_CHANGING if name in dict(notification.fields))
                value = dict(notification.fields)[name]
                return edited(notification, Edits(spoil=((name, _less(value)),)))
            case "placeholder":
                return edited(notification, Edits(spoil=(("sign", _PLACEHOLDER),)))
            case "other-key":
                account = msgspec.structs.replace(notification.account, signer=self._signer(notification))
                return msgspec.structs.replace(notification, account=account)

    def _signer(self, notification: UnsignedNotification) -> signing.Signer:
        sign_type = notification.account.signer.sign_type
        bits = notification.account.signer.bits
        if (sign_type, bits) not in self._signers:
            key = rsa.generate_private_key(65537, bits) if bits else _OTHER_MD5_KEY
            self._signers[sign_type, bits] = signing.Signer.of(sign_type, key)
        return self._signers[sign_type, bits]


def _less(value: str) -> str:
    """Return a value of the same form that differs from the signed one: a small amount for an amount."""
    for small in ("0.01", "0.02") if "." in value else ("1", "2"):
        if value.replace(".", "").isdigit() and small != value:
            return small
    return f"{value}X"
