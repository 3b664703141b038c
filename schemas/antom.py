"""Antom's messages: the signature header, and JSON read strictly.

The signature covers the raw body, so the receiver needs next to nothing of it: `route` takes just the numbers that
name the order and shrugs at the rest. The worker reads the whole (`read`), and there a document that two parsers could
read differently is refused: names that occur twice, NaN, numbers without end, lone surrogates, trailing text.
"""

import json
import re
from typing import Any, NoReturn
from urllib.parse import unquote_to_bytes

import msgspec
from msgspec import Struct

DEPTH_MAX = 32
NUMBER_DIGITS_MAX = 20

_PART = re.compile(r"\s*([A-Za-z][A-Za-z0-9]*)=([^,]*)", re.ASCII)
_KEY_VERSION = re.compile(r"0|[1-9][0-9]{0,8}", re.ASCII)
_PERCENT_ESCAPED = re.compile(r"(?:[A-Za-z0-9+/=]|%[0-9A-Fa-f]{2})*", re.ASCII)
_OURS = frozenset({"algorithm", "keyVersion", "signature"})  # the parts that mean something; others are ignored


class BadHeader(ValueError):
    """A header that Antom's scheme needs is repeated or ill-formed."""


class BadMessage(ValueError):
    """The body is not one JSON object that every parser would read alike."""


class SignatureHeader(Struct, frozen=True):
    """What `signature: algorithm=RSA256,keyVersion=1,signature=...` says.

    `algorithm` and `signature` are `None` where the part is absent, `signature` also where it is empty; else it is
    base64 text, percent-decoded once.
    """

    algorithm: str | None
    key_version: str
    signature: bytes | None


def read_signature_header(text: str) -> SignatureHeader:
    """The parts of the `signature` header: `name=value` in any order, blanks allowed after the commas.

    Raises:
        BadHeader: a part that is not `name=value`, a known part that occurs twice, or a broken escape.
    """
    parts: dict[str, str] = {}
    for piece in text.split(","):
        match = _PART.fullmatch(piece)
        if match is None:
            raise BadHeader("the signature header is not a list of name=value parts")
        if match[1] in parts and match[1] in _OURS:
            raise BadHeader(f"{match[1]} occurs twice in the signature header")
        parts[match[1]] = match[2].rstrip()
    return SignatureHeader(parts.get("algorithm"), parts.get("keyVersion", "1"), _signature(parts.get("signature")))


def is_key_version(text: str) -> bool:
    """Whether `text` could name a configured key: digits without sign or leading zero."""
    return _KEY_VERSION.fullmatch(text) is not None


def signed_text(path: bytes, client_id: bytes, request_time: bytes, body: bytes) -> bytes:
    """What Antom's signature covers; all four exactly as received, the path the one that Antom was told."""
    return b"POST " + path + b"\n" + client_id + b"." + request_time + b"." + body


def _signature(escaped: str | None) -> bytes | None:
    if not escaped:
        return None
    if _PERCENT_ESCAPED.fullmatch(escaped) is None:
        return b""  # not base64 whatever the decoding: refused as a bad signature, not as a malformed request
    return unquote_to_bytes(escaped)


class _Route(Struct, rename="camel"):
    payment_request_id: str = ""
    capture_request_id: str = ""
    refund_request_id: str = ""
    dispute_id: str = ""
    subscription_request_id: str = ""
    vaulting_request_id: str = ""


_route = msgspec.json.Decoder(_Route)


def route(body: bytes) -> str:
    """The number that says which order (or refund, capture, dispute ...) a message is of; empty where none is readable.

    Never raises: a message that cannot be read is still logged, and held by the worker.
    """
    try:
        numbers = _route.decode(body)
    except (msgspec.MsgspecError, UnicodeError, RecursionError):
        return ""
    return (
        numbers.payment_request_id
        or numbers.capture_request_id
        or numbers.refund_request_id
        or numbers.dispute_id
        or numbers.subscription_request_id
        or numbers.vaulting_request_id
    )


def read(body: bytes) -> dict[str, Any]:
    """The message's object.

    Raises:
        BadMessage: not UTF-8 without a byte-order mark, not exactly one document, not an object, or a document that
            another parser could take for another one.
    """
    try:
        text = body.decode("utf-8")
    except UnicodeDecodeError:
        raise BadMessage("not UTF-8") from None
    if text.startswith("\ufeff"):
        raise BadMessage("a byte-order mark before the document")
    try:
        message = _strict.decode(text)
    except RecursionError:
        raise BadMessage("nested too deep") from None
    except json.JSONDecodeError as error:
        raise BadMessage(f"not JSON: {error.msg} at {error.pos}") from None
    if not isinstance(message, dict):
        raise BadMessage("not a JSON object")
    _check_value(message, depth=1)
    return message


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    message = dict(pairs)
    if len(message) != len(pairs):
        raise BadMessage("a name occurs twice in one object")
    return message


def _number(text: str) -> int:
    if len(text) > NUMBER_DIGITS_MAX:
        raise BadMessage(f"a number of more than {NUMBER_DIGITS_MAX} characters")
    return int(text)


def _fraction(text: str) -> str:
    # Kept as text: no meaning of ours needs it, and a float would already be another number.
    if len(text) > NUMBER_DIGITS_MAX or "e" in text or "E" in text:
        raise BadMessage("a number with an exponent, or of too many characters")
    return text


def _constant(name: str) -> NoReturn:
    raise BadMessage(f"{name} is not JSON")


_strict = json.JSONDecoder(
    object_pairs_hook=_once, parse_int=_number, parse_float=_fraction, parse_constant=_constant, strict=True
)


def _check_value(value: Any, *, depth: int) -> None:
    if depth > DEPTH_MAX:
        raise BadMessage(f"nested deeper than {DEPTH_MAX}")
    if isinstance(value, str):
        _check_text(value)
    elif isinstance(value, dict):
        for name, member in value.items():
            _check_text(name)
            _check_value(member, depth=depth + 1)
    elif isinstance(value, list):
        for member in value:
            _check_value(member, depth=depth + 1)


def _check_text(text: str) -> None:
    if "\x00" in text or any("\ud800" <= character <= "\udfff" for character in text):
        raise BadMessage("a NUL or a lone surrogate in a text")
