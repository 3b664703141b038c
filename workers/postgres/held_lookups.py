"""Lists and counts of held notifications, for operators, the sweeper and the gauges. Read-only, but for `add_up`.

Each list reads an index in its own order. Counts are kept by triggers, as changes that the leading worker adds up: they
are exact in every snapshot, and no page counts a million rows. Only counts of one order or of a span of time are
counted when they are asked for.
"""

# ruff: noqa: S608 - only our own lists of columns are formatted into statements; values are always parameters

from collections.abc import Collection, Sequence
from typing import Any

from msgspec import structs

from schemas.dispositions import Disposition
from workers import held_lists, queries, row_codec
from workers.postgres import load
from workers.postgres.columns import HELD, HELD_PAGE
from workers.postgres.database import SqlConnection
from workers.queries import Counts, HeldCount, HeldGroup, HeldPage, HeldQuery, ParkedCount
from workers.settlement import parking
from workers.settlement.plan import HeldRow, Position, position_of

CHANGES_MAX = 10_000  # added up in one transaction

_COLUMNS = "is_resolved, disposition, reason, account, attempts, count, oldest"
_COUNTS = f"(SELECT {_COLUMNS} FROM held_counts UNION ALL SELECT {_COLUMNS} FROM held_count_changes) AS kept"
_ACCOUNT = "split_part(account, '/', 1)"  # without the merchant of a service provider
_ORDER_CHARACTERS = 64  # of an order number, in its index
_ORDER = f"left(order_number, {_ORDER_CHARACTERS})"
_PLACE = ["first_at", "log_partition", "log_offset"]
_IN_ORDER = ", ".join(_PLACE)
# The first row at or after a group's beginning is its oldest: a group with a count has a row.
_OLDEST_OF_GROUP = f"""(
    SELECT first_at FROM held WHERE resolved_at IS NULL
        AND ({_ACCOUNT}, disposition, reason) >= (kept_group.account, kept_group.disposition, kept_group.reason)
    ORDER BY {_ACCOUNT}, disposition, reason, {_IN_ORDER} LIMIT 1
)"""
_OLDEST_OF_SCOPE = f"""(
    SELECT first_at FROM held WHERE resolved_at IS NULL AND account >= $1 AND account <= $1
        AND disposition = kept_group.disposition AND reason = kept_group.reason
    ORDER BY account, {_IN_ORDER} LIMIT 1
)"""
_OPEN_COUNTS = f"""
    SELECT disposition, count, (
        SELECT first_at FROM held WHERE resolved_at IS NULL AND disposition >= kept_group.disposition
        ORDER BY disposition, {_IN_ORDER} LIMIT 1
    ) FROM (
        SELECT disposition, sum(count)::bigint AS count FROM {_COUNTS} WHERE NOT is_resolved
        GROUP BY disposition HAVING sum(count) > 0
    ) AS kept_group ORDER BY disposition
"""
_PARKED_COUNTS = f"""
    SELECT attempts, sum(count)::bigint FROM {_COUNTS} WHERE NOT is_resolved AND disposition = $1
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
        SELECT received_at FROM deliveries AS d WHERE d.log_partition = each.log_partition
        ORDER BY d.log_offset DESC LIMIT 1
    )) FROM each WHERE each.log_partition IS NOT NULL
"""
_ADD_UP = f"""
    WITH taken AS (
        DELETE FROM held_count_changes
        WHERE entry IN (SELECT entry FROM held_count_changes ORDER BY entry LIMIT {CHANGES_MAX})
        RETURNING {_COLUMNS}
    ), added AS (
        INSERT INTO held_counts AS kept ({_COLUMNS})
        SELECT is_resolved, disposition, reason, account, attempts, sum(count), min(oldest) FROM taken
        GROUP BY 1, 2, 3, 4, 5 HAVING sum(count) <> 0 ORDER BY 1, 2, 3, 4, 5
        ON CONFLICT (is_resolved, disposition, reason, account, attempts) DO UPDATE
            SET count = kept.count + excluded.count, oldest = least(kept.oldest, excluded.oldest)
    )
    SELECT count(*) FROM taken
"""


async def list_(connection: SqlConnection, query: HeldQuery) -> Sequence[HeldPage]:
    """Return a page of the held notifications that match the query, in its order."""
    return held_lists.joined([await _list(connection, part) for part in held_lists.in_order(query)], query)


async def _list(connection: SqlConnection, query: HeldQuery) -> list[HeldPage]:
    statement, values = _page(query)
    return [row_codec.held_page(row) for row in await connection.fetch(statement, *values)]


def _page(query: HeldQuery) -> tuple[str, list[Any]]:
    """The statement of a page, and the values of its parameters.

    The page is written as a span of the index that has its order, not as equations alone: with those, the planner may
    think that it comes upon matching rows soon if it goes through all of them by age.
    """
    # Only the last column of the key: a span of several columns ends for PostgreSQL with the first of them.
    key, key_values = (each[-1:] for each in _key(query))
    account = query.account if query.scope is None else None  # the scope includes it
    rest = structs.replace(query, account=account, since_ms=None, before_ms=None)
    conditions, values = _conditions(rest, without=key)
    span = [*_begin(query, key), *_end(query, key)]
    for columns, comparison, ends in span:
        marks = [f"${len(values) + index + 1}" for index in range(len(columns))]
        conditions.append(f"({', '.join(columns)}) {comparison} ({', '.join(marks)})")
        values += [*key_values, *ends]
    # Every column in one direction, so that the index is read backwards for the newest.
    order = ", ".join(f"{column}{' DESC' if query.newest_first else ''}" for column in [*key, *_PLACE])
    values.append(query.limit)
    return (
        f"SELECT {HELD_PAGE} FROM held WHERE {' AND '.join(conditions)} ORDER BY {order} LIMIT ${len(values)}",
        values,
    )


def _begin(query: HeldQuery, key: list[str]) -> list[tuple[list[str], str, list[Any]]]:
    """The begin of a page's span: columns, comparison, and values of those after the key."""
    if query.after is not None and query.after.first_at_ms >= (query.since_ms or 0):
        position = query.after.position
        return [([*key, *_PLACE], ">", [query.after.first_at_ms, position.partition, position.offset])]
    if query.since_ms is not None:
        return [([*key, _PLACE[0]], ">=", [query.since_ms])]
    return [(key, ">=", [])] if key else []


def _end(query: HeldQuery, key: list[str]) -> list[tuple[list[str], str, list[Any]]]:
    if query.before_ms is not None:
        return [([*key, _PLACE[0]], "<", [query.before_ms])]
    return [(key, "<=", [])] if key else []


def _key(query: HeldQuery) -> tuple[list[str], list[Any]]:
    """The columns with which the list's index begins, and the query's values of them."""
    if query.order is not None:
        return [_ORDER], [query.order[:_ORDER_CHARACTERS]]
    if query.resolved:
        return [], []
    if query.scope is not None:
        return ["account"], [query.scope]
    key = []
    if query.account is not None:
        key.append((_ACCOUNT, query.account))
    if query.disposition is not None and (query.account is None or query.reason is not None):
        key.append(("disposition", query.disposition))
        if query.reason is not None:
            key.append(("reason", query.reason))
    return [column for column, _ in key], [value for _, value in key]


async def groups(connection: SqlConnection, query: HeldQuery) -> Sequence[HeldGroup]:
    """Count all held notifications that match the query."""
    if query.awake_at_ms is not None and held_lists.is_kept(query):
        every, asleep = held_lists.parts_of_awake(query)
        found = [
            (group, await list_(connection, held_lists.oldest_awake(query, group)))
            for group in await groups(connection, asleep)
        ]
        return held_lists.awake(await groups(connection, every), found)
    statement, values = _kept_groups(query) if held_lists.is_kept(query) else _counted_groups(query)
    found = await connection.fetch(f"{statement} ORDER BY 4 DESC, 1, 2, 3", *values)
    return [row_codec.held_group(row) for row in found]


def _kept_groups(query: HeldQuery) -> tuple[str, list[Any]]:
    conditions, values = [f"{'' if query.resolved else 'NOT '}is_resolved"], []
    for condition, value in (
        ("account =", query.scope),  # the first parameter
        (f"{_ACCOUNT} =", query.account),
        ("disposition =", query.disposition),
        ("reason =", query.reason),
    ):
        if value is not None:
            values.append(value)
            conditions.append(f"{condition} ${len(values)}")
    oldest = "oldest" if query.resolved else _OLDEST_OF_GROUP if query.scope is None else _OLDEST_OF_SCOPE
    return (
        f"SELECT disposition, reason, account, count, {oldest} FROM ("
        f"SELECT disposition, reason, {_ACCOUNT} AS account, sum(count)::bigint AS count, "
        f"min(oldest) AS oldest FROM {_COUNTS} WHERE {' AND '.join(conditions)} "
        "GROUP BY 1, 2, 3 HAVING sum(count) > 0) AS kept_group",
        values,
    )


def _counted_groups(query: HeldQuery) -> tuple[str, list[Any]]:
    conditions, values = _conditions(query)
    return (
        f"SELECT disposition, reason, {_ACCOUNT}, count(*), min(first_at) "
        f"FROM held WHERE {' AND '.join(conditions)} GROUP BY 1, 2, 3",
        values,
    )


def _conditions(query: HeldQuery, *, without: Collection[str] = ()) -> tuple[list[str], list[Any]]:
    """The query's filter as SQL, but for some columns, and the values of its parameters."""
    conditions = [f"resolved_at IS {'NOT ' if query.resolved else ''}NULL"]
    values: list[Any] = []
    for column, comparison, value in (
        (_ACCOUNT, "=", query.account),
        ("account", "=", query.scope),
        (_ORDER, "=", None if query.order is None else query.order[:_ORDER_CHARACTERS]),
        ("order_number", "=", query.order),
        ("disposition", "=", query.disposition),
        ("reason", "=", query.reason),
        ("first_at", ">=", query.since_ms),
        ("first_at", "<", query.before_ms),
        ("coalesce(snoozed_until, '-infinity')", "<=", query.awake_at_ms),
    ):
        if value is not None and column not in without:
            values.append(value)
            conditions.append(f"{column} {comparison} ${len(values)}")
    if query.snoozed_at_ms is not None:
        # With an end, so that a planner without statistics expects few rows, and takes the index that has only these.
        values.append(query.snoozed_at_ms)
        conditions.append(f"snoozed_until > ${len(values)} AND snoozed_until < 'infinity'")
    if query.ids:
        places = (f"${len(values) + 1}::integer[]", f"${len(values) + 2}::bigint[]")
        conditions.append(f"(log_partition, log_offset) IN (SELECT * FROM unnest({', '.join(places)}))")
        values += load.places(filter(None, map(position_of, query.ids)))
    return conditions, values


async def page(connection: SqlConnection, position: Position) -> HeldPage | None:
    """Return one held notification; `None` if there is none at this position."""
    row = await connection.fetchrow(
        f"SELECT {HELD_PAGE} FROM held WHERE log_partition = $1 AND log_offset = $2",
        position.partition,
        position.offset,
    )
    return None if row is None else row_codec.held_page(row)


async def due(connection: SqlConnection, now_ms: int, limit: int) -> Sequence[HeldRow]:
    """Return parked rows that are due, longest due first; then those that a clock ahead has postponed.

    Rows that another session has locked are left out, or a hundred of them would keep back all that are due later.
    """
    found = await connection.fetch(_DUE, now_ms, limit)
    if len(found) < limit:
        found += await connection.fetch(_DUE_TOO_FAR_AHEAD, parking.due_ahead_ms(now_ms), limit - len(found))
    return [row_codec.due(row) for row in found]


_DUE_IN_ORDER = "ORDER BY due_at, log_partition, log_offset LIMIT $2 FOR NO KEY UPDATE SKIP LOCKED"
_DUE = f"""
    SELECT {HELD.names}, replays FROM held
    WHERE resolved_at IS NULL AND due_at IS NOT NULL AND due_at <= $1 {_DUE_IN_ORDER}
"""
_DUE_TOO_FAR_AHEAD = f"""
    SELECT {HELD.names}, replays FROM held
    WHERE resolved_at IS NULL AND due_at IS NOT NULL AND due_at > $1 {_DUE_IN_ORDER}
"""


async def next_due_ms(connection: SqlConnection) -> int | None:
    """Return when the next parked row is due; `None` if none is parked."""
    found: int | None = await connection.fetchval(
        "SELECT min(due_at) FROM held WHERE resolved_at IS NULL AND due_at IS NOT NULL"
    )
    return found


async def counts(connection: SqlConnection, now_ms: int) -> Counts:
    """Return the values of the gauges."""
    held = await connection.fetch(_OPEN_COUNTS)
    snoozed = await groups(connection, HeldQuery(snoozed_at_ms=now_ms))
    oldest = {
        group.disposition: await list_(
            connection, HeldQuery(disposition=group.disposition, awake_at_ms=now_ms, limit=1)
        )
        for group in snoozed
    }
    parked = await connection.fetch(_PARKED_COUNTS, Disposition.PARKED.value)
    pending, outbox_oldest_ms = await connection.fetchrow(
        "SELECT count(*), (SELECT written_at FROM outbox WHERE sent_at IS NULL ORDER BY number LIMIT 1) "
        "FROM (SELECT FROM outbox WHERE sent_at IS NULL ORDER BY number LIMIT $1) AS pending",
        queries.PENDING_COUNTED_MAX,
    )
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
        received_newest_ms=await connection.fetchval(_NEWEST),
    )


async def has_changes(connection: SqlConnection) -> bool:
    """Return whether there are changes of counts to add up."""
    found: bool = await connection.fetchval("SELECT EXISTS (SELECT FROM held_count_changes)")
    return found


async def add_up(connection: SqlConnection) -> int:
    """Add at most `CHANGES_MAX` changes to the kept counts; return how many."""
    added: int = await connection.fetchval(_ADD_UP)
    return added
