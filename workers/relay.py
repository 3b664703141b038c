"""The outbox's way to the topics: one at a time, so that versions leave in their order.

The batch that wrote the events sends them right after its commit; the sweeper sends what was left over when a worker
died between the two. Both come here, and whoever comes second finds nothing left. An event may go out twice, when the
process dies between acknowledgement and mark: with the same id, so consumers see the second one for what it is.
"""

import asyncio
from collections.abc import Awaitable, Callable

EVENTS_MAX = 500  # per send


class Relay:
    """Sends until the outbox is empty."""

    def __init__(self, emit: Callable[[int], Awaitable[int]], *, events_max: int = EVENTS_MAX) -> None:
        self._emit = emit
        self._events_max = events_max
        self._one_at_a_time = asyncio.Lock()

    async def emit(self) -> int:
        """Returns when all that was in the outbox is acknowledged and marked; how many events that were.

        Raises:
            Infrastructure: some may be sent, some not. All of them are still in the outbox, or marked.
        """
        sent = 0
        async with self._one_at_a_time:
            while True:
                count = await self._emit(self._events_max)
                sent += count
                if count < self._events_max:
                    return sent
