"""Publish events of an order again (`workers.resends`): they get the next numbers of the outbox."""

from sqlite3 import Connection

from deploy.embedded import decisions
from deploy.embedded.sqlite import SqliteDatabase
from schemas import events
from workers import resends
from workers.resends import ResendRefusal, SentEvent

_ORDER = "SELECT 1 FROM orders WHERE account = ? AND order_number = ?"
_EVENTS = """
    SELECT number, version, sent_at_ms IS NOT NULL FROM outbox
    WHERE id > ?1 || ':' AND id < ?1 || ';' AND id = ?1 || ':' || version ORDER BY version
"""
# SQLite notes the highest number of inserted rows alone.
_NEXT = "UPDATE sqlite_sequence SET seq = seq + 1 WHERE name = 'outbox' RETURNING seq"
_AGAIN = "UPDATE outbox SET number = ?, sent_at_ms = NULL, written_at_ms = ? WHERE number = ?"
# Their endpoints meet them again under the new numbers. A delivery without its event would stop its order for good.
_FORGET_PENDING = """
    DELETE FROM callback_deliveries
    WHERE endpoint IN (SELECT name FROM callback_endpoints) AND number = ? AND state = 'pending'
"""


class SqliteResends:
    """Publishes again from the order store of the engine."""

    def __init__(self, database: SqliteDatabase) -> None:
        self._database = database

    async def resend(
        self, scope: str, number: str, version: int | None, *, by: str, why: str, now_ms: int
    ) -> tuple[int, ...] | ResendRefusal:
        def work(connection: Connection) -> tuple[int, ...] | ResendRefusal:
            if connection.execute(_ORDER, (scope, number)).fetchone() is None:
                return ResendRefusal.UNKNOWN_ORDER
            rows = connection.execute(_EVENTS, (f"{scope}:{number}",)).fetchall()
            found = resends.chosen([SentEvent(row[0], row[1], bool(row[2])) for row in rows], version)
            if isinstance(found, ResendRefusal):
                return found
            for event in found:
                ((new,),) = connection.execute(_NEXT).fetchall()
                connection.execute(_AGAIN, (new, now_ms, event.number))
                connection.execute(_FORGET_PENDING, (event.number,))
            ids = [events.event_id(scope, number, event.version) for event in found]
            decisions.audit(connection, now_ms, "resend", ids, by, why)
            return tuple(event.version for event in found)

        return await self._database.write(work)
