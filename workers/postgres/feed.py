"""Events and notices by number, for programs that remember the last number that they have read.

A transaction draws its numbers while it runs, and they become visible when it commits: number 9 may appear after number
10, and a reader that continued after 10 would never see it. So the feed ends where all lower numbers are decided. Each
look notes the highest number drawn so far and the transactions that have drawn one and still run. Once all of these
have ended, each number up to the noted one is either visible or never will be. If there are none, that is the same
moment. Other transactions, such as a backup or an open one of a shell, keep nothing back.
"""

from collections.abc import Sequence

from workers import row_codec
from workers.postgres import columns
from workers.postgres.database import SqlConnection
from workers.queries import Emitted

_HIGHEST_DRAWN = "SELECT CASE WHEN is_called THEN last_value ELSE 0 END FROM outbox_number_seq"
# A transaction that has drawn from a sequence keeps this lock on it to its end, and lets it go when it is visible.
_DRAWING = """
    SELECT virtualtransaction FROM pg_locks
    WHERE locktype = 'relation' AND mode = 'RowExclusiveLock' AND relation = 'outbox_number_seq'::regclass
        AND database = (SELECT oid FROM pg_database WHERE datname = current_database())
"""
_AFTER = f"""
    SELECT {columns.EMITTED} FROM outbox WHERE number > $1 AND number <= $2 ORDER BY number LIMIT $3
"""  # noqa: S608 - our own list of columns


class Feed:
    """The number up to which the outbox is complete, as far as this process knows. Several may look at once."""

    def __init__(self) -> None:
        self._complete = 0
        self._noted: tuple[int, frozenset[str]] | None = None  # a number, and the transactions that must end

    async def after(self, connection: SqlConnection, number: int, limit: int) -> Sequence[Emitted]:
        """Return the events after this number, oldest first. None will appear later with a lower number than these."""
        await self._look(connection)
        found = await connection.fetch(_AFTER, number, self._complete, limit)
        return [row_codec.emitted(row) for row in found]

    async def _look(self, connection: SqlConnection) -> None:
        # Before anything is read, because another look may go on meanwhile.
        noted, complete = self._noted, self._complete
        # First the number: a transaction that draws between the two statements may be noted without need, which only
        # costs time. The other way round, one that drew meanwhile would be missed.
        highest_drawn = await connection.fetchval(_HIGHEST_DRAWN)
        if highest_drawn == self._complete:
            return
        if highest_drawn < complete:  # a promoted standby gives out numbers again of commits that it lacks
            self._complete, self._noted, noted = 0, None, None
        drawing = frozenset([transaction for (transaction,) in await connection.fetch(_DRAWING)])
        if noted is not None and drawing.isdisjoint(noted[1]):
            self._complete = max(self._complete, noted[0])
            if self._noted is noted:
                self._noted = None
        if not drawing:
            self._complete = max(self._complete, highest_drawn)
        elif self._noted is None:
            self._noted = (highest_drawn, drawing)
