"""Deliver notifications as Alipay does: send each one again, by a retry schedule, until the answer is correct.

A correct answer is status 200 with the seven bytes `success`; for Antom, status 200 and JSON with `resultStatus` S. A
redirect is not followed and an extra byte is wrong, because Alipay treats them so. If no answer arrives in time, the
outcome is `silent`, not `refused`: it is unknown whether the notification arrived, so a judge must allow both effects.

The schedules are those of `schemas.retry_profiles`, of which each family has its own. Their gaps are in Alipay's time;
a time scale shortens the real waits only. The times inside a notification stay Alipay's: a retry after four minutes has
a `notify_time` four minutes later, even if it follows after a second.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Literal, Protocol

import aiohttp
import msgspec

from deploy.sandbox.dropping import Dropping
from deploy.sandbox.issued import IssuedIds
from deploy.sandbox.notifications import SignedDelivery, UnsignedNotification
from deploy.sandbox.trades import Trades
from schemas import retry_profiles
from schemas.accounts import Family
from schemas.retry_profiles import Profile

PROFILES: Mapping[str, Profile] = {
    **retry_profiles.PROFILES,
    # Not Alipay's: one delivery, for programs that check the answer themselves.
    "once": Profile(name="once", gaps_s=()),
}

Outcome = Literal["ok", "refused", "silent"]
Expected = Literal["success", "refused"]

# Alipay's real timeout is unknown. The receiver answers within three seconds.
ANSWER_TIMEOUT_S = 5.0
_CONNECT_TIMEOUT_S = 2.0
# A longer answer is wrong in any case. Reading stops here, so that an endless answer does no harm.
_ANSWER_BYTES_MAX = 16 * 1024
_EXCERPT_CHARACTERS = 120
_SUCCESS = b"success"


class DeliveryJob(msgspec.Struct, frozen=True, kw_only=True):
    """One notification to deliver. `copies` is the number of deliveries even if all are answered `success`, as if
    Alipay had not received the answers. `is_extra` is a delivery that a person asks for, which the schedule does not
    continue."""

    notification: UnsignedNotification
    url: str
    at: datetime
    expected: Expected = "success"
    forged: bool = False
    copies: int = 1
    is_extra: bool = False


class Attempt(msgspec.Struct, frozen=True, kw_only=True):
    """The result of one delivery. `again_in_s` is the gap to the next one in Alipay's time, or `None`."""

    account: str
    order: str
    notify_id: str
    kind: str
    number: int
    sent_at: datetime
    outcome: Outcome
    expected: Expected
    status: int | None
    answer: str
    why: str
    elapsed_ms: float
    again_in_s: float | None

    @property
    def as_expected(self) -> bool:
        """Return whether the merchant's answer is the one that the scenario expects."""
        return (self.outcome == "ok") == (self.expected == "success") and self.outcome != "silent"


class _Answer(msgspec.Struct, frozen=True, kw_only=True):
    status: int | None
    body: bytes
    why: str
    elapsed_ms: float


class AttemptObserver(Protocol):
    """Receives every attempt when it has ended, with its job."""

    def __call__(self, attempt: Attempt, job: DeliveryJob, /) -> None: ...


class DeliveryHistory:
    """A file with one JSON line per fact: `call` before each delivery, and its outcome after it. A judge reads it."""

    def __init__(self, path: Path) -> None:
        self._descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)

    def write(self, what: str, job: DeliveryJob, *, number: int, **more: object) -> None:
        """Append the fact to the file. A process that is killed afterwards does not lose it."""
        one = job.notification
        fact = {
            "what": what, "id": one.notify_id, "account": one.account.identity.name, "order": one.order,
            "attempt": number, "forged": job.forged,
            "wall": datetime.now(UTC).isoformat(), "mono_ns": time.monotonic_ns(),
        }  # fmt: skip
        os.write(self._descriptor, msgspec.json.encode(fact | more) + b"\n")

    def close(self) -> None:
        """Close the file."""
        os.close(self._descriptor)


class Sender:
    """Delivers notifications by one retry profile, or each by the usual one of its family if `profile` is `None`."""

    def __init__(
        self,
        *,
        http: aiohttp.ClientSession,
        profile: Profile | None,
        issued: IssuedIds,
        time_scale: float = 1.0,
        concurrency: int = 64,
        timeout_s: float = ANSWER_TIMEOUT_S,
        observer: AttemptObserver | None = None,
        history: DeliveryHistory | None = None,
        trades: Trades | None = None,
        dropping: Dropping | None = None,
        sleep: Callable[[float], Awaitable[object]] = asyncio.sleep,
    ) -> None:
        self._http = http
        self._profile = profile
        self._issued = issued
        self._time_scale = time_scale
        self._open = asyncio.Semaphore(concurrency)
        self._timeout = aiohttp.ClientTimeout(total=timeout_s, connect=min(timeout_s, _CONNECT_TIMEOUT_S))
        self._observer = observer
        self._history = history
        self._trades = trades
        self._dropping = dropping
        self._sleep = sleep

    async def pause(self, seconds: float) -> None:
        """Wait for this many seconds of Alipay's time."""
        if seconds > 0:
            await self._sleep(seconds / self._time_scale)

    async def deliver(self, job: DeliveryJob) -> tuple[Attempt, ...]:
        """Deliver until an answer is correct or the profile is exhausted. Return all attempts."""
        first = await self.attempt(job)
        return (first, *await self.resend(job, after=first))

    async def resend(self, job: DeliveryJob, *, after: Attempt) -> tuple[Attempt, ...]:
        """Deliver again after the attempt `after`, by the profile. Return the further attempts."""
        attempts: list[Attempt] = []
        last = after
        while last.again_in_s is not None:
            await self.pause(last.again_in_s)
            last = await self.attempt(job, number=last.number + 1)
            attempts.append(last)
        return tuple(attempts)

    async def attempt(self, job: DeliveryJob, *, number: int = 1, settles: bool = True) -> Attempt:
        """Deliver once, signed for its time, and return the result.

        `settles` is false if Alipay is assumed not to receive the answer. A `success` does not end the validity of the
        notification id then, and further copies can follow.
        """
        self._announce(job)
        sent_at = job.at + timedelta(seconds=self._profile_of(job).offset_s(number))
        if self._dropping is not None and self._dropping.takes(job.notification.notify_id):
            return self._dropped(job, number=number, sent_at=sent_at)
        delivery = job.notification.delivery(sent_at)
        async with self._open:
            self._record("call", job, number=number)
            answer = await self._post(job.url, delivery)
        attempt = self._attempt(job, answer, number=number, sent_at=sent_at)
        self._record(attempt.outcome, job, number=number, status=attempt.status, why=attempt.why)
        if attempt.outcome == "ok" and settles:
            self._settle(job)
        if self._observer is not None:
            self._observer(attempt, job)
        return attempt

    def _dropped(self, job: DeliveryJob, *, number: int, sent_at: datetime) -> Attempt:
        """Return the attempt of a notification that is lost on its way: no merchant will ever get it."""
        answer = _Answer(status=None, body=b"", why="lost on its way, on purpose", elapsed_ms=0.0)
        attempt = self._attempt(job, answer, number=number, sent_at=sent_at)
        attempt = msgspec.structs.replace(attempt, again_in_s=None)
        if self._observer is not None:
            self._observer(attempt, job)
        return attempt

    async def _post(self, url: str, delivery: SignedDelivery) -> _Answer:
        began = time.perf_counter()
        status, body, why = await self._exchange(url, delivery)
        return _Answer(status=status, body=body, why=why, elapsed_ms=(time.perf_counter() - began) * 1000)

    async def _exchange(self, url: str, delivery: SignedDelivery) -> tuple[int | None, bytes, str]:
        try:
            async with self._http.post(
                url, data=delivery.body, headers=delivery.headers, allow_redirects=False, timeout=self._timeout
            ) as response:
                return response.status, await _read(response.content), ""
        except TimeoutError:
            return None, b"", f"no answer within {self._timeout.total:g} s"
        except (aiohttp.ClientError, OSError) as error:
            return None, b"", f"no answer: {_reason(error)}"

    def _attempt(self, job: DeliveryJob, answer: _Answer, *, number: int, sent_at: datetime) -> Attempt:
        one = job.notification
        antom = one.account.identity.product == "antom"
        outcome: Outcome = "silent"
        why = answer.why
        if answer.status is not None:
            outcome, why = judge(answer.status, answer.body, antom=antom)
        # A forgery is not retried by Alipay's schedule.
        again = None if outcome == "ok" or job.forged or job.is_extra else self._profile_of(job).gap_after(number)
        return Attempt(
            account=one.account.identity.name, order=one.order, notify_id=one.notify_id, kind=one.facts.kind,
            number=number, sent_at=sent_at, outcome=outcome, expected=job.expected, status=answer.status,
            answer=answer.body.decode("utf-8", "backslashreplace")[:_EXCERPT_CHARACTERS], why=why,
            elapsed_ms=round(answer.elapsed_ms, 3), again_in_s=again,
        )  # fmt: skip

    def _profile_of(self, job: DeliveryJob) -> Profile:
        family = Family(job.notification.account.identity.family)
        return self._profile or PROFILES[retry_profiles.DEFAULTS[family]]

    def _announce(self, job: DeliveryJob) -> None:
        """Make the id known to notify_verify before the merchant can ask about it, except for a forgery."""
        if self._trades is not None and not job.forged:
            self._trades.note(job.notification)
        identity = job.notification.account.identity
        if identity.family == "mapi" and not job.forged:
            self._issued.issue(identity.partner, job.notification.notify_id)

    def _settle(self, job: DeliveryJob) -> None:
        if job.notification.account.identity.family == "mapi":
            self._issued.settle(job.notification.notify_id)

    def _record(self, what: str, job: DeliveryJob, *, number: int, **more: object) -> None:
        if self._history is not None:
            self._history.write(what, job, number=number, **more)


async def _read(content: aiohttp.StreamReader) -> bytes:
    """Return the answer's body, or as much of it as shows that it is too long."""
    read = bytearray()
    while len(read) <= _ANSWER_BYTES_MAX and (chunk := await content.readany()):
        read += chunk
    return bytes(read)


def judge(status: int, answer: bytes, *, antom: bool) -> tuple[Outcome, str]:
    """Return whether Alipay accepts this answer, and the reason if not."""
    if 300 <= status < 400:
        return "refused", f"a redirect ({status}) is not followed"
    if status != 200:
        return "refused", f"status {status}"
    if antom:
        return _judge_antom(answer)
    if answer == _SUCCESS:
        return "ok", ""
    if answer.strip().lower() == _SUCCESS:
        return "refused", "the body must be exactly `success`: seven lower-case letters and no other byte"
    return "refused", "the body is not success"


def _judge_antom(answer: bytes) -> tuple[Outcome, str]:
    result: object = None
    with suppress(msgspec.MsgspecError, UnicodeDecodeError):
        document = msgspec.json.decode(answer)
        result = document.get("result") if isinstance(document, dict) else None
    status = result.get("resultStatus") if isinstance(result, dict) else None
    if status == "S":
        return "ok", ""
    return "refused", "the body is not JSON with a result" if status is None else f"resultStatus is {status}"


def _reason(error: Exception) -> str:
    """Return why there is no answer, as the operating system's text if there is one."""
    cause = error.os_error if isinstance(error, aiohttp.ClientConnectorError) else error
    number = getattr(cause, "errno", None)
    return os.strerror(number) if number else str(error) or type(error).__name__
