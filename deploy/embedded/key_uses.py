"""The uses of keys (`workers.key_uses`)."""

from collections.abc import Sequence
from sqlite3 import Connection

from deploy.embedded import sql
from deploy.embedded.sqlite import SqliteDatabase
from deploy.embedded.sqlite_reader import SqliteReader
from schemas.times import DAY_MS, HOUR_MS
from workers import key_uses
from workers.key_uses import KEPT_MS, KeyUse, KeyUsed

_ADD = """
    INSERT INTO key_uses (account, key_id, slot_ms, messages, last_at_ms) VALUES (?, ?, ?, ?, ?)
    ON CONFLICT DO UPDATE SET
    messages = key_uses.messages + excluded.messages, last_at_ms = max(key_uses.last_at_ms, excluded.last_at_ms)
"""
_FORGET = "DELETE FROM key_uses WHERE account = ? AND key_id = ? AND slot_ms < ?"
_USED = """
    SELECT account, key_id, max(last_at_ms),
        coalesce(sum(messages) FILTER (WHERE slot_ms >= ?2), 0), coalesce(sum(messages) FILTER (WHERE slot_ms >= ?3), 0)
    FROM key_uses WHERE account IN (SELECT value FROM json_each(?1)) GROUP BY account, key_id ORDER BY account, key_id
"""


class SqliteKeyUses:
    """The uses of keys, in the engine's order store. Reads are operators' reads."""

    def __init__(self, database: SqliteDatabase, reader: SqliteReader) -> None:
        self._database = database
        self._reader = reader

    async def note_key_uses(self, uses: Sequence[KeyUse]) -> None:
        def work(connection: Connection) -> None:
            connection.executemany(_ADD, map(key_uses.row, uses))
            connection.executemany(_FORGET, [(use.account, use.key_id, use.slot_ms - KEPT_MS) for use in uses])

        await self._database.write(work)

    async def key_uses(self, accounts: Sequence[str], *, now_ms: int) -> Sequence[KeyUsed]:
        parameters = (sql.as_json([*accounts]), now_ms - HOUR_MS, now_ms - DAY_MS)
        found = await self._reader.read(lambda connection: connection.execute(_USED, parameters).fetchall())
        return [key_uses.used(row) for row in found]
