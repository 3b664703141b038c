"""The log of the one-machine engine: `append` returns after the commit that holds the record.

Appends that arrive during a commit wait together and share the next one, and with it its fsync. Committed records also
stay in memory, up to a limit, until the worker has processed them: usually none is read back.

An append that fails is *unknown*, not undone: the record may be written, and then it gets a disposition like every
other. The sender did not get `success` and sends again; the second record is a duplicate.
"""

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from itertools import islice
from pathlib import Path
from sqlite3 import Connection

import msgspec
from msgspec import Struct

from deploy.embedded import migrations, sql
from deploy.embedded.sqlite import Damaged, SqliteDatabase
from ingest.errors import Unavailable
from ingest.pending import Pending
from schemas.record_format import Record
from workers.errors import InfrastructureDown
from workers.settlement.plan import LogRecord, Position

APPLICATION_ID = 0x414E4A31
PARTITION = 0

RECORD_OVERHEAD_BYTES = 1024  # for the limits in bytes: headers, key and Python objects
GATHER_S = 0.002  # a fraction of the time for an answer, and several commits long
QUIET_TURNS = 2  # a request read in one turn of the loop is appended in the next

PRUNE_ROWS_MAX = 1000  # per transaction, because appends wait meanwhile

Headers = tuple[tuple[str, bytes], ...]

_encode_headers = msgspec.msgpack.Encoder().encode
_decode_headers = msgspec.msgpack.Decoder(Headers).decode


class JournalLimits(Struct, frozen=True, kw_only=True):
    """Limits of memory and time. When the disk stalls, notifications are refused, and Alipay sends them again."""

    queue_records_max: int = 4096
    queue_bytes_max: int = 32 * 1024 * 1024
    append_deadline_s: float = 2.5  # below the three seconds in which every request is answered
    tail_records_max: int = 8192  # records that the worker has not processed yet; beyond it, it reads the file
    tail_bytes_max: int = 16 * 1024 * 1024


class _Append(Pending):
    """One append that is not committed yet."""

    __slots__ = ("deadline", "record", "size")

    def __init__(self, record: Record, size: int, deadline: float) -> None:
        super().__init__()
        self.record = record
        self.size = size
        self.deadline = deadline


class Journal:
    """The open journal. `first` and `last` are the offsets of its rows; `last` is 0 if it has none."""

    def __init__(
        self, database: SqliteDatabase, *, first: int, last: int, now_ms: Callable[[], int], limits: JournalLimits
    ) -> None:
        self.first = first
        self.last = last
        self._database = database
        self._now_ms = now_ms
        self._limits = limits
        self._loop = asyncio.get_running_loop()
        self._waiting: list[_Append] = []
        self._writing: list[_Append] = []
        self._queued = 0
        self._queued_bytes = 0
        self._is_flushing = False
        self._gathered = 0
        self._quiet_turns = 0
        self._gather_until = 0.0
        self._idle = asyncio.Event()
        self._idle.set()
        self._timer: asyncio.TimerHandle | None = None
        self._is_closing = False
        self._next: int | None = last + 1  # used by the thread only; None after a commit of unknown outcome
        self._tail: deque[LogRecord] = deque()
        self._tail_bytes = 0
        self._arrival: asyncio.Future[None] | None = None
        self._settled = 0
        self.appended_at = self._loop.time()

    @classmethod
    async def open(
        cls, path: Path, *, now_ms: Callable[[], int], create: bool = True, limits: JournalLimits | None = None
    ) -> "Journal":
        """Open the journal in this file.

        Raises:
            FileNotUsable, Damaged, InfrastructureDown: as for `SqliteDatabase.open`.
        """
        schema = migrations.load("journal", application_id=APPLICATION_ID)
        database = await SqliteDatabase.open(path, schema, create=create)
        try:
            first, last = await database.read(_bounds)
        except BaseException:
            await database.close()
            raise
        return cls(database, first=first, last=last, now_ms=now_ms, limits=limits or JournalLimits())

    @property
    def trouble(self) -> str | None:
        """The failure of the last commit; `None` if it succeeded."""
        return self._database.trouble

    @property
    def database(self) -> SqliteDatabase:
        """The file itself, for its size, checks and housekeeping."""
        return self._database

    def append(self, record: Record) -> Pending:
        """Append the record. Return its end, to await: when it has ended well, the record is fsynced.

        If it ends with Unavailable, the disk took too long or refused: it is unknown whether the record was written.

        Raises:
            Unavailable: the queue is full, or the journal is closing.
        """
        size = len(record.value) + RECORD_OVERHEAD_BYTES
        limits = self._limits
        if self._queued >= limits.queue_records_max or self._queued_bytes + size > limits.queue_bytes_max:
            raise Unavailable("the journal's queue is full")
        if self._is_closing:
            raise Unavailable("the journal is closing")
        append = _Append(record, size, self._loop.time() + limits.append_deadline_s)
        self._waiting.append(append)
        self._queued += 1
        self._queued_bytes += size
        if not self._is_flushing:
            self._is_flushing = True
            self._idle.clear()
            self._gather()
        if self._timer is None:
            self._timer = self._loop.call_at(append.deadline, self._expire)
        return append

    def _gather(self) -> None:
        """Let the group grow while turns of the loop bring more appends, for `GATHER_S` at most.

        A lone append is written two turns later, after some microseconds. Under load, all that have arrived share the
        cost of one commit.
        """
        self._gathered = 0
        self._quiet_turns = 0
        self._gather_until = self._loop.time() + GATHER_S
        self._loop.call_soon(self._gather_on)

    def _gather_on(self) -> None:
        if len(self._waiting) > self._gathered:
            self._gathered = len(self._waiting)
            self._quiet_turns = 0
        else:
            self._quiet_turns += 1
        if self._quiet_turns < QUIET_TURNS and self._loop.time() < self._gather_until:
            self._loop.call_soon(self._gather_on)
        else:
            self._flush()

    def _flush(self) -> None:
        waiting, self._waiting = self._waiting, []
        self._writing = [each for each in waiting if not each.is_done]  # the others have expired or were cancelled
        self._release(len(waiting) - len(self._writing), sum(each.size for each in waiting if each.is_done))
        if not self._writing:
            self._go_idle()
            return
        records = [each.record for each in self._writing]
        try:
            self._database.start_write(lambda connection: self._write(connection, records), self._flushed)
        except InfrastructureDown as error:
            self._flushed(None, error)

    def _write(self, connection: Connection, records: Sequence[Record]) -> int:
        """Write the records, on the thread; return the offset of the first."""
        first, self._next = self._next, None
        if first is None:
            first = _bounds(connection)[1] + 1
        now_ms = self._now_ms()
        rows = [
            (offset, now_ms, record.key, record.value, _encode_headers(record.headers))
            for offset, record in enumerate(records, first)
        ]
        sql.insert(connection, "INSERT INTO records", rows)
        return first

    def _flushed(self, first: int | None, error: BaseException | None) -> None:
        written, self._writing = self._writing, []
        self._release(len(written), sum(each.size for each in written))
        if first is None:
            refusal = f"unknown whether written: {error}"
            self._forget_tail()
        else:
            self._next = first + len(written)
            self._remember(first, written)
            refusal = None
        if self._waiting:
            self._gather()
        else:
            self._go_idle()
        for each in written:
            each.end(None if refusal is None else Unavailable(refusal))

    def _go_idle(self) -> None:
        self._is_flushing = False
        self._idle.set()

    def _release(self, count: int, size: int) -> None:
        self._queued -= count
        self._queued_bytes -= size

    def _expire(self) -> None:
        """Fail appends that have waited too long. One timer serves the queue, because its deadlines are in order."""
        self._timer = None
        now = self._loop.time()
        for each in (*self._writing, *self._waiting):
            if each.is_done:
                continue
            if each.deadline > now:
                self._timer = self._loop.call_at(each.deadline, self._expire)
                return
            each.end(Unavailable("unknown whether written: the disk took too long"))

    def _remember(self, first: int, written: Sequence[_Append]) -> None:
        if first != self.last + 1:
            self._forget_tail()  # a commit of unknown outcome did happen: its rows are in the file only
        for offset, each in enumerate(written, first):
            self._tail.append(LogRecord(Position(PARTITION, offset), each.record))
            self._tail_bytes += each.size
        while len(self._tail) > self._limits.tail_records_max or self._tail_bytes > self._limits.tail_bytes_max:
            self._forget_oldest()
        self.last = first + len(written) - 1
        self.first = self.first or first
        self.appended_at = self._loop.time()
        arrival, self._arrival = self._arrival, None
        if arrival is not None and not arrival.done():
            arrival.set_result(None)

    def _forget_oldest(self) -> None:
        self._tail_bytes -= len(self._tail.popleft().record.value) + RECORD_OVERHEAD_BYTES

    def _forget_tail(self) -> None:
        self._tail.clear()
        self._tail_bytes = 0

    async def read(self, after: int, limit: int) -> Sequence[LogRecord]:
        """Return at most `limit` records after the offset `after`, in order; from memory if they are still there.

        Raises:
            Damaged: a record is missing.
            InfrastructureDown: the file cannot be read now.
        """
        if after >= self.last:
            return ()
        if self._tail and self._tail[0].position.offset <= after + 1:
            start = after + 1 - self._tail[0].position.offset
            return list(islice(self._tail, start, start + limit))
        found = await self._database.read(lambda connection: _rows(connection, after, limit))
        if not found or any(record.position.offset != offset for offset, record in enumerate(found, after + 1)):
            raise Damaged(f"{self._database.path} lacks records after offset {after}")
        return found

    async def wait_beyond(self, offset: int) -> None:
        """Return when there is a record after this offset."""
        while self.last <= offset:
            if self._arrival is None:
                self._arrival = self._loop.create_future()
            await asyncio.shield(self._arrival)

    def settled(self, offset: int) -> None:
        """Note that the records up to this offset have dispositions: forget them in memory, let `prune` delete them."""
        self._settled = max(self._settled, offset)
        while self._tail and self._tail[0].position.offset <= offset:
            self._forget_oldest()

    async def prune(self, *, older_than_ms: int) -> int:
        """Delete at most `PRUNE_ROWS_MAX` records with a disposition that were appended before that moment; return how
        many."""
        upto = min(self._settled, self.last - 1)
        deleted = await self._database.write(lambda connection: _prune(connection, upto, older_than_ms))
        self.first += deleted
        return deleted

    async def close(self) -> None:
        """Refuse new appends, finish the waiting ones, and close the file."""
        self._is_closing = True
        await self._idle.wait()
        if self._timer is not None:
            self._timer.cancel()
        await self._database.close()


def _bounds(connection: Connection) -> tuple[int, int]:
    first, last = connection.execute("SELECT min(log_offset), max(log_offset) FROM records").fetchone()
    return first or 0, last or 0


def _rows(connection: Connection, after: int, limit: int) -> list[LogRecord]:
    rows = connection.execute(
        "SELECT log_offset, key, value, headers FROM records WHERE log_offset > ? ORDER BY log_offset LIMIT ?",
        (after, limit),
    )
    return [
        LogRecord(Position(PARTITION, offset), Record(key, value, _decode_headers(headers)))
        for offset, key, value, headers in rows
    ]


def _prune(connection: Connection, upto: int, older_than_ms: int) -> int:
    """Delete the oldest rows up to the first that is not old enough, even if the clock was set back in between."""
    (end,) = connection.execute(
        """
        SELECT coalesce(min(log_offset) FILTER (WHERE appended_at_ms >= ?), max(log_offset) + 1)
        FROM (SELECT log_offset, appended_at_ms FROM records WHERE log_offset <= ? ORDER BY log_offset LIMIT ?)
        """,
        (older_than_ms, upto, PRUNE_ROWS_MAX),
    ).fetchone()
    if end is None:
        return 0
    return connection.execute("DELETE FROM records WHERE log_offset < ?", (end,)).rowcount
