"""Publish events of an order again (`workers.resends`).

The order's row is locked, so that no newer version is written meanwhile. The leader of the role `sending` finds the
events like those of a dead worker. A worker that still has a copy of one in flight would request the resend of the
order's state by the old number, which is gone: so that resend is requested here.

Callbacks that are pending are made anew from the new numbers. Their endpoints are locked after the events have moved:
`workers.postgres.callbacks` takes an event only while it holds that lock and still finds the event.
"""

from schemas import events
from workers import resends
from workers.postgres import audit
from workers.postgres.database import Database, SqlConnection
from workers.postgres.state_resend import RESEND_AFTER_MS
from workers.resends import ResendRefusal, SentEvent

_LOCK_ORDER = "SELECT 1 FROM orders WHERE account = $1 AND order_number = $2 FOR NO KEY UPDATE"
# As in `workers.postgres.state_resend`: the ids of an order's events lie between `account:order:` and `account:order;`.
_EVENTS = """
    SELECT number, version, sent_at IS NOT NULL FROM outbox
    WHERE id > $1::text || ':' AND id < $1::text || ';' AND id = $1::text || ':' || version
    ORDER BY version FOR NO KEY UPDATE
"""
_AGAIN = """
    UPDATE outbox SET number = DEFAULT, sent_at = NULL, written_at = $2, again_at = greatest(again_at, $3)
    WHERE number = $1
"""
# Their endpoints meet them again under the new numbers. A delivery without its event would stop its order for good.
_LOCK_ENDPOINTS = "SELECT name FROM callback_endpoints ORDER BY name FOR UPDATE"
_FORGET_PENDING = """
    DELETE FROM callback_deliveries AS pending USING callback_endpoints AS endpoint
    WHERE pending.endpoint = endpoint.name AND pending.number = ANY($1::bigint[]) AND pending.state = 'pending'
"""


class PostgresResends:
    """Publishes again from the order store of the cluster."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def resend(
        self, scope: str, number: str, version: int | None, *, by: str, why: str, now_ms: int
    ) -> tuple[int, ...] | ResendRefusal:
        async def work(connection: SqlConnection) -> tuple[int, ...] | ResendRefusal:
            if await connection.fetchval(_LOCK_ORDER, scope, number) is None:
                return ResendRefusal.UNKNOWN_ORDER
            rows = await connection.fetch(_EVENTS, f"{scope}:{number}")
            found = resends.chosen([SentEvent(*row) for row in rows], version)
            if isinstance(found, ResendRefusal):
                return found
            for event in found:  # one by one, so that the new numbers rise with the versions
                await connection.execute(_AGAIN, event.number, now_ms, now_ms + RESEND_AFTER_MS)
            await connection.fetch(_LOCK_ENDPOINTS)
            await connection.execute(_FORGET_PENDING, [event.number for event in found])
            ids = [events.event_id(scope, number, event.version) for event in found]
            await audit.note(connection, "resend", ids, by=by, why=why, now_ms=now_ms)
            return tuple(event.version for event in found)

        return await self._database.write(work)
