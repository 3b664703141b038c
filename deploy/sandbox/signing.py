"""Alipay's side of the signature: the texts that are signed, and how.

This is the simulated Alipay's own pen. It shares no line with the receiver's verifier, on purpose: the rule is spelled
twice, by two programs, and the shared vectors hold the two spellings together. A mistake here must not be able to hide
a mistake there.

Nothing in this module reads a clock, a file or the environment. Two customs it has to choose between:

- An empty value is signed like any other (`name=`). Both customs are found in public code; the sandbox's own
  notifications carry no empty values, so the choice shows only in what a user adds.
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

# `*` stays bare and `~` does not matter: this is how Java's encoder, which Alipay's servers use, writes a form.
_BARE_IN_FORM = "*"


class KeyKindError(ValueError):
    """A key of one kind was given for a sign_type of another."""


class _Key:
    """Keeps a key where no repr, log line or traceback shows it."""

    __slots__ = ("value",)

    def __init__(self, value: PrivateKey) -> None:
        self.value = value

    def __repr__(self) -> str:
        return "<private key>"


class Signer(msgspec.Struct, frozen=True):
    """One sign_type with the key that belongs to it."""

    sign_type: SignType
    _key: _Key

    @classmethod
    def of(cls, sign_type: SignType, key: PrivateKey) -> Signer:
        """The signer for a key; the pair is checked here, once, and not at each signature.

        Raises:
            KeyKindError: the key cannot make signatures of this type.
        """
        if not isinstance(key, _KEY_OF[sign_type]):
            raise KeyKindError(f"{sign_type} cannot be made with a {type(key).__name__}")
        return cls(sign_type, _Key(key))

    @property
    def bits(self) -> int:
        """The size of an RSA key; 0 for the other kinds."""
        return self._key.value.key_size if isinstance(self._key.value, rsa.RSAPrivateKey) else 0

    def sign(self, content: bytes) -> str:
        """The signature as it stands in a message before any percent-encoding: base64, or hex for MD5."""
        key = self._key.value
        if isinstance(key, bytes):
            return _md5(content, key)
        if isinstance(key, dsa.DSAPrivateKey):
            # Alipay's old samples of DSA show an encoding of their own that nobody documents; DER in base64 is what
            # its demos produce.
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
    """The text a form's signature covers (protocol reference 3.1): sorted by name, joined, nothing escaped."""
    skipped = frozenset(left_out)
    kept = sorted((name, value) for name, value in fields if name not in skipped)
    return "&".join(f"{name}={value}" for name, value in kept).encode(charset)


def encode_form(fields: Iterable[tuple[str, str]], *, charset: str) -> bytes:
    """The form as it travels: `+` for a blank, everything else percent-encoded over the bytes of `charset`."""
    pieces = (tuple(quote_plus(part, safe=_BARE_IN_FORM, encoding=charset) for part in pair) for pair in fields)
    return "&".join(f"{name}={value}" for name, value in pieces).encode("ascii")


def signed_fields(fields: Fields, *, signer: Signer, charset: str) -> Fields:
    """The fields with their signature at the end; `sign_type` has to be among them where the product sends it."""
    return (*fields, ("sign", signer.sign(canonical(fields, charset=charset))))


def verify(content: bytes, signature: str, *, sign_type: str, key: PublicKey) -> bool:
    """Whether a merchant's Request was signed by that merchant; as Alipay checks it: one key, one hash."""
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
    """What Antom signs (protocol reference 3.4): the path without its query, two headers, and the body as it is."""
    return f"{method} {path}\n{client_id}.{request_time}.".encode() + body


def antom_header(signature: str, *, key_version: int) -> str:
    """The value of Antom's `signature` header: standard base64, percent-encoded."""
    return f"algorithm=RSA256,keyVersion={key_version},signature={quote(signature, safe='')}"


def in_app_return(order_string: str, *, signer: Signer, success: bool = True) -> str:
    """The `result` the Alipay app hands back: the merchant's own order string, the outcome, and Alipay's signature.

    Signed is everything before `&sign_type=`, quotes included and in the merchant's order; unlike in the Request the
    signature is not percent-encoded here (protocol reference 9).
    """
    content = f'{order_string}&success="{"true" if success else "false"}"'
    return f'{content}&sign_type="{signer.sign_type}"&sign="{signer.sign(content.encode())}"'


def in_app_result(order_string: str, *, signer: Signer, status: int = 9000) -> str:
    """The whole text an Android app receives from the Alipay app."""
    result = in_app_return(order_string, signer=signer, success=status == 9000)
    return f"resultStatus={{{status}}};memo={{}};result={{{result}}}"


def return_query(fields: Fields, *, signer: Signer, charset: str = "utf-8") -> str:
    """The query a browser carries back to the shop's `return_url`, signed like a form."""
    typed = (*fields, ("sign_type", signer.sign_type))
    return encode_form(signed_fields(typed, signer=signer, charset=charset), charset=charset).decode()
