"""The uses of keys (`workers.key_uses`)."""

from collections.abc import Sequence

from schemas.times import DAY_MS, HOUR_MS
from workers import key_uses
from workers.key_uses import KEPT_MS, KeyUse, KeyUsed
from workers.postgres.columns import KEY_USES, arrays
from workers.postgres.database import BRIEFLY, Database, SqlConnection

_ADD = KEY_USES.insert(
    "key_uses",
    after="""
    ON CONFLICT (account, key_id, slot) DO UPDATE SET
    messages = key_uses.messages + excluded.messages, last_at = greatest(key_uses.last_at, excluded.last_at)
    """,
)
_FORGET = """
    DELETE FROM key_uses USING unnest($1::text[], $2::text[], $3::timestamptz[]) AS newest(account, key_id, slot)
    WHERE key_uses.account = newest.account AND key_uses.key_id = newest.key_id AND key_uses.slot < newest.slot
"""
_USED = """
    SELECT account, key_id, max(last_at),
        coalesce(sum(messages) FILTER (WHERE slot >= $2), 0)::bigint,
        coalesce(sum(messages) FILTER (WHERE slot >= $3), 0)::bigint
    FROM key_uses WHERE account = ANY($1::text[]) GROUP BY account, key_id ORDER BY account, key_id
"""


class PostgresKeyUses:
    """The uses of keys, in the database that many workers share. Reads are operators' reads."""

    def __init__(self, database: Database, reads: Database) -> None:
        self._database = database
        self._reads = reads

    async def note_key_uses(self, uses: Sequence[KeyUse]) -> None:
        rows = sorted(map(key_uses.row, uses))  # in the order of their key, since two workers may write the same ones
        newest = {(use.account, use.key_id): use.slot_ms for use in sorted(uses, key=lambda use: use.slot_ms)}
        old = [(*name, slot_ms - KEPT_MS) for name, slot_ms in sorted(newest.items())]

        async def work(connection: SqlConnection) -> None:
            await connection.execute(_ADD, *arrays(rows))
            await connection.execute(_FORGET, *arrays(old))

        await self._database.write(work, first=BRIEFLY)

    async def key_uses(self, accounts: Sequence[str], *, now_ms: int) -> Sequence[KeyUsed]:
        found = await self._reads.read(
            lambda connection: connection.fetch(_USED, list(accounts), now_ms - HOUR_MS, now_ms - DAY_MS)
        )
        return [key_uses.used(row) for row in found]
