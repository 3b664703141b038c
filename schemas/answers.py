"""Alipay's answers to questions about a trade: their grammar, and the text that their signature covers. Pure.

    alipay.trade.query    Open Platform   JSON; signed is the raw text of the inner object
    single_trade_query    old gateway     XML; signed are the children of <trade>, as `name=value`, sorted
    inquiryPayment        Antom           JSON; signed is the whole body, with headers like those of a notification

`ingest.answers` verifies them, and `schemas.interpret_answer` has their meaning. An answer that two
parsers could read differently is no answer: one with a name that occurs twice, or with a document type.
"""

import re
from collections.abc import Mapping
from html import unescape
from typing import Any

import msgspec
from msgspec import Struct

from schemas import antom
from schemas.accounts import Family
from schemas.form import Form

QUESTIONS: dict[Family, str] = {
    Family.OPENAPI: "alipay.trade.query",
    Family.MAPI: "single_trade_query",
    Family.ANTOM: "inquiryPayment",
}
TYPES = frozenset(QUESTIONS.values())
BYTES_MAX = 64 * 1024  # the largest documented answer has some 4 KiB

_DECLARATION = re.compile(rb"""<\?xml[^<>]{0,80}?encoding=["']([A-Za-z0-9._-]{1,20})["'][^<>]{0,80}\?>""")
_TAG = re.compile(r"<(/?)([A-Za-z_][A-Za-z0-9_]*)\s*(/?)>")
_QUESTION = re.compile(r"<request>.*?</request>", re.DOTALL)  # repeated in the answer, and not signed
_ESCAPE = re.compile(r"&(?:amp|lt|gt|quot|apos|#[0-9]{1,6}|#x[0-9A-Fa-f]{1,5});")
_DEPTH_MAX = 8
_ENCODINGS = frozenset({"utf-8", "gbk", "gb2312", "gb18030"})
_OF_TRADE = "alipay_trade_query_response"


class BadAnswer(ValueError):
    """The body is no answer to the question of this family, or could be read in two ways."""


class OpenAnswer(Struct, frozen=True):
    """The Open Platform's answer. `signed_text` is the raw inner object; `certificate` names that of the key."""

    fields: Mapping[str, Any]
    signed_text: bytes
    signature: bytes
    certificate: str = ""


class OldAnswer(Struct, frozen=True):
    """The old gateway's answer: a trade, with its signature, as a form's; or `error`, which is not signed."""

    trade: Form | None
    encoding: str
    error: str = ""

    @property
    def fields(self) -> dict[str, str]:
        """Return the trade's values as text."""
        trade = self.trade
        pairs = {} if trade is None else trade.fields
        return {name.decode("ascii"): value.decode(self.encoding) for name, value in pairs.items()}


class _Envelope(Struct):
    alipay_trade_query_response: msgspec.Raw = msgspec.Raw()
    error_response: msgspec.Raw = msgspec.Raw()
    sign: str = ""
    alipay_cert_sn: str = ""


def read_open(body: bytes) -> OpenAnswer:
    """Parse an answer of the Open Platform; an error has `code`, `sub_code` and their texts in its fields.

    Raises:
        BadAnswer: it is no answer to alipay.trade.query, or could be read in two ways.
    """
    message = _message(body)
    try:
        envelope = msgspec.json.decode(body, type=_Envelope)
    except (msgspec.MsgspecError, UnicodeError, RecursionError) as bad:
        raise BadAnswer(f"not an answer of the Open Platform: {bad}") from None
    inner = message.get(_OF_TRADE, message.get("error_response"))
    if not isinstance(inner, dict):
        raise BadAnswer(f"{_OF_TRADE} is missing")
    raw = envelope.alipay_trade_query_response if _OF_TRADE in message else envelope.error_response
    return OpenAnswer(inner, bytes(raw), envelope.sign.encode("utf-8", "replace"), envelope.alipay_cert_sn)


def read_old(body: bytes) -> OldAnswer:
    """Parse an answer of the old gateway.

    Raises:
        BadAnswer: it is no answer to single_trade_query, or could be read in two ways.
    """
    name, root, encoding = _document(body)
    if name != "alipay" or not isinstance(root, dict) or root.get("is_success") not in ("T", "F"):
        raise BadAnswer("not an answer of the old gateway: is_success is missing")
    if root["is_success"] == "F":
        return OldAnswer(None, encoding, error=_text(root, "error") or "unknown error")
    response = root.get("response")
    trade = response.get("trade") if isinstance(response, dict) else None
    if not isinstance(trade, dict) or not all(isinstance(value, str) for value in trade.values()):
        raise BadAnswer("an answer without a trade")
    fields = {name.encode("ascii"): str(value).encode(encoding, "replace") for name, value in trade.items()}
    sign, sign_type = _text(root, "sign"), _text(root, "sign_type")
    form = Form(fields, sign.encode() or None, sign_type.encode() or None, has_escaped_ampersand=False)
    return OldAnswer(form, encoding)


def read_antom(body: bytes) -> Mapping[str, Any]:
    """Parse an answer of Antom.

    Raises:
        BadAnswer: it is no JSON object with a result, or could be read in two ways.
    """
    message = _message(body)
    if not isinstance(message.get("result"), dict):
        raise BadAnswer("not an answer of Antom: result is missing")
    return message


def fields(body: bytes, family: Family) -> Mapping[str, Any]:
    """Return the trade's fields in an answer of this family, or those of its error.

    Raises:
        BadAnswer: it is none.
    """
    if family is Family.OPENAPI:
        return read_open(body).fields
    return read_antom(body) if family is Family.ANTOM else read_old(body).fields


def _message(body: bytes) -> dict[str, Any]:
    try:
        return antom.read(body)
    except antom.BadMessage as bad:
        raise BadAnswer(f"not JSON that can be read in one way only: {bad}") from None


def _document(body: bytes) -> tuple[str, "_Content", str]:
    """Return the name and content of an XML text's root, and its encoding."""
    declared = _DECLARATION.match(body.lstrip())
    encoding = "utf-8" if declared is None else declared[1].decode("ascii").lower()
    if encoding not in _ENCODINGS:
        raise BadAnswer("its encoding is not supported")
    try:
        text = body.lstrip()[0 if declared is None else declared.end() :].decode(encoding)
    except UnicodeDecodeError:
        raise BadAnswer(f"not {encoding}") from None
    root = _elements(_QUESTION.sub("", text.strip(), count=1))
    if not isinstance(root, dict) or len(root) != 1:
        raise BadAnswer("not an XML text with one root")
    ((name, content),) = root.items()
    return name, content, encoding


def _elements(text: str) -> "_Content":
    """Return the elements of an XML text by name, and their content: elements or text.

    Only the grammar of the answers is read: elements without a second one of their name beside them, and text. A
    document type, comments, CDATA and mixed content are refused, because they are where XML parsers differ.
    """
    above: list[tuple[str, dict[str, _Content]]] = []
    here: dict[str, _Content] = {}
    opened, since = "", 0
    for tag in _TAG.finditer(text):
        between, since = text[since : tag.start()], tag.end()
        closes, name, is_empty = tag[1], tag[2], tag[3]
        if not closes:
            if between.strip() or name in here or len(above) >= _DEPTH_MAX:
                raise BadAnswer("an element beside text, or twice, or too deep")
            if is_empty:
                here[name], opened = "", ""
            else:
                above.append((name, here))
                here, opened = {}, name
            continue
        if not above or above[-1][0] != name or (between.strip() and opened != name):
            raise BadAnswer("an element that does not end as it began")
        content: _Content = here if here or opened != name else _unescaped(between)
        _, here = above.pop()
        here[name], opened = content, ""
    if above or text[since:].strip():
        raise BadAnswer("an XML text that is cut")
    return here


def _unescaped(text: str) -> str:
    if "<" in text or _ESCAPE.sub("", text).count("&"):
        raise BadAnswer("a character or an entity that XML does not have")
    return unescape(text)


def _text(parent: Mapping[str, Any], name: str) -> str:
    text = parent.get(name)
    return text.strip() if isinstance(text, str) else ""


_Content = str | dict[str, Any]
