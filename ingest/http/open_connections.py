"""The open connections of one process, within their limit, and their turns at the parser."""

import asyncio
from collections import deque
from collections.abc import Iterator
from typing import Protocol

EVICTED_PART = 20  # one twentieth of the idle connections is closed at a time


class Open(Protocol):
    """A connection, as far as it matters here."""

    has_sent_request: bool

    @property
    def is_idle(self) -> bool:
        """Whether no request is in progress after its header."""

    def parse_next(self) -> None:
        """Parse the next few of the bytes that were received."""

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
        self._is_parsing = False
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

    def leave(self, connection: Open) -> None:
        self._open.pop(connection, None)
        if not self._open and self._emptied is not None and not self._emptied.done():
            self._emptied.set_result(None)

    def parse_later(self, connection: Open) -> None:
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
            connection.abort()
        return bool(leaving)
