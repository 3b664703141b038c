"""One connection of the public port: aiohttp's protocol with five gaps closed.

- aiohttp answers invalid HTTP with a page of its own, which quotes the bytes and names its version, and logs a
  traceback. Here the answer is the fixed `fail`, the connection is closed, and a counter rises.
- An answer that the sender does not read would wait for ever. Here each answer has a deadline.
- After an error within a body (a bad chunk), a request would wait for the rest of it until the body's deadline. Here it
  fails at once.
- The number of connections would be unlimited. Here idle ones are closed beyond a limit, so that strangers with idle
  connections cannot keep the next notification out (`OpenConnections`).
- aiohttp silently ignores all keywords if it does not know one of them. So `Connection` passes them itself.
"""

import asyncio
import socket
from typing import Any, Protocol, cast

from aiohttp import web
from aiohttp.http import HttpProcessingError
from msgspec import Struct

from ingest.http.responses import Reply, fixed

HEADERS_MAX = 64
HEADER_BYTES_MAX = 4096
SEND_BYTES = 16 * 1024  # an answer has about 300; otherwise the kernel buffers megabytes for senders that do not read
READ_BYTES = 64 * 1024
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

    def join(self, connection: "Connection") -> bool:
        """Add a connection. Return false if the limit is reached and no connection is idle."""
        if len(self._open) >= self._connections_max and not self._evict():
            return False
        self._open[connection] = None
        return True

    def leave(self, connection: "Connection") -> None:
        self._open.pop(connection, None)

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

    __slots__ = ("_faults", "_limits", "_open_connections", "_wire", "_write_timer", "is_broken")

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
        queued = len(self._messages)
        super().data_received(data)
        if len(self._messages) > queued and hasattr(self._messages[-1][0], "exc"):
            self._break()

    def _break(self) -> None:
        """Fail a request whose body is invalid. The parser reports the error after it, but never ends the body."""
        self.is_broken = True
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
