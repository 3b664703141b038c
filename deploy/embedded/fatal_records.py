"""The notes that runs of the engine leave on the records that they have in hand (`workers.fatal_records`).

Only one process has the data directory open, so whichever other run has left a note has ended.
"""

import secrets
from collections.abc import Sequence
from sqlite3 import Connection

from deploy.embedded import sql
from deploy.embedded.sqlite import SqliteDatabase
from workers.fatal_records import Begun
from workers.settlement.plan import Position


class SqliteBegunNotes:
    """The notes of one run."""

    def __init__(self, database: SqliteDatabase) -> None:
        self._database = database
        self._run = secrets.token_hex(8)  # in a container, each run has the same process id

    async def begin(self, positions: Sequence[Position], *, is_alone: bool) -> Sequence[Begun]:
        def work(connection: Connection) -> Sequence[Begun]:
            rows = [(each.partition, each.offset, is_alone, self._run) for each in positions]
            sql.insert(connection, _BEGIN, rows, after="ON CONFLICT DO NOTHING")
            partitions = sql.as_json([position.partition for position in positions])
            return [
                Begun(position=Position(partition, offset), is_alone=bool(alone), processes=runs, ended=runs)
                for partition, offset, alone, runs in connection.execute(_OTHERS, (self._run, partitions))
            ]

        return await self._database.write(work)

    async def end(self, positions: Sequence[Position], *, only_own: bool = False) -> None:
        statement, more = (f"{_END} AND holder = ?", (self._run,)) if only_own else (_END, ())
        rows = [(each.partition, each.offset, *more) for each in positions]
        await self._database.write(lambda connection: connection.executemany(statement, rows))


_BEGIN = "INSERT INTO begun (log_partition, log_offset, is_alone, holder)"
_OTHERS = """
    SELECT log_partition, log_offset, is_alone, count(*) FROM begun
    WHERE holder <> ? AND log_partition IN (SELECT value FROM json_each(?))
    GROUP BY log_partition, log_offset, is_alone
"""
_END = "DELETE FROM begun WHERE log_partition = ? AND log_offset = ?"
