"""Send requests at a constant rate, whether or not the receiver keeps up (an open loop).

The schedule fixes the moment at which each request is *due*, and its latency counts from there. If earlier answers are
late, a request waits for a free connection, and this wait is part of its latency. A closed loop, which sends the next
request only after an answer, leaves out exactly these waits.

Without a schedule every connection sends as soon as it has its answer. This finds the maximum rate; the latencies are
those of saturation.

Every attempt ends in one of four ways, and each is recorded:

    ok        answered exactly as Alipay requires
    refused   answered otherwise
    silent    sent, but not answered: it may have arrived or not
    unsent    never sent: no connection became free before the run ended

The number of connections is bounded. An answer has a deadline, and so has the end of the run.
"""

from __future__ import annotations

import asyncio
import heapq
import ssl
import time
from collections import deque
from collections.abc import Callable, Sequence
from typing import Literal, Protocol

from msgspec import Struct

from deploy.load.wire import Wire, WireAnswer

Outcome = Literal["ok", "refused", "silent", "unsent"]

TICK_S = 0.001
# Connections opened before the first request. Opening thousands at once would be a burst that is not part of the load.
_OPENED_BEFORE_MAX = 64
TIMED_OUT = "timeout"
NO_CONNECTION = "no connection"
# A connection that was idle for longer is closed, because the other side may be about to close it: a request that
# crosses with that close is lost. Common receivers and balancers keep idle connections several times as long.
IDLE_MAX_S = 2.0


class Target(Struct, frozen=True, kw_only=True):
    """The address to send to."""

    host: str
    port: int
    tls: bool = False


class Schedule(Struct, frozen=True, kw_only=True):
    """The due time of each request: `rate` a second from `start` on. This sender has every `stride`th, from `first`."""

    start: float
    rate: float
    first: int = 0
    stride: int = 1

    def due(self, number: int) -> float:
        """Return when this sender's request of this number is due, by `time.monotonic`."""
        return self.start + (self.first + number * self.stride) / self.rate


class LoadLimits(Struct, frozen=True, kw_only=True):
    """Limits of a run. `drain_s` bounds how long it goes on after the last request was due."""

    connections: int = 256
    timeout_s: float = 5.0
    drain_s: float = 10.0


class Call(Struct):
    """An attempt at a request: the request's index, the attempt's number (from 1), when it was due and was written."""

    index: int
    number: int
    due: float
    began: float = 0.0


class SendAttempt(Struct, frozen=True, array_like=True, gc=False):
    """The end of one attempt. Without an answer `status` is 0, and `why` is the reason."""

    index: int
    number: int
    due: float
    began: float
    ended: float
    outcome: Outcome
    status: int
    why: str = ""


class LoadObserver(Protocol):
    """Receives every attempt. `late_s` is how late the sender itself was, compared with the schedule."""

    def dispatched(self, late_s: float) -> None: ...

    def called(self, call: Call) -> None: ...

    def ended(self, attempt: SendAttempt) -> None: ...


class RetryPolicy(Protocol):
    """Decides whether a failed attempt is retried, and with which bytes."""

    def delay_s(self, attempt: SendAttempt) -> float | None:
        """Return the delay before the next attempt, or `None` for no retry."""

    def request(self, index: int, number: int) -> bytes:
        """Return the bytes of this request's attempt of this number."""


Judge = Callable[[int, WireAnswer], bool]


def is_success(_index: int, answer: WireAnswer) -> bool:
    """Return whether the answer is the `success` that a form notification requires."""
    return answer.status == 200 and answer.body == b"success"


async def run(
    requests: Sequence[bytes],
    target: Target,
    *,
    schedule: Schedule | None,
    limits: LoadLimits,
    judge: Judge = is_success,
    observer: LoadObserver | None = None,
    retries: RetryPolicy | None = None,
) -> list[SendAttempt]:
    """Send these requests and return every attempt, in the order of their ends.

    Without a schedule they are sent as fast as answers come.
    """
    return await _LoadRun(requests, target, schedule, limits, judge, observer, retries).run()


class _LoadRun:
    def __init__(
        self,
        requests: Sequence[bytes],
        target: Target,
        schedule: Schedule | None,
        limits: LoadLimits,
        judge: Judge,
        observer: LoadObserver | None,
        retries: RetryPolicy | None,
    ) -> None:
        self._requests = requests
        self._target = target
        self._schedule = schedule
        self._limits = limits
        self._judge = judge
        self._observer = observer
        self._retries = retries
        self._tls = ssl.create_default_context() if target.tls else None
        self._next = 0
        self._waiting: deque[Call] = deque()
        self._repeats: list[tuple[float, int, int]] = []  # due, index, number: a heap
        self._idle: dict[Wire, float] = {}  # idle since, oldest first
        self._busy: dict[Wire, Call] = {}
        self._oldest: deque[tuple[float, Wire, Call]] = deque()  # each answer's deadline, earliest first
        self._connecting: set[asyncio.Task[None]] = set()
        self._attempts: list[SendAttempt] = []

    async def run(self) -> list[SendAttempt]:
        await self._open_all()
        ends = time.monotonic() + self._limits.drain_s
        try:
            while self._is_under_way():
                now = time.monotonic()
                if self._next < len(self._requests):
                    ends = now + self._limits.drain_s
                self._dispatch_due(now)
                self._dispatch_repeats(now)
                self._end_overdue(now)
                self._open_more()
                if now > ends:
                    break
                await asyncio.sleep(TICK_S)
        finally:
            await self._close()
        return self._attempts

    def _is_under_way(self) -> bool:
        return bool(self._next < len(self._requests) or self._busy or self._waiting or self._repeats)

    async def _open_all(self) -> None:
        """Open connections before the first request is due. A failure here is no finding: sending opens more."""
        for _ in range(min(_OPENED_BEFORE_MAX, self._limits.connections, len(self._requests))):
            self._open_one()
        if self._connecting:
            await asyncio.wait(self._connecting, timeout=self._limits.timeout_s)

    def _dispatch_due(self, now: float) -> None:
        if self._schedule is None:
            # Dispatch only as many as there are connections. The others follow as answers come.
            while self._next < len(self._requests) and len(self._busy) + len(self._waiting) < self._limits.connections:
                self._dispatch(Call(self._take(), 1, now))
            return
        while self._next < len(self._requests) and (due := self._schedule.due(self._next)) <= now:
            if self._observer is not None:
                self._observer.dispatched(time.monotonic() - due)
            self._dispatch(Call(self._take(), 1, due))

    def _take(self) -> int:
        self._next += 1
        return self._next - 1

    def _dispatch_repeats(self, now: float) -> None:
        while self._repeats and self._repeats[0][0] <= now:
            due, index, number = heapq.heappop(self._repeats)
            self._dispatch(Call(index, number, due))

    def _dispatch(self, call: Call) -> None:
        while self._idle:
            wire, since = self._idle.popitem()
            if time.monotonic() - since <= IDLE_MAX_S:
                self._send(wire, call)
                return
            wire.give_up("idle")
        self._waiting.append(call)
        self._open_more()

    def _open_more(self) -> None:
        """Open a connection for each waiting call, up to the limit."""
        room = self._limits.connections - len(self._busy) - len(self._idle) - len(self._connecting)
        for _ in range(min(room, len(self._waiting) - len(self._connecting))):
            self._open_one()

    def _send(self, wire: Wire, call: Call) -> None:
        call.began = time.monotonic()
        if self._observer is not None:
            self._observer.called(call)
        self._busy[wire] = call
        self._oldest.append((call.began + self._limits.timeout_s, wire, call))
        if call.number > 1 and self._retries is not None:
            wire.send(self._retries.request(call.index, call.number))
        else:
            wire.send(self._requests[call.index])

    def _end_overdue(self, now: float) -> None:
        while self._oldest and (
            self._oldest[0][0] <= now or self._busy.get(self._oldest[0][1]) is not self._oldest[0][2]
        ):
            _, wire, call = self._oldest.popleft()
            if self._busy.get(wire) is call:
                wire.give_up(TIMED_OUT)

    def _open_one(self) -> None:
        task = asyncio.get_running_loop().create_task(self._open())
        self._connecting.add(task)
        task.add_done_callback(self._connecting.discard)

    async def _open(self) -> None:
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(self._limits.timeout_s):
                _, wire = await loop.create_connection(
                    lambda: Wire(self), self._target.host, self._target.port, ssl=self._tls
                )
        except (OSError, TimeoutError):
            # The call that waits longest was waiting for this connection. It counts as sent without an answer.
            if self._waiting:
                call = self._waiting.popleft()
                call.began = time.monotonic()
                if self._observer is not None:
                    self._observer.called(call)
                self._end(call, "silent", why=NO_CONNECTION)
            return
        self._free(wire)

    def _free(self, wire: Wire) -> None:
        if self._waiting:
            self._send(wire, self._waiting.popleft())
        elif self._schedule is None and self._next < len(self._requests):
            self._send(wire, Call(self._take(), 1, time.monotonic()))
        else:
            self._idle[wire] = time.monotonic()

    def answered(self, wire: Wire, answer: WireAnswer) -> None:
        call = self._busy.pop(wire, None)
        if call is None:
            # An answer without a request must not be taken for the answer to the next request.
            self._idle.pop(wire, None)
            wire.give_up("unasked")
            return
        if answer.keeps_open:
            self._free(wire)
        self._end(call, "ok" if self._judge(call.index, answer) else "refused", status=answer.status)

    def lost(self, wire: Wire, why: str) -> None:
        call = self._busy.pop(wire, None)
        if call is not None:
            self._end(call, "silent", why=why)
        self._idle.pop(wire, None)

    def _end(self, call: Call, outcome: Outcome, *, status: int = 0, why: str = "") -> None:
        now = time.monotonic()
        attempt = SendAttempt(call.index, call.number, call.due, call.began, now, outcome, status, why)
        self._attempts.append(attempt)
        if self._observer is not None:
            self._observer.ended(attempt)
        if self._retries is not None and outcome != "ok" and (delay_s := self._retries.delay_s(attempt)) is not None:
            heapq.heappush(self._repeats, (now + delay_s, call.index, call.number + 1))

    async def _close(self) -> None:
        """End all calls that are still open. Nothing is retried any more."""
        self._retries = None
        for task in list(self._connecting):
            task.cancel()
        await asyncio.gather(*self._connecting, return_exceptions=True)
        for wire in [*self._busy, *self._idle]:
            wire.give_up(TIMED_OUT)
        while self._waiting:
            self._end(self._waiting.popleft(), "unsent", why="no connection became free")
