"""Erasure of personal data (`workers.erasure`). Erased bytes are overwritten in the file; its log is emptied later."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from sqlite3 import Connection

from deploy.embedded import decisions, lookups, sql
from deploy.embedded.sqlite import SqliteDatabase
from workers import erasure
from workers.erasure import ROWS_MAX, ErasedOrder, ErasedSome, Row
from workers.settlement.plan import Position

_PARTITIONS = """
    WITH RECURSIVE found(number) AS (
        SELECT min(log_partition) FROM deliveries
        UNION ALL
        SELECT (SELECT min(log_partition) FROM deliveries WHERE log_partition > found.number)
        FROM found WHERE found.number IS NOT NULL
    )
    SELECT number FROM found WHERE number IS NOT NULL
"""
_WALK = """
    SELECT d.log_offset, d.decided_at_ms, h.log_offset IS NOT NULL,
        n.notification_id, n.account, n.key, n.value, n.headers
    FROM (
        SELECT log_partition, log_offset, decided_at_ms, notification_id, account FROM deliveries
        WHERE log_partition = ?1
            AND log_offset > coalesce((SELECT e.log_offset FROM erasures AS e WHERE e.log_partition = ?1), -1)
        ORDER BY log_offset LIMIT ?2
    ) AS d
    LEFT JOIN held AS h ON h.log_partition = d.log_partition AND h.log_offset = d.log_offset
    LEFT JOIN notifications AS n ON n.notification_id = d.notification_id AND n.account = d.account
        AND n.log_partition = d.log_partition AND n.log_offset = d.log_offset AND n.erased_at_ms IS NULL
    ORDER BY d.log_offset
"""
_WALKED = """
    INSERT INTO erasures (log_partition, log_offset) VALUES (?, ?)
    ON CONFLICT DO UPDATE SET log_offset = excluded.log_offset
"""
_RESOLVED = """
    SELECT log_partition, log_offset, key, value, headers FROM held
    WHERE resolved_at_ms < ? AND resolved_at_ms IS NOT NULL AND erased_at_ms IS NULL
    ORDER BY resolved_at_ms, log_partition, log_offset LIMIT ?
"""
_HELD_AT = """
    SELECT h.log_partition, h.log_offset, h.key, h.value, h.headers FROM json_each(?) AS place CROSS JOIN held AS h
    ON h.log_partition = json_extract(place.value, '$[0]') AND h.log_offset = json_extract(place.value, '$[1]')
    WHERE h.resolved_at_ms IS NOT NULL AND h.erased_at_ms IS NULL
"""
_OF_PLACES = """
    SELECT n.notification_id, n.account, n.key, n.value, n.headers FROM json_each(?) AS place
    CROSS JOIN deliveries AS d
    ON d.log_partition = json_extract(place.value, '$[0]') AND d.log_offset = json_extract(place.value, '$[1]')
    CROSS JOIN notifications AS n ON n.notification_id = d.notification_id AND n.account = d.account
        AND n.log_partition = d.log_partition AND n.log_offset = d.log_offset
    WHERE n.erased_at_ms IS NULL
"""
_OF_ORDER = """
    SELECT d.log_partition, d.log_offset FROM deliveries AS d
    CROSS JOIN notifications AS n ON n.notification_id = d.notification_id AND n.account = d.account
        AND n.log_partition = d.log_partition AND n.log_offset = d.log_offset
    WHERE d.order_number = ? AND d.account = ? AND n.erased_at_ms IS NULL
        AND NOT EXISTS (
            SELECT 1 FROM held AS h WHERE h.log_partition = d.log_partition AND h.log_offset = d.log_offset
                AND h.resolved_at_ms IS NULL
        )
    LIMIT ?
"""
_ERASE = "UPDATE notifications SET value = ?, headers = ?, erased_at_ms = ? WHERE notification_id = ? AND account = ?"
_ERASE_HELD = "UPDATE held SET value = ?, headers = ?, erased_at_ms = ? WHERE log_partition = ? AND log_offset = ?"


class SqliteErasure:
    """Erasure in the engine's order store."""

    def __init__(self, database: SqliteDatabase) -> None:
        self._database = database

    async def erase_old(self, *, older_than_ms: int, now_ms: int) -> ErasedSome:
        return await self._database.write(lambda connection: _erase_old(connection, older_than_ms, now_ms))

    async def erase_order(self, scope: str, number: str, *, by: str, why: str, now_ms: int) -> ErasedOrder | None:
        def work(connection: Connection) -> ErasedOrder | None:
            page = lookups.order_page(connection, scope, number)
            if page is None:
                return None
            open_ = {hold.position for hold in page.holds if not hold.resolution}
            open_ |= {claim.delivery.position for claim in page.claims if not claim.resolution}
            more = connection.execute(_OF_ORDER, (page.number, page.account, ROWS_MAX)).fetchall()
            shown = [each.position for each in (*page.deliveries, *(claim.delivery for claim in page.claims))]
            places = {*shown, *(Position(*row) for row in more)} - open_
            with _overwriting(connection):
                count = _erase_places(connection, sorted(places), now_ms)
            decisions.audit(connection, now_ms, "erase", [f"{page.account}:{page.number}"], by, why)
            return ErasedOrder(count=count, held=tuple(sorted(open_)), is_more=len(more) == ROWS_MAX)

        return await self._database.write(work)


def _erase_old(connection: Connection, older_than_ms: int, now_ms: int) -> ErasedSome:
    count, room = 0, ROWS_MAX
    with _overwriting(connection):
        for (partition,) in connection.execute(_PARTITIONS).fetchall():
            part = erasure.walked(connection.execute(_WALK, (partition, room)).fetchall(), older_than_ms)
            if part is not None:
                _erase_rows(connection, part.rows, now_ms)
                connection.execute(_WALKED, (partition, part.upto))
                count, room = count + len(part.rows), room - part.looked_at
            if room <= 0:
                return ErasedSome(count=count, is_more=True)
        resolved = connection.execute(_RESOLVED, (older_than_ms, room)).fetchall()
        _erase_held(connection, resolved, now_ms)
    return ErasedSome(count=count + len(resolved), is_more=len(resolved) == room)


def _erase_places(connection: Connection, places: Sequence[Position], now_ms: int) -> int:
    """Erase at these positions; return how many notifications had not been erased."""
    held = connection.execute(_HELD_AT, (_as_json(places),)).fetchall()
    alone = set(places) - {Position(row[0], row[1]) for row in held}
    rows = connection.execute(_OF_PLACES, (_as_json(sorted(alone)),)).fetchall()
    _erase_held(connection, held, now_ms)
    _erase_rows(connection, rows, now_ms)
    return len(held) + len(rows)


def _erase_held(connection: Connection, rows: Sequence[Row], now_ms: int) -> None:
    """Erase resolved rows, and the ledger's copy of the same records."""
    changed = [(*erasure.erased(row[2], row[3], row[4]), now_ms, row[0], row[1]) for row in rows]
    connection.executemany(_ERASE_HELD, changed)
    places = [Position(row[0], row[1]) for row in rows]
    _erase_rows(connection, connection.execute(_OF_PLACES, (_as_json(places),)).fetchall(), now_ms)


def _erase_rows(connection: Connection, rows: Sequence[Row], now_ms: int) -> None:
    changed = [(*erasure.erased(row[2], row[3], row[4]), now_ms, row[0], row[1]) for row in rows]
    connection.executemany(_ERASE, changed)


def _as_json(places: Sequence[Position]) -> str:
    return sql.as_json([[place.partition, place.offset] for place in places])


@contextmanager
def _overwriting(connection: Connection) -> Iterator[None]:
    """Let SQLite overwrite with zeros what it frees."""
    connection.execute("PRAGMA secure_delete = ON")
    try:
        yield
    finally:
        connection.execute("PRAGMA secure_delete = OFF")
