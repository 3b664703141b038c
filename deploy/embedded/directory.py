"""The engine's data directory: its lock, its two files, and the check that they belong together.

    lock                one engine at a time
    journal.sqlite3     every acknowledged record
    orders.sqlite3      every disposition, and the cursor: the offset up to which records have their dispositions

The files may be backed up and restored separately, so they may disagree. A store that is behind the journal is normal
after a crash: the worker reads on from the cursor. Any other difference means that records were lost; then the start is
refused.
"""

import os
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

from msgspec import Struct

from deploy import directory_lock
from deploy.embedded.journal import Journal, JournalLimits
from deploy.embedded.migrations import FileNotUsable
from deploy.embedded.store import SqliteOrderStore
from workers.errors import InfrastructureDown

JOURNAL = "journal.sqlite3"
STORE = "orders.sqlite3"

START_BYTES_MIN = 512 * 1024  # both files with their tables, the same again in their logs, and the logs' indexes


class EngineFiles(Struct, frozen=True):
    """The two open files, and the offset after which the worker reads the journal."""

    journal: Journal
    store: SqliteOrderStore
    cursor: int


@asynccontextmanager
async def open_files(
    directory: Path, *, now_ms: Callable[[], int], limits: JournalLimits | None = None
) -> AsyncIterator[EngineFiles]:
    """Lock the directory and open its files; create them in a new one. Close and unlock all at the end.

    Raises:
        AlreadyRunning: another process uses the directory.
        FileNotUsable, Damaged: the files cannot be used, or do not belong together.
        InfrastructureDown: the files cannot be opened now, or the disk is full.
    """
    async with AsyncExitStack() as stack:
        has_store = _prepare(stack, directory)
        # A store without its journal is refused: a new journal would give out offsets that have dispositions already.
        journal = await Journal.open(directory / JOURNAL, now_ms=now_ms, create=not has_store, limits=limits)
        stack.push_async_callback(journal.close)
        # The store is created after the journal. So if the journal has records and the store is missing, it was lost.
        store = await SqliteOrderStore.open(directory / STORE, now_ms=now_ms, create=journal.last == 0)
        stack.push_async_callback(store.close)
        cursor = await store.cursor()
        check_agreement(directory, journal, cursor)
        yield EngineFiles(journal, store, cursor)


def _prepare(stack: AsyncExitStack, directory: Path) -> bool:
    """Create and lock the directory. Return whether it holds a store."""
    try:
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        _check_room(directory)
        stack.enter_context(directory_lock.held(directory))
        return (directory / STORE).exists()
    except OSError as error:
        raise FileNotUsable(
            f"the data directory {directory} cannot be used: {error.strerror or error}. Set --data-dir or "
            "ALIPAY_NOTIFY_DATA_DIR to a directory that this user may write to"
        ) from error


def _check_room(directory: Path) -> None:
    """Return if the disk has room for a start. On a full disk, SQLite itself would only report an I/O error.

    Raises:
        InfrastructureDown: the disk is full; the message names the directory and the missing bytes.
    """
    disk = os.statvfs(directory)
    free = disk.f_bavail * disk.f_frsize
    if free < START_BYTES_MIN:
        raise InfrastructureDown(
            f"{directory}: the disk is full: {free} bytes are free and a start needs {START_BYTES_MIN}, "
            f"so {START_BYTES_MIN - free} bytes are missing"
        )


def check_agreement(directory: Path, journal: Journal, cursor: int) -> None:
    """Return if the journal has every record after the cursor.

    Raises:
        FileNotUsable: some are missing; the message names them and the file to restore.
    """
    if cursor > journal.last:
        raise FileNotUsable(
            f"{directory / JOURNAL} ends at record {journal.last}, and {STORE} has dispositions up to {cursor}: "
            f"the journal has lost records {journal.last + 1} to {cursor}. Restore a later copy of it"
        )
    if journal.first > cursor + 1:
        raise FileNotUsable(
            f"{directory / STORE} has dispositions up to {cursor}, and {JOURNAL} begins at record {journal.first}: "
            f"records {cursor + 1} to {journal.first - 1} were pruned and have no disposition. "
            "Restore a later copy of the store"
        )
