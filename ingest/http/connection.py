"""One connection of the public port: aiohttp's protocol with six gaps closed.

- aiohttp answers invalid HTTP with a page of its own, which quotes the bytes and names its version, and logs a
  traceback. Here the answer is the fixed `fail`, the connection is closed, and a counter rises.
- An answer that the sender does not read would wait for ever. Here each answer has a deadline.
- After an error within a body (a bad chunk), a request would wait for the rest of it until the body's deadline. Here it
  fails at once.
- A body of tiny chunks would keep the parser busy for long, even after its refusal. Here the parser gets a few bytes in
  each turn of the loop. The bytes of a body on the wire are limited. The rest of a refused request is not parsed.
- The number of connections would be unlimited. Here idle ones are closed beyond a limit, so that strangers with idle
  connections cannot keep the next notification out (`OpenConnections`).
- aiohttp silently ignores all keywords if it does not know one of them. So `Connection` passes them itself.
"""

import asyncio
import socket
from collections import deque
from typing import Any, Protocol, cast

from aiohttp import StreamReader, web
from aiohttp.http import HttpProcessingError
from msgspec import Struct

from ingest.errors import TooLarge
from ingest.http.responses import Reply, fixed
from schemas.form import BODY_BYTES_MAX

HEADERS_MAX = 64
HEADER_BYTES_MAX = 4096
SEND_BYTES = 16 * 1024  # an answer has about 300; otherwise the kernel buffers megabytes for senders that do not read
READ_BYTES = 64 * 1024
WIRE_BYTES_MAX = 2 * BODY_BYTES_MAX  # of one body, with the sizes, extensions and trailers of its chunks
PARSED_AT_ONCE = 4 * 1024  # bytes: most requests; as chunks of one byte they take the parser about a millisecond
EVICTED_PART = 20  # one twentieth of the idle connections is closed at a time


class BrokenBody(Exception):
    """The body of a request is not valid HTTP, so it can never be read to its end."""


class ConnectionLimits(Struct, frozen=True, kw_only=True):
    """The time limits of a connection."""

    keepalive_s: float
    lingering_s: float
    write_deadline_s: float


class Faults(Protocol):
    def parse_error(self) -> None:
        """Report a request that is not valid HTTP."""

    def our_fault(self, error: BaseException | None) -> None:
        """Report an unexpected exception."""


class OpenConnections:
    """The open connections of one process, oldest first. If there are too many, idle ones are closed for a new one.

    Connections without any request go first, because those of a load balancer have sent some.
    """

    def __init__(self, *, connections_max: int) -> None:
        self._connections_max = connections_max
        self._open: dict[Connection, None] = {}
        self._unparsed: deque[Connection] = deque()
        self._is_parsing = False

    def join(self, connection: "Connection") -> bool:
        """Add a connection. Return false if the limit is reached and no connection is idle."""
        if len(self._open) >= self._connections_max and not self._evict():
            return False
        self._open[connection] = None
        return True

    def leave(self, connection: "Connection") -> None:
        self._open.pop(connection, None)

    def parse_later(self, connection: "Connection") -> None:
        """Let the connection parse its next bytes when its turn comes: one connection in each turn of the loop.

        So connections with much to parse delay each other, but hardly the others, whose requests are short.
        """
        self._unparsed.append(connection)
        if not self._is_parsing:
            self._is_parsing = True
            asyncio.get_running_loop().call_soon(self._parse_next)

    def _parse_next(self) -> None:
        try:
            self._unparsed.popleft().parse_next()
        finally:
            self._is_parsing = bool(self._unparsed)
            if self._is_parsing:
                asyncio.get_running_loop().call_soon(self._parse_next)

    def _evict(self) -> bool:
        idle = [connection for connection in self._open if connection.is_idle]
        leaving = [connection for connection in idle if not connection.has_sent_request] or idle
        # A twentieth at a time, so that in a flood not every new connection searches for an idle one.
        for connection in leaving[: -(-len(leaving) // EVICTED_PART)]:
            # Remove it now, not when its socket is closed. Otherwise it stays counted, and all connections that arrive
            # until then would evict further ones.
            self.leave(connection)
            connection.force_close()
        return bool(leaving)


class Connection(web.RequestHandler):
    """aiohttp's connection, with the gaps above closed."""

    __slots__ = (
        "_body",
        "_faults",
        "_is_dropping",
        "_is_parsing_later",
        "_limits",
        "_open_connections",
        "_unparsed",
        "_wire",
        "_wire_bytes",
        "_write_timer",
        "is_broken",
    )

    def __init__(
        self,
        manager: web.Server,
        *,
        limits: ConnectionLimits,
        open_connections: OpenConnections,
        faults: Faults,
        loop: asyncio.AbstractEventLoop,
    ) -> None:
        super().__init__(
            manager,
            loop=loop,
            keepalive_timeout=limits.keepalive_s,
            lingering_time=limits.lingering_s,
            max_line_size=HEADER_BYTES_MAX,
            max_field_size=HEADER_BYTES_MAX,
            max_headers=HEADERS_MAX,
            read_bufsize=READ_BYTES,
            auto_decompress=False,
            access_log=None,  # type: ignore[arg-type]  # aiohttp accepts None for no access log
        )
        self._limits = limits
        self._open_connections = open_connections
        self._faults = faults
        self._write_timer: asyncio.TimerHandle | None = None
        self._wire: asyncio.WriteTransport | None = None
        self._unparsed = b""  # received, but not yet parsed; reading is paused meanwhile
        self._is_parsing_later = False
        self._body: StreamReader | None = None  # of the latest request
        self._wire_bytes = 0  # of that body
        self._is_dropping = False  # the latest request is refused, so that nothing more is parsed
        self.is_broken = False  # the last bytes were invalid HTTP, so an incomplete body stays incomplete

    @property
    def is_idle(self) -> bool:
        """Whether no request is in progress after its header."""
        return self._waiter is not None and not self._waiter.done()

    @property
    def has_sent_request(self) -> bool:
        """Whether it has sent any request."""
        return self._request_count > 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        wire = cast(asyncio.Transport, transport)  # uvloop's transport has the interface, but not the class
        is_admitted = self._open_connections.join(self)
        super().connection_made(transport)
        self._wire = wire
        wire.set_write_buffer_limits(high=0)  # any unsent byte starts the write deadline
        wire.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SEND_BYTES)
        if not is_admitted:
            self.force_close()

    def data_received(self, data: bytes) -> None:
        if self._is_dropping:
            return
        # aiohttp passes no bytes when it continues after a pause: then they are in its parser, before `_unparsed`.
        if not data or (not self._unparsed and len(data) <= self._parsed_at_once):
            self._parse(data)
            return
        self._unparsed += data
        self._pause_transport_reading()
        self._parse_later()

    @property
    def _parsed_at_once(self) -> int:
        if self._body is None or self._body.is_eof():
            return PARSED_AT_ONCE
        return min(PARSED_AT_ONCE, WIRE_BYTES_MAX - self._wire_bytes)

    def _parse_later(self) -> None:
        if self._unparsed and not self._is_parsing_later:
            self._is_parsing_later = True
            self._open_connections.parse_later(self)

    def parse_next(self) -> None:
        """Parse the next few of the bytes that were received, unless aiohttp has paused."""
        self._is_parsing_later = False
        if self._reading_paused or self._buffer_paused:
            return  # `_resume_transport_reading` continues
        size = self._parsed_at_once
        data, self._unparsed = self._unparsed[:size], self._unparsed[size:]
        if data and self.transport is not None:
            self._parse(data)
        if self._unparsed:
            self._parse_later()
        elif not self._reading_paused and not self._buffer_paused:
            self._resume_transport_reading()

    def _resume_transport_reading(self) -> None:
        """Read on, but first parse what has been read."""
        if self._unparsed:
            self._parse_later()
        else:
            super()._resume_transport_reading()

    def _parse(self, data: bytes) -> None:
        queued = len(self._messages)
        super().data_received(data)
        if len(self._messages) > queued:
            message, self._body = self._messages[-1]
            self._wire_bytes = len(data.partition(b"\r\n\r\n")[2])
            if hasattr(message, "exc"):
                self._break()
        else:
            self._wire_bytes += len(data)
        if self._wire_bytes >= WIRE_BYTES_MAX and self._body is not None and not self._body.is_eof():
            # The request may still wait in the queue, so its body carries the refusal.
            self._body.set_exception(TooLarge(f"the body takes more than {WIRE_BYTES_MAX} bytes on the wire"))
            self._drop()

    def drop_rest(self, body: StreamReader) -> None:
        """Drop what still arrives of a refused request. The connection is closed after the lingering time."""
        self._drop()
        # aiohttp reads the body while it lingers. It must wait there, not fail.
        body.set_exception(cast(BaseException, None))

    def _drop(self) -> None:
        self._is_dropping = True
        self._unparsed = b""
        # Read on: a connection that is closed with unread bytes is reset, and the sender may lose the answer.
        super()._resume_transport_reading()

    def _break(self) -> None:
        """Fail a request whose body is invalid. The parser reports the error after it, but never ends the body."""
        self.is_broken = True
        self._drop()
        request = self._current_request
        if request is not None and not request.content.is_eof():
            request.content.set_exception(BrokenBody())
            request.content.feed_eof()  # stops the lingering read too

    def pause_writing(self) -> None:
        super().pause_writing()
        self._write_timer = self._loop.call_later(self._limits.write_deadline_s, self._abort)

    def resume_writing(self) -> None:
        super().resume_writing()
        self._cancel_write_timer()

    def connection_lost(self, exc: BaseException | None) -> None:
        self._cancel_write_timer()
        self._wire = None
        self._unparsed = b""
        self._open_connections.leave(self)
        super().connection_lost(exc)

    def _abort(self) -> None:
        if self._wire is not None:
            self._wire.abort()

    def _cancel_write_timer(self) -> None:
        if self._write_timer is not None:
            self._write_timer.cancel()
            self._write_timer = None

    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,
    ) -> web.StreamResponse:
        """Return the fixed answer to invalid HTTP, or to an unexpected exception."""
        if isinstance(exc, HttpProcessingError):
            self._faults.parse_error()
            return Reply(fixed(400), closing=True)
        self._faults.our_fault(exc)
        return Reply(fixed(503), closing=True)

    def log_exception(self, *args: Any, **kwargs: Any) -> None:
        """Report unexpected exceptions. Invalid requests of senders are not logged with a traceback."""
        self._faults.our_fault(kwargs.get("exc_info"))
