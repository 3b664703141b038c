"""Check one mirrored notification by the receiver's own story, and read the old handler's answer to it.

`Reception` runs as it does for Alipay's requests, with three differences: its record goes to the caller instead of a
log, its clock shows the moment of the notification's receipt, so that retiring keys count as they did then, and
notify_verify confirms everything, because the shadow never asks Alipay.
"""

import asyncio
import json
from collections.abc import Sequence

from deploy.shadow.shapes import NO_ANSWER_STATUSES, HandlerAnswer, Judged, MirroredRequest, OldReaction
from ingest import recent_refusals
from ingest.accounts_in_use import AccountsInUse
from ingest.clock import SystemClock
from ingest.errors import Refused, TooLarge
from ingest.quota import Quota
from ingest.receive import MEDIA_TYPES, PATH, Receipts, Reception
from schemas import scopes
from schemas.accounts import Account, Family
from schemas.form import BODY_BYTES_MAX
from schemas.record_format import Record

DETAIL_CHARACTERS_MAX = 300
_FAIL_TEXTS = frozenset({"fail", "failure", "failed"})


class Judge:
    """Judges notifications, one after the other."""

    def __init__(self, accounts: AccountsInUse, receipts: Receipts) -> None:
        self._accounts = accounts
        self._clock = _ReceiptClock()
        self._taken = _TakenRecord()
        self._one_at_a_time = asyncio.Lock()
        quota = Quota(count_max=1, bytes_max=BODY_BYTES_MAX, exceeded=TooLarge)
        self._reception = Reception(
            accounts=accounts,
            quota=quota,
            confirm=_AssumedConfirmation(),
            log=self._taken,
            clock=self._clock,
            observer=_Unobserved(),
            receipts=receipts,
        )

    async def judge(self, request: MirroredRequest) -> Judged:
        """Return the receiver's verdict, and the old handler's answer."""
        account = self._accounts.get(request.account)
        answer = None if request.old is None else old_answer(request.old, account)
        async with self._one_at_a_time:
            self._clock.now_ms = request.received_at_ms
            try:
                accepted = await self._reception.receive(_ArrivedCopy(request, account))
            except Refused as refused:
                return _refused(request, account, answer, refused)
            record = self._taken.record
        authentic = accepted.authentic
        return Judged(
            request=request,
            scope=authentic.scope or accepted.account.name,
            order="" if authentic.is_ambiguous else _text(authentic.number),
            notification_id=_text(authentic.notify_id),
            answer=answer,
            record=record,
        )


def old_answer(old: OldReaction, account: Account | None) -> HandlerAnswer | None:
    """Return how Alipay took the old handler's answer; `None` if the answer is not known.

    An access log may lack the body. Then status 200 counts as an acknowledgement.
    """
    if old.status is None and old.body is None:
        return None
    if old.status in NO_ANSWER_STATUSES:
        return HandlerAnswer.NOT_ACKNOWLEDGED
    text = None if old.body is None else old.body.strip()
    if old.status in (None, 200) and (text is None or _is_success(text, account)):
        return HandlerAnswer.ACKNOWLEDGED
    if (old.status is not None and 400 <= old.status < 500) or (text or "").lower() in _FAIL_TEXTS:
        return HandlerAnswer.REFUSED
    return HandlerAnswer.NOT_ACKNOWLEDGED


def _is_success(text: str, account: Account | None) -> bool:
    if account is None or account.family is not Family.ANTOM:
        return text == "success"
    try:
        return str(json.loads(text)["result"]["resultStatus"]) == "S"
    except (ValueError, KeyError, TypeError, RecursionError):
        return False


def _refused(
    request: MirroredRequest, account: Account | None, answer: HandlerAnswer | None, refused: Refused
) -> Judged:
    scope, order, notification_id = request.account, "", b""
    if account is not None:
        scope = scopes.claimed(account, request.body)
        order = recent_refusals.claimed_order(account, request.body)
        notification_id = recent_refusals.claimed_id(account, request.body, order)[:128]
    return Judged(
        request=request,
        scope=scope,
        order=order,
        notification_id=_text(notification_id),
        answer=answer,
        refusal=refused.reason.value,
        detail=str(refused)[:DETAIL_CHARACTERS_MAX],
    )


class _ArrivedCopy:
    """A mirrored notification as a request of the receiver, at the address of its account.

    The copy may come under any path, and a log may lack headers. A header that is missing counts as right, because the
    old handler got it.
    """

    def __init__(self, request: MirroredRequest, account: Account | None) -> None:
        self.method = request.method
        self.target = PATH + request.account.encode("utf-8", "replace")
        self._body = request.body
        self._headers = {name.encode(): value.encode("utf-8", "replace") for name, value in request.headers.items()}
        self._headers[b"content-length"] = b"%d" % len(request.body)
        if account is not None:
            self._headers.setdefault(b"content-type", MEDIA_TYPES[account.family])

    def header(self, name: bytes, /) -> bytes | None:
        return self._headers.get(name)

    def header_values(self, name: bytes, /) -> Sequence[bytes]:
        return [self._headers[name]] if name in self._headers else []

    async def read_body(self) -> bytes:
        return self._body


class _ReceiptClock(SystemClock):
    now_ms = 0

    def epoch_ms(self) -> int:
        return self.now_ms


class _TakenRecord:
    """The log of a reception that keeps only its last record."""

    record: Record | None = None

    async def append(self, record: Record, /) -> None:
        self.record = record


class _AssumedConfirmation:
    async def confirm(self, account: Account, notify_id: bytes, /) -> None:
        """Confirm each notification without asking Alipay."""


class _Unobserved:
    def appended(self, seconds: float, /, *, durable: bool) -> None: ...


def _text(value: bytes) -> str:
    return value.decode("utf-8", "backslashreplace")
