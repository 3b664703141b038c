"""Lists and counts of held notifications, for operators, the sweeper and the gauges. Read-only.

Each list reads an index in its own order. Counts are kept by triggers, so that no page counts a million rows. Only
counts of one order or of a span of time are counted when they are asked for.
"""

# ruff: noqa: S608 - only our own lists of columns are formatted into statements; values are always parameters

from collections.abc import Sequence
from sqlite3 import Connection
from typing import Any

from deploy.embedded import sql
from schemas.dispositions import Disposition
from workers import held_lists, queries, row_codec
from workers.queries import Counts, HeldCount, HeldGroup, HeldPage, HeldQuery, ParkedCount
from workers.settlement import parking
from workers.settlement.plan import HeldRow, Position, position_of

_ACCOUNT = "substr(account, 1, instr(account || '/', '/') - 1)"  # without the merchant of a service provider
_SELECTED = """
    (log_partition, log_offset) IN (SELECT json_extract(value, '$[0]'), json_extract(value, '$[1]') FROM json_each(?))
"""
_OLDEST_OF_GROUP = f"""(
    SELECT first_at_ms FROM held WHERE resolved_at_ms IS NULL AND {_ACCOUNT} = kept.name
        AND disposition = kept.disposition AND reason = kept.reason
    ORDER BY first_at_ms, log_partition, log_offset LIMIT 1
)"""
_OLDEST_OF_SCOPE = """(
    SELECT first_at_ms FROM held INDEXED BY held_by_scope WHERE resolved_at_ms IS NULL AND account = kept.scope
        AND disposition = kept.disposition AND reason = kept.reason
    ORDER BY first_at_ms, log_partition, log_offset LIMIT 1
)"""
_OPEN_COUNTS = """
    SELECT disposition, sum(count), (
        SELECT first_at_ms FROM held WHERE resolved_at_ms IS NULL AND disposition = held_counts.disposition
        ORDER BY first_at_ms, log_partition, log_offset LIMIT 1
    ) FROM held_counts WHERE is_resolved = 0 GROUP BY disposition HAVING sum(count) > 0 ORDER BY disposition
"""
_PARKED_COUNTS = """
    SELECT attempts, sum(count) FROM held_counts WHERE is_resolved = 0 AND disposition = ?
    GROUP BY attempts HAVING sum(count) > 0
"""

# The newest record of each partition, found by the primary key: the partitions are few, and their records very many.
_NEWEST = """
    WITH RECURSIVE each(log_partition) AS (
        SELECT (SELECT min(log_partition) FROM deliveries)
        UNION ALL SELECT (
            SELECT d.log_partition FROM deliveries AS d WHERE d.log_partition > each.log_partition
            ORDER BY d.log_partition LIMIT 1
        ) FROM each WHERE each.log_partition IS NOT NULL
    )
    SELECT max((
        SELECT received_at_ms FROM deliveries AS d WHERE d.log_partition = each.log_partition
        ORDER BY d.log_offset DESC LIMIT 1
    )) FROM each WHERE each.log_partition IS NOT NULL
"""


def list_(connection: Connection, query: HeldQuery) -> Sequence[HeldPage]:
    """Return a page of the held notifications that match the query, in its order."""
    return held_lists.joined([_list(connection, part) for part in held_lists.in_order(query)], query)


def _list(connection: Connection, query: HeldQuery) -> list[HeldPage]:
    conditions, values = _conditions(query)
    if query.after is not None:
        position = query.after.position
        conditions += " AND (first_at_ms, log_partition, log_offset) > (?, ?, ?)"
        values += [query.after.first_at_ms, position.partition, position.offset]
    down = " DESC" if query.newest_first else ""
    found = connection.execute(
        f"SELECT {sql.HELD_PAGE} FROM {_source(query)} WHERE {conditions} "
        f"ORDER BY first_at_ms{down}, log_partition{down}, log_offset{down} LIMIT ?",
        (*values, query.limit),
    )
    return [row_codec.held_page(row) for row in found]


def groups(connection: Connection, query: HeldQuery) -> Sequence[HeldGroup]:
    """Count all held notifications that match the query."""
    if query.awake_at_ms is not None and held_lists.is_kept(query):
        every, asleep = held_lists.parts_of_awake(query)
        snoozed = groups(connection, asleep)
        oldest = [list_(connection, held_lists.oldest_awake(query, group)) for group in snoozed]
        return held_lists.awake(groups(connection, every), list(zip(snoozed, oldest, strict=True)))
    statement, values = _kept_groups(query) if held_lists.is_kept(query) else _counted_groups(query)
    found = connection.execute(f"{statement} ORDER BY 4 DESC, 1, 2, 3", values)
    return [row_codec.held_group(row) for row in found]


def _kept_groups(query: HeldQuery) -> tuple[str, list[Any]]:
    conditions, values = _filter(
        f"is_resolved = {int(query.resolved)}",
        (f"{_ACCOUNT} = ?", query.account),
        ("account = ?", query.scope),
        ("disposition = ?", query.disposition),
        ("reason = ?", query.reason),
    )
    oldest = "oldest_ms" if query.resolved else _OLDEST_OF_GROUP if query.scope is None else _OLDEST_OF_SCOPE
    return (
        f"SELECT disposition, reason, name, count, {oldest} FROM ("
        f"SELECT disposition, reason, {_ACCOUNT} AS name, min(account) AS scope, sum(count) AS count, "
        "min(oldest_ms) AS oldest_ms "
        f"FROM held_counts WHERE {conditions} GROUP BY 1, 2, 3 HAVING sum(count) > 0) AS kept",
        values,
    )


def _counted_groups(query: HeldQuery) -> tuple[str, list[Any]]:
    conditions, values = _conditions(query)
    return (
        f"SELECT disposition, reason, {_ACCOUNT}, count(*), min(first_at_ms) "
        f"FROM {_source(query)} WHERE {conditions} GROUP BY 1, 2, 3",
        values,
    )


def _source(query: HeldQuery) -> str:
    """The table to read; of snoozed rows by their index, since they are few."""
    return "held" if query.snoozed_at_ms is None or query.resolved else "held INDEXED BY held_snoozed"


def _conditions(query: HeldQuery) -> tuple[str, list[Any]]:
    """The query's filter as SQL, and the values of its parameters."""
    places = [[each.partition, each.offset] for each in map(position_of, query.ids) if each is not None]
    return _filter(
        f"resolved_at_ms IS {'NOT ' if query.resolved else ''}NULL",
        (f"{_ACCOUNT} = ?", query.account),
        ("account = ?", query.scope),
        ("order_number = ?", query.order),
        ("disposition = ?", query.disposition),
        ("reason = ?", query.reason),
        ("first_at_ms >= ?", query.since_ms),
        ("first_at_ms < ?", query.before_ms),
        ("coalesce(snoozed_until_ms, 0) <= ?", query.awake_at_ms),
        ("snoozed_until_ms > ?", query.snoozed_at_ms),
        (_SELECTED, sql.as_json(places) if query.ids else None),
    )


def _filter(condition: str, *others: tuple[str, Any]) -> tuple[str, list[Any]]:
    """Join the condition with those others whose value is not `None`; return the text and the values."""
    given = [(text, value) for text, value in others if value is not None]
    return " AND ".join([condition, *(text for text, _ in given)]), [value for _, value in given]


def page(connection: Connection, position: Position) -> HeldPage | None:
    """Return one held notification; `None` if there is none at this position."""
    row = connection.execute(
        f"SELECT {sql.HELD_PAGE} FROM held WHERE log_partition = ? AND log_offset = ?",
        (position.partition, position.offset),
    ).fetchone()
    return None if row is None else row_codec.held_page(row)


def due(connection: Connection, now_ms: int, limit: int) -> Sequence[HeldRow]:
    """Return parked rows that are due, longest due first; then those that a clock ahead has postponed."""
    found = connection.execute(_DUE, (now_ms, limit)).fetchall()
    if len(found) < limit:
        found += connection.execute(_DUE_TOO_FAR_AHEAD, (parking.due_ahead_ms(now_ms), limit - len(found))).fetchall()
    return [row_codec.due(row) for row in found]


_DUE_IN_ORDER = "ORDER BY due_at_ms, log_partition, log_offset LIMIT ?"
_DUE = f"""
    SELECT {sql.HELD}, replays FROM held WHERE resolved_at_ms IS NULL AND due_at_ms IS NOT NULL AND due_at_ms <= ?
    {_DUE_IN_ORDER}
"""
_DUE_TOO_FAR_AHEAD = f"""
    SELECT {sql.HELD}, replays FROM held WHERE resolved_at_ms IS NULL AND due_at_ms IS NOT NULL AND due_at_ms > ?
    {_DUE_IN_ORDER}
"""


def next_due_ms(connection: Connection) -> int | None:
    """Return when the next parked row is due; `None` if none is parked."""
    found: int | None = connection.execute(
        "SELECT min(due_at_ms) FROM held WHERE resolved_at_ms IS NULL AND due_at_ms IS NOT NULL"
    ).fetchone()[0]
    return found


def counts(connection: Connection, now_ms: int) -> Counts:
    """Return the values of the gauges."""
    held = connection.execute(_OPEN_COUNTS).fetchall()
    snoozed = groups(connection, HeldQuery(snoozed_at_ms=now_ms))
    oldest = {
        group.disposition: list_(connection, HeldQuery(disposition=group.disposition, awake_at_ms=now_ms, limit=1))
        for group in snoozed
    }
    parked = connection.execute(_PARKED_COUNTS, (Disposition.PARKED.value,)).fetchall()
    pending, outbox_oldest_ms = connection.execute(
        "SELECT count(*), (SELECT written_at_ms FROM outbox WHERE sent_at_ms IS NULL ORDER BY number LIMIT 1) "
        "FROM (SELECT 1 FROM outbox WHERE sent_at_ms IS NULL ORDER BY number LIMIT ?)",
        (queries.PENDING_COUNTED_MAX,),
    ).fetchone()
    return Counts(
        held=held_lists.awake_counts(
            [
                HeldCount(disposition=Disposition(disposition), count=count, oldest_ms=oldest_ms)
                for disposition, count, oldest_ms in held
            ],
            snoozed,
            {disposition: pages[0].row.first_at_ms for disposition, pages in oldest.items() if pages},
        ),
        parked=tuple(ParkedCount(attempts=attempts, count=count) for attempts, count in parked),
        outbox_pending=pending,
        outbox_oldest_ms=outbox_oldest_ms,
        received_newest_ms=connection.execute(_NEWEST).fetchone()[0],
    )
