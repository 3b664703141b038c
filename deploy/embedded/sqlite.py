"""One SQLite file: one connection, on one thread of its own, so that the event loop never waits for a disk.

What is promised: when `write` returns, its transaction is committed and fsynced. What is made sure of, each time the
file is opened: WAL, `synchronous=FULL`, `BEGIN IMMEDIATE` for every write (a deferred transaction that reads first and
then writes beside another writer fails at once, whatever the busy time-out).

Three things that a failure may mean are kept apart:

* The file is busy, full, read-only, or the disk does not answer: `InfrastructureDown`. Nothing of the transaction is
  there, and the same work may be tried again.
* An input/output error, most of all at COMMIT: unknown, not failed. The connection is closed, since what it believes
  of the file is no longer to be trusted, and the next work opens it anew. Then the whole write-ahead log has to reach
  the database file before anything more is written: a frame that the failed fsync left behind would make recovery
  stop there, and silently drop every later commit.
* The file is damaged, moved or deleted under us: `Damaged`, from then on and for good. Nothing is created in its
  place and nothing is skipped.

A task that is cancelled while it waits does not undo what the thread does: its transaction commits all the same. So a
cancelled write is unknown too, and everything above is made to find out by trying again.
"""

import asyncio
import os
import sqlite3
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar
from urllib.parse import quote

from deploy.embedded import migrations
from deploy.embedded.migrations import FileNotUsable, Schema
from workers.errors import InfrastructureDamaged, InfrastructureDown, RecordRefused

BUSY_TIMEOUT_MS = 5000  # a backup or a shell that holds the write lock for a moment is waited for
AUTOCHECKPOINT_PAGES = 4000  # 16 MB: rare enough for checkpoints to be cheap, small enough to recover in an instant
CACHE_KIB = 8192
SQLITE_LEAST = (3, 37)  # STRICT tables

# What has to read back exactly as it was set, or the promise above is not ours to give.
SETTINGS: dict[str, int | str] = {
    "journal_mode": "wal",
    "synchronous": 2,
    "busy_timeout": BUSY_TIMEOUT_MS,
    "foreign_keys": 1,
    "wal_autocheckpoint": AUTOCHECKPOINT_PAGES,
    "fullfsync": 1,  # macOS: a plain fsync leaves the data in the drive's cache
    "checkpoint_fullfsync": 1,
}

_DAMAGE = frozenset({sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB})

T = TypeVar("T")
Work = Callable[[sqlite3.Connection], T]


class Damaged(InfrastructureDamaged):
    """The file is not what was written to it. Stop; restore it from a backup."""


class SqliteDatabase:
    """One open file. `trouble` says what its last work failed of, and is `None` while all is well.

    What a write failed of stays until a write succeeds: of a full disk, reading notices nothing.
    """

    def __init__(self, path: Path, schema: Schema) -> None:
        self.path = path
        self.trouble: str | None = None
        self._wal = path.with_name(path.name + "-wal")
        self._schema = schema
        self._thread = ThreadPoolExecutor(1, thread_name_prefix=f"sqlite-{path.stem}")
        self._connection: sqlite3.Connection | None = None
        self._identity: tuple[tuple[int, int], ...] = ()
        self._damage: str | None = None
        self._closed = False
        self._is_write_in_trouble = False

    @classmethod
    async def open(cls, path: Path, schema: Schema, *, create: bool) -> "SqliteDatabase":
        """The file, with this program's schema. It is created, or an empty one filled, only where `create` says so.

        Raises:
            FileNotUsable: it is missing, or another program's, or it does not keep the settings that make it durable.
            Damaged: it is no sound database.
            InfrastructureDown: it cannot be opened now.
        """
        database = cls(path, schema)
        try:
            await database._on_thread(lambda: database._guarded(lambda: database._open(create)))
        except BaseException:
            await database.close()
            raise
        return database

    async def write(self, work: Work[T]) -> T:
        """Do the work in one transaction. When this returns, it is committed and durable.

        Raises:
            RecordRefused: the work holds a value that the file cannot; nothing is written.
            InfrastructureDown: whether something was written is unknown.
        """
        return await self._on_thread(lambda: self._guarded(lambda: self._transaction(work), is_write=True))

    async def read(self, work: Work[T]) -> T:
        """Do the reading work. This thread is the only writer, so what it reads is of one moment."""
        return await self._on_thread(lambda: self._guarded(lambda: work(self._usable())))

    def start_write(self, work: Work[T], done: Callable[[T | None, Exception | None], None]) -> None:
        """`write` for a caller on the loop who will be told: `done(result, error)` runs on the loop afterwards."""
        self._check_open()
        loop = asyncio.get_running_loop()

        def run() -> None:
            result, failed = None, None
            try:
                result = self._guarded(lambda: self._transaction(work), is_write=True)
            except Exception as error:
                failed = error
            loop.call_soon_threadsafe(done, result, failed)

        self._thread.submit(run)

    async def probe(self) -> None:
        """Write to the disk, though nothing is to be written, so that trouble ends when its cause has.

        Whoever is in trouble is sent no more work, and without work would never find out.

        Raises:
            InfrastructureDown: the trouble is still there.
        """
        version = len(self._schema.scripts)
        await self.write(lambda connection: connection.execute(f"PRAGMA user_version = {version}"))

    async def truncate_log(self) -> bool:
        """Move the write-ahead log into the database file and empty it; False where a reader is in the way.

        Only when there is little else to do: whoever writes meanwhile waits on this thread.
        """
        return await self._on_thread(lambda: self._guarded(lambda: _truncate(self._usable())))

    async def check(self) -> str:
        """SQLite's own verdict on the file: `ok`, or what is wrong."""
        return await self.read(lambda connection: str(connection.execute("PRAGMA quick_check(1)").fetchone()[0]))

    def log_bytes(self) -> int:
        """What the write-ahead log takes on the disk."""
        return _size(self._wal)

    async def close(self) -> None:
        """Finish what is under way, and close. Nothing that was written depends on this."""
        if self._closed:
            return
        closed = asyncio.get_running_loop().run_in_executor(self._thread, self._drop)
        self._closed = True
        self._thread.shutdown(wait=False)
        await asyncio.shield(closed)

    async def _on_thread(self, work: Callable[[], T]) -> T:
        self._check_open()
        return await asyncio.shield(asyncio.get_running_loop().run_in_executor(self._thread, work))

    def _check_open(self) -> None:
        if self._closed:
            raise InfrastructureDown(f"{self.path} is closed")

    # Everything below runs on the file's own thread.

    def _guarded(self, work: Callable[[], T], *, is_write: bool = False) -> T:
        if self._damage is not None:
            raise Damaged(self._damage)
        try:
            result = work()
        except Exception as error:
            translated = self._translated(error)
            if isinstance(translated, InfrastructureDown):
                self.trouble = str(translated)
                self._is_write_in_trouble |= is_write
            if isinstance(translated, Damaged):
                self._damage = str(translated)
            if translated is error:
                raise
            raise translated from error
        if is_write or not self._is_write_in_trouble:
            self.trouble = None
            self._is_write_in_trouble = False
        return result

    def _open(self, create: bool) -> None:
        if sqlite3.sqlite_version_info < SQLITE_LEAST:
            raise FileNotUsable(f"SQLite {sqlite3.sqlite_version} is too old: 3.37 or later is needed")
        is_new = not self.path.exists()
        if is_new and not create:
            raise FileNotUsable(f"{self.path} is missing")
        try:
            self._open_as(create, is_new=is_new)
        except BaseException:
            if is_new:
                self._unmake()
            raise

    def _open_as(self, create: bool, *, is_new: bool) -> None:
        connection = self._connect("rwc" if is_new else "rw")
        try:
            if not create and migrations.is_empty(connection):
                raise FileNotUsable("is empty, as a copy without its -wal is")
            if migrations.migrate(connection, self._schema):
                _truncate(connection)  # so that the file itself holds its tables, whatever becomes of its log
        except FileNotUsable as error:
            connection.close()
            raise FileNotUsable(f"{self.path} {error}") from None
        except BaseException:
            connection.close()
            raise
        if is_new:
            _sync_directory(self.path.parent)
        self._adopt(connection)

    def _unmake(self) -> None:
        """Take away what a first start that failed has made: a file without its tables would puzzle the next one."""
        for suffix in ("", "-wal", "-shm"):
            self.path.with_name(self.path.name + suffix).unlink(missing_ok=True)

    def _connect(self, mode: str) -> sqlite3.Connection:
        uri = f"file:{quote(str(self.path))}?mode={mode}"
        connection = sqlite3.connect(uri, uri=True, isolation_level=None, timeout=BUSY_TIMEOUT_MS / 1000)
        try:
            for name, value in SETTINGS.items():
                connection.execute(f"PRAGMA {name} = {value}")
            connection.execute(f"PRAGMA cache_size = -{CACHE_KIB}")
            self._read_back(connection)
        except BaseException:
            connection.close()
            raise
        return connection

    def _read_back(self, connection: sqlite3.Connection) -> None:
        for name, wanted in SETTINGS.items():
            found = connection.execute(f"PRAGMA {name}").fetchone()[0]
            if found != wanted:
                raise FileNotUsable(f"{self.path} has {name} {found} where {wanted} is needed: it would not be durable")

    def _adopt(self, connection: sqlite3.Connection) -> None:
        connection.execute("SELECT count(*) FROM sqlite_schema").fetchone()  # makes sure that the -wal file is there
        self._connection = connection
        self._identity = self._identities()

    def _usable(self) -> sqlite3.Connection:
        if self._connection is None:
            return self._reopened()
        if self._identities() != self._identity:
            raise Damaged(f"{self.path} or its -wal was replaced while it was open")
        return self._connection

    def _reopened(self) -> sqlite3.Connection:
        if self._identity and self._identities()[:1] != self._identity[:1]:
            raise Damaged(f"{self.path} was replaced while it was open")
        connection = self._connect("rw")
        try:
            if not _truncate(connection):
                raise InfrastructureDown(f"{self.path}: after an input/output error its log could not be settled yet")
        except BaseException:
            connection.close()
            raise
        self._adopt(connection)
        return connection

    def _identities(self) -> tuple[tuple[int, int], ...]:
        try:
            return tuple((s.st_dev, s.st_ino) for s in (os.stat(self.path), os.stat(self._wal)))
        except FileNotFoundError as error:
            if self._connection is None and error.filename == str(self._wal):
                stat = os.stat(self.path)  # the last connection takes the log with it when it closes
                return ((stat.st_dev, stat.st_ino),)
            raise Damaged(f"{error.filename} was moved or deleted while it was open") from None

    def _transaction(self, work: Work[T]) -> T:
        connection = self._usable()
        connection.execute("BEGIN IMMEDIATE")
        try:
            result = work(connection)
            connection.execute("COMMIT")
        except BaseException as error:
            self._undo(connection, error)
            raise
        return result

    def _undo(self, connection: sqlite3.Connection, error: BaseException) -> None:
        if _code(error) == sqlite3.SQLITE_IOERR:
            self._drop()
            return
        try:
            if connection.in_transaction:
                connection.execute("ROLLBACK")
        except sqlite3.Error:
            self._drop()

    def _drop(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.close()

    def _translated(self, error: Exception) -> Exception:
        if _code(error) in _DAMAGE:
            return Damaged(f"{self.path} is damaged: {error}")
        if isinstance(error, sqlite3.IntegrityError | sqlite3.DataError | OverflowError | UnicodeEncodeError):
            return RecordRefused(f"{type(error).__name__}: {error}")
        if isinstance(error, sqlite3.ProgrammingError) or _code(error) == sqlite3.SQLITE_ERROR:
            return error  # our own mistake in a statement, which waiting does not mend
        if isinstance(error, sqlite3.Error | OSError):
            return InfrastructureDown(f"{self.path}: {error}")
        return error


def _truncate(connection: sqlite3.Connection) -> bool:
    # TRUNCATE would wait out the whole busy time-out for a reader that keeps its snapshot.
    connection.execute("PRAGMA busy_timeout = 0")
    try:
        busy: int = connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()[0]
    finally:
        connection.execute(f"PRAGMA busy_timeout = {SETTINGS['busy_timeout']}")
    return busy == 0


def _code(error: BaseException) -> int | None:
    """The primary part of SQLite's error code."""
    code: int | None = getattr(error, "sqlite_errorcode", None)
    return None if code is None else code & 0xFF


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return 0


def _sync_directory(directory: Path) -> None:
    descriptor = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
