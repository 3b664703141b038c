"""Order events over HTTP, in the order of writing, for a program that has no Kafka.

A consumer stores the last `number` that it has processed and asks for the events after it. As on the topic, it receives
each event at least once, and in version order per order.
"""

import time
from collections.abc import Sequence
from typing import Protocol

from aiohttp import web

from schemas import topics
from schemas.event_names import EventNames
from workers.admin import responses, shapes
from workers.long_poll import OrderChanges
from workers.queries import Emitted

NEWEST = "newest"  # as the number to begin after
TOPICS = (topics.ORDER_EVENT, topics.HELD, topics.NOTED, "all")


class EventsPort(Protocol):
    """Reads the outbox."""

    async def events_after(self, number: int, limit: int) -> Sequence[Emitted]:
        """Return the events of all topics with a higher number, sent or not, by number.

        No event may appear later with a number below one that was returned here.
        """

    async def newest_event(self) -> int:
        """Return the highest number in the outbox, 0 if it is empty."""


class FeedPart:
    """The API for events."""

    def __init__(self, *, events: EventsPort, changes: OrderChanges, names: EventNames) -> None:
        self._events = events
        self._changes = changes
        self._names = names

    def routes(self) -> list[web.RouteDef]:
        return [web.get("/api/events", self.after), web.get("/api/changes", self.changed)]

    async def after(self, request: web.Request) -> web.Response:
        """Return the events after a number, or after the newest; with `wait`, as soon as there is one.

        `next` is the new `after`.
        """
        number = await self._begin(request)
        limit = responses.whole_number(request, "limit", default=100, most=responses.LIMIT_MAX)
        wanted = request.query.get("topic", topics.ORDER_EVENT)
        if wanted not in TOPICS:
            raise responses.bad_request(f"topic must be one of {', '.join(TOPICS)}")
        deadline = time.monotonic() + responses.wait_s(request)
        with self._changes.watch_all() as waiter:
            while True:
                read = await self._events.events_after(number, max(limit, 1))
                number = read[-1].number if read else number
                events = [shapes.event(row, self._names) for row in read if wanted in ("all", row.event.topic)]
                if read and not events:
                    continue  # only events of the other topic so far; wanted ones may follow directly
                left_s = deadline - time.monotonic()
                if events or left_s <= 0 or self._changes.is_closed or not await waiter.wait(left_s):
                    return responses.json({"events": events, "next": number})

    async def _begin(self, request: web.Request) -> int:
        if request.query.get("after") == NEWEST:
            return await self._events.newest_event()
        return responses.whole_number(request, "after", default=0)

    async def changed(self, request: web.Request) -> web.Response:
        """Return the count of changes, with `wait` as soon as it differs from `seen`; the console then redraws."""
        seen = responses.whole_number(request, "seen", default=0)
        deadline = time.monotonic() + responses.wait_s(request)
        with self._changes.watch_all() as waiter:
            while self._changes.seen == seen and not self._changes.is_closed:
                if not await waiter.wait(deadline - time.monotonic()):
                    break
        return responses.json({"seen": self._changes.seen})
