"""Make parked rows due whose condition has come true (`settlement.parking` has their life).

The transaction that makes a condition true also wakes the rows that wait for it, at most `WOKEN_MAX`. If there are
more, it notes in the table `wakes` how far it came. The sweeper goes on from there, as many rows in each transaction:
appends and batches get their turn in between, and a crash forgets no wake.

A noted wake goes on behind the last row that it met. So a row that is retried meanwhile, and parked once more for the
same condition, is not woken again and again.
"""

from sqlite3 import Connection

from workers.settlement.parking import WOKEN_MAX

Place = tuple[int, int]  # partition and offset
BEFORE_ALL: Place = (-1, -1)

_IS_ANY_PARKED = "SELECT 1 FROM held WHERE disposition = 'parked' AND resolved_at_ms IS NULL LIMIT 1"
# The index is named, because SQLite would as soon go through all parked rows.
_WAKE = """
    UPDATE held SET due_at_ms = min(coalesce(due_at_ms, ?1), ?1) WHERE (log_partition, log_offset) IN (
        SELECT log_partition, log_offset FROM held INDEXED BY held_waiting
        WHERE disposition = 'parked' AND resolved_at_ms IS NULL AND account = ?2 AND waits_for = ?3
            AND (log_partition, log_offset) > (?4, ?5)
        ORDER BY log_partition, log_offset LIMIT ?6
    ) RETURNING log_partition, log_offset
"""
_IS_ANY_BEHIND = """
    SELECT 1 FROM held INDEXED BY held_waiting
    WHERE disposition = 'parked' AND resolved_at_ms IS NULL AND account = ? AND waits_for = ?
        AND (log_partition, log_offset) > (?, ?) LIMIT 1
"""
_NOTE = "INSERT INTO wakes (account, waits_for, after_partition, after_offset) VALUES (?, ?, ?, ?)"
_OLDEST = "SELECT number, account, waits_for, after_partition, after_offset FROM wakes ORDER BY number LIMIT 1"


def wake(connection: Connection, conditions: set[tuple[str, str]], now_ms: int) -> int:
    """Make due the rows that wait for one of these conditions, and note what is left. Return how many are due."""
    if not conditions or connection.execute(_IS_ANY_PARKED).fetchone() is None:
        return 0
    room = WOKEN_MAX
    for account, waits_for in sorted(conditions):
        room -= _wake_some(connection, (account, waits_for), BEFORE_ALL, room, now_ms)
    return WOKEN_MAX - room


def has_any(connection: Connection) -> bool:
    """Return whether there are noted wakes to go on with."""
    return connection.execute(_OLDEST).fetchone() is not None


def go_on(connection: Connection, now_ms: int) -> None:
    """Make at most `WOKEN_MAX` rows of noted wakes due, those that were noted first."""
    room = WOKEN_MAX
    while room and (noted := connection.execute(_OLDEST).fetchone()):
        number, account, waits_for, partition, offset = noted
        connection.execute("DELETE FROM wakes WHERE number = ?", (number,))
        room -= _wake_some(connection, (account, waits_for), (partition, offset), room, now_ms)


def _wake_some(connection: Connection, condition: tuple[str, str], after: Place, room: int, now_ms: int) -> int:
    """Make at most `room` rows behind this place due, and note the place of the last if there are more."""
    woken: list[Place] = connection.execute(_WAKE, (now_ms, *condition, *after, room)).fetchall()
    if len(woken) == room:
        last = max(woken, default=after)
        if connection.execute(_IS_ANY_BEHIND, (*condition, *last)).fetchone():
            connection.execute(_NOTE, (*condition, *last))
    return len(woken)
