"""The notes that workers leave on the records that they have in hand (`workers.fatal_records`), in the database.

A process writes them after its start, after a partition is assigned to it, and for each record that it handles alone.
All times are those of the database's clock.
"""

from collections.abc import Sequence

from workers.fatal_records import Begun
from workers.postgres import load
from workers.postgres.database import BRIEFLY, Database, SqlConnection
from workers.settlement.plan import Position

# After it no living process has a record alone in hand: settling ends within `processing.SETTLING_MAX_S`.
SURELY_ENDED_S = 90
KEPT_DAYS = 7  # as long as the log keeps its records at least; notes of older ones are not met any more


class PostgresBegunNotes:
    """The notes of one process. `holder` is its name, which no other process has."""

    def __init__(self, database: Database, *, holder: str, surely_ended_s: float | None = None) -> None:
        self._database = database
        self._holder = holder
        self._surely_ended_s = SURELY_ENDED_S if surely_ended_s is None else surely_ended_s

    async def begin(self, positions: Sequence[Position], *, is_alone: bool) -> Sequence[Begun]:
        async def work(connection: SqlConnection) -> Sequence[Begun]:
            await connection.execute(_FORGET, KEPT_DAYS)
            await connection.execute(_BEGIN, *load.places(positions), is_alone, self._holder)
            partitions = [position.partition for position in positions]
            found = await connection.fetch(_OTHERS, partitions, self._holder, self._surely_ended_s)
            return [
                Begun(position=Position(partition, offset), is_alone=alone, processes=processes, ended=ended)
                for partition, offset, alone, processes, ended in found
            ]

        return await self._database.write(work, first=BRIEFLY)

    async def end(self, positions: Sequence[Position], *, only_own: bool = False) -> None:
        async def work(connection: SqlConnection) -> None:
            await connection.execute(_END, *load.places(positions), self._holder if only_own else None)

        await self._database.write(work, first=BRIEFLY)


# Notes that another session has locked stay: they are old, or are removed by the next process that begins there.
_FORGET = """
    DELETE FROM begun WHERE ctid = ANY(ARRAY(
        SELECT ctid FROM begun WHERE at < now() - make_interval(days => $1) FOR UPDATE SKIP LOCKED
    ))
"""
_BEGIN = """
    INSERT INTO begun (log_partition, log_offset, is_alone, holder, at)
    SELECT log_partition, log_offset, $3, $4, now()
    FROM unnest($1::integer[], $2::bigint[]) AS place(log_partition, log_offset)
    ON CONFLICT DO NOTHING
"""
# A note of a moment that is still to come was written before the database's clock was set back.
_OTHERS = """
    SELECT log_partition, log_offset, is_alone, count(*),
        count(*) FILTER (WHERE at NOT BETWEEN now() - make_interval(secs => $3) AND now())
    FROM begun WHERE log_partition = ANY($1::integer[]) AND holder <> $2
    GROUP BY log_partition, log_offset, is_alone
"""
_END = """
    DELETE FROM begun WHERE ctid = ANY(ARRAY(
        SELECT begun.ctid FROM begun
        JOIN unnest($1::integer[], $2::bigint[]) AS place(log_partition, log_offset) USING (log_partition, log_offset)
        WHERE $3::text IS NULL OR holder = $3 FOR UPDATE OF begun SKIP LOCKED
    ))
"""
