"""A sender that costs little and lies about nothing: raw sockets, requests built beforehand, arrivals that do not wait.

Open loop: requests are due at a constant rate whether or not the receiver keeps up, and a latency counts from the
moment a request was *due*, so that time spent waiting for a free connection is the receiver's and not forgotten.
With `rate=None` every connection sends as soon as it has its answer: that finds the maximum, and its latencies are
those of saturation.
"""

import asyncio
import time
from collections import deque
from collections.abc import Sequence

from hdrh.histogram import HdrHistogram
from msgspec import Struct

TICK_S = 0.001


def request_bytes(host: str, path: str, headers: Sequence[tuple[str, str]], body: bytes) -> bytes:
    """One HTTP/1.1 request, ready for the wire."""
    lines = [f"POST {path} HTTP/1.1", f"Host: {host}", *(f"{name}: {value}" for name, value in headers)]
    lines.append(f"Content-Length: {len(body)}")
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + body


class Result(Struct, kw_only=True):
    """What came of a run; latencies in microseconds."""

    sent: int
    acknowledged: int
    other_statuses: dict[str, int]
    seconds: float
    latency: HdrHistogram

    @property
    def rate(self) -> float:
        """Acknowledged notifications per second."""
        return self.acknowledged / self.seconds

    def percentile_ms(self, percent: float) -> float:
        return float(self.latency.get_value_at_percentile(percent)) / 1000


class _Wire(asyncio.Protocol):
    """One keep-alive connection with at most one request under way."""

    def __init__(self, run: "_Run") -> None:
        self._run = run
        self._answer = b""
        self._due = 0.0
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def send(self, request: bytes, due: float) -> None:
        assert self._transport is not None
        self._due = due
        self._transport.write(request)

    def data_received(self, data: bytes) -> None:
        self._answer = self._answer + data if self._answer else data
        head, blank, body = self._answer.partition(b"\r\n\r\n")
        if not blank or len(body) < _length(head):
            return
        status = head[9:12]
        is_success = status == b"200" and (body == b"success" or b'"resultStatus":"S"' in body)
        self._answer = b""
        self._run.answered(self, status if not is_success else b"", self._due)

    def connection_lost(self, exc: Exception | None) -> None:
        self._run.lost(self)


def _length(head: bytes) -> int:
    for line in head.split(b"\r\n"):
        if line[:15].lower() == b"content-length:":
            return int(line[15:])
    return 0


class _Run:
    def __init__(self, requests: Sequence[bytes], *, rate: float | None) -> None:
        self._requests = requests
        self._rate = rate
        self._waiting: deque[tuple[bytes, float]] = deque()
        self._idle: list[_Wire] = []
        self._sent = 0
        self._answered = 0
        self._acknowledged = 0
        self._others: dict[str, int] = {}
        self._latency = HdrHistogram(1, 60_000_000, 3)
        self._done = asyncio.Event()

    async def run(self, host: str, port: int, connections: int) -> Result:
        loop = asyncio.get_running_loop()
        for _ in range(connections):
            _, wire = await loop.create_connection(lambda: _Wire(self), host, port)
            self._idle.append(wire)
        started = time.perf_counter()
        if self._rate is None:
            for wire in list(self._idle):
                self._next(wire)
        else:
            await self._arrive(started)
        await self._done.wait()
        return Result(
            sent=self._sent,
            acknowledged=self._acknowledged,
            other_statuses=self._others,
            seconds=time.perf_counter() - started,
            latency=self._latency,
        )

    async def _arrive(self, started: float) -> None:
        assert self._rate is not None
        due_count = 0
        while due_count < len(self._requests):
            now = time.perf_counter()
            while due_count < len(self._requests) and started + due_count / self._rate <= now:
                due = started + due_count / self._rate
                request = self._requests[due_count]
                due_count += 1
                self._sent += 1
                if self._idle:
                    self._idle.pop().send(request, due)
                else:
                    self._waiting.append((request, due))
            await asyncio.sleep(TICK_S)

    def _next(self, wire: _Wire) -> None:
        if self._sent < len(self._requests):
            request = self._requests[self._sent]
            self._sent += 1
            wire.send(request, time.perf_counter())

    def answered(self, wire: _Wire, other_status: bytes, due: float) -> None:
        """`other_status` is empty for `success`."""
        self._answered += 1
        self._latency.record_value(max(1, int((time.perf_counter() - due) * 1_000_000)))
        if other_status:
            self._others[other_status.decode()] = self._others.get(other_status.decode(), 0) + 1
        else:
            self._acknowledged += 1
        if self._answered == len(self._requests):
            self._done.set()
        elif self._rate is None:
            self._next(wire)
        elif self._waiting:
            wire.send(*self._waiting.popleft())
        else:
            self._idle.append(wire)

    def lost(self, wire: _Wire) -> None:
        if not self._done.is_set():
            self._others["lost"] = self._others.get("lost", 0) + 1
            self._done.set()


async def run(
    requests: Sequence[bytes], *, host: str, port: int, connections: int = 64, rate: float | None = None
) -> Result:
    """Send all requests over this many connections, at `rate` per second or as fast as answers come."""
    return await _Run(requests, rate=rate).run(host, port, connections)
