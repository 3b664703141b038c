"""Personal data in the bodies of notifications: hide it where operators look, erase it where it was kept long enough.

A body is rewritten piece by piece. Everything that decides keeps its bytes, so an erased notification still means the
same payment, refund or end; only its signature cannot be verified any more. Names are judged by the words in them,
because Alipay adds members without notice. Pure.
"""

import json
import re
from collections.abc import Callable, Iterator
from typing import Any
from urllib.parse import quote_from_bytes, unquote_to_bytes

from schemas import form as forms
from schemas import noted
from schemas.form import DECIDING_NAMES, KNOWN_NAMES
from schemas.record_format import Header, Record

HIDDEN, ERASED = "***", "erased"

# Words in the names of people's data. A name is split at its capitals and underscores.
_WORDS = frozenset(
    """
    buyer payer payee shopper customer user holder cardholder recipient consignee receive receiver contact person
    logon login email mail phone mobile tel address zip postcode passport identity birth token pan iban ip device cookie
    """.split()
)
_NAMES = frozenset(
    """
    authCode auth_code account_name real_name full_name firstName lastName middleName fullName
    cardNo maskedCardNo last4 pay_account_no bankAccountNo passThroughInfo
    passback_params extra_common_param extend_param
    """.split()
)
# Words in the names of values that are about the payment or its merchant: the buyer's part of the amount, for example.
_OF_OTHERS = frozenset("amount fee currency type method status result url seller merchant partner".split())
_FREE_TEXT = frozenset(
    """
    subject body refund_reason memo remark remarks orderDescription goods_detail goodsDetail goodsName
    discount_goods_detail sign signature
    """.split()
)
_PAYOUTS = frozenset({"success_details", "fail_details"})
_DETAILS = _PAYOUTS | {"result_details"}
_SEPARATORS = re.compile(rb"([\s^$|,;:&=\"'<>])")
_ELEMENT = re.compile(rb"<([A-Za-z_][A-Za-z0-9_]*)>([^<]+)</")  # of the XML in which the old gateway answers
_PART = re.compile(r"[A-Z]?[a-z0-9]+|[A-Z]+(?![a-z])")
_KEPT = frozenset(name.decode() for name in DECIDING_NAMES) - {"sign"} - _PAYOUTS
_KNOWN = frozenset(name.decode() for name in KNOWN_NAMES) | noted.NAMES_OF_FORMS


def is_personal(name: str) -> bool:
    """Return whether a parameter or member of this name has data of a person, or a token of one."""
    if name in _KEPT:
        return False
    words = [word.lower() for word in _PART.findall(name)]
    if name in _NAMES or words[-2:] == ["open", "id"]:
        return True
    return not _WORDS.isdisjoint(words) and _OF_OTHERS.isdisjoint(words)


def hidden(body: bytes) -> bytes:
    """Return the body with each personal value as `***`; as nothing else, if it is neither a form nor a message."""
    return _Rewriting(is_personal, HIDDEN, is_lenient=True).body(body)


def hidden_text(name: str, value: str) -> str:
    """Return the value of a parameter, or of a member, with the personal parts that it has as `***`."""
    if name not in _DETAILS and value[:1] not in ("{", "["):
        return value
    changed = _Rewriting(is_personal, HIDDEN, is_lenient=True).value(name, value.encode("utf-8", "backslashreplace"))
    return changed.decode("utf-8", "replace")


def erased(record: Record) -> Record:
    """Return the record without personal data, free text and signature; empty if it cannot be read, or in two ways."""
    headers = tuple(
        (name, b"" if name == Header.SIGNATURE else value) for name, value in record.headers if name != Header.RECEIPT
    )
    return Record(record.key, _erased(record.value), headers)


def _erased(body: bytes) -> bytes:
    rewriting = _Rewriting(_is_erased, ERASED, is_lenient=False)
    if _is_message(body) or _is_xml(body):
        return rewriting.body(body)
    try:
        form = forms.read(body)
    except forms.BadForm:
        return b""
    return b"" if forms.is_ambiguous(form) else rewriting.body(body)


def _is_erased(name: str) -> bool:
    return name in _FREE_TEXT or is_personal(name)


def _is_message(body: bytes) -> bool:
    return body.lstrip()[:1] in (b"{", b"[")


def _is_xml(body: bytes) -> bool:
    return body.lstrip()[:1] == b"<"


class _Rewriting:
    """Replaces the values of some names. `is_lenient`: also of a form that breaks the grammar, which is shown."""

    def __init__(self, is_meant: Callable[[str], bool], instead: str, *, is_lenient: bool) -> None:
        self._is_meant = is_meant
        self._instead = instead.encode()
        self._is_lenient = is_lenient

    def body(self, body: bytes) -> bytes:
        if _is_message(body):
            return self._message(body)
        if _is_xml(body):
            return _ELEMENT.sub(self._element, body)
        return b"&".join([self._piece(piece) for piece in body.split(b"&")])

    def _element(self, found: re.Match[bytes]) -> bytes:
        """Return the begin of an element with its text; nothing is known of a charset but that it contains ASCII."""
        is_meant = self._is_meant(found[1].decode("ascii"))
        return b"<%b>%b</" % (found[1], self._instead if is_meant else found[2])

    def value(self, name: str, value: bytes) -> bytes:
        """Return the decoded value of a parameter."""
        if name in _DETAILS:
            return self._details(name, value)
        return self._message(value) if _is_message(value) else value

    def _piece(self, piece: bytes) -> bytes:
        written, equals, value = piece.partition(b"=")
        name = unquote_to_bytes(written.replace(b"+", b" ")).decode("utf-8", "replace")
        if not equals or not value:
            return piece if equals or not piece else self._instead
        if self._is_meant(name) or (not self._is_lenient and name not in _KNOWN):
            return written + equals + self._instead
        decoded = unquote_to_bytes(value.replace(b"+", b" "))
        changed = self.value(name, decoded)
        return piece if changed == decoded else written + equals + quote_from_bytes(changed, safe="").encode()

    def _details(self, name: str, value: bytes) -> bytes:
        """Return the entries of a batch: a payout has the payee's account and name as its second and third part."""
        if name not in _PAYOUTS:
            pieces = _SEPARATORS.split(value)  # linear, where a search for an address would not be
            return b"".join([self._instead if b"@" in piece else piece for piece in pieces])
        entries = [entry.split(b"^") for entry in value.split(b"|")]
        return b"|".join(
            [b"^".join([self._instead if place in (1, 2) and part else part for place, part in enumerate(entry)])
             for entry in entries]
        )  # fmt: skip

    def _message(self, body: bytes) -> bytes:
        """Return a JSON text; names that occur twice and the literals of numbers are kept."""
        try:
            text = body.decode("utf-8", "surrogateescape")
            value = json.loads(
                text, object_pairs_hook=_Members, parse_float=_Literal, parse_int=_Literal, parse_constant=_Literal
            )
            return "".join(self._written(value, is_meant=False)).encode("utf-8", "surrogateescape")
        except (ValueError, RecursionError):
            return self._instead if self._is_lenient else b""

    def _written(self, value: Any, *, is_meant: bool) -> Iterator[str]:
        match value:
            case _Members():
                yield "{"
                for place, (name, member) in enumerate(value):
                    yield f"{',' if place else ''}{_quoted(name)}:"
                    yield from self._written(member, is_meant=is_meant or self._is_meant(name))
                yield "}"
            case list():
                yield "["
                for place, item in enumerate(value):
                    yield "," if place else ""
                    yield from self._written(item, is_meant=is_meant)
                yield "]"
            case None | bool():
                yield {None: "null", True: "true", False: "false"}[value]
            case "":
                yield '""'
            case _ if is_meant:
                yield _quoted(self._instead.decode())
            case _Literal():
                yield value.text
            case _ if value[:1] in ("{", "["):  # a message within a text
                inner = self._message(value.encode("utf-8", "surrogateescape"))
                yield _quoted(inner.decode("utf-8", "surrogateescape"))
            case _:
                yield _quoted(value)


class _Members(list[tuple[str, Any]]):
    """The members of a JSON object, in their order."""


class _Literal:
    """A number as it is written."""

    def __init__(self, text: str) -> None:
        self.text = text


def _quoted(text: str) -> str:
    written = json.dumps(text, ensure_ascii=False)
    try:
        written.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:  # half of a character, as Antom cuts names
        return json.dumps(text)
    return written
