"""Wait for a condition instead of a time."""

import asyncio
from collections.abc import Callable


async def until(condition: Callable[[], object], *, within_s: float = 5.0) -> None:
    """Return once `condition()` is true; look after every turn of the event loop.

    Raises:
        TimeoutError: it was not true in time.
    """
    async with asyncio.timeout(within_s):
        while not condition():  # noqa: ASYNC110  # the condition may be any state, without an event
            await asyncio.sleep(0)
