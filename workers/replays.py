"""Replays of many held notifications: tasks in the order store, and the loop of the leading worker that does them.

A task goes through the rows that are held when it starts, oldest first, at its rate. Its cursor is in the store, so it
continues after a crash and with another leader. Each step is repeatable:

    mark     the rows of a slice get the task's number and an audit row     `HeldPort.note_replay`
    retry    the ordinary way, which applies nothing twice                  `Processing.retry`
    advance  count the marked rows up to the slice's end by their outcome, and move the cursor, if it is where it was

After a crash between two steps the slice is listed again without the rows that were resolved; those are still marked,
so `advance` counts them. Of two workers that both believe to lead, one moves the cursor.
"""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Sequence
from enum import StrEnum
from typing import Protocol

from msgspec import Struct, structs

from workers.backoff import Backoff, BackoffObserver, pause
from workers.errors import InfrastructureDown, RowsLocked
from workers.queries import HeldPage, HeldPlace, HeldQuery
from workers.settlement.plan import HeldRow
from workers.sweeper import always_leads

LOOK_EVERY_S = 0.5
SLICES_PER_S = 10  # short slices let live notifications pass


class ReplayState(StrEnum):
    """The state of a replay. A cancelled one can be resumed."""

    RUNNING = "running"
    CANCELLED = "cancelled"
    FINISHED = "finished"


class ReplayTask(Struct, frozen=True, kw_only=True):
    """One replay. `query` is its filter with the cursor; `total` are the rows that matched when it started.

    `done` counts rows by outcome: `applied`, `duplicate` and `stale` are resolved, `held_again` stay parked or
    quarantined, `failed` are dead. Rows that an operator decided meanwhile are only in `done`, and those that another
    session had locked are in none.
    """

    number: int
    state: ReplayState
    query: HeldQuery
    rate: int
    total: int
    done: int = 0
    applied: int = 0
    duplicate: int = 0
    stale: int = 0
    held_again: int = 0
    failed: int = 0
    by: str
    why: str
    started_at_ms: int
    finished_at_ms: int | None = None


class ReplaysPort(Protocol):
    """The replays, for the API and the loop."""

    async def start_replay(self, query: HeldQuery, *, rate: int, by: str, why: str, now_ms: int) -> ReplayTask:
        """Write a task for the rows that match and are held now, with an audit row."""

    async def replay(self, number: int) -> ReplayTask | None: ...

    async def replays(self, limit: int, before: int | None = None) -> Sequence[ReplayTask]:
        """Return the newest replays with a number below `before`, newest first."""

    async def running_replay(self) -> ReplayTask | None:
        """Return the oldest replay that is not ended."""

    async def switch_replay(
        self, number: int, *, before: ReplayState, after: ReplayState, by: str, why: str, now_ms: int
    ) -> bool:
        """Cancel or resume a replay, with an audit row. Return False if it is not in the state `before`."""

    async def advance_replay(self, task: ReplayTask, upto: HeldPlace | None, *, now_ms: int) -> None:
        """Count the task's rows up to this place and move its cursor there; `None` ends a task that is running.

        Nothing is written if the cursor is not where the task has it.
        """


class ReplayStore(ReplaysPort, Protocol):
    """The replays, and the rows that they retry."""

    async def held_list(self, query: HeldQuery) -> Sequence[HeldPage]: ...

    async def note_replay(
        self, ids: Sequence[str], *, by: str, why: str, now_ms: int, replay: int | None = None
    ) -> None: ...


class Replayer:
    """The loop of one worker. It does the oldest running replay, slice by slice, while this worker leads."""

    def __init__(
        self,
        *,
        store: ReplayStore,
        retry: Callable[[Sequence[HeldRow]], Awaitable[None]],
        wake_relay: Callable[[], None],
        observer: BackoffObserver,
        now_ms: Callable[[], int],
        leads: Callable[[], Awaitable[bool]] = always_leads,
        look_every_s: float = LOOK_EVERY_S,
    ) -> None:
        self._store = store
        self._retry = retry
        self._wake_relay = wake_relay
        self._now_ms = now_ms
        self._leads = leads
        self._look_every_s = look_every_s
        self._stopping = asyncio.Event()
        self._backoff = Backoff(observer, self._stopping)

    def stop(self) -> None:
        """Ask the loop to end after the slice in hand."""
        self._stopping.set()

    async def run(self) -> None:
        """Replay until stopped.

        Raises:
            TooManyDeadLetters, InfrastructureDamaged: as `Consumer.run`.
        """
        loop = asyncio.get_running_loop()  # its time is the monotonic clock's, and a simulation's own
        while not self._stopping.is_set():
            began = loop.time()
            try:
                slice_s = await self._backoff.until_done(self.run_once)
            except InfrastructureDown:
                if not self._stopping.is_set():
                    raise
                return
            rest_s = began + slice_s - loop.time()
            if rest_s > 0:
                await pause(self._stopping, rest_s)

    async def run_once(self) -> float:
        """Do one slice; return the seconds from its begin to the next one."""
        task = await self._store.running_replay() if await self._leads() else None
        if task is None:
            return self._look_every_s
        size = max(1, task.rate // SLICES_PER_S)
        pages = await self._store.held_list(structs.replace(task.query, limit=size))
        if not pages:
            await self._store.advance_replay(task, None, now_ms=self._now_ms())
            return 0.0
        ids = [page.row.id for page in pages]
        # Before the retry, so that an attempt that fails or crashes is on record too.
        await self._store.note_replay(ids, by=task.by, why=task.why, now_ms=self._now_ms(), replay=task.number)
        # A row that another session has locked stays as it was, and the replay goes on: it would wait for a shell that
        # somebody forgot. Such a row is not among those that are counted as done.
        with contextlib.suppress(RowsLocked):
            await self._retry([page.row for page in pages])
        self._wake_relay()
        last = pages[-1].row
        upto = HeldPlace(first_at_ms=last.first_at_ms, position=last.position)
        await self._store.advance_replay(task, upto, now_ms=self._now_ms())
        return len(pages) / task.rate
