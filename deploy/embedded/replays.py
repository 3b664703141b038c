"""Tasks over many held notifications: their table, and their progress, counted from the held rows."""

# ruff: noqa: S608 - only our own lists of columns are formatted into statements; values are always parameters

from collections.abc import Collection
from sqlite3 import Connection

from deploy.embedded import decisions, sql
from workers import replays
from workers.queries import HeldPlace
from workers.replays import RESOLUTIONS, NewTask, ReplayState, ReplayTask, TaskAction, TaskList

# A task that the release before cannot do is cancelled for it, and has its state in `own_state`.
_STATE = "coalesce(own_state, state)"
_COLUMNS = (
    f"number, {_STATE}, account, order_number, disposition, reason, since_ms, before_ms, rate, total, done, applied, "
    "duplicate, stale, held_again, failed, after_first_at_ms, after_partition, after_offset, by_whom, why, "
    "started_at_ms, finished_at_ms, scope, action, ids, decided, failures"
)
_INSERT = """
    INSERT INTO replays (state, own_state, action, ids, account, order_number, disposition, reason, since_ms, before_ms,
        scope, rate, total, by_whom, why, started_at_ms)
    VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
"""
# If `?5` is NULL, all marked rows after the cursor are counted, and the cursor stays.
_ADVANCE = f"""
    UPDATE replays SET
        done = replays.done + counted.done, applied = replays.applied + counted.applied,
        duplicate = replays.duplicate + counted.duplicate, stale = replays.stale + counted.stale,
        held_again = replays.held_again + counted.held_again, failed = replays.failed + counted.failed,
        decided = replays.decided + counted.decided, failures = ?10,
        after_first_at_ms = coalesce(?5, after_first_at_ms), after_partition = coalesce(?6, after_partition),
        after_offset = coalesce(?7, after_offset),
        state = CASE WHEN ?5 IS NULL AND own_state IS NULL THEN 'finished' ELSE state END,
        own_state = CASE WHEN ?5 IS NULL AND own_state IS NOT NULL THEN 'finished' ELSE own_state END,
        finished_at_ms = CASE WHEN ?5 IS NULL THEN ?8 ELSE finished_at_ms END
    FROM (
        SELECT count(*) AS done, count(*) FILTER (WHERE resolution = 'applied') AS applied,
            count(*) FILTER (WHERE resolution = 'duplicate') AS duplicate,
            count(*) FILTER (WHERE resolution = 'stale') AS stale,
            count(*) FILTER (WHERE resolution = '' AND disposition <> 'dead') AS held_again,
            count(*) FILTER (WHERE resolution = '' AND disposition = 'dead') AS failed,
            count(*) FILTER (WHERE resolution = ?9) AS decided
        FROM held WHERE replay = ?1 AND (first_at_ms, log_partition, log_offset) > (?2, ?3, ?4)
            AND (?5 IS NULL OR (first_at_ms, log_partition, log_offset) <= (?5, ?6, ?7))
    ) AS counted
    WHERE number = ?1 AND (after_first_at_ms, after_partition, after_offset) = (?2, ?3, ?4)
        AND ({_STATE} = 'running' OR ?5 IS NOT NULL)
"""
_SWITCH = f"""
    UPDATE replays SET state = CASE WHEN own_state IS NULL THEN ?3 ELSE state END,
        own_state = CASE WHEN own_state IS NULL THEN NULL ELSE ?3 END
    WHERE number = ?1 AND {_STATE} = ?2 RETURNING action
"""


def start(connection: Connection, new: NewTask, *, total: int, now_ms: int) -> ReplayTask:
    """Write a task for the `total` rows that match."""
    number = connection.execute(_INSERT, replays.row(new, total=total, now_ms=now_ms)).lastrowid or 0
    noted, subject = replays.audit_row(new.action, "start", number)
    decisions.audit(connection, now_ms, noted, [subject], new.by, new.why)
    task = one(connection, number)
    assert task is not None
    return task


def one(connection: Connection, number: int) -> ReplayTask | None:
    """Return the task with this number."""
    row = connection.execute(f"SELECT {_COLUMNS} FROM replays WHERE number = ?", (number,)).fetchone()
    return None if row is None else replays.of_row(row)


def newest(connection: Connection, limit: int, before: int | None) -> TaskList:
    """Return tasks below this number, newest first."""
    found = connection.execute(
        f"SELECT {_COLUMNS} FROM replays WHERE ?2 IS NULL OR number < ?2 ORDER BY number DESC LIMIT ?1", (limit, before)
    )
    tasks = [replays.of_row(row) for row in found]
    last = tasks[-1].number if tasks else before
    (more,) = connection.execute("SELECT count(*) FROM replays WHERE ?1 IS NULL OR number < ?1", (last,)).fetchone()
    return TaskList(tasks=tasks, more=more)


def running(connection: Connection, aside: Collection[int]) -> ReplayTask | None:
    """Return the oldest task that is running, of those without these numbers."""
    row = connection.execute(
        f"SELECT {_COLUMNS} FROM replays WHERE (state = 'running' OR own_state = 'running') "
        "AND number NOT IN (SELECT value FROM json_each(?)) ORDER BY number LIMIT 1",
        (sql.as_json(list(aside)),),
    ).fetchone()
    return None if row is None else replays.of_row(row)


def switch(
    connection: Connection, number: int, before: ReplayState, after: ReplayState, *, by: str, why: str, now_ms: int
) -> bool:
    """Change the task's state if it is `before`, and write an audit row."""
    switched = connection.execute(_SWITCH, (number, before.value, after.value)).fetchone()
    if switched is None:
        return False
    verb = "cancel" if after is ReplayState.CANCELLED else "resume"
    noted, subject = replays.audit_row(TaskAction(switched[0]), verb, number)
    decisions.audit(connection, now_ms, noted, [subject], by, why)
    return True


def advance(connection: Connection, task: ReplayTask, upto: HeldPlace | None, now_ms: int) -> None:
    """Count the task's rows up to the place, and move its cursor there; `None` ends it."""
    after = task.query.after
    assert after is not None
    end = (None, None, None) if upto is None else (upto.first_at_ms, upto.position.partition, upto.position.offset)
    place = (after.first_at_ms, after.position.partition, after.position.offset)
    resolution, failures = RESOLUTIONS.get(task.action), replays.failures_column(task)
    connection.execute(_ADVANCE, (task.number, *place, *end, now_ms, resolution, failures))
