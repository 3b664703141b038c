"""The engine's data directory: its lock, its two files, and whether they belong together.

    lock                one engine at a time
    journal.sqlite3     every acknowledged record
    orders.sqlite3      every disposition, and the cursor: how far the journal is settled

The two are backed up and restored apart, so they may disagree. A store that is behind is the normal case after a crash:
the journal is read on from its cursor. Everything else means that something was lost, and the start is refused.
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

START_BYTES_MIN = 512 * 1024  # the two files with their tables, each once more in its log, and the logs' indexes


class Opened(Struct, frozen=True):
    """The engine's two open files, and the offset behind which the journal is to be read."""

    journal: Journal
    store: SqliteOrderStore
    cursor: int


@asynccontextmanager
async def opened(
    directory: Path, *, now_ms: Callable[[], int], limits: JournalLimits | None = None
) -> AsyncIterator[Opened]:
    """The directory's files, created where there are none yet, and closed at the end.

    Raises:
        AlreadyRunning: another process has the directory.
        FileNotUsable, Damaged: the files cannot be used, or do not belong together.
        InfrastructureDown: they cannot be opened now, or the disk has no room for them.
    """
    async with AsyncExitStack() as stack:
        has_store = _prepare(stack, directory)
        # A store without its journal is refused: a new journal would hand out offsets that are settled already.
        journal = await Journal.open(directory / JOURNAL, now_ms=now_ms, create=not has_store, limits=limits)
        stack.push_async_callback(journal.close)
        # The store comes second, so one that is missing beside a used journal was there once.
        store = await SqliteOrderStore.open(directory / STORE, now_ms=now_ms, create=journal.last == 0)
        stack.push_async_callback(store.close)
        cursor = await store.cursor()
        check_agreement(directory, journal, cursor)
        yield Opened(journal, store, cursor)


def _prepare(stack: AsyncExitStack, directory: Path) -> bool:
    """Make and lock the directory; whether there is a store in it."""
    try:
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        _check_room(directory)
        stack.enter_context(directory_lock.held(directory))
        return (directory / STORE).exists()
    except OSError as error:
        raise FileNotUsable(
            f"the data directory {directory} cannot be used: {error.strerror or error}. Name one that this user may "
            "write to with --data-dir or ALIPAY_NOTIFY_DATA_DIR"
        ) from error


def _check_room(directory: Path) -> None:
    """Returns where the disk has room for a start, since what SQLite says of one that has not is "I/O error".

    Raises:
        InfrastructureDown: it has not; it says where, and how many bytes are missing.
    """
    disk = os.statvfs(directory)
    free = disk.f_bavail * disk.f_frsize
    if free < START_BYTES_MIN:
        raise InfrastructureDown(
            f"{directory}: the disk is full: {free} bytes are free and a start needs {START_BYTES_MIN}, "
            f"so {START_BYTES_MIN - free} bytes are missing"
        )


def check_agreement(directory: Path, journal: Journal, cursor: int) -> None:
    """Returns where the journal can be read on from the cursor.

    Raises:
        FileNotUsable: it cannot; it says which records are missing.
    """
    if cursor > journal.last:
        raise FileNotUsable(
            f"{directory / JOURNAL} ends at record {journal.last}, and {STORE} has settled records up to {cursor}: "
            f"the journal has lost records {journal.last + 1} to {cursor}. Restore the later copy of it"
        )
    if journal.first > cursor + 1:
        raise FileNotUsable(
            f"{directory / STORE} has settled records up to {cursor}, and {JOURNAL} begins at record {journal.first}: "
            f"records {cursor + 1} to {journal.first - 1} were pruned and have no disposition. "
            "Restore a later copy of the store"
        )
