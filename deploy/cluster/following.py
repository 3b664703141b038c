"""How a console learns of what workers in other processes change: it reads on in the outbox, a little while behind.

Nothing depends on it: who waits for an order is woken a moment later, and who was not woken reads the store when its
time is over.
"""

import asyncio
from collections.abc import Sequence
from contextlib import suppress
from typing import Protocol

from workers.errors import InfrastructureDown
from workers.long_poll import Changes
from workers.queries import Emitted

LOOK_EVERY_S = 0.25  # what a buyer who has just come back does not notice
EVENTS_MAX = 500  # per look


class Outbox(Protocol):
    """The outbox, for reading."""

    async def newest_event(self) -> int: ...

    async def events_after(self, number: int, limit: int) -> Sequence[Emitted]: ...


async def follow(outbox: Outbox, changes: Changes, *, look_every_s: float = LOOK_EVERY_S) -> None:
    """For ever: wake whoever waits for an order that an event or a notice is about."""
    last: int | None = None
    while True:
        with suppress(InfrastructureDown):  # the store's own trouble is told by whoever needs it
            last = await outbox.newest_event() if last is None else await _look(outbox, changes, last)
        await asyncio.sleep(look_every_s)


async def _look(outbox: Outbox, changes: Changes, last: int) -> int:
    while found := await outbox.events_after(last, EVENTS_MAX):
        last = found[-1].number
        for named in {emitted.event.key for emitted in found}:
            account, _, order = named.decode("utf-8", "replace").partition(":")
            changes.changed(account, order)
    return last
