"""Events and notices by number, for programs that remember the last number that they have read.

A transaction draws its numbers while it runs, and they become visible when it commits: number 9 may appear after number
10, and a reader that continued after 10 would never see it. So the feed ends where all lower numbers are decided. Each
look notes the highest number drawn so far and the transactions that run at that moment. Once all of these have ended,
each number up to the noted one is either visible or never will be. If no transaction runs, that is the same moment.
"""

from collections.abc import Sequence

from workers import row_codec
from workers.postgres import columns
from workers.postgres.database import SqlConnection
from workers.queries import Emitted

_HIGHEST_DRAWN = "SELECT CASE WHEN is_called THEN last_value ELSE 0 END FROM outbox_number_seq"
_RUNNING = """
    SELECT pg_snapshot_xmax(running)::text::bigint, pg_snapshot_xmin(running)::text::bigint
    FROM pg_current_snapshot() AS running
"""
_AFTER = f"""
    SELECT {columns.EMITTED} FROM outbox WHERE number > $1 AND number <= $2 ORDER BY number LIMIT $3
"""  # noqa: S608 - our own list of columns


class Feed:
    """The number up to which the outbox is complete, as far as this process knows."""

    def __init__(self) -> None:
        self._complete = 0
        self._noted: tuple[int, int] | None = None  # a number, and a transaction id: all before it must end

    async def after(self, connection: SqlConnection, number: int, limit: int) -> Sequence[Emitted]:
        """Return the events after this number, oldest first. None will appear later with a lower number than these."""
        await self._look(connection)
        found = await connection.fetch(_AFTER, number, self._complete, limit)
        return [row_codec.emitted(row) for row in found]

    async def _look(self, connection: SqlConnection) -> None:
        # Two statements, because a statement's snapshot is older than the value that it reads from a sequence. In one
        # statement, the number of a transaction that began after the snapshot could be noted.
        highest_drawn = await connection.fetchval(_HIGHEST_DRAWN)
        next_to_begin, oldest_running = await connection.fetchrow(_RUNNING)
        if self._noted is not None and oldest_running >= self._noted[1]:
            self._complete, self._noted = max(self._complete, self._noted[0]), None
        if oldest_running >= next_to_begin:
            self._complete = max(self._complete, highest_drawn)
        elif self._noted is None:
            self._noted = (highest_drawn, next_to_begin)
