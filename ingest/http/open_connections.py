"""The open connections of one process, within their limit, and their turns at the parser and in each stage."""

import asyncio
from collections import deque
from collections.abc import Iterator
from typing import Protocol

EVICTED_PART = 20  # one twentieth of the idle connections is closed at a time
REFUSED_PART = 4  # for each four connections of the limit, one more is answered 503
PARSED_IN_A_TURN = 128 * 1024  # bytes, about a hundred requests: 3 ms if they are refused, 6 ms if accepted


class Open(Protocol):
    """A connection, as far as it matters here."""

    has_sent_request: bool

    @property
    def is_idle(self) -> bool:
        """Whether no request is in progress after its header."""

    @property
    def can_be_closed(self) -> bool:
        """Whether nothing that an idle sender has sent, or still has to read, is lost if it is closed."""

    def next_stage(self) -> None:
        """Go on with the request that waits for the next stage, if it still does."""

    def parse_next(self) -> int:
        """Parse the next few of the bytes that were received. Return how many."""

    def close_if_idle(self) -> None: ...

    def expire_if_idle(self, now_s: float) -> None:
        """Close it if it has been idle for too long."""

    def abort(self) -> None:
        """Close it at once."""


class OpenConnections:
    """The open connections of one process, oldest first. If there are too many, idle ones are closed for a new one.

    Connections without any request go first, because those of a load balancer have sent some.
    """

    def __init__(self, *, connections_max: int) -> None:
        self._connections_max = connections_max
        self._open: dict[Open, None] = {}
        self._unparsed: deque[Open] = deque()
        self._parsed_bytes = 0  # in this turn of the loop
        self._is_turn_due = False
        self._staged: deque[Open] = deque()
        self._are_stages_due = False
        self._emptied: asyncio.Future[None] | None = None  # while `wait_until_none` waits

    def __iter__(self) -> Iterator[Open]:
        return iter(list(self._open))

    async def wait_until_none(self, *, within_s: float) -> None:
        """Return when all have left, or after `within_s`."""
        if self._open:
            self._emptied = asyncio.get_running_loop().create_future()
            await asyncio.wait([self._emptied], timeout=within_s)

    def join(self, connection: Open) -> bool:
        """Add a connection. Return false if the limit is reached and no connection is idle."""
        if len(self._open) >= self._connections_max and not self._evict():
            return False
        self._open[connection] = None
        return True

    def join_to_be_refused(self, connection: Open) -> bool:
        """Add a connection beyond the limit. Return false if too many of them have not left yet."""
        if len(self._open) >= self._connections_max + self._connections_max // REFUSED_PART:
            return False
        self._open[connection] = None
        return True

    def leave(self, connection: Open) -> None:
        self._open.pop(connection, None)
        if not self._open and self._emptied is not None and not self._emptied.done():
            self._emptied.set_result(None)

    def may_parse(self, size: int) -> bool:
        """Return whether that many bytes may be parsed in this turn of the loop; otherwise `parse_later`.

        Without this limit, thousands of requests that are refused would fill a turn for a tenth of a second, and the
        log takes several turns to acknowledge those that were accepted before.
        """
        if self._unparsed or self._parsed_bytes >= PARSED_IN_A_TURN:
            return False
        self._parsed_bytes += size
        self._turn_soon()
        return True

    def parse_later(self, connection: Open) -> None:
        """Let the connection parse its next bytes when its turn comes."""
        self._unparsed.append(connection)
        self._turn_soon()

    def _turn_soon(self) -> None:
        if not self._is_turn_due:
            self._is_turn_due = True
            asyncio.get_running_loop().call_soon(self._turn)

    def _turn(self) -> None:
        self._is_turn_due = False
        self._parsed_bytes = 0
        try:
            for _ in range(len(self._unparsed)):  # each once: one with much to parse comes again in the next turn
                if self._parsed_bytes >= PARSED_IN_A_TURN:
                    break
                self._parsed_bytes += self._unparsed.popleft().parse_next()
        finally:
            if self._unparsed or self._parsed_bytes:
                self._turn_soon()

    def stage(self, connection: Open) -> None:
        """Let the request of a connection take its next stage, after those of the others in this turn of the loop."""
        self._staged.append(connection)
        self._stages_soon()

    def _stages_soon(self) -> None:
        if not self._are_stages_due:
            self._are_stages_due = True
            asyncio.get_running_loop().call_soon(self._run_stages)

    def _run_stages(self) -> None:
        """Run the stages of all requests that wait for one, the same stage of all before the next of any."""
        try:
            while self._staged:
                self._staged.popleft().next_stage()
        finally:
            self._are_stages_due = False
            if self._staged:
                self._stages_soon()

    def _evict(self) -> bool:
        idle = [connection for connection in self._open if connection.is_idle]
        leaving = [connection for connection in idle if not connection.has_sent_request] or idle
        # A twentieth at a time, so that in a flood not every new connection searches for an idle one.
        part = -(-len(leaving) // EVICTED_PART)
        # In an overload requests wait in the kernel: their senders are not idle, and get an answer.
        evicted = [connection for connection in leaving[: 2 * part] if connection.can_be_closed][:part]
        for connection in evicted:
            # Remove it now, not when its socket is closed. Otherwise it stays counted, and all connections that arrive
            # until then would evict further ones.
            self.leave(connection)
            connection.abort()
        return bool(evicted)
