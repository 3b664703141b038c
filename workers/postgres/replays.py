"""Tasks over many held notifications: their table, and their progress, counted from the held rows."""

# ruff: noqa: S608 - only our own lists of columns are formatted into statements; values are always parameters

from collections.abc import Collection

from workers import held_lists, replays
from workers.postgres import audit, held_lookups
from workers.postgres.database import SqlConnection
from workers.queries import HeldPlace
from workers.replays import RESOLUTIONS, NewTask, ReplayState, ReplayTask, TaskAction, TaskList

# A task that the release before cannot do is cancelled for it, and has its state in `own_state`.
_STATE = "coalesce(own_state, state)"
_COLUMNS = (
    f"number, {_STATE}, account, order_number, disposition, reason, since, before, rate, total, done, applied, "
    "duplicate, stale, held_again, failed, after_first_at, after_partition, after_offset, by_whom, why, started_at, "
    "finished_at, scope, action, ids, decided, failures"
)
_INSERT = f"""
    INSERT INTO replays (state, own_state, action, ids, account, order_number, disposition, reason, since, before,
        scope, rate, total, by_whom, why, started_at)
    VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16) RETURNING {_COLUMNS}
"""
# If `$5` is NULL, all marked rows after the cursor are counted, and the cursor stays.
_ADVANCE = f"""
    UPDATE replays SET
        done = replays.done + counted.done, applied = replays.applied + counted.applied,
        duplicate = replays.duplicate + counted.duplicate, stale = replays.stale + counted.stale,
        held_again = replays.held_again + counted.held_again, failed = replays.failed + counted.failed,
        decided = replays.decided + counted.decided, failures = $10,
        after_first_at = coalesce($5, after_first_at), after_partition = coalesce($6, after_partition),
        after_offset = coalesce($7, after_offset),
        state = CASE WHEN $5 IS NULL AND own_state IS NULL THEN 'finished' ELSE state END,
        own_state = CASE WHEN $5 IS NULL AND own_state IS NOT NULL THEN 'finished' ELSE own_state END,
        finished_at = CASE WHEN $5 IS NULL THEN $8 ELSE finished_at END
    FROM (
        SELECT count(*) AS done, count(*) FILTER (WHERE resolution = 'applied') AS applied,
            count(*) FILTER (WHERE resolution = 'duplicate') AS duplicate,
            count(*) FILTER (WHERE resolution = 'stale') AS stale,
            count(*) FILTER (WHERE resolution = '' AND disposition <> 'dead') AS held_again,
            count(*) FILTER (WHERE resolution = '' AND disposition = 'dead') AS failed,
            count(*) FILTER (WHERE resolution = $9) AS decided
        FROM held WHERE replay = $1 AND (first_at, log_partition, log_offset) > ($2, $3, $4)
            AND ($5::timestamptz IS NULL
                OR (first_at, log_partition, log_offset) <= ($5::timestamptz, $6::integer, $7::bigint))
    ) AS counted
    WHERE number = $1 AND (after_first_at, after_partition, after_offset) = ($2, $3, $4)
        AND ({_STATE} = 'running' OR $5 IS NOT NULL)
"""
_SWITCH = f"""
    UPDATE replays SET state = CASE WHEN own_state IS NULL THEN $3 ELSE state END,
        own_state = CASE WHEN own_state IS NULL THEN NULL ELSE $3 END
    WHERE number = $1 AND {_STATE} = $2 RETURNING action
"""


async def start(connection: SqlConnection, new: NewTask, *, now_ms: int) -> ReplayTask:
    """Write a task for the rows that match now."""
    matching = await held_lookups.groups(
        connection, held_lists.until_now(held_lists.for_task(new.query, now_ms), now_ms)
    )
    total = sum(group.count for group in matching)
    task = replays.of_row(await connection.fetchrow(_INSERT, *replays.row(new, total=total, now_ms=now_ms)))
    await _note(connection, task.action, "start", task.number, by=new.by, why=new.why, now_ms=now_ms)
    return task


async def one(connection: SqlConnection, number: int) -> ReplayTask | None:
    """Return the task with this number."""
    row = await connection.fetchrow(f"SELECT {_COLUMNS} FROM replays WHERE number = $1", number)
    return None if row is None else replays.of_row(row)


async def newest(connection: SqlConnection, limit: int, before: int | None) -> TaskList:
    """Return tasks below this number, newest first."""
    found = await connection.fetch(
        f"SELECT {_COLUMNS} FROM replays WHERE $2::bigint IS NULL OR number < $2 ORDER BY number DESC LIMIT $1",
        limit,
        before,
    )
    tasks = [replays.of_row(row) for row in found]
    last = tasks[-1].number if tasks else before
    more = await connection.fetchval("SELECT count(*) FROM replays WHERE $1::bigint IS NULL OR number < $1", last)
    return TaskList(tasks=tasks, more=more)


async def running(connection: SqlConnection, aside: Collection[int]) -> ReplayTask | None:
    """Return the oldest task that is running, of those without these numbers."""
    row = await connection.fetchrow(
        f"SELECT {_COLUMNS} FROM replays WHERE (state = 'running' OR own_state = 'running') "
        "AND number <> ALL($1::bigint[]) ORDER BY number LIMIT 1",
        list(aside),
    )
    return None if row is None else replays.of_row(row)


async def switch(
    connection: SqlConnection, number: int, before: ReplayState, after: ReplayState, *, by: str, why: str, now_ms: int
) -> bool:
    """Change the task's state if it is `before`, and write an audit row."""
    action = await connection.fetchval(_SWITCH, number, before.value, after.value)
    if action is None:
        return False
    verb = "cancel" if after is ReplayState.CANCELLED else "resume"
    await _note(connection, TaskAction(action), verb, number, by=by, why=why, now_ms=now_ms)
    return True


async def advance(connection: SqlConnection, task: ReplayTask, upto: HeldPlace | None, now_ms: int) -> None:
    """Count the task's rows up to the place, and move its cursor there; `None` ends it."""
    after = task.query.after
    assert after is not None
    end = (None, None, None) if upto is None else (upto.first_at_ms, upto.position.partition, upto.position.offset)
    place = (after.first_at_ms, after.position.partition, after.position.offset)
    resolution, failures = RESOLUTIONS.get(task.action), replays.failures_column(task)
    await connection.execute(_ADVANCE, task.number, *place, *end, now_ms, resolution, failures)


async def _note(
    connection: SqlConnection, action: TaskAction, verb: str, number: int, *, by: str, why: str, now_ms: int
) -> None:
    noted, subject = replays.audit_row(action, verb, number)
    await audit.note(connection, noted, [subject], by=by, why=why, now_ms=now_ms)
