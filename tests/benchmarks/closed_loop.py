"""Send as fast as answers come, at so little cost that the receiver is what is measured.

The load generator keeps a schedule and every attempt, and takes more of a processor for a request than a fast receiver
does: it leaves such a receiver idle, whose batches are then small and dear. This one is a loop over plain sockets. The
figures it takes are those of the same receivers under wrk.
"""

import itertools
import select
import socket
import time
from collections.abc import Iterator, Sequence

from msgspec import Struct

from deploy.load import wire

SUCCESS = b"\r\n\r\nsuccess"
DRAIN_S = 10.0
READ_BYTES = 16 * 1024


class Sent(Struct, frozen=True, kw_only=True):
    """One run. `wrong` are answers other than 200 with `success`, and requests without any; `refused` those of 503."""

    answered: int
    wrong: int
    refused: int
    seconds: float
    p50_ms: float
    p99_ms: float
    refused_p50_ms: float
    refused_p99_ms: float


class _Connection:
    """A connection with at most one request at a time."""

    __slots__ = ("received", "sent_s", "socket")

    def __init__(self, port: int) -> None:
        self.socket = socket.create_connection(("127.0.0.1", port))
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.received = b""
        self.sent_s = 0.0

    def send(self, request: bytes) -> None:
        self.sent_s = time.perf_counter()
        self.socket.sendall(request)


class _Run:
    def __init__(self, requests: Sequence[bytes], port: int, connections: int) -> None:
        self._requests: Iterator[bytes] = itertools.cycle(requests)
        self._poll = select.epoll()
        self._open = {each.socket.fileno(): each for each in (_Connection(port) for _ in range(connections))}
        for number in self._open:
            self._poll.register(number, select.EPOLLIN)
        self._waiting = 0
        self._took_s: list[float] = []
        self._refused_s: list[float] = []
        self._wrong = 0

    def run(self, seconds: float) -> Sent:
        began_s = time.perf_counter()
        ends_s = began_s + seconds
        for connection in self._open.values():
            self._send(connection)
        while self._waiting:
            ready = self._poll.poll(DRAIN_S)
            if not ready:
                break
            goes_on = time.perf_counter() < ends_s
            for number, _ in ready:
                self._receive(self._open[number], goes_on=goes_on)
        took_s = time.perf_counter() - began_s
        for connection in self._open.values():
            connection.socket.close()
        self._poll.close()
        return Sent(
            answered=len(self._took_s),
            wrong=self._wrong + self._waiting,
            refused=len(self._refused_s),
            seconds=took_s,
            p50_ms=_quantile_ms(self._took_s, 50),
            p99_ms=_quantile_ms(self._took_s, 99),
            refused_p50_ms=_quantile_ms(self._refused_s, 50),
            refused_p99_ms=_quantile_ms(self._refused_s, 99),
        )

    def _send(self, connection: _Connection) -> None:
        try:
            connection.send(next(self._requests))
        except OSError:
            self._wrong += 1
            self._poll.unregister(connection.socket.fileno())
        else:
            self._waiting += 1

    def _receive(self, connection: _Connection, *, goes_on: bool) -> None:
        try:
            data = connection.socket.recv(READ_BYTES)
        except OSError:
            data = b""
        connection.received += data
        is_right = connection.received.startswith(b"HTTP/1.1 200 ") and connection.received.endswith(SUCCESS)
        if not is_right and not _is_over(connection.received, ended=not data):
            return
        took_s = time.perf_counter() - connection.sent_s
        if connection.received.startswith(b"HTTP/1.1 503 "):
            self._refused_s.append(took_s)
        connection.received = b""
        self._waiting -= 1
        self._took_s.append(took_s)
        self._wrong += not is_right
        if not data:
            self._poll.unregister(connection.socket.fileno())
        elif goes_on:
            self._send(connection)


def _quantile_ms(seconds: list[float], percent: int) -> float:
    return sorted(seconds)[len(seconds) * percent // 100] * 1000 if seconds else 0.0


def _is_over(received: bytes, *, ended: bool) -> bool:
    try:
        return ended or wire.parse_answer(received) is not None
    except wire.NotHttp:
        return True


def run(requests: Sequence[bytes], *, port: int, connections: int, seconds: float) -> Sent:
    """Send these requests over and over for so long, one at a time over each connection; wait for the last answers."""
    return _Run(requests, port, connections).run(seconds)
