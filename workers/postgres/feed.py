"""Events and notices by number, for whoever remembers the last number that it has seen.

Numbers are taken while a transaction runs, and seen when it commits: number 9 may come to light after number 10, and
who had gone on from 10 would never see it. So the feed ends where everything before is sure to be there. Each time it
looks, it notes the highest number taken so far and the transactions that run just then; once all of those have ended,
whatever they took up to that number is either there or never will be. While nobody writes that is the same moment.
"""

from collections.abc import Sequence

from workers import row_codec
from workers.postgres import columns
from workers.postgres.database import SqlConnection
from workers.queries import Emitted

_TAKEN = "SELECT CASE WHEN is_called THEN last_value ELSE 0 END FROM outbox_number_seq"
_RUNNING = """
    SELECT pg_snapshot_xmax(running)::text::bigint, pg_snapshot_xmin(running)::text::bigint
    FROM pg_current_snapshot() AS running
"""
_AFTER = f"""
    SELECT {columns.EMITTED} FROM outbox WHERE number > $1 AND number <= $2 ORDER BY number LIMIT $3
"""  # noqa: S608 - our own list of columns


class Feed:
    """How far the outbox is complete, as far as this process knows."""

    def __init__(self) -> None:
        self._complete = 0
        self._noted: tuple[int, int] | None = None  # a number, and the transaction before which all must have ended

    async def after(self, connection: SqlConnection, number: int, limit: int) -> Sequence[Emitted]:
        """What lies behind this number, oldest first. None will ever appear with a lower number than these have."""
        await self._look(connection)
        found = await connection.fetch(_AFTER, number, self._complete, limit)
        return [row_codec.emitted(row) for row in found]

    async def _look(self, connection: SqlConnection) -> None:
        # In two statements, since a statement's snapshot is older than what it reads of a sequence: a number must not
        # be noted whose transaction began after the snapshot.
        taken = await connection.fetchval(_TAKEN)
        next_to_begin, oldest_running = await connection.fetchrow(_RUNNING)
        if self._noted is not None and oldest_running >= self._noted[1]:
            self._complete, self._noted = max(self._complete, self._noted[0]), None
        if oldest_running >= next_to_begin:
            self._complete = max(self._complete, taken)
        elif self._noted is None:
            self._noted = (taken, next_to_begin)
