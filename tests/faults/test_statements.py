"""How transactions begin (F-E08), by a trace of every statement that SQLite is given.

A deferred transaction that reads and then writes fails at once where another connection has written in between, however
long the busy time-out: so whatever writes begins with its lock.
"""

import sqlite3
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from deploy.embedded import directory as engine
from deploy.embedded.directory import JOURNAL, STORE
from schemas.money import Money
from tests.support import log_records
from tests.support.log_records import NOW_MS, REGISTERED
from workers.queries import HeldQuery
from workers.settlement import decision, movements
from workers.settlement.plan import Registration

WRITES = ("INSERT", "UPDATE", "DELETE", "REPLACE", "CREATE", "DROP", "ALTER")


class Trace:
    """Every statement of every connection, by its file."""

    def __init__(self) -> None:
        self.statements: dict[str, list[str]] = {}
        self._connect = sqlite3.connect

    def connect(self, path: str, *arguments: Any, **options: Any) -> sqlite3.Connection:
        connection: sqlite3.Connection = self._connect(path, *arguments, **options)
        file = JOURNAL if JOURNAL in path else STORE
        connection.set_trace_callback(self.statements.setdefault(file, []).append)
        return connection

    def loose_writes(self, file: str) -> list[str]:
        """Writing statements that stand in no transaction that was begun with its lock."""
        loose, has_lock = [], False
        for statement in self.statements[file]:
            words = statement.upper().replace(";", " ").split()
            if words[0] == "BEGIN":
                has_lock = words[1:2] == ["IMMEDIATE"]
            elif words[0] in ("COMMIT", "ROLLBACK"):
                has_lock = False
            elif words[0] in WRITES and not has_lock:
                loose.append(statement)
        return loose


@pytest.fixture
def trace(monkeypatch: pytest.MonkeyPatch) -> Trace:
    trace = Trace()
    monkeypatch.setattr(sqlite3, "connect", trace.connect)
    return trace


async def everything_that_writes(place: Path) -> None:
    """Write to every table. The caller lets a single refund be a row of its own."""
    time_ = log_records.Time()
    async with engine.open_files(place, now_ms=time_) as files:
        work, store = log_records.processing(files.store, time_), files.store
        records = [log_records.record("N1"), log_records.record("N1"), log_records.record("N2", amount="x")]
        records.append(log_records.record("N3", account=REGISTERED))
        for record in records:
            await files.journal.append(record)
        await work.process(await files.journal.read(0, 10))
        assert await work.emit() > 0
        named = (REGISTERED.name, "N3")
        registration = Registration(amounts=(Money(1280, "USD"),), refunds=("R1",))
        await store.register(
            *named,
            registration.refunds,
            lambda order: decision.register(order, *named, registration, now_ms=NOW_MS),
            by="shop",
            why="ordered",
        )
        time_.now_ms += 1
        due = await store.due(now_ms=time_.now_ms, limit=10)
        assert due
        await work.retry(due)
        (held,) = await store.held_list(HeldQuery())
        id_ = str(held.row.position)
        await store.note_replay([id_], by="test", why="trace", now_ms=time_.now_ms)
        await log_records.Operator(store, time_).discard(id_)
        refund: dict[str, Any] = {
            "notify_type": "batch_refund_notify",
            "batch_no": "B",
            "result_details": "2025100922001N1^1.00^SUCCESS",
        }
        await files.journal.append(log_records.record("", id_="refund", **refund))
        await work.process(await files.journal.read(4, 10))
        files.journal.settled(5)
        assert await files.journal.prune(older_than_ms=NOW_MS + 1) == 4
        await work.emit()
        await store.prune_sent(older_than_ms=NOW_MS + 100)
        for database in (files.journal.database, store.database):
            await database.probe()
            await database.truncate_log()


async def test_every_writing_transaction_begins_immediate(
    tmp_path: Path, trace: Trace, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(movements, "INLINE_MAX", 0)
    await everything_that_writes(tmp_path)
    for file, statements in trace.statements.items():
        begins = [statement.rstrip(";") for statement in statements if statement.upper().startswith("BEGIN")]
        assert len(begins) > 4, "hardly anything was traced"
        assert "BEGIN IMMEDIATE" in begins, file
        assert trace.loose_writes(file) == []
    written = " ".join(trace.statements[STORE])
    tables = "notifications outbox orders trades deliveries held refund_links movements audit cursors"
    for table in tables.split():
        assert f"INTO {table}" in written, f"nothing was written to {table}"


def _begun(begin: str, place: Path, *, meanwhile: Callable[[], None]) -> tuple[str, float]:
    """Read, let another connection write, then write: return the error and how long it took."""
    with closing(sqlite3.connect(place / JOURNAL, isolation_level=None, timeout=5.0)) as connection:
        connection.execute(begin)
        connection.execute("SELECT max(log_offset) FROM records").fetchone()
        meanwhile()
        started = time.monotonic()
        try:
            connection.execute("UPDATE records SET key = key")
            connection.execute("COMMIT")
        except sqlite3.OperationalError as error:
            return error.sqlite_errorname, time.monotonic() - started
        return "committed", time.monotonic() - started


async def test_deferred_transaction_beside_a_writer_fails_despite_its_timeout(tmp_path: Path) -> None:
    """A control: why the statements above matter. The same with the lock from the beginning commits."""
    async with engine.open_files(tmp_path, now_ms=log_records.Time()) as files:
        await files.journal.append(log_records.record("N1"))
    with closing(sqlite3.connect(tmp_path / JOURNAL, isolation_level=None, timeout=0)) as other:

        def write() -> None:
            other.execute("UPDATE records SET appended_at_ms = appended_at_ms + 1")

        def try_to_write() -> None:
            with pytest.raises(sqlite3.OperationalError, match="locked"):
                write()

        ended, seconds = _begun("BEGIN", tmp_path, meanwhile=write)
        assert ended == "SQLITE_BUSY_SNAPSHOT"
        assert seconds < 4
        assert _begun("BEGIN IMMEDIATE", tmp_path, meanwhile=try_to_write)[0] == "committed"
