"""The queries of operators, the admin API, the sweeper and the gauges. Read-only."""

# ruff: noqa: S608 - only our own lists of columns are formatted into statements; values are always parameters

from collections.abc import Sequence

from schemas import events
from schemas.notification import NamedNumber, NumberKind
from schemas.orders import Movement
from workers import queries, row_codec
from workers.postgres import columns, load, movements
from workers.postgres.columns import DELIVERIES, EMITTED
from workers.postgres.database import SqlConnection
from workers.queries import (
    ACTS,
    FOUND_MAX,
    TIMELINE_MAX,
    Emitted,
    Hold,
    NotificationPage,
    OperatorAct,
    OperatorDecision,
    OrderClaim,
    OrderPage,
)
from workers.settlement.plan import Delivery, Position

_NAMING = """
    SELECT n.log_partition, n.log_offset FROM unnest($1::text[], $2::text[]) AS wanted(number, kind)
    JOIN numbers AS n ON n.number = wanted.number AND n.account = $3 AND n.kind = wanted.kind
"""


async def order_page(connection: SqlConnection, scope: str, number: str) -> OrderPage | None:
    """Return the order with its timeline; `None` if no row has the number."""
    found = await connection.fetchrow(
        f"SELECT {columns.ORDER} FROM orders WHERE order_number = $1 AND account = $2", number, scope
    )
    deliveries = await connection.fetch(
        f"SELECT {DELIVERIES.names} FROM deliveries WHERE order_number = $1 AND account = $2 "
        "ORDER BY log_partition DESC, log_offset DESC LIMIT $3",
        number,
        scope,
        TIMELINE_MAX,
    )
    order, view = (None, None) if found is None else row_codec.order_and_view(found)
    if order is None or order.is_note:
        first = await _first_number(connection, scope, number)
        if first is not None:
            return await order_page(connection, scope, first)
    if found is None and not deliveries:
        return None
    refunds = await movements.without_trade(connection, order, TIMELINE_MAX)
    naming = await _naming(connection, scope, queries.page_numbers(order, refunds))
    shown = queries.timeline(number, map(row_codec.delivery, deliveries), naming)
    holds = await _holds(connection, [delivery.position for delivery in shown])
    emitted = () if order is None else await _events(connection, scope, number, order.version)
    return OrderPage(
        account=scope,
        number=number,
        order=order,
        view=view,
        deliveries=shown,
        events=emitted,
        decisions=await _decisions(connection, scope, number),
        claims=await _claims(connection, scope, queries.claimed_numbers(number, order)),
        holds=holds,
        acts=await _acts(connection, queries.audited(scope, number, holds, emitted)),
        erased_at_ms=await _erased(connection, scope, shown),
    )


async def order_movements(
    connection: SqlConnection, scope: str, number: str, *, after: int, limit: int
) -> Sequence[tuple[int, Movement]] | None:
    """Return a page of the order's movements, wherever they are stored; `None` if there is no such order."""
    facts = await connection.fetchval(
        "SELECT facts FROM orders WHERE order_number = $1 AND account = $2", number, scope
    )
    order = None if facts is None else row_codec.order(facts)
    if order is None or order.is_note:
        return None
    if order.movement_sums is None:
        return queries.kept_movements(order, after, limit)
    found = await connection.fetch(
        f"SELECT m.number, {columns.MOVEMENT} FROM movements AS m WHERE m.order_number = $1 AND m.account = $2 "
        "AND m.number > $3 ORDER BY m.number LIMIT $4",
        number,
        scope,
        after,
        limit,
    )
    return [(place, row_codec.movement(rest)) for place, *rest in found]


async def _first_number(connection: SqlConnection, scope: str, number: str) -> str | None:
    """Return the number of the order that has this trade, or this second number, as Antom's subscriptions have."""
    found = await connection.fetch(
        """
        SELECT order_number FROM trades WHERE trade = $1 AND account = $2
        UNION SELECT d.order_number FROM numbers AS n JOIN deliveries AS d
            ON d.log_partition = n.log_partition AND d.log_offset = n.log_offset
            WHERE n.number = $1 AND n.account = $2 AND n.kind = $3
        """,
        number,
        scope,
        NumberKind.ORDER.value,
    )
    return next((first for (first,) in found if first not in ("", number)), None)


async def _naming(connection: SqlConnection, scope: str, numbers: Sequence[NamedNumber]) -> list[Delivery]:
    """The latest deliveries of notifications that name one of these numbers, whichever came first."""
    if not numbers:
        return []
    found = await connection.fetch(
        f"SELECT {DELIVERIES.names} FROM deliveries WHERE (log_partition, log_offset) IN ({_NAMING}) "
        "ORDER BY log_partition DESC, log_offset DESC LIMIT $4",
        *_apart(numbers),
        scope,
        TIMELINE_MAX,
    )
    return [row_codec.delivery(row) for row in found]


async def _claims(connection: SqlConnection, scope: str, numbers: Sequence[NamedNumber]) -> tuple[OrderClaim, ...]:
    """The latest messages that may name one of these numbers; not those that a replay could read after all."""
    found = await connection.fetch(
        f"""
        SELECT {columns.of("d", DELIVERIES.names)}, coalesce(h.resolution, '') FROM deliveries AS d
        LEFT JOIN held AS h ON h.log_partition = d.log_partition AND h.log_offset = d.log_offset
        WHERE (d.log_partition, d.log_offset) IN ({_NAMING}) AND d.disposition = 'quarantined' AND d.order_number = ''
        ORDER BY d.log_partition DESC, d.log_offset DESC LIMIT $4
        """,
        *_apart(numbers),
        scope,
        TIMELINE_MAX,
    )
    return tuple(row_codec.order_claim(row) for row in reversed(found))


def _apart(numbers: Sequence[NamedNumber]) -> tuple[list[str], list[str]]:
    """The numbers and their kinds, as two parameters."""
    return [named.number for named in numbers], [named.kind.value for named in numbers]


async def _decisions(connection: SqlConnection, scope: str, number: str) -> tuple[OperatorDecision, ...]:
    found = await connection.fetch(
        "SELECT log_partition, log_offset, notification_id, version, action, by_whom, why, at, "
        "amount_minor, currency FROM decisions "
        "WHERE order_number = $1 AND account = $2 ORDER BY entry DESC LIMIT $3",
        number,
        scope,
        TIMELINE_MAX,
    )
    return tuple(row_codec.operator_decision(row) for row in reversed(found))


async def _holds(connection: SqlConnection, positions: Sequence[Position]) -> tuple[Hold, ...]:
    found = await connection.fetch(
        "SELECT log_partition, log_offset, disposition, reason, detail, first_at, attempts, due_at, resolution, "
        "erased_at FROM held WHERE (log_partition, log_offset) IN (SELECT * FROM unnest($1::integer[], $2::bigint[])) "
        "ORDER BY 1, 2",
        *load.places(positions),
    )
    return tuple(row_codec.hold(row) for row in found)


async def _acts(connection: SqlConnection, subjects: Sequence[str]) -> tuple[OperatorAct, ...]:
    found = await connection.fetch(
        "SELECT action, subject, by_whom, why, at FROM audit WHERE subject = ANY($1::text[]) "
        "AND action = ANY($2::text[]) ORDER BY entry DESC LIMIT $3",
        subjects,
        [*ACTS],
        TIMELINE_MAX,
    )
    return tuple(row_codec.operator_act(row) for row in reversed(found))


async def _erased(connection: SqlConnection, scope: str, shown: Sequence[Delivery]) -> dict[str, int]:
    found = await connection.fetch(
        "SELECT notification_id, erased_at FROM notifications "
        "WHERE notification_id = ANY($1::text[]) AND account = $2 AND erased_at IS NOT NULL",
        [delivery.notification_id for delivery in shown],
        scope,
    )
    return dict(map(tuple, found))


async def _events(connection: SqlConnection, scope: str, number: str, version: int) -> tuple[Emitted, ...]:
    """The order's latest events. Their ids follow from its version, so they need no index of their own."""
    versions = range(max(1, version - TIMELINE_MAX + 1), version + 1)
    found = await connection.fetch(
        f"SELECT {EMITTED} FROM outbox WHERE id = ANY($1::text[]) ORDER BY number",
        [events.event_id(scope, number, each) for each in versions],
    )
    return tuple(row_codec.emitted(row) for row in found)


async def find(connection: SqlConnection, number: str) -> Sequence[tuple[str, str]]:
    """Return (scope, order) of every order with this number, whatever kind of number it is."""
    found = await connection.fetch(
        """
        SELECT account, order_number FROM orders WHERE order_number = $1
        UNION SELECT account, order_number FROM trades WHERE trade = $1
        UNION SELECT account, order_number FROM refund_links WHERE refund = $1
        UNION SELECT account, order_number FROM notifications WHERE notification_id = $1 AND order_number <> ''
        UNION SELECT d.account, d.order_number FROM notifications AS n JOIN deliveries AS d
            ON d.log_partition = n.log_partition AND d.log_offset = n.log_offset
            WHERE n.notification_id = $1 AND d.order_number <> ''
        UNION SELECT account, order_number FROM deliveries WHERE order_number = $1 AND order_number <> ''
        UNION SELECT d.account, d.order_number FROM numbers AS n JOIN deliveries AS d
            ON d.log_partition = n.log_partition AND d.log_offset = n.log_offset
            WHERE n.number = $1 AND d.order_number <> ''
        UNION SELECT account, order_number FROM held WHERE notification_id = $1 AND order_number <> ''
        ORDER BY 1, 2 LIMIT $2
        """,
        number,
        FOUND_MAX,
    )
    return [(scope, order) for scope, order in found]


async def notifications(connection: SqlConnection, number: str) -> Sequence[Delivery]:
    """Return the first delivery of every notification with this id, or that names this number, or may name it."""
    found = await connection.fetch(
        f"""
        SELECT {DELIVERIES.names} FROM deliveries WHERE (log_partition, log_offset) IN (
            SELECT log_partition, log_offset FROM notifications WHERE notification_id = $1
            UNION SELECT log_partition, log_offset FROM numbers WHERE number = $1
            UNION SELECT log_partition, log_offset FROM held WHERE notification_id = $1
        ) AND NOT (disposition = 'duplicate' AND reason = 'same_id')
        ORDER BY account, received_at DESC, log_partition DESC, log_offset DESC LIMIT $2
        """,
        number,
        FOUND_MAX,
    )
    return [row_codec.delivery(row) for row in found]


async def notification(connection: SqlConnection, position: Position) -> NotificationPage | None:
    """Return the notification of the record at this position, with its own bytes if it is quarantined."""
    found = await connection.fetchrow(
        f"SELECT {DELIVERIES.names} FROM deliveries WHERE log_partition = $1 AND log_offset = $2",
        position.partition,
        position.offset,
    )
    if found is None:
        return None
    delivery = row_codec.delivery(found)
    record = await connection.fetchrow(
        """
        SELECT 0, key, value, headers, erased_at FROM held
        WHERE log_partition = $1 AND log_offset = $2 AND disposition = 'quarantined'
        UNION ALL SELECT 1, key, value, headers, erased_at FROM notifications
        WHERE notification_id = $3 AND account = $4
        ORDER BY 1
        """,
        position.partition,
        position.offset,
        delivery.notification_id,
        delivery.account,
    )
    if record is None:
        return NotificationPage(delivery=delivery, record=None)
    _, *columns, erased_at_ms = record
    return NotificationPage(delivery=delivery, record=row_codec.record(*columns), erased_at_ms=erased_at_ms)
