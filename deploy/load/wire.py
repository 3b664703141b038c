"""A keep-alive HTTP connection with at most one request at a time, and the parser of its answers.

It uses raw sockets, because an HTTP client library costs several times as much CPU as the request itself, and a busy
sender measures itself. So it understands only those parts of HTTP/1.1 that an answer to a POST needs: a length, chunks,
or the end of the connection. Any other answer, and one that is too long, ends the connection.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Protocol, cast

from msgspec import Struct

# A longer answer is wrong, whatever its contents.
ANSWER_BYTES_MAX = 16 * 1024


class NotHttp(ValueError):
    """The received bytes are no HTTP answer."""


class WireAnswer(Struct, frozen=True, gc=False):
    """A complete answer. `keeps_open`: the connection takes another request."""

    status: int
    body: bytes
    keeps_open: bool


class ConnectionObserver(Protocol):
    """Receives the end of each request."""

    def answered(self, wire: Wire, answer: WireAnswer) -> None: ...

    def lost(self, wire: Wire, why: str) -> None: ...


def request_bytes(host: str, path: str, headers: Sequence[tuple[str, str]], body: bytes) -> bytes:
    """Return the bytes of one HTTP/1.1 request."""
    lines = [f"POST {path} HTTP/1.1", f"Host: {host}", *(f"{name}: {value}" for name, value in headers)]
    lines.append(f"Content-Length: {len(body)}")
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + body


def parse_answer(received: bytes, *, ended: bool = False) -> WireAnswer | None:
    """Return the answer, or `None` while it is incomplete. `ended`: the other side has closed the connection.

    Raises:
        NotHttp: the bytes cannot become an answer.
    """
    head, blank, rest = received.partition(b"\r\n\r\n")
    if not blank:
        if ended or not b"HTTP/1.".startswith(head[:7]) or len(head) > ANSWER_BYTES_MAX:
            raise NotHttp
        return None
    first, *lines = head.split(b"\r\n")
    if not first.startswith(b"HTTP/1.") or not first[9:12].isdigit():
        raise NotHttp
    headers = {name.strip().lower(): value.strip() for name, _, value in (line.partition(b":") for line in lines)}
    body = _body(headers, rest, ended=ended)
    if body is None:
        if len(rest) > ANSWER_BYTES_MAX:
            raise NotHttp
        return None
    framed = b"content-length" in headers or b"transfer-encoding" in headers
    closes = headers.get(b"connection", b"").lower() == b"close" or first.startswith(b"HTTP/1.0")
    return WireAnswer(int(first[9:12]), body, framed and not closes and not ended)


def _body(headers: dict[bytes, bytes], rest: bytes, *, ended: bool) -> bytes | None:
    if headers.get(b"transfer-encoding", b"").lower() == b"chunked":
        return _unchunked(rest, ended=ended)
    if b"content-length" not in headers:
        return rest if ended else None
    if not headers[b"content-length"].isdigit():
        raise NotHttp
    length = int(headers[b"content-length"])
    if len(rest) >= length:
        return rest[:length]
    if ended:
        raise NotHttp
    return None


def _unchunked(rest: bytes, *, ended: bool) -> bytes | None:
    body, left = b"", rest
    while True:
        size, line_end, left = left.partition(b"\r\n")
        try:
            length = int(size.partition(b";")[0], 16) if line_end else -1
        except ValueError:
            raise NotHttp from None
        if length == 0 and (left.startswith(b"\r\n") or b"\r\n\r\n" in left):
            return body
        if length <= 0 or len(left) < length + 2:
            if ended:
                raise NotHttp
            return None
        body, left = body + left[:length], left[length + 2 :]


class Wire(asyncio.Protocol):
    """One connection. After `send` it calls either `answered` or `lost`, once. An idle connection can only be lost."""

    def __init__(self, observer: ConnectionObserver) -> None:
        self._observer = observer
        self._received = b""
        self._transport: asyncio.Transport | None = None
        self._is_over = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # uvloop's transport has the methods of asyncio.Transport, but is no subclass of it.
        self._transport = cast(asyncio.Transport, transport)

    def send(self, request: bytes) -> None:
        assert self._transport is not None
        self._transport.write(request)

    def data_received(self, data: bytes) -> None:
        self._received = self._received + data if self._received else data
        self._read(ended=False)

    def eof_received(self) -> None:
        self._read(ended=True)

    def connection_lost(self, exc: Exception | None) -> None:
        self._lose("connection lost")

    def give_up(self, why: str) -> None:
        """Report the request as lost, if one is open, and abort the connection."""
        self._lose(why)
        if self._transport is not None:
            self._transport.abort()

    def _read(self, *, ended: bool) -> None:
        if self._is_over:
            return
        if ended and not self._received:
            self._lose("connection lost")
            return
        try:
            answer = parse_answer(self._received, ended=ended)
        except NotHttp:
            self.give_up("not HTTP")
            return
        if answer is None:
            return
        self._received = b""
        if not answer.keeps_open:
            self._is_over = True
            assert self._transport is not None
            self._transport.close()
        self._observer.answered(self, answer)

    def _lose(self, why: str) -> None:
        if not self._is_over:
            self._is_over = True
            self._observer.lost(self, why)
