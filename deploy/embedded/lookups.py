"""The queries of operators, the admin API, the sweeper and the gauges. On the database's thread; read-only."""

# ruff: noqa: S608 - only our own lists of columns are formatted into statements; values are always parameters

from collections.abc import Callable, Sequence
from sqlite3 import Connection

from deploy.embedded import movements, sql
from schemas import events
from schemas.events import Outgoing
from schemas.notification import NamedNumber, NumberKind
from schemas.orders import Movement
from workers import queries, row_codec
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
    SELECT n.log_partition, n.log_offset FROM json_each(?) AS wanted CROSS JOIN numbers AS n
    ON n.number = json_extract(wanted.value, '$[0]') AND n.account = ? AND n.kind = json_extract(wanted.value, '$[1]')
"""


def order_page(connection: Connection, scope: str, number: str) -> OrderPage | None:
    """Return the order with its timeline, also by a second number; `None` if no row has the number."""
    found = connection.execute(
        f"SELECT {sql.ORDER} FROM orders WHERE order_number = ? AND account = ?", (number, scope)
    ).fetchone()
    deliveries = connection.execute(
        f"SELECT {sql.DELIVERY} FROM deliveries WHERE order_number = ? AND account = ? "
        "ORDER BY log_partition DESC, log_offset DESC LIMIT ?",
        (number, scope, TIMELINE_MAX),
    ).fetchall()
    order, view = (None, None) if found is None else row_codec.order_and_view(found)
    if order is None or order.is_note:
        first = _first_number(connection, scope, number)
        if first is not None:
            return order_page(connection, scope, first)
    if found is None and not deliveries:
        return None
    refunds = movements.without_trade(connection, order, TIMELINE_MAX)
    naming = _naming(connection, scope, queries.page_numbers(order, refunds))
    shown = queries.timeline(number, map(row_codec.delivery, deliveries), naming)
    holds = _holds(connection, [delivery.position for delivery in shown])
    emitted = () if order is None else _events(connection, scope, number, order.version)
    return OrderPage(
        account=scope,
        number=number,
        order=order,
        view=view,
        deliveries=shown,
        events=emitted,
        decisions=_decisions(connection, scope, number),
        claims=_claims(connection, scope, queries.claimed_numbers(number, order)),
        holds=holds,
        acts=_acts(connection, queries.audited(scope, number, holds, emitted)),
        erased_at_ms=_erased(connection, scope, shown),
    )


def order_movements(
    connection: Connection, scope: str, number: str, *, after: int, limit: int
) -> Sequence[tuple[int, Movement]] | None:
    """Return a page of the order's movements, wherever they are stored; `None` if there is no such order."""
    facts = connection.execute(
        "SELECT facts FROM orders WHERE order_number = ? AND account = ?", (number, scope)
    ).fetchone()
    order = None if facts is None else row_codec.order(facts[0])
    if order is None or order.is_note:
        return None
    if order.movement_sums is None:
        return queries.kept_movements(order, after, limit)
    found = connection.execute(
        f"SELECT m.number, {sql.MOVEMENT} FROM movements AS m WHERE m.order_number = ? AND m.account = ? "
        "AND m.number > ? ORDER BY m.number LIMIT ?",
        (number, scope, after, limit),
    )
    return [(place, row_codec.movement(rest)) for place, *rest in found]


def _first_number(connection: Connection, scope: str, number: str) -> str | None:
    """Return the number of the order that has this trade, or this second number, as Antom's subscriptions have."""
    found = connection.execute(
        """
        SELECT order_number FROM trades WHERE trade = ?1 AND account = ?2
        UNION SELECT d.order_number FROM numbers AS n JOIN deliveries AS d
            ON d.log_partition = n.log_partition AND d.log_offset = n.log_offset
            WHERE n.number = ?1 AND n.account = ?2 AND n.kind = ?3
        """,
        (number, scope, NumberKind.ORDER.value),
    )
    return next((first for (first,) in found if first not in ("", number)), None)


def _naming(connection: Connection, scope: str, numbers: Sequence[NamedNumber]) -> list[Delivery]:
    """The latest deliveries of notifications that name one of these numbers, whichever came first."""
    if not numbers:
        return []
    found = connection.execute(
        f"SELECT {sql.DELIVERY} FROM deliveries WHERE (log_partition, log_offset) IN ({_NAMING}) "
        "ORDER BY log_partition DESC, log_offset DESC LIMIT ?",
        (sql.pairs(numbers), scope, TIMELINE_MAX),
    )
    return [row_codec.delivery(row) for row in found]


def _claims(connection: Connection, scope: str, numbers: Sequence[NamedNumber]) -> tuple[OrderClaim, ...]:
    """The latest messages that may name one of these numbers; not those that a replay could read after all."""
    found = connection.execute(
        f"""
        SELECT {sql.of("d", sql.DELIVERY)}, coalesce(h.resolution, '') FROM deliveries AS d
        LEFT JOIN held AS h ON h.log_partition = d.log_partition AND h.log_offset = d.log_offset
        WHERE (d.log_partition, d.log_offset) IN ({_NAMING}) AND d.disposition = 'quarantined' AND d.order_number = ''
        ORDER BY d.log_partition DESC, d.log_offset DESC LIMIT ?
        """,
        (sql.pairs(numbers), scope, TIMELINE_MAX),
    ).fetchall()
    return tuple(row_codec.order_claim(row) for row in reversed(found))


def _decisions(connection: Connection, scope: str, number: str) -> tuple[OperatorDecision, ...]:
    found = connection.execute(
        "SELECT log_partition, log_offset, notification_id, version, action, by_whom, why, at_ms, "
        "amount_minor, currency FROM decisions "
        "WHERE order_number = ? AND account = ? ORDER BY entry DESC LIMIT ?",
        (number, scope, TIMELINE_MAX),
    ).fetchall()
    return tuple(row_codec.operator_decision(row) for row in reversed(found))


def _holds(connection: Connection, positions: Sequence[Position]) -> tuple[Hold, ...]:
    found = connection.execute(
        """
        SELECT log_partition, log_offset, disposition, reason, detail, first_at_ms, attempts, due_at_ms, resolution,
            erased_at_ms
        FROM json_each(?) AS wanted CROSS JOIN held
            ON log_partition = json_extract(wanted.value, '$[0]') AND log_offset = json_extract(wanted.value, '$[1]')
        ORDER BY 1, 2
        """,
        (sql.as_json([[position.partition, position.offset] for position in positions]),),
    )
    return tuple(row_codec.hold(row) for row in found)


def _acts(connection: Connection, subjects: Sequence[str]) -> tuple[OperatorAct, ...]:
    found = connection.execute(
        "SELECT action, subject, by_whom, why, at_ms FROM audit WHERE subject IN (SELECT value FROM json_each(?)) "
        "AND action IN (SELECT value FROM json_each(?)) ORDER BY entry DESC LIMIT ?",
        (sql.as_json([*subjects]), sql.as_json([*ACTS]), TIMELINE_MAX),
    ).fetchall()
    return tuple(row_codec.operator_act(row) for row in reversed(found))


def _erased(connection: Connection, scope: str, shown: Sequence[Delivery]) -> dict[str, int]:
    found = connection.execute(
        "SELECT n.notification_id, n.erased_at_ms FROM json_each(?) AS wanted CROSS JOIN notifications AS n "
        "ON n.notification_id = wanted.value AND n.account = ? WHERE n.erased_at_ms IS NOT NULL",
        (sql.as_json([delivery.notification_id for delivery in shown]), scope),
    )
    return dict(found.fetchall())


def _events(connection: Connection, scope: str, number: str, version: int) -> tuple[Emitted, ...]:
    """The order's latest events. Their ids follow from its version, so they need no index of their own."""
    versions = range(max(1, version - TIMELINE_MAX + 1), version + 1)
    ids = sql.as_json([events.event_id(scope, number, each) for each in versions])
    found = connection.execute(
        f"SELECT {sql.EMITTED} FROM outbox WHERE id IN (SELECT value FROM json_each(?)) ORDER BY number",
        (ids,),
    )
    return tuple(row_codec.emitted(row) for row in found)


def find(connection: Connection, number: str) -> Sequence[tuple[str, str]]:
    """Return (scope, order) of every order with this number, whatever kind of number it is."""
    found = connection.execute(
        """
        SELECT account, order_number FROM orders WHERE order_number = ?1
        UNION SELECT account, order_number FROM trades WHERE trade = ?1
        UNION SELECT account, order_number FROM refund_links WHERE refund = ?1
        UNION SELECT account, order_number FROM notifications WHERE notification_id = ?1 AND order_number <> ''
        UNION SELECT d.account, d.order_number FROM notifications AS n JOIN deliveries AS d
            ON d.log_partition = n.log_partition AND d.log_offset = n.log_offset
            WHERE n.notification_id = ?1 AND d.order_number <> ''
        UNION SELECT account, order_number FROM deliveries WHERE order_number = ?1 AND order_number <> ''
        UNION SELECT d.account, d.order_number FROM numbers AS n JOIN deliveries AS d
            ON d.log_partition = n.log_partition AND d.log_offset = n.log_offset
            WHERE n.number = ?1 AND d.order_number <> ''
        UNION SELECT account, order_number FROM held WHERE notification_id = ?1 AND order_number <> ''
        ORDER BY 1, 2 LIMIT ?2
        """,
        (number, FOUND_MAX),
    )
    return [(scope, order) for scope, order in found]


def notifications(connection: Connection, number: str) -> Sequence[Delivery]:
    """Return the first delivery of every notification with this id, or that names this number, or may name it."""
    found = connection.execute(
        f"""
        SELECT {sql.DELIVERY} FROM deliveries WHERE (log_partition, log_offset) IN (
            SELECT log_partition, log_offset FROM notifications WHERE notification_id = ?1
            UNION SELECT log_partition, log_offset FROM numbers WHERE number = ?1
            UNION SELECT log_partition, log_offset FROM held WHERE notification_id = ?1
        ) AND NOT (disposition = 'duplicate' AND reason = 'same_id')
        ORDER BY account, received_at_ms DESC, log_partition DESC, log_offset DESC LIMIT ?2
        """,
        (number, FOUND_MAX),
    )
    return [row_codec.delivery(row) for row in found]


def notification(connection: Connection, position: Position) -> NotificationPage | None:
    """Return the notification of the record at this position, with its own bytes if it is quarantined."""
    found = connection.execute(
        f"SELECT {sql.DELIVERY} FROM deliveries WHERE log_partition = ? AND log_offset = ?",
        (position.partition, position.offset),
    ).fetchone()
    if found is None:
        return None
    delivery = row_codec.delivery(found)
    record = connection.execute(
        """
        SELECT 0, key, value, headers, erased_at_ms FROM held
        WHERE log_partition = ? AND log_offset = ? AND disposition = 'quarantined'
        UNION ALL SELECT 1, key, value, headers, erased_at_ms FROM notifications
        WHERE notification_id = ? AND account = ?
        ORDER BY 1
        """,
        (position.partition, position.offset, delivery.notification_id, delivery.account),
    ).fetchone()
    if record is None:
        return NotificationPage(delivery=delivery, record=None)
    _, *columns, erased_at_ms = record
    return NotificationPage(delivery=delivery, record=row_codec.record(*columns), erased_at_ms=erased_at_ms)


def unsent(
    connection: Connection, limit: int, is_ready: Callable[[Outgoing], bool] = lambda event: True
) -> Sequence[Emitted]:
    """Return the unacknowledged events and notices that are ready to be sent, oldest first."""
    ready: list[Emitted] = []
    after = 0
    while len(ready) < limit:
        rows = connection.execute(
            f"SELECT {sql.EMITTED} FROM outbox WHERE sent_at_ms IS NULL AND number > ? ORDER BY number LIMIT ?",
            (after, limit),
        ).fetchall()
        emitted = [row_codec.emitted(row) for row in rows]
        ready += [each for each in emitted if is_ready(each.event)]
        if len(rows) < limit:
            break
        after = emitted[-1].number
    return ready[:limit]


def outbox_keys(connection: Connection, numbers: Sequence[int]) -> list[tuple[str, bytes]]:
    """Return the topic and the key of each of these events."""
    return connection.execute(
        "SELECT topic, key FROM outbox WHERE number IN (SELECT value FROM json_each(?))", (sql.as_json([*numbers]),)
    ).fetchall()


def events_after(connection: Connection, number: int, limit: int) -> Sequence[Emitted]:
    """Return the events and notices after this number of the outbox, oldest first."""
    found = connection.execute(
        f"SELECT {sql.EMITTED} FROM outbox WHERE number > ? ORDER BY number LIMIT ?", (number, limit)
    )
    return [row_codec.emitted(row) for row in found]


def newest_event(connection: Connection) -> int:
    """Return the highest number in the outbox, 0 if it is empty."""
    number: int = connection.execute("SELECT coalesce(max(number), 0) FROM outbox").fetchone()[0]
    return number
