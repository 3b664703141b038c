"""Reads of operators: a second connection to a SQLite file, on a thread of its own, so that no batch waits for it.

In WAL mode a reader sees the last commit before its read and keeps no writer waiting. A read has a deadline, counted
from the call: one that takes longer is interrupted, and its asker gets `ReadTooSlow`. So the thread is free again soon,
and a forgotten snapshot does not keep the write-ahead log from being emptied.
"""

import asyncio
import os
import sqlite3
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar
from urllib.parse import quote

from workers.errors import InfrastructureDown, ReadTooSlow

DEADLINE_S = 3.0
BUSY_TIMEOUT_MS = 1000  # only a recovery or an upgrade keeps a reader waiting
CACHE_KIB = 8192
CHECK_EVERY = 10_000  # instructions of SQLite, about a millisecond

T = TypeVar("T")
Work = Callable[[sqlite3.Connection], T]


class _Question:
    """The deadline of one read."""

    def __init__(self, limit_s: float) -> None:
        self.limit_s = limit_s
        self.ends_at = time.monotonic() + limit_s


class SqliteReader:
    """Reads of one file that exists. It is opened at the first read, and again after a failure."""

    def __init__(self, path: Path, *, deadline_s: float = DEADLINE_S) -> None:
        self._path = path
        self._deadline_s = deadline_s
        self._thread = ThreadPoolExecutor(1, thread_name_prefix=f"sqlite-{path.stem}-reader")
        self._connection: sqlite3.Connection | None = None
        self._identity: tuple[int, int] | None = None
        self._is_closed = False

    async def read(self, work: Work[T], *, deadline_s: float | None = None) -> T:
        """Run the reading work. It sees one moment. `deadline_s` is another deadline for this read.

        Raises:
            ReadTooSlow: it took longer than the deadline, or waited so long for other reads.
            InfrastructureDown: the file does not answer.
        """
        if self._is_closed:
            raise self._closed()
        limit_s = self._deadline_s if deadline_s is None else deadline_s
        question = _Question(limit_s)
        try:
            loop = asyncio.get_running_loop()
            return await loop.run_in_executor(self._thread, lambda: self._read(work, question))
        finally:
            question.ends_at = 0.0  # the answer of a cancelled read is not needed

    async def close(self) -> None:
        """End the reads, and close."""
        if self._is_closed:
            return
        self._is_closed = True
        closed = asyncio.get_running_loop().run_in_executor(self._thread, self._drop)
        self._thread.shutdown(wait=False)
        await asyncio.shield(closed)

    # Everything below runs on the reader's thread.

    def _read(self, work: Work[T], question: "_Question") -> T:
        def is_over() -> bool:
            return self._is_closed or time.monotonic() >= question.ends_at

        if is_over():
            raise self._over(question)
        try:
            connection = self._usable()
            connection.set_progress_handler(is_over, CHECK_EVERY)
            connection.execute("BEGIN")
            try:
                return work(connection)
            finally:
                connection.set_progress_handler(None, 0)
                if connection.in_transaction:
                    connection.execute("ROLLBACK")
        except (sqlite3.Error, OSError) as error:
            code = getattr(error, "sqlite_errorcode", None)
            if code == sqlite3.SQLITE_INTERRUPT:
                raise self._over(question) from None
            if isinstance(error, sqlite3.ProgrammingError) or code == sqlite3.SQLITE_ERROR:
                raise  # our own mistake in a statement
            self._drop()
            raise InfrastructureDown(f"{self._path}: {error}") from error

    def _over(self, question: "_Question") -> InfrastructureDown:
        if self._is_closed:
            return self._closed()
        return ReadTooSlow(f"the order store took longer than {question.limit_s:g} s")

    def _closed(self) -> InfrastructureDown:
        return InfrastructureDown(f"{self._path} is closed")

    def _usable(self) -> sqlite3.Connection:
        status = os.stat(self._path)
        identity = (status.st_dev, status.st_ino)
        if self._connection is None or identity != self._identity:
            self._drop()
            self._connection, self._identity = self._connect(), identity
        return self._connection

    def _connect(self) -> sqlite3.Connection:
        uri = f"file:{quote(str(self._path))}?mode=rw"  # a WAL file cannot be shared by a connection that may not write
        connection = sqlite3.connect(uri, uri=True, isolation_level=None, timeout=BUSY_TIMEOUT_MS / 1000)
        connection.execute("PRAGMA query_only = 1")
        connection.execute(f"PRAGMA cache_size = -{CACHE_KIB}")
        return connection

    def _drop(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.close()
