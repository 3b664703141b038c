"""One SQLite file: one connection, on a thread of its own, so that the event loop never waits for a disk.

When `write` returns, its transaction is committed and fsynced. Each time the file is opened, WAL, `synchronous=FULL`
and the other settings are made and read back. Every write begins with `BEGIN IMMEDIATE`, because a deferred transaction
that first reads and then writes fails at once beside another writer, whatever the busy timeout.

A failure means one of three things:

* The file is busy, full or read-only, or the disk does not answer: `InfrastructureDown`. Nothing of the transaction is
  written, and the same work may be tried again.
* An input/output error, most of all at COMMIT: unknown, not failed. The connection is closed, because its view of the
  file can no longer be trusted, and the next work opens the file again. Before anything more is written, the whole
  write-ahead log must reach the database file: recovery would stop at a frame that the failed fsync left behind, and
  silently drop every later commit.
* The file is damaged, or was moved or deleted while open: `Damaged`, from then on and for good. No new file is created
  in its place, and nothing is skipped.

A task that is cancelled while it waits does not stop the thread: its transaction commits all the same. So the outcome
of a cancelled write is unknown too, and the callers find out by trying again.
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
from workers.store_trouble import StoreTrouble, WorkKind

BUSY_TIMEOUT_MS = 5000  # how long a write waits for a backup or a shell that holds the write lock
AUTOCHECKPOINT_PAGES = 4000  # 16 MB: large enough for rare checkpoints, small enough for a quick recovery
CACHE_KIB = 8192
SQLITE_LEAST = (3, 37)  # STRICT tables

# Each of these must read back as it was set; otherwise commits would not be durable, and the file is refused.
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
    """The file no longer holds the data that was written to it. The worker stops; restore the file from a backup."""


class SqliteDatabase:
    """One open file."""

    def __init__(self, path: Path, schema: Schema) -> None:
        self.path = path
        self._trouble = StoreTrouble()
        self._wal = path.with_name(path.name + "-wal")
        self._schema = schema
        self._thread = ThreadPoolExecutor(1, thread_name_prefix=f"sqlite-{path.stem}")
        self._connection: sqlite3.Connection | None = None
        self._identity: tuple[tuple[int, int], ...] = ()
        self._damage: str | None = None
        self._closed = False

    @classmethod
    async def open(cls, path: Path, schema: Schema, *, create: bool) -> "SqliteDatabase":
        """Open the file, and bring it to this program's schema. Only with `create`, create a missing file and fill an
        empty one.

        Raises:
            FileNotUsable: it is missing, belongs to another program, or does not keep the settings for durability.
            Damaged: it is not a sound database.
            InfrastructureDown: it cannot be opened now.
        """
        database = cls(path, schema)
        try:
            await database._on_thread(lambda: database._guarded(lambda: database._open(create)))
        except BaseException:
            await database.close()
            raise
        return database

    @property
    def trouble(self) -> str | None:
        """The last failure, by the rules of `workers.store_trouble`; `None` if all is well."""
        return self._trouble.text

    async def write(self, work: Work[T], kind: WorkKind = WorkKind.WRITE) -> T:
        """Run the work in one transaction. When this returns, it is committed and durable. `kind` is for `trouble`.

        Raises:
            RecordRefused: a value does not fit the file; nothing is written.
            InfrastructureDown: it is unknown whether something was written.
        """
        return await self._on_thread(lambda: self._guarded(lambda: self._transaction(work), kind))

    async def read(self, work: Work[T]) -> T:
        """Run the reading work. It sees one moment, because this thread is the only writer."""
        return await self._on_thread(lambda: self._guarded(lambda: work(self._usable())))

    def start_write(self, work: Work[T], done: Callable[[T | None, BaseException | None], None]) -> None:
        """Start a `write` and return. Afterwards `done(result, error)` runs on the event loop."""
        self._check_open()
        loop = asyncio.get_running_loop()

        def run() -> None:
            result, failed = None, None
            try:
                result = self._guarded(lambda: self._transaction(work), WorkKind.WRITE)
            except BaseException as error:  # whatever it is: `done` must be called
                failed = error
            loop.call_soon_threadsafe(done, result, failed)

        self._thread.submit(run)

    async def probe(self) -> None:
        """Write the schema number again, so that `trouble` ends once its cause has ended.

        A process in trouble gets no more work, and without work it would never find out.

        Raises:
            InfrastructureDown: the cause is still there.
        """
        version = len(self._schema.scripts)
        await self.write(lambda connection: connection.execute(f"PRAGMA user_version = {version}"))

    async def truncate_log(self) -> bool:
        """Move the write-ahead log into the database file and empty it; False if a reader blocks that.

        Call it when there is little else to do, because writes wait meanwhile. A failure is no `trouble`: commits go on
        as long as the log can grow.

        Raises:
            InfrastructureDown: the disk is full, or failed.
        """
        return await self._on_thread(lambda: self._guarded(lambda: _truncate(self._usable()), None))

    async def check(self) -> str:
        """Return SQLite's own check of the file: `ok`, or the first fault."""
        return await self.read(lambda connection: str(connection.execute("PRAGMA quick_check(1)").fetchone()[0]))

    def log_bytes(self) -> int:
        """Return the size of the write-ahead log."""
        return _size(self._wal)

    async def close(self) -> None:
        """Finish the running work, and close. No committed data depends on this."""
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

    def _guarded(self, work: Callable[[], T], kind: WorkKind | None = WorkKind.READ) -> T:
        """Run the work and translate its failure. `kind` is for `trouble`; `None` neither makes nor ends any."""
        if self._damage is not None:
            raise Damaged(self._damage)
        try:
            result = work()
        except Exception as error:
            translated = self._translated(error)
            if isinstance(translated, InfrastructureDown) and kind is not None:
                self._trouble.failed(kind, str(translated))
            if isinstance(translated, Damaged):
                self._damage = str(translated)
            if translated is error:
                raise
            raise translated from error
        if kind is not None:
            self._trouble.succeeded(kind)
        return result

    def _open(self, create: bool) -> None:
        if sqlite3.sqlite_version_info < SQLITE_LEAST:
            raise FileNotUsable(f"SQLite {sqlite3.sqlite_version} is too old: 3.37 or later is needed")
        is_new = not self.path.exists()
        if is_new and not create:
            raise FileNotUsable(f"{self.path} is missing")
        try:
            self._open_checked(create, is_new=is_new)
        except BaseException:
            if is_new:
                self._remove_files()
            raise

    def _open_checked(self, create: bool, *, is_new: bool) -> None:
        connection = self._connect("rwc" if is_new else "rw")
        try:
            if not create and migrations.is_empty(connection):
                raise FileNotUsable("is empty; it may be a copy without its -wal file")
            if migrations.migrate(connection, self._schema):
                _truncate(connection)  # so that the file itself holds its tables, even if its log is lost
        except FileNotUsable as error:
            connection.close()
            raise FileNotUsable(f"{self.path} {error}") from None
        except BaseException:
            connection.close()
            raise
        if is_new:
            _sync_directory(self.path.parent)
        self._adopt(connection)

    def _remove_files(self) -> None:
        """Remove the files of a first start that failed: the next start would refuse a file without tables."""
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
                raise FileNotUsable(f"{self.path} has {name} {found} and needs {wanted}, or commits are not durable")

    def _adopt(self, connection: sqlite3.Connection) -> None:
        connection.execute("SELECT count(*) FROM sqlite_schema").fetchone()  # creates the -wal file if it is missing
        self._connection = connection
        self._identity = self._identities()

    def _usable(self) -> sqlite3.Connection:
        if self._connection is None:
            return self._reopened()
        if self._identities() != self._identity:
            raise Damaged(f"{self.path} or its -wal file was replaced while it was open")
        return self._connection

    def _reopened(self) -> sqlite3.Connection:
        if self._identity and self._identities()[:1] != self._identity[:1]:
            raise Damaged(f"{self.path} was replaced while it was open")
        connection = self._connect("rw")
        try:
            if not _truncate(connection):
                raise InfrastructureDown(
                    f"{self.path}: after an input/output error, its -wal file could not be emptied yet"
                )
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
                stat = os.stat(self.path)  # the last connection removes the log when it closes
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
            return error  # our own mistake in a statement, which no waiting repairs
        if isinstance(error, sqlite3.Error | OSError):
            return InfrastructureDown(f"{self.path}: {error}")
        return error


def _truncate(connection: sqlite3.Connection) -> bool:
    # Without a busy timeout, because TRUNCATE would wait for all of it if a reader keeps its snapshot.
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
