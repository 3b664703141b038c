"""Shortcuts over an engine's two open files."""

import sqlite3

from deploy.embedded.directory import EngineFiles
from tests.support import log_records
from tests.support.log_records import Time

DAY_MS = 86_400_000


async def settled(files: EngineFiles, time: Time, *statuses: str, order: str = "N1") -> None:
    """Append a notification of the order for each status, process them, and send their events."""
    before = files.journal.last
    for status in statuses:
        await files.journal.append(log_records.record(order, status))
    work = log_records.processing(files.store, time)
    await work.process(await files.journal.read(before, 100))
    await work.emit()
    files.journal.settled(files.journal.last)


async def outbox(files: EngineFiles) -> list[str]:
    """The ids of all events and notices in the outbox, in order."""

    def ids(connection: sqlite3.Connection) -> list[str]:
        return [id_ for (id_,) in connection.execute("SELECT id FROM outbox ORDER BY number")]

    return await files.store.database.read(ids)
