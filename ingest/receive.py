"""The story of one request: from its header to `success`.

`Reception.receive` reads like the specification, from cheap to dear, and every refusal is an error that carries its
answer (`ingest.errors`). What it calls decides without waiting, or waits without deciding.

The receiver reads only what it needs to refuse and to route. A form that is signed but makes no sense is logged and
acknowledged: Alipay would only send it again, and a payment must not be lost because we could not read it.
"""

from collections.abc import Mapping
from typing import Protocol

from msgspec import Struct

from ingest import admission, authenticate
from ingest.authenticate import Authentic, SigningHeaders
from ingest.clock import Clock
from ingest.errors import Malformed, NoSuchAccount, TooLarge, Unsupported, WrongMethod
from ingest.keys import KeyRing
from ingest.quota import Quota
from schemas import record_format
from schemas.accounts import Account, Family
from schemas.dispositions import Refusal
from schemas.form import BODY_BYTES_MAX
from schemas.record_format import Record, RecordContents

PATH = "/notify/"
MEDIA_TYPES = {
    Family.MAPI: "application/x-www-form-urlencoded",
    Family.OPENAPI: "application/x-www-form-urlencoded",
    Family.ANTOM: "application/json",
}


class Gone(Exception):
    """The sender left before its request was complete, so there is nobody to refuse."""


class Headers(Protocol):
    """Header fields by name, without regard to case."""

    def get(self, name: str, /) -> str | None: ...

    def getall(self, name: str, default: list[str], /) -> list[str]: ...


class Arrived(Protocol):
    """A request whose header is complete."""

    @property
    def method(self) -> str: ...

    @property
    def target(self) -> str:
        """The request target exactly as sent: neither decoded nor cut."""

    @property
    def headers(self) -> Headers: ...

    async def read_body(self) -> bytes:
        """The whole body.

        Raises:
            TooSlow: it did not arrive within its deadline.
            TooLarge: it is larger than `BODY_BYTES_MAX`.
            Gone: the sender left.
        """


class Keys(Protocol):
    def current(self, name: str, /) -> KeyRing:
        """The keys that verify this account's messages now."""


class Confirm(Protocol):
    async def confirm(self, account: Account, notify_id: bytes, /) -> None:
        """Ask Alipay whether it sent this notification.

        Raises:
            NotConfirmed: it says it did not.
            Unavailable: it says neither.
        """


class Log(Protocol):
    async def append(self, record: Record, /) -> None:
        """Returns when the record is durable.

        Raises:
            Unavailable: it may or may not be.
        """


class AppendObserver(Protocol):
    """Receives the duration of each append, for metrics. It must not raise."""

    def appended(self, seconds: float, /, *, durable: bool) -> None:
        """Count one append; `durable` is false if it raised or was cancelled."""


class Receipts(Protocol):
    def __call__(self, sealed: RecordContents, /) -> bytes:
        """The mark of this receiver's having verified what is sealed; empty where it leaves none."""


def no_receipt(sealed: RecordContents, /) -> bytes:
    """Leave no mark: whoever reads the record verifies its signature again."""
    return b""


class Accepted(Struct, frozen=True, gc=False):
    """A notification that is durable. `is_stale`: signed longer ago than Antom sends again; counted, not refused."""

    account: Account
    authentic: Authentic
    is_stale: bool


class Reception:
    """Receives notifications of the configured accounts."""

    def __init__(
        self,
        *,
        accounts: Mapping[str, Account],
        quota: Quota,
        keys: Keys,
        confirm: Confirm,
        log: Log,
        clock: Clock,
        observer: AppendObserver,
        receipts: Receipts = no_receipt,
    ) -> None:
        self._receipts = receipts
        self._accounts = {PATH + name: account for name, account in accounts.items()}
        self._quota = quota
        self._keys = keys
        self._confirm = confirm
        self._log = log
        self._clock = clock
        self._observer = observer

    async def receive(self, arrived: Arrived) -> Accepted:
        """What was accepted.

        When this returns, the notification is durable: its sender may forget it from that moment, so the answer
        `success` is given after it and never before.

        Raises:
            Refused: the answer that is given instead; then there is no record, or, where the log could not say in
                time, perhaps one, and Alipay sends again.
            Gone: there is nobody to answer.
        """
        account = self.account_at(arrived.target)
        if account is None:
            raise _nowhere(arrived.target)
        if arrived.method != "POST":
            raise WrongMethod(arrived.method)
        size = _announced_size(arrived.headers)
        self._quota.take(size)
        try:
            _check_media(arrived.headers, account)
            body = await arrived.read_body()
            received_at_ms = self._clock.epoch_ms()
            signing = _signing_headers(arrived.headers) if account.family is Family.ANTOM else None
            authentic = authenticate.check(account, self._keys.current(account.name), body, signing)
            is_stale = signing is not None and admission.is_stale(signing.request_time, now_ms=received_at_ms)
            if account.notify_verify:
                await self._confirm.confirm(account, authentic.notify_id)
            sealed = _sealed(account, arrived, body, signing, authentic, received_at_ms)
            await self._append(record_format.encode(sealed, authentic.number, self._receipts(sealed)))
        finally:
            self._quota.release(size)
        return Accepted(account, authentic, is_stale)

    def account_at(self, target: str) -> Account | None:
        """The account that a request target addresses: one spelling each, and the query is never read."""
        return self._accounts.get(target) or self._accounts.get(target.partition("?")[0])

    async def _append(self, record: Record) -> None:
        began_s = self._clock.monotonic_s()
        is_durable = False
        try:
            await self._log.append(record)
            is_durable = True
        finally:
            self._observer.appended(self._clock.monotonic_s() - began_s, durable=is_durable)


def _nowhere(target: str) -> Malformed | NoSuchAccount:
    path = target.partition("?")[0]
    if not path.startswith("/"):
        return Malformed(Refusal.MALFORMED, "the request target is not a path")
    is_name = path.startswith(PATH) and "/" not in path[len(PATH) :]
    return NoSuchAccount(Refusal.UNKNOWN_ACCOUNT if is_name else Refusal.UNKNOWN_PATH)


def _announced_size(headers: Headers) -> int:
    """What the body will take at most: its announced length, or the limit where it comes in chunks."""
    announced = headers.get("Content-Length")
    if announced is None:
        codings = headers.getall("Transfer-Encoding", [])
        if codings and (len(codings) > 1 or codings[0].strip().lower() != "chunked"):
            raise Malformed(Refusal.MALFORMED, "a transfer coding other than one chunked")
        return BODY_BYTES_MAX if codings else 0
    if not announced.isascii() or not announced.isdigit():
        raise Malformed(Refusal.MALFORMED, "a Content-Length that is no number")
    if len(announced) > 10 or int(announced) > BODY_BYTES_MAX:
        raise TooLarge("announced")
    return int(announced)


def _check_media(headers: Headers, account: Account) -> None:
    """The family's media type and no encoding. What follows the first `;` is not looked at, least of all a charset."""
    media_type = (headers.get("Content-Type") or "").partition(";")[0].strip().lower()
    if media_type != MEDIA_TYPES[account.family]:
        raise Unsupported(Refusal.MEDIA_TYPE)
    encoding = headers.get("Content-Encoding")
    if encoding is not None and encoding.strip().lower() != "identity":
        raise Unsupported(Refusal.CONTENT_ENCODING)


def _signing_headers(headers: Headers) -> SigningHeaders:
    return authenticate.signing_headers(lambda name: headers.getall(name, []))


def _sealed(
    account: Account,
    arrived: Arrived,
    body: bytes,
    signing: SigningHeaders | None,
    authentic: Authentic,
    received_at_ms: int,
) -> RecordContents:
    return RecordContents(
        account=account.name,
        family=account.family.value,
        received_at_ms=received_at_ms,
        path=_as_received(arrived.target.partition("?")[0]),
        content_type=_as_received(arrived.headers.get("Content-Type") or ""),
        key_id=authentic.key_id,
        confirmed=account.notify_verify,
        body=body,
        client_id=signing.client_id if signing else b"",
        request_time=signing.request_time if signing else b"",
        signature=signing.signature if signing else b"",
    )


def _as_received(text: str) -> bytes:
    """The bytes of a header or target, which the parser decoded as UTF-8 with stand-ins for what was not."""
    return text.encode("utf-8", "surrogateescape")
