"""Requests at a constant rate, whether or not the receiver keeps up: the open loop.

A request is *due* at a moment that the schedule fixed beforehand, and its latency counts from that moment. Time that it
spends waiting for a free connection, because the answers before it are late, is the receiver's and is not forgotten; a
sender that waits for each answer before it asks again would leave out exactly the worst of it.

With `rate=None` every connection sends as soon as it has its answer. That finds the maximum, and its latencies are
those of saturation.

Every request ends in one of four ways, and each is recorded:

    ok        answered, and exactly as Alipay wants it
    refused   answered otherwise
    silent    called, and no answer came: nobody knows whether it arrived
    unsent    never called: no connection became free before the run was over

The number of connections is bounded, an answer has a deadline, and so has the end of the run.
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
# What is opened before the first request; all of thousands at once would be a burst that nobody asked for.
_OPENED_BEFORE_MAX = 64
TIMED_OUT = "timeout"
NO_CONNECTION = "no connection"
# A connection that was idle for longer is closed and not used again: who answers may be about to close it, and a
# request that crosses with that is lost. Every receiver and balancer in use waits for several times as long.
IDLE_MAX_S = 2.0


class Target(Struct, frozen=True, kw_only=True):
    """Where to send."""

    host: str
    port: int
    tls: bool = False


class Schedule(Struct, frozen=True, kw_only=True):
    """When each request is due: `rate` a second from `start` on, of which this sender has each `stride`th."""

    start: float
    rate: float
    first: int = 0
    stride: int = 1

    def due(self, number: int) -> float:
        """The moment of this sender's request of this number, by the clock of `time.monotonic`."""
        return self.start + (self.first + number * self.stride) / self.rate


class LoadLimits(Struct, frozen=True, kw_only=True):
    """How much of everything. `drain_s` is how long after the last request is due the run goes on at most."""

    connections: int = 256
    timeout_s: float = 5.0
    drain_s: float = 10.0


class Call(Struct):
    """A request that is due: which, for the how manyth time, when it was due, and when it was written."""

    index: int
    number: int
    due: float
    began: float = 0.0


class SendAttempt(Struct, frozen=True, array_like=True, gc=False):
    """How one call ended. `status` is 0 without an answer, and then `why` says what was there instead."""

    index: int
    number: int
    due: float
    began: float
    ended: float
    outcome: Outcome
    status: int
    why: str = ""


class LoadObserver(Protocol):
    """Hears of every call: how late the sender itself came to it, that it was made, how it ended."""

    def dispatched(self, late_s: float) -> None: ...

    def called(self, call: Call) -> None: ...

    def ended(self, attempt: SendAttempt) -> None: ...


class Again(Protocol):
    """Decides whether an attempt that failed is repeated."""

    def delay_s(self, attempt: SendAttempt) -> float | None:
        """How long from now; `None` is never."""

    def request(self, index: int, number: int) -> bytes:
        """What is sent then, for this how manyth time."""


Judge = Callable[[int, WireAnswer], bool]


def is_success(_index: int, answer: WireAnswer) -> bool:
    """Whether the answer is a form's `success`."""
    return answer.status == 200 and answer.body == b"success"


async def run(
    requests: Sequence[bytes],
    target: Target,
    *,
    schedule: Schedule | None,
    limits: LoadLimits,
    judge: Judge = is_success,
    observer: LoadObserver | None = None,
    again: Again | None = None,
) -> list[SendAttempt]:
    """Every attempt at these requests, in the order of their ends; without a schedule, as fast as answers come."""
    return await _LoadRun(requests, target, schedule, limits, judge, observer, again).run()


class _LoadRun:
    def __init__(
        self,
        requests: Sequence[bytes],
        target: Target,
        schedule: Schedule | None,
        limits: LoadLimits,
        judge: Judge,
        observer: LoadObserver | None,
        again: Again | None,
    ) -> None:
        self._requests = requests
        self._target = target
        self._schedule = schedule
        self._limits = limits
        self._judge = judge
        self._observer = observer
        self._again = again
        self._tls = ssl.create_default_context() if target.tls else None
        self._next = 0
        self._waiting: deque[Call] = deque()
        self._repeats: list[tuple[float, int, int]] = []  # due, index, number: a heap
        self._idle: dict[Wire, float] = {}  # since when, in that order
        self._busy: dict[Wire, Call] = {}
        self._oldest: deque[tuple[float, Wire, Call]] = deque()  # when each call's answer is overdue, in order
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
        """Have the first requests of a run find connections that are open already, as far as anybody answers."""
        for _ in range(min(_OPENED_BEFORE_MAX, self._limits.connections, len(self._requests))):
            self._open_one()
        if self._connecting:
            await asyncio.wait(self._connecting, timeout=self._limits.timeout_s)

    def _dispatch_due(self, now: float) -> None:
        if self._schedule is None:
            # Only as many as there are connections: the others follow as answers come.
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
        """A connection for each call that waits for one, as far as the limit goes."""
        room = self._limits.connections - len(self._busy) - len(self._idle) - len(self._connecting)
        for _ in range(min(room, len(self._waiting) - len(self._connecting))):
            self._open_one()

    def _send(self, wire: Wire, call: Call) -> None:
        call.began = time.monotonic()
        if self._observer is not None:
            self._observer.called(call)
        self._busy[wire] = call
        self._oldest.append((call.began + self._limits.timeout_s, wire, call))
        if call.number > 1 and self._again is not None:
            wire.send(self._again.request(call.index, call.number))
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
            # Whoever waits longest was waiting for this connection: it counts as a call that nobody heard.
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
            # An answer to nothing: whatever it is, it must not be taken for the answer to the next request.
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
        if self._again is not None and outcome != "ok" and (delay_s := self._again.delay_s(attempt)) is not None:
            heapq.heappush(self._repeats, (now + delay_s, call.index, call.number + 1))

    async def _close(self) -> None:
        """End what is still under way; nothing is repeated any more."""
        self._again = None
        for task in list(self._connecting):
            task.cancel()
        await asyncio.gather(*self._connecting, return_exceptions=True)
        for wire in [*self._busy, *self._idle]:
            wire.give_up(TIMED_OUT)
        while self._waiting:
            self._end(self._waiting.popleft(), "unsent", why="no connection became free")
