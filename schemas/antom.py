"""Antom's messages: the signature header, and strict JSON.

The signature covers the raw body, so the receiver parses only the numbers that name the order (`route`) and accepts any
other content. The worker parses the whole message (`read`) and refuses a document that two parsers could read
differently: repeated names, NaN, overlong numbers, trailing text. NUL and lone surrogates are kept, because Antom cuts
names within an emoji; `schemas.interpret_antom` refuses them in the members that decide.
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
_KNOWN_PARTS = frozenset({"algorithm", "keyVersion", "signature"})  # other parts are ignored


class BadHeader(ValueError):
    """The signature header is malformed, or one of its known parts is repeated."""


class BadMessage(ValueError):
    """The body is not one JSON object, or different parsers could read it differently."""


class SignatureHeader(Struct, frozen=True):
    """The parts of `signature: algorithm=RSA256,keyVersion=1,signature=...`.

    `algorithm` is `None` if it is absent. `signature` is `None` if it is absent or empty, else base64 text,
    percent-decoded once.
    """

    algorithm: str | None
    key_version: str
    signature: bytes | None


def read_signature_header(text: str) -> SignatureHeader:
    """Parse the `signature` header: `name=value` parts in any order, with optional blanks after the commas.

    Raises:
        BadHeader: a part is not `name=value`, or a known part occurs twice.
    """
    parts: dict[str, str] = {}
    for piece in text.split(","):
        match = _PART.fullmatch(piece)
        if match is None:
            raise BadHeader("the signature header is not a list of name=value parts")
        if match[1] in parts and match[1] in _KNOWN_PARTS:
            raise BadHeader(f"{match[1]} occurs twice in the signature header")
        parts[match[1]] = match[2].rstrip()
    return SignatureHeader(parts.get("algorithm"), parts.get("keyVersion", "1"), _signature(parts.get("signature")))


def is_key_version(text: str) -> bool:
    """Whether `text` is a valid key version: digits without a sign or leading zero."""
    return _KEY_VERSION.fullmatch(text) is not None


def signed_text(path: bytes, client_id: bytes, request_time: bytes, body: bytes) -> bytes:
    """Return the text that Antom's signature covers.

    `path` is the path of the notification URL that is configured at Antom; the other three are exactly as received.
    """
    return b"POST " + path + b"\n" + client_id + b"." + request_time + b"." + body


def _signature(escaped: str | None) -> bytes | None:
    if not escaped:
        return None
    if _PERCENT_ESCAPED.fullmatch(escaped) is None:
        return b""  # cannot be base64: refused later as a bad signature, not as a malformed request
    return unquote_to_bytes(escaped)


class _Route(Struct, rename="camel"):
    payment_request_id: str = ""
    capture_request_id: str = ""
    refund_request_id: str = ""
    dispute_id: str = ""
    subscription_request_id: str = ""
    vaulting_request_id: str = ""
    payment_id: str = ""


_route = msgspec.json.Decoder(_Route)


def route(body: bytes) -> str:
    """Return the number of the order (or refund, capture, dispute ...) that a message is about; empty if unreadable.

    Never raises: an unreadable message is still appended to the log, and held by the worker.
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
        or numbers.payment_id  # of a subscription's payment, which names no order
        or numbers.subscription_request_id
        or numbers.vaulting_request_id
    )


def read(body: bytes) -> dict[str, Any]:
    """Parse a message strictly.

    Raises:
        BadMessage: not UTF-8, a byte-order mark, not exactly one JSON object, or ambiguous content (module docstring).
    """
    try:
        text = body.decode("utf-8")
    except UnicodeDecodeError:
        raise BadMessage("not UTF-8") from None
    if text.startswith("\ufeff"):
        raise BadMessage("begins with a byte-order mark")
    try:
        message = _strict.decode(text)
    except RecursionError:
        raise BadMessage(f"nested deeper than {DEPTH_MAX}") from None
    except json.JSONDecodeError as error:
        raise BadMessage(f"not JSON: {error.msg} at {error.pos}") from None
    if not isinstance(message, dict):
        raise BadMessage("not a JSON object")
    _check_depth(message, depth=1)
    return message


def read_loosely(body: bytes) -> dict[str, Any]:
    """Return the members of a message that `read` refuses, to find it by; none if it is no JSON object."""
    try:
        message = json.loads(body)
    except (ValueError, RecursionError):
        return {}
    return message if isinstance(message, dict) else {}


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    message = dict(pairs)
    if len(message) != len(pairs):
        raise BadMessage("a name occurs twice in one object")
    return message


def _number(text: str) -> int:
    _check_digits(text.removeprefix("-"))
    return int(text)


def _fraction(text: str) -> str:
    # Fractions stay text, because no field that is used has one and a float could change its value.
    mantissa = text.lower().partition("e")[0]
    _check_digits(mantissa.removeprefix("-").replace(".", "", 1))
    return text


def _check_digits(digits: str) -> None:
    if len(digits) > NUMBER_DIGITS_MAX:
        raise BadMessage(f"a number of more than {NUMBER_DIGITS_MAX} digits")


def _constant(name: str) -> NoReturn:
    raise BadMessage(f"{name} is not JSON")


_strict = json.JSONDecoder(
    object_pairs_hook=_once, parse_int=_number, parse_float=_fraction, parse_constant=_constant, strict=True
)


def _check_depth(value: Any, *, depth: int) -> None:
    if depth > DEPTH_MAX:
        raise BadMessage(f"nested deeper than {DEPTH_MAX}")
    if isinstance(value, dict):
        for member in value.values():
            _check_depth(member, depth=depth + 1)
    elif isinstance(value, list):
        for member in value:
            _check_depth(member, depth=depth + 1)
