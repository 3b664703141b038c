"""The newest dispositions and events, for the page that shows them. Read-only, and by the primary keys alone."""

# ruff: noqa: S608 - only our own lists of columns are formatted into statements; values are always parameters

from collections.abc import Sequence
from sqlite3 import Connection

from deploy.embedded import sql
from deploy.embedded.sqlite_reader import SqliteReader
from workers import row_codec
from workers.queries import Emitted
from workers.settlement.plan import Delivery

_SETTLED = f"SELECT {sql.DELIVERY} FROM deliveries ORDER BY log_partition DESC, log_offset DESC LIMIT ?"
_EVENTS = f"SELECT {sql.EMITTED} FROM outbox ORDER BY number DESC LIMIT ?"


class LatestRows:
    """The newest rows, read by the connection for operators. The journal has one partition."""

    def __init__(self, reads: SqliteReader) -> None:
        self._reads = reads

    async def settled(self, limit: int) -> Sequence[Delivery]:
        """Return the deliveries of the newest records, newest first."""

        def work(connection: Connection) -> Sequence[Delivery]:
            return [row_codec.delivery(row) for row in connection.execute(_SETTLED, (limit,))]

        return await self._reads.read(work)

    async def events(self, limit: int) -> Sequence[Emitted]:
        """Return the newest events and notices, newest first."""

        def work(connection: Connection) -> Sequence[Emitted]:
            return [row_codec.emitted(row) for row in connection.execute(_EVENTS, (limit,))]

        return await self._reads.read(work)
