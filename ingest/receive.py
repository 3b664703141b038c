"""The story of one request, from its header to `success`, for both engines.

`Reception.receive` runs all checks in order, cheap ones first. Each refusal is an error with its answer
(`ingest.errors`).

The receiver parses only as much as it needs to refuse a request or to route its record. It accepts authentic but
meaningless forms: Alipay would only resend them, and a payment must not be lost because this release cannot read it.
"""

import asyncio
from collections.abc import Awaitable, Coroutine, Sequence
from typing import Any, Protocol

from msgspec import Struct

from ingest import admission, authenticate
from ingest.accounts_in_use import AccountsChange, AccountsInUse, KeyedAccount
from ingest.authenticate import Authentic, SigningHeaders
from ingest.clock import Clock
from ingest.errors import Malformed, NoSuchAccount, TooLarge, Unsupported, WrongMethod
from ingest.pending import NEXT_STAGE
from ingest.quota import Quota
from schemas import record_format, trace_context
from schemas.accounts import Account, Family
from schemas.dispositions import Refusal
from schemas.form import BODY_BYTES_MAX
from schemas.record_format import Record, RecordContents
from schemas.trace_context import TraceContext

PATH = b"/notify/"
MEDIA_TYPES = {
    Family.MAPI: b"application/x-www-form-urlencoded",
    Family.OPENAPI: b"application/x-www-form-urlencoded",
    Family.ANTOM: b"application/json",
}


class Gone(Exception):
    """The sender left before its request was complete, so no answer is possible."""


class Arrived(Protocol):
    """A request whose header is complete. Names of header fields are in lower case."""

    @property
    def method(self) -> str: ...

    @property
    def target(self) -> bytes:
        """The request target exactly as sent, not decoded, with its query."""

    def header(self, name: bytes, /) -> bytes | None:
        """Return the first value of a header field, as sent."""

    def header_values(self, name: bytes, /) -> Sequence[bytes]:
        """Return all values of a header field, as sent."""

    async def read_body(self) -> bytes:
        """Return the whole body.

        Raises:
            TooSlow: it did not arrive before its deadline.
            TooLarge: it is larger than `BODY_BYTES_MAX`.
            Gone: the sender left.
        """


class Confirm(Protocol):
    def confirm(self, account: Account, notify_id: bytes, /) -> Coroutine[Any, Any, None]:
        """Return if Alipay confirms that it sent this notification.

        Raises:
            NotConfirmed: Alipay denies it.
            Unavailable: no clear answer in time.
        """


class Log(Protocol):
    def append(self, record: Record, /) -> Awaitable[None]:
        """Append the record. When the result has been awaited, the record is durable.

        Raises:
            Unavailable: from the call, or from the wait: it is unknown whether the record is durable.
        """


class AppendObserver(Protocol):
    """Receives the duration of each append, for metrics. It must not raise."""

    def appended(self, seconds: float, /, *, durable: bool) -> None:
        """Count one append; `durable` is false if it raised or was cancelled."""


class AppendSpan(Protocol):
    """The span of a sampled notification. It must not raise."""

    @property
    def context(self) -> TraceContext: ...

    def end(self, error: BaseException | None = None, /) -> None:
        """End the span: the record is durable, or, after this error, perhaps not."""


class AppendSpans(Protocol):
    """Starts the spans of authentic notifications. It must not raise.

    Each begins a trace: a `traceparent` of the request is ignored, because Alipay sends none.
    """

    def sampled(self, account: Account, notify_id: bytes, began_s: float | None, /) -> AppendSpan | None:
        """Return a span that began with the request at this monotonic time; `None` if it is not sampled."""


class Receipts(Protocol):
    def __call__(self, contents: RecordContents, /) -> bytes:
        """Return this receiver's receipt MAC of the contents that it has verified; empty without a receipt key."""


def no_receipt(contents: RecordContents, /) -> bytes:
    """Return no receipt MAC, so that workers verify the signature again."""
    return b""


class Accepted(Struct, frozen=True, gc=False):
    """A durable notification. `is_stale`: its `request-time` is outside Antom's resend period (only counted).

    `trace` is its span, if it is sampled.
    """

    account: Account
    authentic: Authentic
    is_stale: bool
    trace: TraceContext | None = None


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
        spans: AppendSpans | None = None,
    ) -> None:
        self._receipts = receipts
        self._spans = spans
        self._accounts = accounts
        self._paths: dict[bytes, KeyedAccount] = {}
        accounts.watch(self._map_paths)
        self._quota = quota
        self._confirm = confirm
        self._log = log
        self._clock = clock
        self._observer = observer

    async def receive(self, arrived: Arrived, began_s: float | None = None) -> Accepted:
        """Receive one notification, whose header was complete at `began_s`. When this returns, its record is durable.

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
        size = _announced_size(arrived)
        # Reserve before reading the body: a refusal then costs no read, and memory is bounded by what can still arrive.
        self._quota.take(size)
        try:
            _check_media(arrived, account)
            body = await arrived.read_body()
            received_at_ms = self._clock.epoch_ms()
            signing = authenticate.signing_headers(arrived.header_values) if account.family is Family.ANTOM else None
            await NEXT_STAGE
            authentic = authenticate.check(account, keyed.ring, body, signing, received_at_ms)
            await NEXT_STAGE
            is_stale = signing is not None and admission.is_stale(signing.request_time, now_ms=received_at_ms)
            if account.notify_verify:
                await _in_a_task(self._confirm.confirm(account, authentic.notify_id))
            contents = _contents(keyed, arrived, body, signing, authentic, received_at_ms)
            receipt = self._receipts(contents)
            record = record_format.encode(contents, authentic.number, receipt, authentic.scope)
            trace = None
            if self._spans is None:
                await self._append(record)
            else:
                trace = await self._append_traced(record, self._spans.sampled(account, authentic.notify_id, began_s))
        finally:
            self._quota.release(size)
        return Accepted(account, authentic, is_stale, trace)

    def account_at(self, target: bytes) -> Account | None:
        """Return the account at a request target, or `None`. The path is compared exactly; the query is ignored."""
        keyed = self._keyed_at(target)
        return None if keyed is None else keyed.account

    def _keyed_at(self, target: bytes) -> KeyedAccount | None:
        return self._paths.get(target) or self._paths.get(target.partition(b"?")[0])

    def _map_paths(self, _: AccountsChange) -> None:
        self._paths = {PATH + name.encode(): keyed for name, keyed in self._accounts.keyed.items()}

    async def _append(self, record: Record) -> None:
        began_s = self._clock.monotonic_s()
        is_durable = False
        try:
            await self._log.append(record)
            is_durable = True
        finally:
            self._observer.appended(self._clock.monotonic_s() - began_s, durable=is_durable)

    async def _append_traced(self, record: Record, span: AppendSpan | None) -> TraceContext | None:
        """Append the record. If it is sampled, its header leads to the span."""
        if span is None:
            await self._append(record)
            return None
        try:
            await self._append(Record(record.key, record.value, trace_context.added(record.headers, span.context)))
        except BaseException as error:
            span.end(error)
            raise
        span.end()
        return span.context


def _nowhere(target: bytes) -> Malformed | NoSuchAccount:
    path = target.partition(b"?")[0]
    if not path.startswith(b"/"):
        return Malformed(Refusal.MALFORMED, "the request target is not a path")
    is_name = path.startswith(PATH) and b"/" not in path[len(PATH) :]
    return NoSuchAccount(Refusal.UNKNOWN_ACCOUNT if is_name else Refusal.UNKNOWN_PATH)


def _announced_size(arrived: Arrived) -> int:
    """Return the largest size that the body can have: its announced length, or the limit if it is chunked."""
    announced = arrived.header(b"content-length")
    if announced is None:
        return 0 if arrived.header(b"transfer-encoding") is None else BODY_BYTES_MAX
    if not announced.isdigit():
        raise Malformed(Refusal.MALFORMED, "Content-Length is not a number")
    if len(announced) > 10 or int(announced) > BODY_BYTES_MAX:
        raise TooLarge(f"Content-Length is above {BODY_BYTES_MAX}")
    return int(announced)


def _check_media(arrived: Arrived, account: Account) -> None:
    """Require the family's media type and no content encoding. Parameters of the media type (charset) are ignored."""
    media_type = (arrived.header(b"content-type") or b"").partition(b";")[0].strip().lower()
    if media_type != MEDIA_TYPES[account.family]:
        raise Unsupported(Refusal.MEDIA_TYPE)
    for line in arrived.header_values(b"content-encoding"):
        if any(coding.strip().lower() != b"identity" for coding in line.split(b",")):
            raise Unsupported(Refusal.CONTENT_ENCODING)


async def _in_a_task(work: Coroutine[Any, Any, None]) -> None:
    """Await what needs a task of its own, for its time limits. It is cancelled if the wait is ended."""
    task = asyncio.create_task(work)
    try:
        await task
    finally:
        task.cancel()


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
        path=arrived.target.partition(b"?")[0],
        content_type=arrived.header(b"content-type") or b"",
        key_id=authentic.key_id,
        confirmed=account.notify_verify,
        body=body,
        client_id=signing.client_id if signing else b"",
        request_time=signing.request_time if signing else b"",
        signature=signing.signature if signing else b"",
        key_digest=keyed.ring.digests.get(authentic.key_id, b""),
    )
