"""Make parked rows due whose condition has come true (`settlement.parking` has their life).

The transaction that makes a condition true also wakes the rows that wait for it, if they are few and free. The others
it notes in the table `wakes`: a row that another session has locked, and a condition that very many rows wait for. The
sweeper of the leading worker goes on with them, at most `WOKEN_MAX` rows in a transaction, until none is left. So no
transaction waits for a held row or becomes long, and a crash forgets no wake.

A noted wake is a span of positions, and goes on behind the last row that it met. So a row that is retried meanwhile,
and parked once more for the same condition, is not woken again and again.
"""

# ruff: noqa: S608 - only our own lists of columns are formatted into statements; values are always parameters

from collections.abc import Callable, Iterable, Sequence

from msgspec import Struct

from workers.postgres.columns import Columns, arrays
from workers.postgres.database import Database, SqlConnection
from workers.settlement.parking import WOKEN_MAX

CHANNEL = "alipay_notify_wakes"  # of `workers.postgres.wake_listener`; it carries the schema
WAKES_MAX = 100  # spans that one transaction looks at

Place = tuple[int, int]  # partition and offset
BEFORE_ALL: Place = (-1, -1)
BEHIND_ALL: Place = (2**31 - 1, 2**63 - 1)


class WakeSpan(Struct, frozen=True):
    """The rows that wait for a condition, behind one position and up to another."""

    account: str
    waits_for: str
    after: Place
    upto: Place


async def wake(connection: SqlConnection, conditions: set[tuple[str, str]], now_ms: int) -> int:
    """Make due the rows that wait for one of these conditions, or note them. Return how many were met."""
    # Usually nothing is parked. Then the conditions, twice as many as there are orders, are not even sent.
    if not conditions or not await connection.fetchval(_IS_ANY_PARKED):
        return 0
    named = arrays(sorted(conditions))
    waiting = await connection.fetch(_WAITING, *named, WOKEN_MAX + 1)
    if waiting:
        await connection.execute(_TELL)
    if len(waiting) > WOKEN_MAX:
        waited_for = await connection.fetch(_WAITED_FOR, *named)
        await _note(
            connection, [WakeSpan(account, waits_for, BEFORE_ALL, BEHIND_ALL) for account, waits_for in waited_for]
        )
    else:
        await _note(connection, await _wake_free(connection, [(*row,) for row in waiting], now_ms))
    return len(waiting)


class NotedWakes:
    """The wakes that are noted and not finished."""

    def __init__(self, database: Database, now_ms: Callable[[], int]) -> None:
        self._database = database
        self._now_ms = now_ms

    async def go_on(self) -> bool:
        """Go on with them in one transaction. Return whether there were any."""
        if not await self._database.read(lambda connection: connection.fetchval("SELECT EXISTS (SELECT FROM wakes)")):
            return False
        await self._database.write(lambda connection: _wake_noted(connection, self._now_ms()))
        return True


async def _wake_noted(connection: SqlConnection, now_ms: int) -> None:
    """Make at most `WOKEN_MAX` rows of noted wakes due, those that were noted first; note again what is left."""
    left: list[WakeSpan] = []
    room = WOKEN_MAX
    for _, *columns in sorted(await connection.fetch(_TAKE, WAKES_MAX), key=lambda row: row[0]):
        span = _span(*columns)
        waiting: list[Place] = []
        if room:
            found = await connection.fetch(_IN_SPAN, span.account, span.waits_for, *span.after, *span.upto, room)
            waiting = [(partition, offset) for partition, offset in found]
        rows = [(span.account, span.waits_for, *place) for place in waiting]
        left += await _wake_free(connection, rows, now_ms)
        if len(waiting) == room:  # there may be more
            left.append(WakeSpan(span.account, span.waits_for, waiting[-1] if waiting else span.after, span.upto))
        room -= len(waiting)
    await _note(connection, left)


def _span(account: str, waits_for: str, partition: int, offset: int, upto_partition: int, upto_offset: int) -> WakeSpan:
    return WakeSpan(account, waits_for, (partition, offset), (upto_partition, upto_offset))


async def _wake_free(
    connection: SqlConnection, waiting: Sequence[tuple[str, str, int, int]], now_ms: int
) -> list[WakeSpan]:
    """Make the free rows due. Return the others: another session has locked them, or ended their waiting meanwhile."""
    if not waiting:
        return []
    free = await connection.fetch(_FREE, *arrays(waiting), now_ms)
    late = [(partition, offset) for partition, offset, is_late in free if is_late]
    if late:
        await connection.execute(_MAKE_DUE, *arrays(late), now_ms)
    met = {(partition, offset) for partition, offset, _ in free}
    return [
        WakeSpan(account, waits_for, (partition, offset - 1), (partition, offset))
        for account, waits_for, partition, offset in waiting
        if (partition, offset) not in met
    ]


async def _note(connection: SqlConnection, spans: Iterable[WakeSpan]) -> None:
    noted = [(each.account, each.waits_for, *each.after, *each.upto) for each in spans]
    if noted:
        await connection.execute(_NOTE, *arrays(noted))


_TELL = f"SELECT pg_notify('{CHANNEL}', current_schema())"
_SPANS = Columns(
    "account text, waits_for text, after_partition integer, after_offset bigint, upto_partition integer, "
    "upto_offset bigint"
)
_NOTE = _SPANS.insert("wakes")
_TAKE = f"""
    DELETE FROM wakes WHERE number IN (SELECT number FROM wakes ORDER BY number LIMIT $1 FOR UPDATE SKIP LOCKED)
    RETURNING number, {_SPANS.names}
"""
_IS_PARKED = "h.disposition = 'parked' AND h.resolved_at IS NULL"
_IS_ANY_PARKED = f"SELECT EXISTS (SELECT FROM held AS h WHERE {_IS_PARKED})"
_CONDITIONS = "unnest($1::text[], $2::text[]) AS true_now(account, waits_for)"
_WAITS = f"h.waits_for = true_now.waits_for AND h.account = true_now.account AND {_IS_PARKED}"
_WAITING = f"""
    SELECT h.account, h.waits_for, h.log_partition, h.log_offset FROM {_CONDITIONS} JOIN held AS h ON {_WAITS} LIMIT $3
"""
_WAITED_FOR = f"SELECT account, waits_for FROM {_CONDITIONS} WHERE EXISTS (SELECT FROM held AS h WHERE {_WAITS})"
_IN_SPAN = f"""
    SELECT h.log_partition, h.log_offset FROM held AS h
    WHERE h.account = $1 AND h.waits_for = $2 AND {_IS_PARKED}
        AND (h.log_partition, h.log_offset) > ($3::integer, $4::bigint)
        AND (h.log_partition, h.log_offset) <= ($5::integer, $6::bigint)
    ORDER BY h.log_partition, h.log_offset LIMIT $7
"""
_FREE = f"""
    SELECT h.log_partition, h.log_offset, coalesce(h.due_at > $5, true)
    FROM unnest($1::text[], $2::text[], $3::integer[], $4::bigint[])
        AS given(account, waits_for, log_partition, log_offset)
    JOIN held AS h ON h.log_partition = given.log_partition AND h.log_offset = given.log_offset
    WHERE h.account = given.account AND h.waits_for = given.waits_for AND {_IS_PARKED}
    ORDER BY h.log_partition, h.log_offset FOR NO KEY UPDATE OF h SKIP LOCKED
"""
_MAKE_DUE = """
    UPDATE held SET due_at = $3 FROM unnest($1::integer[], $2::bigint[]) AS late(log_partition, log_offset)
    WHERE held.log_partition = late.log_partition AND held.log_offset = late.log_offset
"""
