"""Snoozes of held notifications, in SQLite."""

from sqlite3 import Connection

from deploy.embedded import decisions
from deploy.embedded.sqlite import SqliteDatabase
from workers import snoozes
from workers.queries import Snooze
from workers.settlement.plan import position_of

_SNOOZE = """
    UPDATE held SET snoozed_until_ms = ?, snoozed_by = ?, snoozed_why = ?
    WHERE log_partition = ? AND log_offset = ? AND resolved_at_ms IS NULL
"""


class SqliteSnoozes:
    """The snoozes of one file."""

    def __init__(self, database: SqliteDatabase) -> None:
        self._database = database

    async def snooze(self, id_: str, snooze: Snooze, *, now_ms: int) -> bool:
        position = position_of(id_)
        if position is None:
            return False

        def work(connection: Connection) -> bool:
            given = (snooze.until_ms, snooze.by, snooze.why)
            if not connection.execute(_SNOOZE, (*given, position.partition, position.offset)).rowcount:
                return False
            action, why = snoozes.audited(snooze, now_ms=now_ms)
            decisions.audit(connection, now_ms, action, [id_], snooze.by, why)
            return True

        return await self._database.write(work)
