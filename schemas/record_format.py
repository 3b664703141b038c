"""The log record: the signed bytes exactly as received, with the headers needed to verify them again.

The record holds no interpretation, so any consumer of the log can verify the signature and read the form for itself.
It has Kafka's shape (key, value, headers), which the embedded journal keeps too.
"""

from collections import Counter
from enum import StrEnum
from hashlib import blake2b

import msgspec
from msgspec import Struct

from schemas.accounts import Family

VERSION = 2  # the newest format; that of answers, so that an older release leaves them for the upgrade
NOTIFICATION_VERSION = 1
VERSIONS_READ = range(1, VERSION + 1)
EPOCH_MS_MAX = 253_402_300_799_999  # the last millisecond of the year 9999, which is the last that `datetime` knows
EPOCH_MS_DIGITS_MAX = len(str(EPOCH_MS_MAX))
RECEIVED_AT_MS_MIN = 1_577_836_800_000  # 2020; an earlier receive time is that of a wrong clock
AHEAD_MS_MAX = 86_400_000  # a receive time further ahead of the reader's clock too


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
    KEY_DIGEST = "key-digest"  # of the key in `key-id`: shows a worker that its own key of this id is another
    TRACEPARENT = "traceparent"
    ANSWER = "answer"  # "1" if the value is no notification, but Alipay's answer to a question of ours


class Record(Struct, frozen=True, gc=False):
    """One record as the log holds it. `headers` are (name, value) pairs, as in Kafka."""

    key: bytes
    value: bytes
    headers: tuple[tuple[str, bytes], ...]


class BadRecord(ValueError):
    """No receiver wrote this record: a required header is missing, repeated or invalid."""


class NewerRecord(ValueError):
    """A newer release wrote this record. This release cannot interpret it."""


class RecordContents(Struct, frozen=True, kw_only=True, gc=False):
    """The contents of a record by name. `encode` takes them and `decode` returns them.

    The defaults stand for headers that the record lacks. A record without `confirmed` counts as not confirmed.
    `key_digest` is not covered by the receipt MAC: it decides nothing but whether a record is worth waiting for.

    If `is_answer`, the body is Alipay's answer to a question about an order (`schemas.answers`). `path` is then that of
    the question, `request_time` is Antom's `response-time`, and `confirmed` states that we asked.
    """

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
    key_digest: bytes = b""
    is_answer: bool = False


class _Covered(Struct, frozen=True, kw_only=True, gc=False):
    """The contents that the receipt MAC covers. Names and order are part of it, and records have to keep their MAC."""

    account: str
    family: str
    received_at_ms: int
    path: bytes
    content_type: bytes
    key_id: str
    confirmed: bool
    body: bytes
    client_id: bytes
    request_time: bytes
    signature: bytes
    receipt: bytes = b""


def receipt(contents: RecordContents, secret: bytes) -> bytes:
    """Return the receipt MAC: a keyed hash of the contents, made by a receiver that has verified them.

    A worker with the same secret accepts the MAC instead of verifying the signature again, which costs twenty times as
    much. If the MAC is missing or wrong, the worker verifies the signature.
    """
    kind = _ANSWER_KIND if contents.is_answer else b""  # a receipt of the one kind is never one of the other
    return blake2b(_encode(_covered(contents)), key=secret, digest_size=16, person=kind).digest()


def _covered(contents: RecordContents) -> _Covered:
    return _Covered(
        account=contents.account,
        family=contents.family,
        received_at_ms=contents.received_at_ms,
        path=contents.path,
        content_type=contents.content_type,
        key_id=contents.key_id,
        confirmed=contents.confirmed,
        body=contents.body,
        client_id=contents.client_id,
        request_time=contents.request_time,
        signature=contents.signature,
    )


def key_of(scope: str, number: str | bytes) -> bytes:
    """Return a record's key: `scope:number` (`schemas.scopes`). Records with one key are in one partition, in order.

    `number` is the order's. Messages that name no order have another number: a batch refund its batch, Antom's refund
    its own. So records of one order may be in several partitions, and the store orders them by the order's version.
    """
    return f"{scope}:".encode() + (number if isinstance(number, bytes) else number.encode("utf-8", "replace"))


_encode = msgspec.msgpack.Encoder().encode

# Values of enums are read once here, because `Header.X.value` is slow and `encode` and `decode` run per notification.
_WRITTEN_AS = Header.VERSION.value
_OURS = b"%d" % NOTIFICATION_VERSION
_VERSION = (_WRITTEN_AS, _OURS)
_ANSWER, _ANSWER_KIND = Header.ANSWER.value, b"answer"
_OF_ANSWER = ((_WRITTEN_AS, b"%d" % VERSION), (_ANSWER, b"1"))
_IS_CONFIRMED = Header.CONFIRMED.value
_CONFIRMED = {True: (_IS_CONFIRMED, b"1"), False: (_IS_CONFIRMED, b"0")}
_ACCOUNT, _FAMILY, _RECEIVED_AT = Header.ACCOUNT.value, Header.FAMILY.value, Header.RECEIVED_AT.value
_PATH, _CONTENT_TYPE, _KEY_ID = Header.PATH.value, Header.CONTENT_TYPE.value, Header.KEY_ID.value
_CLIENT_ID, _REQUEST_TIME, _SIGNATURE = Header.CLIENT_ID.value, Header.REQUEST_TIME.value, Header.SIGNATURE.value
_RECEIPT, _KEY_DIGEST = Header.RECEIPT.value, Header.KEY_DIGEST.value
_ANTOM = Family.ANTOM.value


def encode(contents: RecordContents, number: str | bytes, receipt_mac: bytes = b"", scope: str = "") -> Record:
    """Return the record of one verified notification, or answer.

    `number` is its order number, or the refund or batch number. `scope` is the number's; empty if it is the account.
    `receipt_mac` is the record's `receipt`; empty if the receiver has no receipt key.
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
    if contents.key_digest:
        headers += ((_KEY_DIGEST, contents.key_digest),)
    if contents.is_answer:
        headers = (*_OF_ANSWER, *headers[1:])
    return Record(key_of(scope or contents.account, number), contents.body, headers)


def decode(record: Record, *, now_ms: int | None = None) -> RecordContents:
    """Return the contents of a record.

    Version, account and family are required, for Antom also the three signing headers. Every other header is advice: if
    it is missing, repeated or invalid, a default replaces it. The default of the receive time is `now_ms`, also for a
    time before 2020 or more than a day ahead of `now_ms`; without `now_ms` any valid time is returned, else 0.

    Raises:
        NewerRecord: the format version is above `VERSION`.
        BadRecord: a required header is missing, repeated or invalid, or the version is below 1.
    """
    headers = dict(record.headers)
    if len(headers) != len(record.headers):
        headers = _unrepeated(record)
    get = headers.get
    try:
        _check_version(headers[_WRITTEN_AS])
        account, family = headers[_ACCOUNT].decode(), headers[_FAMILY].decode()
        if family == _ANTOM:
            client_id, request_time, signature = headers[_CLIENT_ID], headers[_REQUEST_TIME], headers[_SIGNATURE]
        else:
            client_id, request_time, signature = get(_CLIENT_ID, b""), get(_REQUEST_TIME, b""), get(_SIGNATURE, b"")
    except KeyError as missing:
        raise BadRecord(f"header {missing.args[0]} is missing or repeated") from None
    except UnicodeDecodeError:
        raise BadRecord("a required header is not valid text") from None
    return RecordContents(
        account=account,
        family=family,
        received_at_ms=_moment(get(_RECEIVED_AT, b""), now_ms),
        path=get(_PATH, b""),
        content_type=get(_CONTENT_TYPE, b""),
        key_id=_text(get(_KEY_ID, b"")),
        confirmed=get(_IS_CONFIRMED) == b"1",
        body=record.value,
        client_id=client_id,
        request_time=request_time,
        signature=signature,
        receipt=get(_RECEIPT, b""),
        key_digest=get(_KEY_DIGEST, b""),
        is_answer=get(_ANSWER) == b"1",
    )


def _unrepeated(record: Record) -> dict[str, bytes]:
    """Return the headers that occur once."""
    counts = Counter(name for name, _ in record.headers)
    return {name: value for name, value in record.headers if counts[name] == 1}


def _text(value: bytes) -> str:
    try:
        return value.decode()
    except UnicodeDecodeError:
        return ""


def _check_version(text: bytes) -> None:
    if text == _OURS:
        return
    version = _number(text)
    if version > VERSION:
        raise NewerRecord(f"record format version {version}; this release reads up to {VERSION}: upgrade it")
    if version not in VERSIONS_READ:
        raise BadRecord(f"record format version {version} does not exist")


def _number(text: bytes) -> int:
    if not text.isdigit() or len(text) > EPOCH_MS_DIGITS_MAX:  # `int` alone would also accept blanks, signs and such
        raise BadRecord("the record format version is not a number")
    return int(text)


def _moment(text: bytes, now_ms: int | None) -> int:
    moment = int(text) if text.isdigit() and len(text) <= EPOCH_MS_DIGITS_MAX else -1
    if now_ms is None:
        return moment if 0 <= moment <= EPOCH_MS_MAX else 0
    return moment if RECEIVED_AT_MS_MIN <= moment <= now_ms + AHEAD_MS_MAX else now_ms
