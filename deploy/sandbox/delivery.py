"""When Alipay sends again. Its own pages do not agree, so a schedule is a profile, never a constant.

Gaps run from one delivery to the next, in real seconds; whoever plays a profile divides them by a time scale.

The sender: tells a merchant its notifications as Alipay does, again and again until the answer is exactly right.

Right is status 200 and the seven bytes `success`; for Antom, status 200 and a JSON answer whose `resultStatus` is S. A
redirect is not followed and an extra byte is not forgiven, because Alipay does neither. No answer within the time-out
means that nobody knows whether the notification arrived: it counts as `silent`, apart from `refused`, since whoever
judges a run has to allow both outcomes for the first and only one for the second.

Time is a port. The moments a notification carries are virtual: a retry four minutes later says so in its
`notify_time`, also when a time scale lets it follow after a second.
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

from deploy.sandbox.issued import IssuedIds
from deploy.sandbox.notifications import SignedDelivery, UnsignedNotification

_MINUTE, _HOUR = 60, 3600
_LONG_TAIL = (1 * _HOUR, 2 * _HOUR, 6 * _HOUR, 15 * _HOUR)


class Profile(msgspec.Struct, frozen=True, kw_only=True):
    """One schedule."""

    name: str
    gaps_s: tuple[float, ...]

    @property
    def deliveries(self) -> int:
        """How often a notification is sent at most."""
        return 1 + len(self.gaps_s)

    def gap_after(self, number: int) -> float | None:
        """Seconds from the `number`th delivery, counted from 1, to the next; None after the last."""
        return self.gaps_s[number - 1] if number <= len(self.gaps_s) else None

    def offset_s(self, number: int) -> float:
        """Seconds from the first delivery to the `number`th, counted from 1.

        Deliveries beyond the schedule, which a scenario of duplicates makes, follow every four minutes: two tellings
        never carry the same moment.
        """
        beyond = max(0, number - self.deliveries)
        return sum(self.gaps_s[: number - 1]) + beyond * 4 * _MINUTE


def _minutes(*gaps: int) -> tuple[float, ...]:
    return tuple(gap * _MINUTE for gap in gaps)


_CN_4M = (*_minutes(4, 10, 10), *_LONG_TAIL)

PROFILES: Mapping[str, Profile] = {
    one.name: one
    for one in (
        Profile(name="cn-4m", gaps_s=_CN_4M),
        Profile(name="global-2m", gaps_s=(*_minutes(2, 10, 10), *_LONG_TAIL)),
        Profile(name="odoo", gaps_s=(*_minutes(2, 10, 15), *_LONG_TAIL)),
        Profile(name="alt-5s", gaps_s=(5, *_minutes(2, 10, 15), *_LONG_TAIL)),
        # The first resend follows at once; read as gaps, the document's list makes nine deliveries.
        Profile(name="antom", gaps_s=(0, *_minutes(2, 10, 10), *_LONG_TAIL)),
        Profile(name="antom-sandbox", gaps_s=()),
        # Some product pages: three tries at once, then the Chinese schedule.
        Profile(name="cn-immediate3", gaps_s=(0, 0, *_CN_4M)),
        # Not Alipay's: one try, for a program that asserts on the answer itself.
        Profile(name="once", gaps_s=()),
    )
}


Outcome = Literal["ok", "refused", "silent"]
Expected = Literal["success", "refused"]

# How long Alipay really waits is unknown; the receiver promises an answer within three seconds.
ANSWER_TIMEOUT_S = 5.0
_CONNECT_TIMEOUT_S = 2.0
# An answer longer than this is wrong whatever it says; reading stops, so that no merchant can feed us for ever.
_ANSWER_BYTES_MAX = 16 * 1024
_EXCERPT_CHARACTERS = 120
_SUCCESS = b"success"


class Errand(msgspec.Struct, frozen=True, kw_only=True):
    """One notification to be delivered. `copies` counts how often it is told although it was answered: as when Alipay
    never saw the answers."""

    notification: UnsignedNotification
    url: str
    at: datetime
    expected: Expected = "success"
    forged: bool = False
    copies: int = 1


class Attempt(msgspec.Struct, frozen=True, kw_only=True):
    """What came of one delivery. `again_in_s` is when Alipay would send again, in its own time; None is never."""

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
        """Whether the merchant answered as the scenario says it should."""
        return (self.outcome == "ok") == (self.expected == "success") and self.outcome != "silent"


class _Answer(msgspec.Struct, frozen=True, kw_only=True):
    status: int | None
    body: bytes
    why: str
    elapsed_ms: float


class Watcher(Protocol):
    """Hears of every attempt as it ends."""

    def __call__(self, attempt: Attempt, /) -> None: ...


class DeliveryHistory:
    """One JSON line per fact, for a judge who trusts nobody: `call` before sending, then what came of it."""

    def __init__(self, path: Path) -> None:
        self._descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)

    def write(self, what: str, errand: Errand, *, number: int, **more: object) -> None:
        """The fact is in the file when this returns; a killed process loses none that it wrote."""
        one = errand.notification
        fact = {
            "what": what, "id": one.notify_id, "account": one.account.identity.name, "order": one.order,
            "attempt": number, "forged": errand.forged,
            "wall": datetime.now(UTC).isoformat(), "mono_ns": time.monotonic_ns(),
        }  # fmt: skip
        os.write(self._descriptor, msgspec.json.encode(fact | more) + b"\n")

    def close(self) -> None:
        """Nothing can be written any more."""
        os.close(self._descriptor)


class Sender:
    """Delivers errands by one retry profile."""

    def __init__(
        self,
        *,
        http: aiohttp.ClientSession,
        profile: Profile,
        issued: IssuedIds,
        time_scale: float = 1.0,
        concurrency: int = 64,
        timeout_s: float = ANSWER_TIMEOUT_S,
        watcher: Watcher | None = None,
        history: DeliveryHistory | None = None,
        sleep: Callable[[float], Awaitable[object]] = asyncio.sleep,
    ) -> None:
        self._http = http
        self._profile = profile
        self._issued = issued
        self._time_scale = time_scale
        self._open = asyncio.Semaphore(concurrency)
        self._timeout = aiohttp.ClientTimeout(total=timeout_s, connect=min(timeout_s, _CONNECT_TIMEOUT_S))
        self._watcher = watcher
        self._history = history
        self._sleep = sleep

    async def pause(self, seconds: float) -> None:
        """Lets this much of Alipay's time pass."""
        if seconds > 0:
            await self._sleep(seconds / self._time_scale)

    async def deliver(self, errand: Errand) -> tuple[Attempt, ...]:
        """All attempts at an errand: it returns when one was answered `success`, or the profile is exhausted."""
        first = await self.attempt(errand)
        return (first, *await self.resend(errand, after=first))

    async def resend(self, errand: Errand, *, after: Attempt) -> tuple[Attempt, ...]:
        """The attempts that follow `after`, by the profile."""
        attempts: list[Attempt] = []
        last = after
        while last.again_in_s is not None:
            await self.pause(last.again_in_s)
            last = await self.attempt(errand, number=last.number + 1)
            attempts.append(last)
        return tuple(attempts)

    async def attempt(self, errand: Errand, *, number: int = 1, settles: bool = True) -> Attempt:
        """One delivery, signed for its moment, and what came of it.

        `settles` is false where Alipay is taken not to have seen the answer: then a `success` does not end the
        validity of the id, and more copies can follow.
        """
        self._announce(errand)
        sent_at = errand.at + timedelta(seconds=self._profile.offset_s(number))
        delivery = errand.notification.delivery(sent_at)
        async with self._open:
            self._record("call", errand, number=number)
            answer = await self._post(errand.url, delivery)
        attempt = self._attempt(errand, answer, number=number, sent_at=sent_at)
        self._record(attempt.outcome, errand, number=number, status=attempt.status, why=attempt.why)
        if attempt.outcome == "ok" and settles:
            self._settle(errand)
        if self._watcher is not None:
            self._watcher(attempt)
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
            return None, b"", f"no answer: {_told(error)}"

    def _attempt(self, errand: Errand, answer: _Answer, *, number: int, sent_at: datetime) -> Attempt:
        one = errand.notification
        antom = one.account.identity.product == "antom"
        outcome: Outcome = "silent"
        why = answer.why
        if answer.status is not None:
            outcome, why = judge(answer.status, answer.body, antom=antom)
        # A forger does not come back by Alipay's schedule.
        again = None if outcome == "ok" or errand.forged else self._profile.gap_after(number)
        return Attempt(
            account=one.account.identity.name, order=one.order, notify_id=one.notify_id, kind=one.facts.kind,
            number=number, sent_at=sent_at, outcome=outcome, expected=errand.expected, status=answer.status,
            answer=answer.body.decode("utf-8", "backslashreplace")[:_EXCERPT_CHARACTERS], why=why,
            elapsed_ms=round(answer.elapsed_ms, 3), again_in_s=again,
        )  # fmt: skip

    def _announce(self, errand: Errand) -> None:
        """Alipay knows the id before the merchant can ask about it; a forger's id it never knows."""
        identity = errand.notification.account.identity
        if identity.family == "mapi" and not errand.forged:
            self._issued.issue(identity.partner, errand.notification.notify_id)

    def _settle(self, errand: Errand) -> None:
        if errand.notification.account.identity.family == "mapi":
            self._issued.settle(errand.notification.notify_id)

    def _record(self, what: str, errand: Errand, *, number: int, **more: object) -> None:
        if self._history is not None:
            self._history.write(what, errand, number=number, **more)


async def _read(content: aiohttp.StreamReader) -> bytes:
    """The answer's body, or as much of it as is needed to see that it is wrong."""
    read = bytearray()
    while len(read) <= _ANSWER_BYTES_MAX and (chunk := await content.readany()):
        read += chunk
    return bytes(read)


def judge(status: int, answer: bytes, *, antom: bool) -> tuple[Outcome, str]:
    """Whether Alipay takes this answer, and in words why not."""
    if 300 <= status < 400:
        return "refused", f"a redirect ({status}) is not followed"
    if status != 200:
        return "refused", f"status {status}"
    if antom:
        return _judge_antom(answer)
    if answer == _SUCCESS:
        return "ok", ""
    if answer.strip().lower() == _SUCCESS:
        return "refused", "success has to be exactly these seven lower-case letters, without another byte"
    return "refused", "the body is not success"


def _judge_antom(answer: bytes) -> tuple[Outcome, str]:
    result: object = None
    with suppress(msgspec.MsgspecError, UnicodeDecodeError):
        document = msgspec.json.decode(answer)
        result = document.get("result") if isinstance(document, dict) else None
    status = result.get("resultStatus") if isinstance(result, dict) else None
    if status == "S":
        return "ok", ""
    return "refused", "the body is no JSON with a result" if status is None else f"resultStatus is {status}"


def _told(error: Exception) -> str:
    """Why nobody answered, in the words of the system where it has some."""
    cause = error.os_error if isinstance(error, aiohttp.ClientConnectorError) else error
    number = getattr(cause, "errno", None)
    return os.strerror(number) if number else str(error) or type(error).__name__
