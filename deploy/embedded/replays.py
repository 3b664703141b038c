"""Replays of many held notifications: the table of tasks, and their progress, counted from the held rows."""

# ruff: noqa: S608 - only our own lists of columns are formatted into statements; values are always parameters

from collections.abc import Sequence
from sqlite3 import Connection

from deploy.embedded import decisions
from workers import row_codec
from workers.queries import HeldPlace, HeldQuery
from workers.replays import ReplayState, ReplayTask

_COLUMNS = (
    "number, state, account, order_number, disposition, reason, since_ms, before_ms, rate, total, done, applied, "
    "duplicate, stale, held_again, failed, after_first_at_ms, after_partition, after_offset, by_whom, why, "
    "started_at_ms, finished_at_ms, scope"
)
_INSERT = """
    INSERT INTO replays (state, account, order_number, disposition, reason, since_ms, before_ms, rate, total, by_whom,
        why, started_at_ms, scope)
    VALUES ('running', ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
"""
# If `?5` is NULL, all marked rows after the cursor are counted, and the cursor stays.
_ADVANCE = """
    UPDATE replays SET
        done = replays.done + counted.done, applied = replays.applied + counted.applied,
        duplicate = replays.duplicate + counted.duplicate, stale = replays.stale + counted.stale,
        held_again = replays.held_again + counted.held_again, failed = replays.failed + counted.failed,
        after_first_at_ms = coalesce(?5, after_first_at_ms), after_partition = coalesce(?6, after_partition),
        after_offset = coalesce(?7, after_offset),
        state = CASE WHEN ?5 IS NULL THEN 'finished' ELSE state END,
        finished_at_ms = CASE WHEN ?5 IS NULL THEN ?8 ELSE finished_at_ms END
    FROM (
        SELECT count(*) AS done, count(*) FILTER (WHERE resolution = 'applied') AS applied,
            count(*) FILTER (WHERE resolution = 'duplicate') AS duplicate,
            count(*) FILTER (WHERE resolution = 'stale') AS stale,
            count(*) FILTER (WHERE resolution = '' AND disposition <> 'dead') AS held_again,
            count(*) FILTER (WHERE resolution = '' AND disposition = 'dead') AS failed
        FROM held WHERE replay = ?1 AND (first_at_ms, log_partition, log_offset) > (?2, ?3, ?4)
            AND (?5 IS NULL OR (first_at_ms, log_partition, log_offset) <= (?5, ?6, ?7))
    ) AS counted
    WHERE number = ?1 AND (after_first_at_ms, after_partition, after_offset) = (?2, ?3, ?4)
        AND (state = 'running' OR ?5 IS NOT NULL)
"""


def start(
    connection: Connection, query: HeldQuery, *, total: int, rate: int, by: str, why: str, now_ms: int
) -> ReplayTask:
    """Write a task for the `total` rows that match the query."""
    number = connection.execute(
        _INSERT,
        (
            query.account, query.order, query.disposition, query.reason, query.since_ms, query.before_ms, rate, total,
            by, why, now_ms, query.scope,
        ),
    ).lastrowid  # fmt: skip
    decisions.audit(connection, now_ms, "replay_start", [f"replay:{number}"], by, why)
    task = one(connection, number or 0)
    assert task is not None
    return task


def one(connection: Connection, number: int) -> ReplayTask | None:
    """Return the task with this number."""
    row = connection.execute(f"SELECT {_COLUMNS} FROM replays WHERE number = ?", (number,)).fetchone()
    return None if row is None else row_codec.replay_task(row)


def newest(connection: Connection, limit: int, before: int | None) -> Sequence[ReplayTask]:
    """Return tasks below this number, newest first."""
    found = connection.execute(
        f"SELECT {_COLUMNS} FROM replays WHERE ?2 IS NULL OR number < ?2 ORDER BY number DESC LIMIT ?1", (limit, before)
    )
    return [row_codec.replay_task(row) for row in found]


def running(connection: Connection) -> ReplayTask | None:
    """Return the oldest task that is running."""
    row = connection.execute(
        f"SELECT {_COLUMNS} FROM replays WHERE state = 'running' ORDER BY number LIMIT 1"
    ).fetchone()
    return None if row is None else row_codec.replay_task(row)


def switch(
    connection: Connection, number: int, before: ReplayState, after: ReplayState, *, by: str, why: str, now_ms: int
) -> bool:
    """Change the task's state if it is `before`, and write an audit row."""
    switched = connection.execute(
        "UPDATE replays SET state = ? WHERE number = ? AND state = ?", (after.value, number, before.value)
    ).rowcount
    if switched:
        action = "replay_cancel" if after is ReplayState.CANCELLED else "replay_resume"
        decisions.audit(connection, now_ms, action, [f"replay:{number}"], by, why)
    return switched > 0


def advance(connection: Connection, task: ReplayTask, upto: HeldPlace | None, now_ms: int) -> None:
    """Count the task's rows up to the place, and move its cursor there; `None` ends it."""
    after = task.query.after
    assert after is not None
    end = (None, None, None) if upto is None else (upto.first_at_ms, upto.position.partition, upto.position.offset)
    place = (after.first_at_ms, after.position.partition, after.position.offset)
    connection.execute(_ADVANCE, (task.number, *place, *end, now_ms))
