"""Replays of many held notifications: the table of tasks, and their progress, counted from the held rows."""

# ruff: noqa: S608 - only our own lists of columns are formatted into statements; values are always parameters

from collections.abc import Sequence

from workers import queries, row_codec
from workers.postgres import audit, held_lookups
from workers.postgres.database import SqlConnection
from workers.queries import HeldPlace, HeldQuery
from workers.replays import ReplayState, ReplayTask

_COLUMNS = (
    "number, state, account, order_number, disposition, reason, since, before, rate, total, done, applied, duplicate, "
    "stale, held_again, failed, after_first_at, after_partition, after_offset, by_whom, why, started_at, finished_at, "
    "scope"
)
_INSERT = f"""
    INSERT INTO replays (state, account, order_number, disposition, reason, since, before, rate, total, by_whom, why,
        started_at, scope)
    VALUES ('running', $1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12) RETURNING {_COLUMNS}
"""
# If `$5` is NULL, all marked rows after the cursor are counted, and the cursor stays.
_ADVANCE = """
    UPDATE replays SET
        done = replays.done + counted.done, applied = replays.applied + counted.applied,
        duplicate = replays.duplicate + counted.duplicate, stale = replays.stale + counted.stale,
        held_again = replays.held_again + counted.held_again, failed = replays.failed + counted.failed,
        after_first_at = coalesce($5, after_first_at), after_partition = coalesce($6, after_partition),
        after_offset = coalesce($7, after_offset),
        state = CASE WHEN $5 IS NULL THEN 'finished' ELSE state END,
        finished_at = CASE WHEN $5 IS NULL THEN $8 ELSE finished_at END
    FROM (
        SELECT count(*) AS done, count(*) FILTER (WHERE resolution = 'applied') AS applied,
            count(*) FILTER (WHERE resolution = 'duplicate') AS duplicate,
            count(*) FILTER (WHERE resolution = 'stale') AS stale,
            count(*) FILTER (WHERE resolution = '' AND disposition <> 'dead') AS held_again,
            count(*) FILTER (WHERE resolution = '' AND disposition = 'dead') AS failed
        FROM held WHERE replay = $1 AND (first_at, log_partition, log_offset) > ($2, $3, $4)
            AND ($5::timestamptz IS NULL
                OR (first_at, log_partition, log_offset) <= ($5::timestamptz, $6::integer, $7::bigint))
    ) AS counted
    WHERE number = $1 AND (after_first_at, after_partition, after_offset) = ($2, $3, $4)
        AND (state = 'running' OR $5 IS NOT NULL)
"""


async def start(
    connection: SqlConnection, query: HeldQuery, *, rate: int, by: str, why: str, now_ms: int
) -> ReplayTask:
    """Write a task for the rows that match the query now."""
    matching = await held_lookups.groups(connection, queries.until_now(query, now_ms))
    total = sum(group.count for group in matching)
    row = await connection.fetchrow(
        _INSERT, query.account, query.order, query.disposition, query.reason, query.since_ms, query.before_ms, rate,
        total, by, why, now_ms, query.scope,
    )  # fmt: skip
    task = row_codec.replay_task(row)
    await audit.note(connection, "replay_start", [f"replay:{task.number}"], by=by, why=why, now_ms=now_ms)
    return task


async def one(connection: SqlConnection, number: int) -> ReplayTask | None:
    """Return the task with this number."""
    row = await connection.fetchrow(f"SELECT {_COLUMNS} FROM replays WHERE number = $1", number)
    return None if row is None else row_codec.replay_task(row)


async def newest(connection: SqlConnection, limit: int, before: int | None) -> Sequence[ReplayTask]:
    """Return tasks below this number, newest first."""
    found = await connection.fetch(
        f"SELECT {_COLUMNS} FROM replays WHERE $2::bigint IS NULL OR number < $2 ORDER BY number DESC LIMIT $1",
        limit,
        before,
    )
    return [row_codec.replay_task(row) for row in found]


async def running(connection: SqlConnection) -> ReplayTask | None:
    """Return the oldest task that is running."""
    row = await connection.fetchrow(f"SELECT {_COLUMNS} FROM replays WHERE state = 'running' ORDER BY number LIMIT 1")
    return None if row is None else row_codec.replay_task(row)


async def switch(
    connection: SqlConnection, number: int, before: ReplayState, after: ReplayState, *, by: str, why: str, now_ms: int
) -> bool:
    """Change the task's state if it is `before`, and write an audit row."""
    switched = await connection.fetchval(
        "UPDATE replays SET state = $3 WHERE number = $1 AND state = $2 RETURNING true",
        number,
        before.value,
        after.value,
    )
    if switched:
        action = "replay_cancel" if after is ReplayState.CANCELLED else "replay_resume"
        await audit.note(connection, action, [f"replay:{number}"], by=by, why=why, now_ms=now_ms)
    return bool(switched)


async def advance(connection: SqlConnection, task: ReplayTask, upto: HeldPlace | None, now_ms: int) -> None:
    """Count the task's rows up to the place, and move its cursor there; `None` ends it."""
    after = task.query.after
    assert after is not None
    end = (None, None, None) if upto is None else (upto.first_at_ms, upto.position.partition, upto.position.offset)
    await connection.execute(
        _ADVANCE, task.number, after.first_at_ms, after.position.partition, after.position.offset, *end, now_ms
    )
