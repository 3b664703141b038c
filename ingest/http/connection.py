"""One connection of the public port: an asyncio protocol over llhttp (`httptools`).

    bytes ─► parser ─► requests, in order ─► story of the first ─► its answer ─► story of the next

The usual request arrives whole. It goes from the socket to the log's open batch without a task, a future or a timer of
its own: its story (`ingest.receive`) is a coroutine that the connection drives itself, stage by stage, each together
with the other requests of this turn of the loop. The story goes on when its wait ends (`ingest.pending`), and its
answer is written then.

What a sender may do, and what ends it:

- A header has at most `HEADERS_MAX` fields of `HEADER_BYTES_MAX`, and arrives within the keep-alive time.
- A body has at most `BODY_BYTES_MAX`, takes at most `WIRE_BYTES_MAX` on the wire, and arrives within its deadline.
- An answer is read within its deadline; until then no further request is begun.
- Requests may follow without waiting for answers. They are answered one after the other. A few of them are parsed
  ahead (`REQUESTS_AT_ONCE`), a few kilobytes wait to be parsed, and the rest waits in the kernel.
- The parser gets `PARSED_AT_ONCE` bytes at once, and `PARSED_IN_A_TURN` of all connections in a turn of the loop, so
  that no sender keeps it busy for long, and acknowledgements of the log are read in an overload.
- Invalid HTTP is answered once with the fixed `fail`, and nothing after it is parsed.
- The rest of a refused body is read and dropped for the lingering time, or the sender would lose its answer.
- Beyond the limit of connections, idle ones are closed, so that strangers cannot keep the next notification out; if
  none is idle, the new one is answered 503.
"""

import asyncio
import fcntl
import socket
import sys
import termios
from collections import deque
from collections.abc import Coroutine
from contextlib import suppress
from typing import Any, Protocol, cast

from msgspec import Struct, field

from ingest.errors import Unavailable
from ingest.http.deadlines import Deadlines
from ingest.http.open_connections import OpenConnections
from ingest.http.parsing import PARSED_AT_ONCE, Parser
from ingest.http.request import Request
from ingest.http.responses import Reply, Stamp, fixed
from ingest.receive import Gone

SEND_BYTES = 16 * 1024  # an answer has about 300; otherwise the kernel buffers megabytes for senders that do not read

_CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"


class ConnectionLimits(Struct, frozen=True, kw_only=True):
    """The time limits of a connection."""

    keepalive_s: float
    lingering_s: float
    write_deadline_s: float


class Service(Protocol):
    """What answers the requests of all connections."""

    is_accepting: bool

    def handle(self, request: Request, connection: "Connection", /) -> Coroutine[Any, Any, Reply]:
        """Return the story of a request, which ends with its answer. It never raises."""

    def parse_error(self) -> None:
        """Report a request that is not valid HTTP."""

    def turned_away(self) -> None:
        """Report a connection that is answered 503 because there are too many."""

    def our_fault(self, error: BaseException, /) -> None:
        """Report an unexpected exception."""


class Surroundings(Struct, frozen=True, kw_only=True):
    """The parts that all connections of one process share."""

    service: Service
    limits: ConnectionLimits
    connections: OpenConnections
    requests: Deadlines
    bodies: Deadlines
    stamp: Stamp
    # Where the transport puts what it receives. The connection takes it out at once.
    buffer: memoryview = field(default_factory=lambda: memoryview(bytearray(PARSED_AT_ONCE)))


class Connection(asyncio.BufferedProtocol):
    """One connection."""

    def __init__(self, surroundings: Surroundings, loop: asyncio.AbstractEventLoop) -> None:
        self._service = surroundings.service
        self._limits = surroundings.limits
        self._connections = surroundings.connections
        self._requests = surroundings.requests
        self._bodies = surroundings.bodies
        self._stamp = surroundings.stamp
        self._buffer = surroundings.buffer
        self._loop = loop
        self._transport: asyncio.Transport | None = None
        self._unparsed = b""  # received, but not yet parsed; reading is paused meanwhile
        self._is_parsing_later = False
        self._is_dropping = False  # nothing more is parsed
        self._has_ended = False  # the sender sends nothing more
        self._is_last = False  # the last answer is written
        self._timer: asyncio.TimerHandle | None = None  # of an answer that is not read, or of the lingering
        self._is_unread = False
        # Requests whose turn has not come, and the one that is answered. `None` stands for invalid HTTP.
        self._waiting: deque[Request | None] = deque()
        self._parser = Parser(self, self._waiting)
        self._current: Request | None = None
        self._story: Coroutine[Any, Any, Reply] | None = None
        self._awaited: Any = None
        self.has_sent_request = False
        self.idle_since_s = loop.time()

    # --- the socket

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = wire = cast(asyncio.Transport, transport)  # uvloop's has the interface, but not the class
        wire.set_write_buffer_limits(high=0)  # any unsent byte starts the write deadline
        wire.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SEND_BYTES)
        if not self._connections.join(self):
            self._turn_away()

    def _turn_away(self) -> None:
        """Answer 503 before any request, because there are too many connections, and none that is idle."""
        if not self._connections.join_to_be_refused(self):
            self.abort()
            return
        self._service.turned_away()
        self._drop()
        self._write(Reply(fixed(503), closing=True), has_body=True)
        self._close()

    def connection_lost(self, exc: BaseException | None) -> None:
        self._transport = None
        self._unparsed = b""
        self._is_dropping = True
        self._waiting.clear()
        self._cancel_timer()
        self._connections.leave(self)
        if self._parser.arriving is not None:
            self._parser.arriving.fail(Gone())
        self._parser.close()

    def get_buffer(self, sizehint: int) -> memoryview:
        return self._buffer

    def buffer_updated(self, nbytes: int) -> None:
        self.data_received(bytes(self._buffer[:nbytes]))

    def data_received(self, data: bytes) -> None:
        if self._is_dropping:
            return
        received = self._unparsed + data if self._unparsed else data
        is_ahead = self._waiting or self._parser.portion(received) < len(received)
        if not (is_ahead or self._unparsed) and self._connections.may_parse(len(data)):
            self._parse(data)
            return
        self._unparsed = received
        if is_ahead and self._transport is not None:
            self._transport.pause_reading()
        self._parse_later()

    def eof_received(self) -> bool:
        """Answer the requests that have arrived whole, then close."""
        self._has_ended = True
        if self._parser.arriving is not None and not self._unparsed:
            self._parser.arriving.fail(Gone())
        return not self.is_idle

    def pause_writing(self) -> None:
        self._is_unread = True
        self._restart_timer(self._limits.write_deadline_s)

    def resume_writing(self) -> None:
        self._is_unread = False
        self._cancel_timer()
        if self._is_last:
            self._restart_timer(self._limits.lingering_s)
        self._next()

    @property
    def is_gone(self) -> bool:
        """Whether no answer can reach the sender."""
        return self._transport is None or self._transport.is_closing()

    @property
    def is_idle(self) -> bool:
        """Whether no request is in progress after its header."""
        return self._story is None and not self._waiting and not self._unparsed

    @property
    def can_be_closed(self) -> bool:
        """Whether nothing that an idle sender has sent, or still has to read, is lost if it is closed."""
        if self._transport is None or self._is_last or self._is_unread:
            return False
        unread = fcntl.ioctl(self._transport.get_extra_info("socket").fileno(), termios.FIONREAD, bytes(4))
        return not int.from_bytes(unread, sys.byteorder)

    def abort(self) -> None:
        """Close it at once, without the rest of an answer."""
        if self._transport is not None:
            self._transport.abort()

    def close_if_idle(self) -> None:
        if self.is_idle and not self._is_unread and self._transport is not None:
            self._transport.close()

    def expire_if_idle(self, now_s: float) -> None:
        """Close it if no request has begun, or no header was whole, for the keep-alive time."""
        if self.is_idle and now_s - self.idle_since_s >= self._limits.keepalive_s:
            self.close_if_idle()

    def _restart_timer(self, seconds: float) -> None:
        self._cancel_timer()
        self._timer = self._loop.call_later(seconds, self.abort)

    def _cancel_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    # --- parsing

    def _parse_later(self) -> None:
        if self._unparsed and not self._is_parsing_later:
            self._is_parsing_later = True
            self._connections.parse_later(self)

    def parse_next(self) -> int:
        """Parse the next few of the bytes that were received, unless enough requests wait for their turn.

        Return how many.
        """
        self._is_parsing_later = False
        if self._waiting or self._is_dropping:
            return 0  # `_next` continues
        size = self._parser.portion(self._unparsed)
        data, self._unparsed = self._unparsed[:size], self._unparsed[size:]
        self._parse(data)
        self._read_on()
        return len(data)

    def _read_on(self) -> None:
        if self._unparsed:
            self._parse_later()
        elif self._transport is not None and not self._transport.is_reading() and not self._has_ended:
            self._transport.resume_reading()
        elif self._has_ended and self._parser.arriving is not None:
            self._parser.arriving.fail(Gone())

    def _parse(self, data: bytes) -> None:
        self._parser.parse(data)
        if self._parser.is_broken:
            self._drop()
        if self._current is not None:
            self._current.wake()
        self._next()

    def _drop(self) -> None:
        self._is_dropping = True
        self._unparsed = b""
        # Read on: a connection that is closed with unread bytes is reset, and the sender may lose the answer.
        if self._transport is not None and not self._transport.is_reading() and not self._has_ended:
            self._transport.resume_reading()

    # --- requests, one after the other

    def _next(self) -> None:
        """Begin the story of the next request, if it is its turn."""
        while self._waiting and self._story is None and not self._is_unread and self._transport is not None:
            request = self._waiting.popleft()
            if request is None:
                self._service.parse_error()
                self._write(Reply(fixed(400), closing=True), has_body=True)
                self._close()
                return
            self._current = request
            self.has_sent_request = True
            self._story = self._service.handle(request, self)
            self._requests.watch(self, self._loop.time())
            self._go_on(None)
        if self._unparsed and not self._waiting:
            self._parse_later()
        elif self._has_ended and self.is_idle and not self._is_unread:
            self._close()

    def _go_on(self, ended: Any) -> None:
        """Go on with the story, because its wait has ended."""
        if ended is not self._awaited or self._story is None:
            return  # the deadline came first
        self._step(self._story.send, None)

    def next_stage(self) -> None:
        """Go on with the request that waits for its next stage, if its deadline has not come first."""
        self._go_on(None)

    def expire(self) -> None:
        """Refuse the current request, because its deadline has passed. Its record may still become durable.

        Alipay then resends the notification, and the second record is a duplicate.
        """
        if self._story is not None:
            self._step(self._story.throw, Unavailable("the request deadline has passed"))

    def _step(self, resume: Any, argument: Any) -> None:
        self._awaited = None
        try:
            awaited = resume(argument)
        except StopIteration as ended:
            self._answer(ended.value)
        except (Exception, asyncio.CancelledError) as error:
            self._service.our_fault(error)
            self._answer(Reply(fixed(503), closing=True))
        else:
            if awaited is None:
                self._connections.stage(self)
                return
            awaited._asyncio_future_blocking = False
            self._awaited = awaited
            awaited.add_done_callback(self._go_on)

    def await_body(self, request: Request) -> None:
        if request.expects_continue and self._transport is not None:
            self._transport.write(_CONTINUE)
        self._bodies.watch(request, self._loop.time())

    def _answer(self, reply: Reply) -> None:
        request, self._current, self._story = self._current, None, None
        self._requests.release(self)
        assert request is not None
        self._bodies.release(request)
        if self._transport is None:
            return
        if not request.is_complete:
            self._drop()
        is_last = reply.closing or not (request.keeps_alive and request.is_complete)
        self._write(Reply(reply.answer, closing=is_last), has_body=request.method != "HEAD")
        if is_last:
            self._close()
        else:
            self.idle_since_s = self._loop.time()
            if self._waiting or self._unparsed or self._has_ended:
                self._loop.call_soon(self._next)

    def _write(self, reply: Reply, *, has_body: bool) -> None:
        assert self._transport is not None
        if not self._transport.is_closing():
            self._transport.write(self._stamp.render(reply, has_body=has_body))

    def _close(self) -> None:
        """Close it after the last answer. If the sender may still be sending, read and drop that for a while."""
        transport = self._transport
        if transport is None:
            return
        is_whole = not (self._is_dropping or self._parser.arriving or self._waiting or self._unparsed)
        self._is_last = True
        self._waiting.clear()
        self._drop()
        if is_whole or self._has_ended:
            transport.close()
            return
        if not self._is_unread:
            self._restart_timer(self._limits.lingering_s)
        if transport.can_write_eof() and not transport.is_closing():
            with suppress(OSError):  # asyncio's own loop raises it if the sender has reset the connection
                transport.write_eof()
