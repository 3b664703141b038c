"""The story of one request, from its header to `success`, for both engines.

`Reception.receive` runs all checks in order, cheap ones first. Each refusal is an error with its answer
(`ingest.errors`).

The receiver parses only as much as it needs to refuse a request or to route its record. It accepts authentic but
meaningless forms: Alipay would only resend them, and a payment must not be lost because this release cannot read it.
"""

from typing import Protocol

from msgspec import Struct

from ingest import admission, authenticate
from ingest.accounts_in_use import AccountsChange, AccountsInUse, KeyedAccount
from ingest.authenticate import Authentic, SigningHeaders
from ingest.clock import Clock
from ingest.errors import Malformed, NoSuchAccount, TooLarge, Unsupported, WrongMethod
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
    """The sender left before its request was complete, so no answer is possible."""


class Headers(Protocol):
    """Header fields by case-insensitive name."""

    def get(self, name: str, /) -> str | None: ...

    def getall(self, name: str, default: list[str], /) -> list[str]: ...


class Arrived(Protocol):
    """A request whose header is complete."""

    @property
    def method(self) -> str: ...

    @property
    def target(self) -> str:
        """The request target exactly as sent, not decoded, with its query."""

    @property
    def headers(self) -> Headers: ...

    async def read_body(self) -> bytes:
        """Return the whole body.

        Raises:
            TooSlow: it did not arrive before its deadline.
            TooLarge: it is larger than `BODY_BYTES_MAX`.
            Gone: the sender left.
        """


class Confirm(Protocol):
    async def confirm(self, account: Account, notify_id: bytes, /) -> None:
        """Return if Alipay confirms that it sent this notification.

        Raises:
            NotConfirmed: Alipay denies it.
            Unavailable: no clear answer in time.
        """


class Log(Protocol):
    async def append(self, record: Record, /) -> None:
        """Append the record. When this returns, the record is durable.

        Raises:
            Unavailable: it is unknown whether the record is durable.
        """


class AppendObserver(Protocol):
    """Receives the duration of each append, for metrics. It must not raise."""

    def appended(self, seconds: float, /, *, durable: bool) -> None:
        """Count one append; `durable` is false if it raised or was cancelled."""


class Receipts(Protocol):
    def __call__(self, contents: RecordContents, /) -> bytes:
        """Return this receiver's receipt MAC of the contents that it has verified; empty without a receipt key."""


def no_receipt(contents: RecordContents, /) -> bytes:
    """Return no receipt MAC, so that workers verify the signature again."""
    return b""


class Accepted(Struct, frozen=True, gc=False):
    """A durable notification. `is_stale`: its `request-time` is outside Antom's resend period (only counted)."""

    account: Account
    authentic: Authentic
    is_stale: bool


class Reception:
    """Receives notifications of the configured accounts."""

    def __init__(
        self,
        *,
        accounts: AccountsInUse,
        quota: Quota,
        confirm: Confirm,
        log: Log,
        clock: Clock,
        observer: AppendObserver,
        receipts: Receipts = no_receipt,
    ) -> None:
        self._receipts = receipts
        self._accounts = accounts
        self._paths: dict[str, KeyedAccount] = {}
        accounts.watch(self._map_paths)
        self._quota = quota
        self._confirm = confirm
        self._log = log
        self._clock = clock
        self._observer = observer

    async def receive(self, arrived: Arrived) -> Accepted:
        """Receive one notification. When this returns, its record is durable.

        Only then may the receiver answer `success`, because from that answer on Alipay no longer resends.

        Raises:
            Refused: the answer to give instead. No record exists, or, after `Unavailable` from the log, perhaps one;
                Alipay sends the notification again.
            Gone: the sender left.
        """
        # Taken once: the request ends by these settings and keys, even if a reload replaces them meanwhile.
        keyed = self._keyed_at(arrived.target)
        if keyed is None:
            raise _nowhere(arrived.target)
        account = keyed.account
        if arrived.method != "POST":
            raise WrongMethod(arrived.method)
        size = _announced_size(arrived.headers)
        # Reserve before reading the body: a refusal then costs no read, and memory is bounded by what can still arrive.
        self._quota.take(size)
        try:
            _check_media(arrived.headers, account)
            body = await arrived.read_body()
            received_at_ms = self._clock.epoch_ms()
            signing = _signing_headers(arrived.headers) if account.family is Family.ANTOM else None
            authentic = authenticate.check(account, keyed.ring, body, signing, received_at_ms)
            is_stale = signing is not None and admission.is_stale(signing.request_time, now_ms=received_at_ms)
            if account.notify_verify:
                await self._confirm.confirm(account, authentic.notify_id)
            contents = _contents(keyed, arrived, body, signing, authentic, received_at_ms)
            receipt = self._receipts(contents)
            await self._append(record_format.encode(contents, authentic.number, receipt, authentic.scope))
        finally:
            self._quota.release(size)
        return Accepted(account, authentic, is_stale)

    def account_at(self, target: str) -> Account | None:
        """Return the account at a request target, or `None`. The path is compared exactly; the query is ignored."""
        keyed = self._keyed_at(target)
        return None if keyed is None else keyed.account

    def _keyed_at(self, target: str) -> KeyedAccount | None:
        return self._paths.get(target) or self._paths.get(target.partition("?")[0])

    def _map_paths(self, _: AccountsChange) -> None:
        self._paths = {PATH + name: keyed for name, keyed in self._accounts.keyed.items()}

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
    """Return the largest size that the body can have: its announced length, or the limit if it is chunked."""
    announced = headers.get("Content-Length")
    if announced is None:
        codings = headers.getall("Transfer-Encoding", [])
        if codings and (len(codings) > 1 or codings[0].strip().lower() != "chunked"):
            raise Malformed(Refusal.MALFORMED, "Transfer-Encoding is not chunked")
        return BODY_BYTES_MAX if codings else 0
    if not announced.isascii() or not announced.isdigit():
        raise Malformed(Refusal.MALFORMED, "Content-Length is not a number")
    if len(announced) > 10 or int(announced) > BODY_BYTES_MAX:
        raise TooLarge(f"Content-Length is above {BODY_BYTES_MAX}")
    return int(announced)


def _check_media(headers: Headers, account: Account) -> None:
    """Require the family's media type and no content encoding. Parameters of the media type (charset) are ignored."""
    media_type = (headers.get("Content-Type") or "").partition(";")[0].strip().lower()
    if media_type != MEDIA_TYPES[account.family]:
        raise Unsupported(Refusal.MEDIA_TYPE)
    for line in headers.getall("Content-Encoding", []):
        if any(coding.strip().lower() != "identity" for coding in line.split(",")):
            raise Unsupported(Refusal.CONTENT_ENCODING)


def _signing_headers(headers: Headers) -> SigningHeaders:
    return authenticate.signing_headers(lambda name: headers.getall(name, []))


def _contents(
    keyed: KeyedAccount,
    arrived: Arrived,
    body: bytes,
    signing: SigningHeaders | None,
    authentic: Authentic,
    received_at_ms: int,
) -> RecordContents:
    account = keyed.account
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
        key_digest=keyed.ring.digests.get(authentic.key_id, b""),
    )


def _as_received(text: str) -> bytes:
    """Return the received bytes of a header or target, which the parser decoded as UTF-8 with surrogate escapes."""
    return text.encode("utf-8", "surrogateescape")
