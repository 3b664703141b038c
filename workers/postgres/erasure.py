"""Erasure of personal data (`workers.erasure`). PostgreSQL keeps the old rows until a vacuum, and in its log."""

from collections.abc import Sequence

from workers import erasure
from workers.erasure import ROWS_MAX, ErasedOrder, ErasedSome, Row
from workers.errors import RowsLocked
from workers.postgres import audit, load, lookups
from workers.postgres.columns import EACH_PARTITION
from workers.postgres.database import BRIEFLY, Database, SqlConnection
from workers.settlement.plan import Position

_WALK = """
    SELECT d.log_offset, d.decided_at, h.log_offset IS NOT NULL, n.notification_id, n.account, n.key, n.value, n.headers
    FROM (
        SELECT log_partition, log_offset, decided_at, notification_id, account FROM deliveries
        WHERE log_partition = $1
            AND log_offset > coalesce((SELECT e.log_offset FROM erasures AS e WHERE e.log_partition = $1), -1)
        ORDER BY log_offset LIMIT $2
    ) AS d
    LEFT JOIN held AS h ON h.log_partition = d.log_partition AND h.log_offset = d.log_offset
    LEFT JOIN notifications AS n ON n.notification_id = d.notification_id AND n.account = d.account
        AND n.log_partition = d.log_partition AND n.log_offset = d.log_offset AND n.erased_at IS NULL
    ORDER BY d.log_offset
"""
_WALKED = """
    INSERT INTO erasures (log_partition, log_offset) VALUES ($1, $2)
    ON CONFLICT (log_partition) DO UPDATE SET log_offset = excluded.log_offset
"""
_RESOLVED = """
    SELECT log_partition, log_offset, key, value, headers FROM held
    WHERE resolved_at < $1 AND resolved_at IS NOT NULL AND erased_at IS NULL
    ORDER BY resolved_at, log_partition, log_offset LIMIT $2
"""
_HELD_AT = """
    SELECT h.log_partition, h.log_offset, h.key, h.value, h.headers
    FROM unnest($1::integer[], $2::bigint[]) AS place(log_partition, log_offset)
    JOIN held AS h ON h.log_partition = place.log_partition AND h.log_offset = place.log_offset
    WHERE h.resolved_at IS NOT NULL AND h.erased_at IS NULL
"""
_OF_PLACES = """
    SELECT n.notification_id, n.account, n.key, n.value, n.headers
    FROM unnest($1::integer[], $2::bigint[]) AS place(log_partition, log_offset)
    JOIN deliveries AS d ON d.log_partition = place.log_partition AND d.log_offset = place.log_offset
    JOIN notifications AS n ON n.notification_id = d.notification_id AND n.account = d.account
        AND n.log_partition = d.log_partition AND n.log_offset = d.log_offset
    WHERE n.erased_at IS NULL
"""
_OF_ORDER = """
    SELECT d.log_partition, d.log_offset FROM deliveries AS d
    JOIN notifications AS n ON n.notification_id = d.notification_id AND n.account = d.account
        AND n.log_partition = d.log_partition AND n.log_offset = d.log_offset
    WHERE d.order_number = $1 AND d.account = $2 AND n.erased_at IS NULL
        AND NOT EXISTS (
            SELECT 1 FROM held AS h WHERE h.log_partition = d.log_partition AND h.log_offset = d.log_offset
                AND h.resolved_at IS NULL
        )
    LIMIT $3
"""
_ERASE = """
    UPDATE notifications SET value = given.value, headers = given.headers, erased_at = $5
    FROM unnest($1::text[], $2::text[], $3::bytea[], $4::bytea[]) AS given(notification_id, account, value, headers)
    WHERE notifications.notification_id = given.notification_id AND notifications.account = given.account
"""
_ERASE_HELD = """
    UPDATE held SET value = given.value, headers = given.headers, erased_at = $5
    FROM unnest($1::integer[], $2::bigint[], $3::bytea[], $4::bytea[])
        AS given(log_partition, log_offset, value, headers)
    WHERE held.log_partition = given.log_partition AND held.log_offset = given.log_offset
"""


class PostgresErasure:
    """Erasure in the database that many workers share. One that leads erases by time."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def erase_old(self, *, older_than_ms: int, now_ms: int) -> ErasedSome:
        async def work(connection: SqlConnection) -> ErasedSome:
            return await _erase_old(connection, older_than_ms, now_ms)

        try:
            return await self._database.write(work, first=BRIEFLY)
        except RowsLocked:
            return ErasedSome(count=0, is_more=False)  # next time

    async def erase_order(self, scope: str, number: str, *, by: str, why: str, now_ms: int) -> ErasedOrder | None:
        async def work(connection: SqlConnection) -> ErasedOrder | None:
            page = await lookups.order_page(connection, scope, number)
            if page is None:
                return None
            open_ = {hold.position for hold in page.holds if not hold.resolution}
            open_ |= {claim.delivery.position for claim in page.claims if not claim.resolution}
            more = await connection.fetch(_OF_ORDER, page.number, page.account, ROWS_MAX)
            shown = [each.position for each in (*page.deliveries, *(claim.delivery for claim in page.claims))]
            places = {*shown, *(Position(*row) for row in more)} - open_
            count = await _erase_places(connection, sorted(places), now_ms)
            await audit.note(connection, "erase", [f"{page.account}:{page.number}"], by=by, why=why, now_ms=now_ms)
            return ErasedOrder(count=count, held=tuple(sorted(open_)), is_more=len(more) == ROWS_MAX)

        return await self._database.write(work, first=BRIEFLY)


async def _erase_old(connection: SqlConnection, older_than_ms: int, now_ms: int) -> ErasedSome:
    count, room = 0, ROWS_MAX
    for (partition,) in await connection.fetch(EACH_PARTITION):
        part = erasure.walked(await connection.fetch(_WALK, partition, room), older_than_ms)
        if part is not None:
            await _erase_rows(connection, part.rows, now_ms)
            await connection.execute(_WALKED, partition, part.upto)
            count, room = count + len(part.rows), room - part.looked_at
        if room <= 0:
            return ErasedSome(count=count, is_more=True)
    resolved = await connection.fetch(_RESOLVED, older_than_ms, room)
    await _erase_held(connection, resolved, now_ms)
    return ErasedSome(count=count + len(resolved), is_more=len(resolved) == room)


async def _erase_places(connection: SqlConnection, places: Sequence[Position], now_ms: int) -> int:
    """Erase at these positions; return how many notifications had not been erased."""
    held = await connection.fetch(_HELD_AT, *load.places(places))
    alone = set(places) - {Position(row[0], row[1]) for row in held}
    rows = await connection.fetch(_OF_PLACES, *load.places(sorted(alone)))
    await _erase_held(connection, held, now_ms)
    await _erase_rows(connection, rows, now_ms)
    return len(held) + len(rows)


async def _erase_held(connection: SqlConnection, rows: Sequence[Row], now_ms: int) -> None:
    """Erase resolved rows, and the ledger's copy of the same records."""
    if not rows:
        return
    in_order = sorted(rows, key=lambda row: (row[0], row[1]))
    changed = [(row[0], row[1], *erasure.erased(row[2], row[3], row[4])) for row in in_order]
    await connection.execute(_ERASE_HELD, *zip(*changed, strict=True), now_ms)
    places = [Position(row[0], row[1]) for row in in_order]
    await _erase_rows(connection, await connection.fetch(_OF_PLACES, *load.places(places)), now_ms)


async def _erase_rows(connection: SqlConnection, rows: Sequence[Row], now_ms: int) -> None:
    if rows:
        changed = [(row[0], row[1], *erasure.erased(row[2], row[3], row[4])) for row in sorted(rows, key=_name)]
        await connection.execute(_ERASE, *zip(*changed, strict=True), now_ms)


def _name(row: Row) -> tuple[str, str]:
    return row[0], row[1]
