"""The engine as `alipay-notify up` composes it, with one fault planted between two of its steps.

    python -m tests.faults.breaking up
    BREAK_AT=K4 BREAK_AFTER=3   dies by SIGKILL when it comes past that step for the third time; with BREAK_HOW=stop it
                                stands still, with raise an exception is raised there, with cancel its task is cancelled
    BREAK_AT=slow BREAK_S=1.5   each of the journal's transactions takes so much longer
    BREAK_AT=block BREAK_S=1.5  the event loop stands still once, in the middle of a request
    MUTANT=M01                  beside it, a defect that the judges of such deaths have to notice

The program has no hooks for this: what stands here wraps one of its methods before it starts. A step that has another
name by now keeps the engine from starting, and one that is never passed leaves it alive: either fails the test.
"""

import asyncio
import os
import signal
import sqlite3
import sys
import threading
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, cast

from deploy.cli import main
from deploy.embedded import settling, sql
from deploy.embedded.directory import JOURNAL, STORE
from deploy.embedded.journal import Journal
from deploy.embedded.locks import LocalLocks
from deploy.embedded.source import JournalSource
from deploy.embedded.sqlite import SqliteDatabase
from deploy.embedded.store import SqliteOrderStore
from deploy.embedded.up import EmbeddedFeed
from ingest.http.connection import Connection
from ingest.pending import Pending
from schemas.record_format import Record
from workers.processing import Processing
from workers.settlement.plan import Decide, LoadRequest, LogRecord, WritePlan

Step = Callable[[], None]
LEDGER = "INSERT INTO notifications"
RECORDS = "INSERT INTO records"
BATCH_MAX = 10  # a worker takes up to five hundred: with a few records there would be one batch, and no second one


HOWS = ("kill", "stop", "raise", "cancel")


class Broken(Exception):
    """The planted exception."""


class Break:
    """Breaks the process when it is passed for the last time that it may be."""

    def __init__(self, point: str, how: str, times: int) -> None:
        self._point = point
        self._how = how
        self._left = times
        self._lock = threading.Lock()  # steps are passed on the loop and on the files' threads

    def __call__(self) -> None:
        with self._lock:
            self._left -= 1
            if self._left:
                return
        print(f"planted: {self._how} at {self._point}", file=sys.stderr, flush=True)
        match self._how:
            case "kill":
                os.kill(os.getpid(), signal.SIGKILL)
            case "stop":
                os.kill(os.getpid(), signal.SIGSTOP)
            case "raise":
                raise Broken(self._point)
            case "cancel":
                task = asyncio.current_task()
                assert task is not None, "a callback has no task to cancel"
                task.cancel()


class Pause:
    """Stands still for so long, once, when it is passed for the last time that it may be."""

    def __init__(self, times: int, seconds: float) -> None:
        self._left = times
        self._seconds = seconds

    def __call__(self) -> None:
        self._left -= 1
        if self._left == 0:
            time.sleep(self._seconds)


def before(
    owner: Any, name: str, step: Callable[[], None], *, when: Callable[..., bool] = lambda *arguments: True
) -> None:
    """Pass the step at the beginning of the function, if `when` is true of its arguments."""
    original = getattr(owner, name)

    def wrapped(*arguments: Any, **options: Any) -> Any:
        if when(*arguments):
            step()
        return original(*arguments, **options)

    setattr(owner, name, wrapped)


def after(
    owner: Any, name: str, step: Callable[[], None], *, when: Callable[..., bool] = lambda result, *arguments: True
) -> None:
    """Pass the step as the function has returned; `when` is asked of its result and its arguments."""
    original = getattr(owner, name)

    def wrapped(*arguments: Any, **options: Any) -> Any:
        result = original(*arguments, **options)
        if when(result, *arguments):
            step()
        return result

    setattr(owner, name, wrapped)


def after_awaiting(
    owner: Any, name: str, step: Callable[[], None], *, when: Callable[..., bool] = lambda result, *arguments: True
) -> None:
    """The same for a coroutine: pass the step after its end and before its caller continues."""
    original = cast(Callable[..., Awaitable[Any]], getattr(owner, name))

    async def wrapped(*arguments: Any, **options: Any) -> Any:
        result = await original(*arguments, **options)
        if when(result, *arguments):
            step()
        return result

    setattr(owner, name, wrapped)


def _is_into(table: str) -> Callable[..., bool]:
    def is_into(*arguments: Any) -> bool:
        _, into, rows = arguments[-3:]
        return bool(rows) and cast(str, into).strip().startswith(table)

    return is_into


def _after_commit(file: str, step: Step, writes: str) -> None:
    """Pass the step after a transaction with the statement `writes` is committed, before the event loop knows.

    The thread that runs the transactions, one after the other, notes their statements.
    """
    wrote = threading.local()
    insert, transaction = sql.insert, SqliteDatabase._transaction

    def noting(connection: sqlite3.Connection, into: str, rows: Sequence[Sequence[Any]], *, after: str = "") -> int:
        wrote.it = getattr(wrote, "it", False) or _is_into(writes)(connection, into, rows)
        return insert(connection, into, rows, after=after)

    def committed(self: SqliteDatabase, work: Any) -> Any:
        wrote.it = False
        result = transaction(self, work)
        if self.path.name == file and wrote.it:
            step()
        return result

    sql.insert = noting
    SqliteDatabase._transaction = committed  # type: ignore[method-assign]


def _has_some(result: Any, *arguments: Any) -> bool:
    return bool(result)


def _names_some(*arguments: Any) -> bool:
    return bool(arguments[-1])


# They run on a thread of a file, or in a callback of the event loop, where there is no task to cancel.
WITHOUT_TASK = frozenset({"R4", "R5", "R6", "R7", "R8", "K3", "K4", "K5", "K6"})
POINTS: dict[str, Callable[[Step], None]] = {
    # the receiver, from the record's way to the disk to the answer's way to the sender
    "R4": lambda step: before(Journal, "_write", step),
    "R5": lambda step: after(sql, "insert", step, when=_is_into(RECORDS)),
    "R6": lambda step: _after_commit(JOURNAL, step, RECORDS),
    "R7": lambda step: after_awaiting(Journal, "append", step),
    "R8": lambda step: after(Connection, "_write", step),
    # the worker, from the journal's record to the cursor
    "K0": lambda step: after_awaiting(JournalSource, "poll", step, when=_has_some),
    "K1": lambda step: before(Processing, "_settle", step),
    "K2": lambda step: after_awaiting(LocalLocks, "acquire", step),
    "K3": lambda step: after(settling, "load", step),
    "K4": lambda step: after(sql, "insert", step, when=_is_into(LEDGER)),
    "K5": lambda step: after(settling, "settle", step),
    "K6": lambda step: _after_commit(STORE, step, LEDGER),
    "K7": lambda step: after_awaiting(SqliteOrderStore, "settle", step),
    "K8": lambda step: after_awaiting(EmbeddedFeed, "publish", step),
    "K9": lambda step: before(SqliteOrderStore, "mark_sent", step, when=_names_some),
    "K10": lambda step: after_awaiting(SqliteOrderStore, "mark_sent", step),
    "K12": lambda step: after_awaiting(JournalSource, "commit", step),  # the locks are still held
    "K11": lambda step: after_awaiting(LocalLocks, "release", step),
}


def _answer_too_early() -> None:
    """M01: `success` before the record is durable."""
    append = Journal.append

    def append_later(self: Journal, record: Record) -> Pending:
        append(self, record)
        ended = Pending()
        ended.end()
        return ended

    Journal.append = append_later  # type: ignore[method-assign]


def _commit_too_early() -> None:
    """M07: the cursor moves in a transaction of its own, ahead of the dispositions."""
    settle = SqliteOrderStore.settle

    async def advance_and_settle(self: SqliteOrderStore, needs: LoadRequest, decide: Decide) -> WritePlan:
        await self.database.write(lambda connection: settling._advance(connection, needs.positions))
        return await settle(self, needs, decide)

    SqliteOrderStore.settle = advance_and_settle  # type: ignore[method-assign]


MUTANTS: dict[str, Callable[[], None]] = {"M01": _answer_too_early, "M07": _commit_too_early}


def slow_down(seconds: float) -> None:
    """A disk that takes its time: whatever writes to the journal ends late, on its own thread."""
    transaction = SqliteDatabase._transaction

    def slow(self: SqliteDatabase, work: Any) -> Any:
        changes = self._usable().total_changes
        result = transaction(self, work)
        if self.path.name == JOURNAL and self._usable().total_changes > changes:
            time.sleep(seconds)
        return result

    SqliteDatabase._transaction = slow  # type: ignore[method-assign]


def _in_small_batches() -> None:
    poll = JournalSource.poll

    async def poll_few(self: JournalSource, max_records: int) -> Sequence[LogRecord]:
        return await poll(self, min(max_records, BATCH_MAX))

    JournalSource.poll = poll_few  # type: ignore[method-assign]


def plant(environment: Mapping[str, str]) -> None:
    """Plant the faults that the environment asks for."""
    _in_small_batches()
    if environment.get("MUTANT"):
        MUTANTS[environment["MUTANT"]]()
    point = environment["BREAK_AT"]
    if point == "slow":
        slow_down(float(environment["BREAK_S"]))
    elif point == "block":
        before(Journal, "append", Pause(int(environment["BREAK_AFTER"]), float(environment["BREAK_S"])))
    else:
        POINTS[point](Break(point, environment.get("BREAK_HOW", "kill"), int(environment["BREAK_AFTER"])))


if __name__ == "__main__":
    plant(os.environ)
    main.main()
