"""One keep-alive connection with at most one request under way, and the reading of what comes back.

Raw sockets on purpose: an HTTP client library costs the sender several times what the request itself does, and a sender
that is busy measures itself. So only as much of HTTP/1.1 is understood as an answer to a POST needs: a length, chunks,
or the end of the connection. An answer that is none of these, or is too long to be one, ends the connection.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Protocol, cast

from msgspec import Struct

# An answer longer than this is wrong whatever it says.
ANSWER_BYTES_MAX = 16 * 1024


class NotHttp(ValueError):
    """What came back is no answer."""


class WireAnswer(Struct, frozen=True, gc=False):
    """A whole answer; `keeps_open` is whether the connection takes another request."""

    status: int
    body: bytes
    keeps_open: bool


class Ends(Protocol):
    """Who hears of how a request ended."""

    def answered(self, wire: Wire, answer: WireAnswer) -> None: ...

    def lost(self, wire: Wire, why: str) -> None: ...


def request_bytes(host: str, path: str, headers: Sequence[tuple[str, str]], body: bytes) -> bytes:
    """One HTTP/1.1 request, ready for the wire."""
    lines = [f"POST {path} HTTP/1.1", f"Host: {host}", *(f"{name}: {value}" for name, value in headers)]
    lines.append(f"Content-Length: {len(body)}")
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + body


def answer_in(received: bytes, *, ended: bool = False) -> WireAnswer | None:
    """The answer, or `None` while part of it is on its way. `ended`: nothing more will come.

    Raises:
        NotHttp: it will never be one.
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
    """One connection. After `send` exactly one of `answered` and `lost` is told, and `lost` alone where it was idle."""

    def __init__(self, ends: Ends) -> None:
        self._ends = ends
        self._received = b""
        self._transport: asyncio.Transport | None = None
        self._is_over = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # A stream by what it can do; uvloop's is none by its class.
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
        """Nothing more is expected of this connection."""
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
            answer = answer_in(self._received, ended=ended)
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
        self._ends.answered(self, answer)

    def _lose(self, why: str) -> None:
        if not self._is_over:
            self._is_over = True
            self._ends.lost(self, why)
