"""The log record: the signed bytes exactly as received, with the headers needed to verify them again.

The record holds no interpretation, so any consumer of the log can verify the signature and read the form for itself.
It has Kafka's shape (key, value, headers), which the embedded journal keeps too.
"""

from enum import StrEnum
from hashlib import blake2b

import msgspec
from msgspec import Struct, structs

VERSION = 1
VERSIONS_READ = range(1, VERSION + 1)
EPOCH_MS_MAX = 253_402_300_799_999  # the last millisecond of the year 9999, which is the last that `datetime` knows
EPOCH_MS_DIGITS_MAX = len(str(EPOCH_MS_MAX))


class Header(StrEnum):
    """The names of a record's headers."""

    VERSION = "envelope-version"
    ACCOUNT = "account"
    FAMILY = "family"
    RECEIVED_AT = "received-at"  # epoch milliseconds, digits
    PATH = "path"  # as received; Antom's signature covers the account's public path instead
    CONTENT_TYPE = "content-type"
    KEY_ID = "key-id"  # the key that verified the signature
    CONFIRMED = "confirmed"  # "1" if notify_verify confirmed the notification before it was acknowledged, else "0"
    CLIENT_ID = "client-id"  # this and the next two: Antom's signing headers, as received
    REQUEST_TIME = "request-time"
    SIGNATURE = "signature"
    RECEIPT = "receipt"  # the receiver's MAC over all of the above (`receipt`)
    TRACEPARENT = "traceparent"


class Record(Struct, frozen=True, gc=False):
    """One record as the log holds it. `headers` are (name, value) pairs, as in Kafka."""

    key: bytes
    value: bytes
    headers: tuple[tuple[str, bytes], ...]


class BadRecord(ValueError):
    """No receiver wrote this record: a header is missing, repeated or invalid."""


class NewerRecord(ValueError):
    """A newer release wrote this record. This release cannot interpret it."""


class RecordContents(Struct, frozen=True, kw_only=True, gc=False):
    """The contents of a record by name. `encode` takes them and `decode` returns them."""

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


def receipt(contents: RecordContents, secret: bytes) -> bytes:
    """Return the receipt MAC: a keyed hash of the contents, made by a receiver that has verified them.

    A worker with the same secret accepts the MAC instead of verifying the signature again, which costs twenty times as
    much. If the MAC is missing or wrong, the worker verifies the signature.
    """
    return blake2b(_encode(_without_receipt(contents)), key=secret, digest_size=16).digest()


def _without_receipt(contents: RecordContents) -> RecordContents:
    return structs.replace(contents, receipt=b"") if contents.receipt else contents


def key_of(account: str, number: str | bytes) -> bytes:
    """Return the key of a record: `account:number`. Records with one key are in one partition, in order.

    `number` is the order's. Messages that name no order have another number: a batch refund its batch, Antom's refund
    its own. So records of one order may be in several partitions, and the store orders them by the order's version.
    """
    return f"{account}:".encode() + (number if isinstance(number, bytes) else number.encode("utf-8", "replace"))


_encode = msgspec.msgpack.Encoder().encode

# Values of enums are read once here, because `Header.X.value` is slow and `encode` and `decode` run per notification.
_WRITTEN_AS = Header.VERSION.value
_OURS = b"%d" % VERSION
_VERSION = (_WRITTEN_AS, _OURS)
_IS_CONFIRMED = Header.CONFIRMED.value
_CONFIRMED = {True: (_IS_CONFIRMED, b"1"), False: (_IS_CONFIRMED, b"0")}
_ACCOUNT, _FAMILY, _RECEIVED_AT = Header.ACCOUNT.value, Header.FAMILY.value, Header.RECEIVED_AT.value
_PATH, _CONTENT_TYPE, _KEY_ID = Header.PATH.value, Header.CONTENT_TYPE.value, Header.KEY_ID.value
_CLIENT_ID, _REQUEST_TIME, _SIGNATURE = Header.CLIENT_ID.value, Header.REQUEST_TIME.value, Header.SIGNATURE.value
_RECEIPT = Header.RECEIPT.value


def encode(contents: RecordContents, number: str | bytes, receipt_mac: bytes = b"") -> Record:
    """Return the record of one verified notification.

    `number` is its order number, or the refund or batch number. `receipt_mac` is its `receipt`; empty if the receiver
    has no receipt key.
    """
    headers: tuple[tuple[str, bytes], ...] = (
        _VERSION,
        (_ACCOUNT, contents.account.encode()),
        (_FAMILY, contents.family.encode()),
        (_RECEIVED_AT, b"%d" % contents.received_at_ms),
        (_PATH, contents.path),
        (_CONTENT_TYPE, contents.content_type),
        (_KEY_ID, contents.key_id.encode()),
        _CONFIRMED[contents.confirmed],
    )
    if contents.signature:
        headers += (
            (_CLIENT_ID, contents.client_id),
            (_REQUEST_TIME, contents.request_time),
            (_SIGNATURE, contents.signature),
        )
    if receipt_mac:
        headers += ((_RECEIPT, receipt_mac),)
    return Record(key_of(contents.account, number), contents.body, headers)


def decode(record: Record, *, received_at_ms: int = 0) -> RecordContents:
    """Return the contents of a record.

    If the header with the receive time is invalid or out of range, `received_at_ms` replaces it, because nothing is
    decided by that time.

    Raises:
        NewerRecord: the format version is above `VERSION`.
        BadRecord: a header is missing, repeated or invalid, or the version is below 1.
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
        raise BadRecord(f"header {missing.args[0]} is missing") from None
    except (ValueError, UnicodeError) as error:
        if isinstance(error, BadRecord | NewerRecord):
            raise
        raise BadRecord("a header is not valid text") from None


def _check_version(text: bytes) -> None:
    if text == _OURS:
        return
    version = _number(text)
    if version > VERSION:
        raise NewerRecord(f"record format version {version}; this release reads up to {VERSION}: upgrade it")
    if version not in VERSIONS_READ:
        raise BadRecord(f"record format version {version} does not exist")


def _number(text: bytes) -> int:
    if not text.isdigit():  # `int` alone would also accept blanks, signs and underscores
        raise BadRecord("the record format version is not a number")
    return int(text)


def _moment(text: bytes, default: int) -> int:
    moment = int(text) if text.isdigit() and len(text) <= EPOCH_MS_DIGITS_MAX else EPOCH_MS_MAX + 1
    return moment if moment <= EPOCH_MS_MAX else default
