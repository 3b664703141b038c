"""Operator actions (discard, replay) and the audit rows of all actions."""

from collections.abc import Sequence

from workers.postgres.database import SqlConnection
from workers.settlement.plan import Position

_DISCARD = """
    UPDATE held SET resolved_at = $3, resolution = 'discarded', due_at = NULL, by_whom = $4, why = $5
    WHERE log_partition = $1 AND log_offset = $2 AND resolved_at IS NULL
    RETURNING true
"""
_COUNT_REPLAY = """
    UPDATE held SET replays = replays + 1, by_whom = $3, why = $4
    FROM (
        SELECT h.log_partition, h.log_offset
        FROM unnest($1::integer[], $2::bigint[]) AS place(log_partition, log_offset)
        JOIN held AS h ON h.log_partition = place.log_partition AND h.log_offset = place.log_offset
        ORDER BY h.log_partition, h.log_offset FOR NO KEY UPDATE OF h
    ) AS replayed
    WHERE held.log_partition = replayed.log_partition AND held.log_offset = replayed.log_offset
"""
_AUDIT = """
    INSERT INTO audit (at, action, subject, by_whom, why)
    SELECT $2, $3, subject, $4, $5 FROM unnest($1::text[]) AS given(subject)
"""


async def note(
    connection: SqlConnection, action: str, subjects: Sequence[str], *, by: str, why: str, now_ms: int
) -> None:
    """Write an audit row for each subject of the action. `by` is the operator, `why` the reason given."""
    await connection.execute(_AUDIT, subjects, now_ms, action, by, why)


async def discard(connection: SqlConnection, position: Position, *, by: str, why: str, now_ms: int) -> bool:
    """Resolve a held row without applying it; False if there is no such row, or it is resolved already."""
    resolved = await connection.fetchval(_DISCARD, position.partition, position.offset, now_ms, by, why)
    if resolved:
        await note(connection, "discard", [str(position)], by=by, why=why, now_ms=now_ms)
    return bool(resolved)


async def note_replay(
    connection: SqlConnection, positions: Sequence[Position], *, by: str, why: str, now_ms: int
) -> None:
    """Count a replay of these held rows, and write their audit rows."""
    partitions, offsets = [each.partition for each in positions], [each.offset for each in positions]
    await connection.execute(_COUNT_REPLAY, partitions, offsets, by, why)
    await note(connection, "replay", [str(position) for position in positions], by=by, why=why, now_ms=now_ms)
