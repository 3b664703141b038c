"""The log record: the signed bytes exactly as received, and beside them what is needed to check them again.

Evidence is kept, meaning is derived: any consumer of the log can verify the signature once more and read the form for
itself. The shape is Kafka's (a key, a value, headers), and the embedded journal keeps the same three.
"""

from enum import StrEnum
from hashlib import blake2b

import msgspec
from msgspec import Struct, structs

VERSION = 1
VERSIONS_READ = range(1, VERSION + 1)
EPOCH_MS_MAX = 253_402_300_799_999  # the last millisecond of the year 9999, after which no clock of ours shows a time
EPOCH_MS_DIGITS_MAX = len(str(EPOCH_MS_MAX))


class Header(StrEnum):
    """The names of a record's headers."""

    VERSION = "envelope-version"
    ACCOUNT = "account"
    FAMILY = "family"
    RECEIVED_AT = "received-at"  # epoch milliseconds, digits
    PATH = "path"  # as the client asked for it; antom's signature is over the account's public path instead
    CONTENT_TYPE = "content-type"
    KEY_ID = "key-id"  # which of the account's keys verified it
    CONFIRMED = "confirmed"  # "1" where notify_verify vouched for it before it was acknowledged
    CLIENT_ID = "client-id"  # the three of antom that its signature covers or is
    REQUEST_TIME = "request-time"
    SIGNATURE = "signature"
    RECEIPT = "receipt"  # the receiver's own mark of having verified all of the above
    TRACEPARENT = "traceparent"


class Record(Struct, frozen=True, gc=False):
    """One record as the log holds it. `headers` keeps Kafka's shape: a sequence of (name, bytes)."""

    key: bytes
    value: bytes
    headers: tuple[tuple[str, bytes], ...]


class BadRecord(ValueError):
    """The record was not written by a receiver of ours: a header is missing or is not what it should be."""


class NewerRecord(ValueError):
    """The record was written by a later version of this program; this one may not guess what it means."""


class RecordContents(Struct, frozen=True, kw_only=True, gc=False):
    """A record's contents by name: what `encode` takes and `decode` gives back."""

    account: str
    family: str
    received_at_ms: int
    path: bytes
    content_type: bytes
    key_id: str
    confirmed: bool
    body: bytes
    client_id: bytes = b""
    request_time: bytes = b""
    signature: bytes = b""
    receipt: bytes = b""


def receipt(sealed: RecordContents, secret: bytes) -> bytes:
    """The mark that a receiver who holds `secret` puts on what it has verified: a keyed hash of all that is sealed.

    Whoever reads the record and holds the secret too need not verify the signature again, which costs twenty times as
    much. Without the secret nobody can make one; where it is missing or wrong, the signature decides.
    """
    return blake2b(_encode(unreceipted(sealed)), key=secret, digest_size=16).digest()


def unreceipted(sealed: RecordContents) -> RecordContents:
    """The same without its receipt: only the signature can show that it is authentic."""
    return structs.replace(sealed, receipt=b"") if sealed.receipt else sealed


def key_of(account: str, number: str | bytes) -> bytes:
    """The record's key: all that concerns one order lies in one partition, in the order it was received."""
    return f"{account}:".encode() + (number if isinstance(number, bytes) else number.encode("utf-8", "replace"))


_encode = msgspec.msgpack.Encoder().encode

# Reading an enum's value costs more than what is done with it, and this is done for every notification.
_WRITTEN_AS = Header.VERSION.value
_OURS = b"%d" % VERSION
_VERSION = (_WRITTEN_AS, _OURS)
_IS_CONFIRMED = Header.CONFIRMED.value
_CONFIRMED = {True: (_IS_CONFIRMED, b"1"), False: (_IS_CONFIRMED, b"0")}
_ACCOUNT, _FAMILY, _RECEIVED_AT = Header.ACCOUNT.value, Header.FAMILY.value, Header.RECEIVED_AT.value
_PATH, _CONTENT_TYPE, _KEY_ID = Header.PATH.value, Header.CONTENT_TYPE.value, Header.KEY_ID.value
_CLIENT_ID, _REQUEST_TIME, _SIGNATURE = Header.CLIENT_ID.value, Header.REQUEST_TIME.value, Header.SIGNATURE.value
_RECEIPT = Header.RECEIPT.value


def encode(sealed: RecordContents, number: str | bytes, mark: bytes = b"") -> Record:
    """The record of one verified notification; `number` is its order number, or the refund or batch number.

    `mark` is its `receipt`, if the receiver leaves one.
    """
    headers: tuple[tuple[str, bytes], ...] = (
        _VERSION,
        (_ACCOUNT, sealed.account.encode()),
        (_FAMILY, sealed.family.encode()),
        (_RECEIVED_AT, b"%d" % sealed.received_at_ms),
        (_PATH, sealed.path),
        (_CONTENT_TYPE, sealed.content_type),
        (_KEY_ID, sealed.key_id.encode()),
        _CONFIRMED[sealed.confirmed],
    )
    if sealed.signature:
        headers += (
            (_CLIENT_ID, sealed.client_id),
            (_REQUEST_TIME, sealed.request_time),
            (_SIGNATURE, sealed.signature),
        )
    if mark:
        headers += ((_RECEIPT, mark),)
    return Record(key_of(sealed.account, number), sealed.body, headers)


def decode(record: Record, *, received_at_ms: int = 0) -> RecordContents:
    """What `encode` put into the record.

    The moment of receipt is advice and decides nothing: where its header is unreadable or out of range,
    `received_at_ms` stands in for it.

    Raises:
        NewerRecord: the envelope's version is above ours.
        BadRecord: a header is missing, repeated or unreadable, or the version is below one.
    """
    headers = dict(record.headers)
    if len(headers) != len(record.headers):
        raise BadRecord("a header occurs twice")
    try:
        _check_version(headers[_WRITTEN_AS])
        return RecordContents(
            account=headers[_ACCOUNT].decode(),
            family=headers[_FAMILY].decode(),
            received_at_ms=_moment(headers[_RECEIVED_AT], received_at_ms),
            path=headers[_PATH],
            content_type=headers[_CONTENT_TYPE],
            key_id=headers[_KEY_ID].decode(),
            confirmed=headers[_IS_CONFIRMED] == b"1",
            body=record.value,
            client_id=headers.get(_CLIENT_ID, b""),
            request_time=headers.get(_REQUEST_TIME, b""),
            signature=headers.get(_SIGNATURE, b""),
            receipt=headers.get(_RECEIPT, b""),
        )
    except KeyError as missing:
        raise BadRecord(f"no header {missing.args[0]}") from None
    except (ValueError, UnicodeError) as error:
        if isinstance(error, BadRecord | NewerRecord):
            raise
        raise BadRecord("a header is not what it should be") from None


def _check_version(text: bytes) -> None:
    if text == _OURS:
        return
    version = _number(text)
    if version > VERSION:
        raise NewerRecord(f"envelope version {version}, this program reads up to {VERSION}")
    if version not in VERSIONS_READ:
        raise BadRecord(f"envelope version {version}")


def _number(text: bytes) -> int:
    """Digits and nothing else: `int` alone would also take blanks, signs and underscores."""
    if not text.isdigit():
        raise BadRecord("a number that is not written in digits")
    return int(text)


def _moment(text: bytes, default: int) -> int:
    moment = int(text) if text.isdigit() and len(text) <= EPOCH_MS_DIGITS_MAX else EPOCH_MS_MAX + 1
    return moment if moment <= EPOCH_MS_MAX else default
