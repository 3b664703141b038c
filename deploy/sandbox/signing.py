"""Alipay's side of the signature: the signed texts, and the algorithms.

This signer is independent of the receiver's verifier and shares no code with it, on purpose: a mistake on one side must
not hide the same mistake on the other. Shared test vectors hold the two together.

Nothing in this module reads a clock, a file or the environment. Two points on which practice differs:

- An empty value is signed like any other (`name=`). Public code does it both ways. The sandbox's own notifications have
  no empty values, so the choice affects only fields that a user adds.
- `sign_type` is left out of a form's signed text, as Alipay does for payments.
"""

from __future__ import annotations

import hashlib
import hmac
from base64 import b64decode, b64encode
from binascii import Error as BadBase64
from collections.abc import Iterable, Mapping
from typing import Literal
from urllib.parse import quote, quote_plus

import msgspec
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import dsa, padding, rsa

SignType = Literal["MD5", "RSA", "RSA2", "DSA", "RSA256"]
PrivateKey = rsa.RSAPrivateKey | dsa.DSAPrivateKey | bytes
PublicKey = rsa.RSAPublicKey | dsa.DSAPublicKey | bytes
Fields = tuple[tuple[str, str], ...]

# Java's form encoder, which Alipay's servers use, does not escape `*`; `~` does not occur.
_BARE_IN_FORM = "*"


class KeyKindError(ValueError):
    """The key does not fit the sign_type."""


class _Key:
    """Wraps a key, so that no repr, log line or traceback shows it."""

    __slots__ = ("value",)

    def __init__(self, value: PrivateKey) -> None:
        self.value = value

    def __repr__(self) -> str:
        return "<private key>"


class Signer(msgspec.Struct, frozen=True):
    """A sign_type with its key."""

    sign_type: SignType
    _key: _Key

    @classmethod
    def of(cls, sign_type: SignType, key: PrivateKey) -> Signer:
        """Return a signer. The key is checked here once, and not at each signature.

        Raises:
            KeyKindError: the key cannot make signatures of this type.
        """
        if not isinstance(key, _KEY_OF[sign_type]):
            raise KeyKindError(f"{sign_type} cannot be made with a {type(key).__name__}")
        return cls(sign_type, _Key(key))

    @property
    def bits(self) -> int:
        """Return the size of an RSA key, or 0 for other keys."""
        return self._key.value.key_size if isinstance(self._key.value, rsa.RSAPrivateKey) else 0

    def sign(self, content: bytes) -> str:
        """Return the signature before any percent-encoding: base64, or hex for MD5."""
        key = self._key.value
        if isinstance(key, bytes):
            return _md5(content, key)
        if isinstance(key, dsa.DSAPrivateKey):
            # Alipay's old DSA samples use an undocumented encoding. Its demos produce base64 of DER, as here.
            return b64encode(key.sign(content, hashes.SHA1())).decode()  # noqa: S303 - the protocol's own hash
        return b64encode(key.sign(content, padding.PKCS1v15(), _hash_of(self.sign_type))).decode()


_KEY_OF: Mapping[SignType, type] = {
    "MD5": bytes,
    "RSA": rsa.RSAPrivateKey,
    "RSA2": rsa.RSAPrivateKey,
    "RSA256": rsa.RSAPrivateKey,
    "DSA": dsa.DSAPrivateKey,
}


def _hash_of(sign_type: str) -> hashes.HashAlgorithm:
    return hashes.SHA1() if sign_type == "RSA" else hashes.SHA256()  # noqa: S303 - "RSA" is SHA1withRSA


def _md5(content: bytes, key: bytes) -> str:
    return hashlib.md5(content + key, usedforsecurity=False).hexdigest()


def canonical(
    fields: Iterable[tuple[str, str]], *, charset: str, left_out: Iterable[str] = ("sign", "sign_type")
) -> bytes:
    """Return the text that a form's signature covers: fields sorted by name, joined by `&`, nothing escaped.

    Lone surrogates stand for bytes that are no text in `charset`, as the error handler `surrogateescape` has them.
    """
    skipped = frozenset(left_out)
    kept = sorted((name, value) for name, value in fields if name not in skipped)
    return "&".join(f"{name}={value}" for name, value in kept).encode(charset, "surrogateescape")


def encode_form(fields: Iterable[tuple[str, str]], *, charset: str) -> bytes:
    """Return the form as it is sent: `+` for a space, other characters percent-encoded as bytes of `charset`."""
    pieces = (
        tuple(quote_plus(part, safe=_BARE_IN_FORM, encoding=charset, errors="surrogateescape") for part in pair)
        for pair in fields
    )
    return "&".join(f"{name}={value}" for name, value in pieces).encode("ascii")


def signed_fields(fields: Fields, *, signer: Signer, charset: str) -> Fields:
    """Return the fields with their signature at the end. Products that send `sign_type` must have it in the fields."""
    return (*fields, ("sign", signer.sign(canonical(fields, charset=charset))))


def verify(content: bytes, signature: str, *, sign_type: str, key: PublicKey) -> bool:
    """Return whether the signature of a merchant's Request is valid, checked as Alipay does: one key, one hash."""
    if isinstance(key, bytes):
        return hmac.compare_digest(_md5(content, key).encode(), signature.encode())
    try:
        raw = b64decode(signature, validate=True)
        if isinstance(key, dsa.DSAPublicKey):
            key.verify(raw, content, hashes.SHA1())  # noqa: S303 - the protocol's own hash
        else:
            key.verify(raw, content, padding.PKCS1v15(), _hash_of(sign_type))
    except (InvalidSignature, BadBase64, ValueError):
        return False
    return True


def antom_content(*, method: str, path: str, client_id: str, request_time: str, body: bytes) -> bytes:
    """Return the text that Antom signs: the path without its query, two headers, and the body unchanged."""
    return f"{method} {path}\n{client_id}.{request_time}.".encode() + body


def antom_header(signature: str, *, key_version: int) -> str:
    """Return the value of Antom's `signature` header: standard base64, percent-encoded."""
    return f"algorithm=RSA256,keyVersion={key_version},signature={quote(signature, safe='')}"


def in_app_return(order_string: str, *, signer: Signer, charset: str = "utf-8", success: bool = True) -> str:
    """Return the `result` from the Alipay app: the merchant's own order string, the outcome, and Alipay's signature.

    The signature covers everything before `&sign_type=`, with quotes and in the merchant's order. Unlike in a Request,
    it is not percent-encoded.
    """
    content = f'{order_string}&success="{"true" if success else "false"}"'
    return f'{content}&sign_type="{signer.sign_type}"&sign="{signer.sign(content.encode(charset))}"'


def in_app_result(order_string: str, *, signer: Signer, charset: str = "utf-8", status: int = 9000) -> str:
    """Return the whole text that an Android app receives from the Alipay app."""
    return sdk_result(in_app_return(order_string, signer=signer, charset=charset, success=status == 9000), status)


def sdk_result(result: str, status: int) -> str:
    """Return the text of Alipay's SDK for Android around a result."""
    return f"resultStatus={{{status}}};memo={{}};result={{{result}}}"


def open_app_return(fields: Fields, *, signer: Signer) -> str:
    """Return the `result` of the Open Platform's app: the signature covers the raw text of the inner object."""
    inner = msgspec.json.encode(dict(fields))
    signed = {"sign": signer.sign(inner), "sign_type": signer.sign_type}
    return msgspec.json.encode({"alipay_trade_app_pay_response": msgspec.Raw(inner), **signed}).decode()


def return_query(fields: Fields, *, signer: Signer, charset: str = "utf-8") -> str:
    """Return the query that the browser brings to the shop's `return_url`, signed like a form."""
    typed = (*fields, ("sign_type", signer.sign_type))
    return encode_form(signed_fields(typed, signer=signer, charset=charset), charset=charset).decode()
