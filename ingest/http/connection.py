"""One connection of the public port: aiohttp's protocol, and what it leaves open.

aiohttp answers a request that is no HTTP with its own page, which quotes the bytes and names its version, and logs a
traceback: here it gets the fixed `fail`, the connection ends, and a counter moves. Four more gaps are closed:

- an answer that the sender does not read would wait for ever: each has a deadline;
- a body that breaks in the middle (a bad chunk) would leave its request waiting until the body's deadline;
- connections have no number: beyond a limit the one that has been idle longest goes, those that never asked first, so
  that idle strangers cannot shut out the next notification;
- a keyword that aiohttp does not know silently drops all the others: `Connection` passes them itself.
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
SEND_BYTES = 16 * 1024  # an answer has 300; the kernel would keep megabytes for one that nobody reads
READ_BYTES = 64 * 1024
EVICTED_PART = 20  # one twentieth of the idle ones at a time


class BrokenBody(Exception):
    """The request's body turned out to be no HTTP: its header was read, its end can never be."""


class ConnectionLimits(Struct, frozen=True, kw_only=True):
    """What a connection is bounded by."""

    keepalive_s: float
    lingering_s: float
    write_deadline_s: float


class Faults(Protocol):
    def parse_error(self) -> None:
        """A request was no HTTP."""

    def our_fault(self, error: BaseException | None) -> None:
        """Something was raised that nobody expected."""


class OpenConnections:
    """The open connections of one process, oldest first, and who has to go when there are too many.

    An idle one goes for a newcomer, and of the idle ones those first that never sent a request: a load balancer's
    connections have. They go a twentieth at a time, so that in a flood not every newcomer looks for its own; and they
    leave the roster at once, not when their socket is gone, else the newcomers of one moment would clear it.
    """

    def __init__(self, *, connections_max: int) -> None:
        self._connections_max = connections_max
        self._open: dict[Connection, None] = {}

    def join(self, connection: "Connection") -> bool:
        """Take in a newcomer; whether there is, or could be made, a place for it."""
        if len(self._open) >= self._connections_max and not self._evict():
            return False
        self._open[connection] = None
        return True

    def leave(self, connection: "Connection") -> None:
        self._open.pop(connection, None)

    def _evict(self) -> bool:
        idle = [connection for connection in self._open if connection.is_idle]
        leaving = [connection for connection in idle if not connection.has_asked] or idle
        for connection in leaving[: -(-len(leaving) // EVICTED_PART)]:
            self.leave(connection)
            connection.force_close()
        return bool(leaving)


class Connection(web.RequestHandler):
    """aiohttp's connection, with the gaps above closed."""

    __slots__ = ("_faults", "_limits", "_roster", "_unread", "_wire", "is_broken")

    def __init__(
        self,
        manager: web.Server,
        *,
        limits: ConnectionLimits,
        roster: "OpenConnections",
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
            access_log=None,  # type: ignore[arg-type]  # None is how aiohttp itself spells "no access log"
        )
        self._limits = limits
        self._roster = roster
        self._faults = faults
        self._unread: asyncio.TimerHandle | None = None
        self._wire: asyncio.WriteTransport | None = None
        self.is_broken = False  # what came last was no HTTP, so a body that is not complete will never be

    @property
    def is_idle(self) -> bool:
        """Whether no request is being read past its header, waiting or answered."""
        return self._waiter is not None and not self._waiter.done()

    @property
    def has_asked(self) -> bool:
        """Whether it ever sent a request."""
        return self._request_count > 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        wire = cast(asyncio.Transport, transport)  # what uvloop makes is one in all but its class
        has_place = self._roster.join(self)
        super().connection_made(transport)
        self._wire = wire
        wire.set_write_buffer_limits(high=0)  # so that any byte that stays unsent starts the deadline
        wire.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SEND_BYTES)
        if not has_place:
            self.force_close()

    def data_received(self, data: bytes) -> None:
        queued = len(self._messages)
        super().data_received(data)
        if len(self._messages) > queued and hasattr(self._messages[-1][0], "exc"):
            self._break()

    def _break(self) -> None:
        """Wake a request whose body broke off: the parser reports the fault behind it and forgets the body."""
        self.is_broken = True
        request = self._current_request
        if request is not None and not request.content.is_eof():
            request.content.set_exception(BrokenBody())
            request.content.feed_eof()  # nothing more is worth waiting for, neither for us nor while lingering

    def pause_writing(self) -> None:
        super().pause_writing()
        self._unread = self._loop.call_later(self._limits.write_deadline_s, self._abort)

    def resume_writing(self) -> None:
        super().resume_writing()
        self._forget_unread()

    def connection_lost(self, exc: BaseException | None) -> None:
        self._forget_unread()
        self._wire = None
        self._roster.leave(self)
        super().connection_lost(exc)

    def _abort(self) -> None:
        if self._wire is not None:
            self._wire.abort()

    def _forget_unread(self) -> None:
        if self._unread is not None:
            self._unread.cancel()
            self._unread = None

    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,
    ) -> web.StreamResponse:
        """The fixed answer to what was no HTTP; also, should it ever come to that, to a fault of ours."""
        if isinstance(exc, HttpProcessingError):
            self._faults.parse_error()
            return Reply(fixed(400), closing=True)
        self._faults.our_fault(exc)
        return Reply(fixed(503), closing=True)

    def log_exception(self, *args: Any, **kwargs: Any) -> None:
        """No traceback for a sender's fault; one of ours is reported as such."""
        self._faults.our_fault(kwargs.get("exc_info"))
