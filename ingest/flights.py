"""Records on their way: handed to a producer, and not yet known to be written or lost.

Two things end at different times. The wait ends with the record, or when its deadline has passed, or when whoever waits
is cancelled. The flight ends with the producer's own future and not before: until then the record takes up memory and
may still be written, so it keeps its place in the count, however long ago its sender was refused.

The producer's future is never awaited itself: whoever is cancelled while awaiting a future cancels it, and then nobody
would learn how the record ended. One timer watches all deadlines, since they fall due in the order of the appends.
"""

import asyncio
from collections.abc import Callable
from typing import Any

from msgspec import Struct

from ingest.refusals import Unavailable

Delivered = asyncio.Future[Any]
Waiter = asyncio.Future[None]
SWEEP_S = 0.02  # at least this long between two looks at the deadlines


class Bounds(Struct, frozen=True, kw_only=True):
    """How much may be on its way in one process: more would only wait in memory."""

    records_max: int = 4096
    bytes_max: int = 32 * 1024 * 1024


class Places:
    """Counts what is on its way by all producers of the process, those being given up included."""

    def __init__(self, bounds: Bounds) -> None:
        self._bounds = bounds
        self.records = 0
        self.bytes = 0

    def take(self, size: int) -> None:
        """Take a place for one record; `free` gives it back.

        Raises:
            Unavailable: there is none.
        """
        if self.records >= self._bounds.records_max or self.bytes + size > self._bounds.bytes_max:
            raise Unavailable("too many records are on their way")
        self.records += 1
        self.bytes += size

    def free(self, size: int) -> None:
        self.records -= 1
        self.bytes -= size


class Flights:
    """The records of one producer. `landed` hears how each ended, `overdue` of each that has not in time."""

    def __init__(
        self,
        places: Places,
        *,
        landed: Callable[[BaseException | None], None],
        overdue: Callable[[], None],
        deadline_s: float,
    ) -> None:
        self._places = places
        self._landed = landed
        self._overdue = overdue
        self._deadline_s = deadline_s
        self._loop = asyncio.get_running_loop()
        self._waiting: dict[Delivered, tuple[Waiter, int, float]] = {}  # in the order of their deadlines
        self._abandoned: dict[Delivered, int] = {}
        self._timer: asyncio.TimerHandle | None = None
        self._on_end = self._end  # one bound method for all futures

    def __bool__(self) -> bool:
        return bool(self._waiting or self._abandoned)

    def begin(self, delivered: Delivered, size: int, began_s: float) -> Waiter:
        """Watch a record that has its place already, and free that in the end. What is returned may be awaited.

        It is over when the record is durable; else it raises Unavailable, and whether it was written is unknown.
        """
        waiter: Waiter = self._loop.create_future()
        due_s = began_s + self._deadline_s
        self._waiting[delivered] = (waiter, size, due_s)
        delivered.add_done_callback(self._on_end)
        if self._timer is None:
            self._timer = self._loop.call_at(due_s, self._sweep)
        return waiter

    def forget(self) -> None:
        """The producer is no more: what has not ended by now never will, and ends with this."""
        for delivered in (*self._waiting, *self._abandoned):
            delivered.cancel()

    def _end(self, delivered: Delivered) -> None:
        error = asyncio.CancelledError() if delivered.cancelled() else delivered.exception()
        flight = self._waiting.pop(delivered, None)
        if flight is None:
            self._places.free(self._abandoned.pop(delivered))
        else:
            waiter, size, _ = flight
            self._places.free(size)
            if waiter.done():
                pass  # whoever waited was cancelled
            elif error is None:
                waiter.set_result(None)
            else:
                waiter.set_exception(Unavailable(f"unknown whether written: {error!r}"))
        self._landed(error)

    def _sweep(self) -> None:
        """Give up what has waited too long."""
        self._timer = None
        now_s = self._loop.time()
        while self._waiting:
            delivered, (waiter, size, due_s) = next(iter(self._waiting.items()))
            if due_s > now_s:
                self._timer = self._loop.call_at(max(due_s, now_s + SWEEP_S), self._sweep)
                return
            del self._waiting[delivered]
            self._abandoned[delivered] = size
            # It says the same of the log where whoever waited has been cancelled before.
            self._overdue()
            if not waiter.done():
                waiter.set_exception(Unavailable("unknown whether written: no acknowledgement in time"))
