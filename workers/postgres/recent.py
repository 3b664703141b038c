"""The newest dispositions and events, for the page that shows them. Read-only, and by the primary keys alone."""

# ruff: noqa: S608 - only our own lists of columns are formatted into statements; values are always parameters

from collections.abc import Sequence

from workers import row_codec
from workers.postgres import columns
from workers.postgres.columns import DELIVERIES, EMITTED, PARTITIONS
from workers.postgres.database import Database
from workers.queries import Emitted
from workers.settlement.plan import Delivery

# No index is by time, so the newest of each partition are read.
_SETTLED = f"""
    {PARTITIONS}
    SELECT {columns.of("newest", DELIVERIES.names)} FROM partitions CROSS JOIN LATERAL (
        SELECT {DELIVERIES.names} FROM deliveries WHERE log_partition = number ORDER BY log_offset DESC LIMIT $1
    ) AS newest ORDER BY newest.decided_at DESC LIMIT $1
"""


class RecentRows:
    """The newest rows, read by the connections for operators."""

    def __init__(self, reads: Database) -> None:
        self._reads = reads

    async def settled(self, limit: int) -> Sequence[Delivery]:
        """Return deliveries of the newest records of each partition, the last decided first."""
        found = await self._reads.read(lambda connection: connection.fetch(_SETTLED, limit))
        return [row_codec.delivery(row) for row in found]

    async def events(self, limit: int) -> Sequence[Emitted]:
        """Return the newest events and notices, sent or not, newest first."""
        statement = f"SELECT {EMITTED} FROM outbox ORDER BY number DESC LIMIT $1"
        found = await self._reads.read(lambda connection: connection.fetch(statement, limit))
        return [row_codec.emitted(row) for row in found]
