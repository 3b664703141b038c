"""Tasks over many held notifications: replay, accept or discard them. Rows of the order store, and the loop of the
leading worker that does them. The first tasks were replays, and tables and classes have their name.

A task goes through the rows that match and are held when it starts, oldest first, at its rate. It leaves out those that
are snoozed at that moment or later, unless they are named by their ids. Its cursor is in the store, so it continues
after a crash and with another leader. Each step is repeatable:

    mark     the rows of a slice get the task's number and an audit row       replay: `HeldPort.note_replay`
                                                                              else in the decision's transaction
    do       replay: the ordinary way, which applies nothing twice            `Processing.retry`
             accept, discard: each row by itself; one that is resolved,       `HeldDecisions`
             or has changed, is refused
    advance  count the marked rows up to the slice's end by their outcome, and move the cursor, if it is where it was

After a crash between two steps the slice is listed again without the rows that were resolved; those are still marked,
so `advance` counts them. Of two workers that both believe to lead, one moves the cursor. A row that cannot be decided
is counted by the reason, and the task goes on. A task whose slice fails rests for `ASIDE_S`, and the others go on.
"""

import asyncio
import contextlib
from collections import Counter
from collections.abc import Awaitable, Callable, Collection, Iterable, Mapping, Sequence
from enum import StrEnum
from typing import Any, Protocol

import msgspec
from msgspec import Struct, structs

from schemas.dispositions import Disposition, Reason
from workers import held_lists
from workers.backoff import Backoff, BackoffObserver, pause
from workers.errors import InfrastructureDown, ReadTooSlow, RowsLocked
from workers.queries import HeldPage, HeldPlace, HeldQuery
from workers.settlement import parking, verdicts
from workers.settlement.plan import HeldRow, Position
from workers.settlement.verdicts import DecisionRefused
from workers.sweeper import always_leads

LOOK_EVERY_S = 0.5
ASIDE_S = 30.0  # after a slice has failed by our fault, by a list that takes too long, or often by a locked row
LOCKED_MAX = 5  # slices in a row: another worker has a row for moments, a shell that somebody forgot for hours
SLICES_PER_S = 10  # short slices let live notifications pass
FAILURES_MAX = 20  # different reasons in a task's failures; further ones are counted together
OTHER_FAILURES = "other reasons"
IDS_MAX = 1000  # in one selection

Retry = Callable[[Sequence[HeldRow]], Awaitable[None]]


class TaskAction(StrEnum):
    """The action of a task on each row."""

    REPLAY = "replay"
    ACCEPT = "accept"
    DISCARD = "discard"


RESOLUTIONS = {TaskAction.ACCEPT: verdicts.ACCEPTED, TaskAction.DISCARD: verdicts.DISCARDED}


class ReplayState(StrEnum):
    """The state of a task. A cancelled one can be resumed."""

    RUNNING = "running"
    CANCELLED = "cancelled"
    FINISHED = "finished"


class NewTask(Struct, frozen=True, kw_only=True):
    """A task to start: the action on the rows that match, the rate in rows a second, the operator's name and reason."""

    action: TaskAction = TaskAction.REPLAY
    query: HeldQuery
    rate: int
    by: str
    why: str

    @property
    def is_of_release_before(self) -> bool:
        """Whether the release before can do it too. It would replay all rows that match the other filters.

        Until it is upgraded it also replays snoozed rows, which loses nothing: a replay applies nothing twice.
        """
        return self.action is TaskAction.REPLAY and not self.query.ids


class ReplayTask(Struct, frozen=True, kw_only=True):
    """One task. `query` is its filter with the cursor; `total` are the rows that matched when it started.

    `done` counts rows by outcome: `applied`, `duplicate` and `stale` are resolved by a replay, `held_again` stay parked
    or quarantined, `failed` are dead; `decided` were accepted or discarded by this task. Rows that an operator decided
    meanwhile are only in `done`, and those that another session had locked are in none. `failures` has the number of
    rows that are still held, by the reason: for a replay why they are held, else why they were refused.
    """

    number: int
    action: TaskAction = TaskAction.REPLAY
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
    decided: int = 0
    failures: dict[str, int] = {}
    by: str
    why: str
    started_at_ms: int
    finished_at_ms: int | None = None

    @property
    def handled(self) -> int:
        """The rows that it has done with. Those that it could not decide are not marked, and stand in `failures`."""
        return self.done + (0 if self.action is TaskAction.REPLAY else sum(self.failures.values()))


class TaskList(Struct, frozen=True, kw_only=True):
    """The newest tasks, newest first, and the number of older ones."""

    tasks: Sequence[ReplayTask]
    more: int


class ReplaysPort(Protocol):
    """The tasks, for the API and the loop."""

    async def start_replay(self, new: NewTask, *, now_ms: int) -> ReplayTask:
        """Write a task for the rows that match and are held now, with an audit row."""

    async def replay(self, number: int) -> ReplayTask | None: ...

    async def replays(self, limit: int, before: int | None = None) -> TaskList:
        """Return the newest tasks with a number below `before`."""

    async def running_replay(self, *, aside: Collection[int] = ()) -> ReplayTask | None:
        """Return the oldest task that is not ended, of those without these numbers."""

    async def switch_replay(
        self, number: int, *, before: ReplayState, after: ReplayState, by: str, why: str, now_ms: int
    ) -> bool:
        """Cancel or resume a task, with an audit row. Return False if it is not in the state `before`."""

    async def advance_replay(self, task: ReplayTask, upto: HeldPlace | None, *, now_ms: int) -> None:
        """Count the task's rows up to this place and move its cursor there; `None` ends a task that is running.

        The failures become those of `task`. Nothing is written if the cursor is not where the task has it.
        """


class ReplayStore(ReplaysPort, Protocol):
    """The tasks, and their rows."""

    async def held_list(self, query: HeldQuery) -> Sequence[HeldPage]: ...

    async def note_replay(
        self, ids: Sequence[str], *, by: str, why: str, now_ms: int, replay: int | None = None
    ) -> None: ...


class Decisions(Protocol):
    """`HeldDecisions`."""

    async def accept(self, page: HeldPage, *, by: str, why: str, task: int | None = None) -> None: ...

    async def discard(self, page: HeldPage, *, by: str, why: str, task: int | None = None) -> None: ...


class TaskObserver(BackoffObserver, Protocol):
    """Observes pauses, and the ends of tasks."""

    def task_ended(self, task: ReplayTask) -> None:
        """Observe that a task has finished, or stands still because the process stops."""


def as_it_is(handle: Retry) -> Retry:
    """Return the function as it is: for tests, in which no record ends the process."""
    return handle


class Replayer:
    """The loop of one worker. It does the oldest running task, slice by slice, while this worker leads.

    `careful` wraps what reads records, so that one that ends the process does not end the next one too.
    """

    def __init__(
        self,
        *,
        store: ReplayStore,
        retry: Retry,
        decisions: Decisions,
        wake_relay: Callable[[], None],
        observer: TaskObserver,
        now_ms: Callable[[], int],
        leads: Callable[[], Awaitable[bool]] = always_leads,
        careful: Callable[[Retry], Retry] = as_it_is,
        look_every_s: float = LOOK_EVERY_S,
    ) -> None:
        self._store = store
        self._retry = careful(retry)
        self._decisions = decisions
        self._careful = careful
        self._wake_relay = wake_relay
        self._observer = observer
        self._now_ms = now_ms
        self._leads = leads
        self._look_every_s = look_every_s
        self._aside: dict[int, float] = {}  # tasks by number, and until when
        self._locked: dict[int, int] = {}  # slices in a row that met a locked row, by task
        self._unfinished: ReplayTask | None = None  # as the last slice left it, for the log line of a stop
        self._stopping = asyncio.Event()
        self._backoff = Backoff(observer, self._stopping)

    def stop(self) -> None:
        """Ask the loop to end after the slice in hand."""
        self._stopping.set()

    async def run(self) -> None:
        """Do tasks until stopped.

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
                break
            rest_s = began + slice_s - loop.time()
            if rest_s > 0:
                await pause(self._stopping, rest_s)
        if self._unfinished is not None:
            self._observer.task_ended(self._unfinished)

    async def run_once(self) -> float:
        """Do one slice; return the seconds from its begin to the next one."""
        task, self._unfinished = await self._running(), None
        if task is None:
            return self._look_every_s
        try:
            slice_s = await self._slice(task)
        except Exception as error:
            if isinstance(error, RowsLocked):
                self._locked[task.number] = self._locked.get(task.number, 0) + 1
            is_often_locked = self._locked.get(task.number, 0) >= LOCKED_MAX
            if not isinstance(error, InfrastructureDown) or isinstance(error, ReadTooSlow) or is_often_locked:
                self._aside[task.number] = asyncio.get_running_loop().time() + ASIDE_S
                self._locked.pop(task.number, None)
            raise
        self._locked.pop(task.number, None)
        return slice_s

    async def _slice(self, task: ReplayTask) -> float:
        size = max(1, task.rate // SLICES_PER_S)
        pages = await self._store.held_list(structs.replace(task.query, limit=size))
        if not pages:
            await self._store.advance_replay(task, None, now_ms=self._now_ms())
            self._observer.task_ended(structs.replace(task, state=ReplayState.FINISHED))
            return 0.0
        failed = await (self._replayed(task, pages) if task.action is TaskAction.REPLAY else self._decided(task, pages))
        self._wake_relay()
        last = pages[-1].row
        upto = HeldPlace(first_at_ms=last.first_at_ms, position=last.position)
        task = structs.replace(task, failures=with_failures(task.failures, failed))
        await self._store.advance_replay(task, upto, now_ms=self._now_ms())
        marked = len(pages) if task.action is TaskAction.REPLAY else len(pages) - len(failed)
        self._unfinished = structs.replace(task, done=task.done + marked)
        return len(pages) / task.rate

    async def _running(self) -> ReplayTask | None:
        if not await self._leads():
            return None
        now_s = asyncio.get_running_loop().time()
        self._aside = {number: until_s for number, until_s in self._aside.items() if until_s > now_s}
        return await self._store.running_replay(aside=self._aside)

    async def _replayed(self, task: ReplayTask, pages: Sequence[HeldPage]) -> list[str]:
        """Retry these rows; return the reasons of those that are still held."""
        ids = tuple(page.row.id for page in pages)
        # Before the retry, so that an attempt that fails or crashes is on record too.
        await self._store.note_replay(ids, by=task.by, why=task.why, now_ms=self._now_ms(), replay=task.number)
        # A row that another session has locked stays as it was, and the replay goes on: it would wait for a shell that
        # somebody forgot. Such a row is not among those that are counted as done.
        with contextlib.suppress(RowsLocked):
            await self._retry([held_lists.replayed(page) for page in pages])
        left = await self._store.held_list(HeldQuery(ids=ids, limit=len(ids)))
        return [page.row.reason.value for page in left]

    async def _decided(self, task: ReplayTask, pages: Sequence[HeldPage]) -> list[str]:
        """Accept or discard each of these rows; return why, of those that were refused."""
        by_position = {page.row.position: page for page in pages}
        refusals: dict[Position, str] = {}
        decide = self._decisions.accept if task.action is TaskAction.ACCEPT else self._decisions.discard

        async def each(rows: Sequence[HeldRow]) -> None:
            for row in rows:
                try:
                    await decide(by_position[row.position], by=task.by, why=task.why, task=task.number)
                except DecisionRefused as refused:
                    refusals[row.position] = str(refused)
                except RowsLocked:
                    refusals[row.position] = parking.LOCKED
                except InfrastructureDown:
                    raise
                except Exception as error:
                    refusals[row.position] = f"this program failed: {type(error).__name__}"

        await self._careful(each)([page.row for page in pages])
        return list(refusals.values())


def with_failures(known: Mapping[str, int], more: Iterable[str]) -> dict[str, int]:
    """Return the counts of failures by reason with some more; rare reasons beyond `FAILURES_MAX` are one."""
    counted = Counter(known)
    for reason in more:
        counted[reason if reason in counted or len(counted) < FAILURES_MAX else OTHER_FAILURES] += 1
    return dict(counted)


def row(new: NewTask, *, total: int, now_ms: int) -> tuple[Any, ...]:
    """Return the columns that a new task writes into `replays`: the states, the action, the ids, and its filter."""
    query, is_old = new.query, new.is_of_release_before
    return (
        (ReplayState.RUNNING if is_old else ReplayState.CANCELLED).value,
        None if is_old else ReplayState.RUNNING.value,
        new.action.value,
        " ".join(query.ids) or None,
        query.account, query.order, query.disposition, query.reason, query.since_ms, query.before_ms, query.scope,
        new.rate, total, new.by, new.why, now_ms,
    )  # fmt: skip


def of_row(row: Sequence[Any]) -> ReplayTask:
    """Return the task from the columns of `replays`, in their order."""
    query = HeldQuery(
        account=row[2],
        scope=row[23],
        ids=tuple((row[25] or "").split()),
        order=row[3],
        disposition=None if row[4] is None else Disposition(row[4]),
        reason=None if row[5] is None else Reason(row[5]),
        since_ms=row[6],
        before_ms=row[7],
        after=HeldPlace(first_at_ms=row[16], position=Position(row[17], row[18])),
    )
    return ReplayTask(
        number=row[0],
        state=ReplayState(row[1]),
        query=held_lists.for_task(query, row[21]),
        rate=row[8],
        total=row[9],
        done=row[10],
        applied=row[11],
        duplicate=row[12],
        stale=row[13],
        held_again=row[14],
        failed=row[15],
        by=row[19],
        why=row[20],
        started_at_ms=row[21],
        finished_at_ms=row[22],
        action=TaskAction(row[24]),
        decided=row[26],
        failures=msgspec.json.decode(row[27], type=dict[str, int]),
    )


def failures_column(task: ReplayTask) -> str:
    """Return the column `failures`."""
    return msgspec.json.encode(task.failures).decode()


def audit_row(action: TaskAction, verb: str, number: int) -> tuple[str, str]:
    """Return the action and the subject of the audit row of a start, cancel or resume."""
    kind = "replay" if action is TaskAction.REPLAY else "task"
    return f"{kind}_{verb}", f"{kind}:{number}"
