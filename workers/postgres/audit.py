"""Operators' decisions and replays, and the audit rows of all their actions."""

from collections.abc import Sequence
from functools import partial

from workers import row_codec
from workers.errors import RowsLocked
from workers.postgres import columns, load
from workers.postgres.columns import arrays
from workers.postgres.database import BRIEFLY, Database, SqlConnection
from workers.settlement.plan import DecisionRow, Position

_INSERT_DECISIONS = columns.DECISIONS.insert("decisions")
_RESOLVE = """
    UPDATE held SET resolved_at = $3, resolution = $4, due_at = NULL, by_whom = $5, why = $6,
        replay = coalesce($7, replay)
    WHERE log_partition = $1 AND log_offset = $2 AND resolved_at IS NULL
"""
_COUNT_REPLAY = """
    UPDATE held SET replays = replays + 1, by_whom = $3, why = $4, replay = $5
    FROM (
        SELECT h.log_partition, h.log_offset
        FROM unnest($1::integer[], $2::bigint[]) AS place(log_partition, log_offset)
        JOIN held AS h ON h.log_partition = place.log_partition AND h.log_offset = place.log_offset
        ORDER BY h.log_partition, h.log_offset FOR NO KEY UPDATE OF h{skip}
    ) AS replayed
    WHERE held.log_partition = replayed.log_partition AND held.log_offset = replayed.log_offset
"""
_COUNT_ALL, _COUNT_FREE = _COUNT_REPLAY.format(skip=""), _COUNT_REPLAY.format(skip=" SKIP LOCKED")
_AUDIT = """
    INSERT INTO audit (at, action, subject, by_whom, why)
    SELECT $2, $3, subject, $4, $5 FROM unnest($1::text[]) AS given(subject)
"""


async def note(
    connection: SqlConnection, action: str, subjects: Sequence[str], *, by: str, why: str, now_ms: int
) -> None:
    """Write an audit row for each subject of the action. `by` is the operator, `why` the reason given."""
    await connection.execute(_AUDIT, subjects, now_ms, action, by, why)


async def decide(connection: SqlConnection, decisions: Sequence[DecisionRow]) -> None:
    """Write the decisions with their audit rows, and resolve their held rows. Call it before the orders are written."""
    await connection.execute(_INSERT_DECISIONS, *arrays(row_codec.decision_row(each) for each in decisions))
    for position, decision in {each.position: each for each in decisions}.items():
        by, why, at_ms = decision.by, decision.why, decision.at_ms
        place = (position.partition, position.offset)
        await connection.execute(_RESOLVE, *place, at_ms, decision.resolution, by, why, decision.task)
        await note(connection, decision.action, [str(position)], by=by, why=decision.audited, now_ms=at_ms)


async def note_replay(
    database: Database, positions: Sequence[Position], *, by: str, why: str, now_ms: int, replay: int | None
) -> None:
    """Count a replay of these held rows, and write their audit rows. `replay` is the task that it belongs to.

    Rows that another session keeps locked are not counted.
    """

    async def work(connection: SqlConnection, count: str) -> None:
        await connection.execute(count, *load.places(positions), by, why, replay)
        await note(connection, "replay", [str(position) for position in positions], by=by, why=why, now_ms=now_ms)

    try:
        await database.write(partial(work, count=_COUNT_ALL), first=BRIEFLY)
    except RowsLocked:
        await database.write(partial(work, count=_COUNT_FREE))
