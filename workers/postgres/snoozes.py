"""Snoozes of held notifications, in PostgreSQL."""

from workers import snoozes
from workers.postgres import audit
from workers.postgres.database import Database, SqlConnection
from workers.queries import Snooze
from workers.settlement.plan import position_of

_SNOOZE = """
    UPDATE held SET snoozed_until = $3, snoozed_by = $4, snoozed_why = $5
    WHERE log_partition = $1 AND log_offset = $2 AND resolved_at IS NULL RETURNING true
"""


class PostgresSnoozes:
    """The snoozes of one database."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def snooze(self, id_: str, snooze: Snooze, *, now_ms: int) -> bool:
        position = position_of(id_)
        if position is None:
            return False

        async def work(connection: SqlConnection) -> bool:
            given = (snooze.until_ms, snooze.by, snooze.why)
            if not await connection.fetchval(_SNOOZE, position.partition, position.offset, *given):
                return False
            action, why = snoozes.audited(snooze, now_ms=now_ms)
            await audit.note(connection, action, [id_], by=snooze.by, why=why, now_ms=now_ms)
            return True

        return await self._database.write(work)
