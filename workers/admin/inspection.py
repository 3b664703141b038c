"""One record laid open for a person: its fields as text, its headers, and whether its signature is good now.

Never raises for what a record holds: it is shown because something is wrong with it. The payer's names are masked.
"""

from collections.abc import Mapping
from typing import Any

from msgspec import Struct

from schemas import antom, form, record_format, telemetry
from schemas.accounts import CHARSETS, Account, Family
from schemas.interpret_form import mask
from schemas.record_format import Record, RecordContents
from workers.processing import Authenticate

# Of what never reaches a log, the person who decides needs these: what was sold, and the signature that is in question.
SHOWN = frozenset({"subject", "body", "sign", "signature"})
MASKED = (telemetry.REDACTED - SHOWN) | {"displayCustomerId", "userLoginId", "referenceBuyerId"}
VALUE_CHARACTERS_MAX = 2000
FIELDS_MAX = 400


class Signature(Struct, frozen=True, kw_only=True):
    """What the check says now, with the keys of now; `detail` is empty where it is good."""

    authentic: bool
    detail: str
    key_id: str


def fields(record: Record, accounts: Mapping[str, Account]) -> dict[str, str]:
    """The record's names and values as text; a message's inner names are joined by dots. Empty where none are read."""
    sealed = _opened(record)
    account = None if sealed is None else accounts.get(sealed.account)
    is_antom = (account is not None and account.family is Family.ANTOM) or record.value[:1] == b"{"
    pairs = _message_pairs(record.value) if is_antom else _form_pairs(record.value, account)
    return {_shown(name): _masked(name, value) for name, value in pairs[:FIELDS_MAX]}


def headers(record: Record) -> dict[str, str]:
    """The record's headers as text."""
    return {name: _shown(value.decode("utf-8", "backslashreplace")) for name, value in record.headers}


def signature(record: Record, accounts: Mapping[str, Account], authenticate: Authenticate) -> Signature:
    """Whether the record is signed by a key that its account has today."""
    sealed = _opened(record)
    if sealed is None:
        return Signature(authentic=False, detail="the record has no readable envelope", key_id="")
    account = accounts.get(sealed.account)
    if account is None or account.family.value != sealed.family:
        return Signature(authentic=False, detail="its account is not configured, or of another family", key_id="")
    try:
        authenticate(sealed, account, anew=True)
    except Exception as error:
        detail = f"验签失败, not signed by a key of this account: {type(error).__name__}: {error}"
        return Signature(authentic=False, detail=detail[:300], key_id="")
    return Signature(authentic=True, detail="", key_id=sealed.key_id)


def _opened(record: Record) -> RecordContents | None:
    try:
        return record_format.decode(record)
    except (record_format.BadRecord, record_format.NewerRecord):
        return None


def _form_pairs(body: bytes, account: Account | None) -> list[tuple[str, str]]:
    try:
        read = form.read(body).fields
    except form.BadForm:
        return []
    named = read.get(b"charset", b"").decode("ascii", "replace").lower()
    own = account.charset if account else "utf-8"
    # Only the charsets that are read anywhere: Python knows codecs that are none, and some of them raise.
    charset = named if named in CHARSETS else own
    return [
        (name.decode("utf-8", "backslashreplace"), value.decode(charset, "backslashreplace"))
        for name, value in read.items()
    ]


def _message_pairs(body: bytes) -> list[tuple[str, str]]:
    try:
        message = antom.read(body)
    except antom.BadMessage:
        return []
    return list(_flat("", message))


def _flat(prefix: str, value: Any) -> list[tuple[str, str]]:
    if isinstance(value, dict):
        members = value.items()
    elif isinstance(value, list):
        members = {str(index): member for index, member in enumerate(value)}.items()
    else:
        return [(prefix, str(value))]
    return [pair for name, member in members for pair in _flat(f"{prefix}.{name}" if prefix else name, member)]


def _masked(name: str, value: str) -> str:
    if any(part in MASKED for part in name.split(".")):
        return mask(value)
    return _shown(value)


def _shown(text: str) -> str:
    """At most so much of it, and nothing that a terminal or a page would take for a command."""
    cut = text if len(text) <= VALUE_CHARACTERS_MAX else f"{text[:VALUE_CHARACTERS_MAX]}…"
    return "".join(character if character.isprintable() else f"\\u{ord(character):04x}" for character in cut)
