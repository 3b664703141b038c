"""The order store's one transaction: load the snapshot, decide, write the plan, move the cursors.

It runs on the database's thread, between BEGIN IMMEDIATE and COMMIT. A batch of any size costs a handful of statements.
"""

# ruff: noqa: S608 - only our own lists of columns are formatted into statements; values are always parameters

from collections.abc import Callable, Sequence
from sqlite3 import Connection
from typing import Any

from deploy.embedded import decisions, movements, sql, wakes
from schemas import topics
from schemas.dispositions import Disposition
from schemas.events import Outgoing
from schemas.orders import Order
from workers import row_codec
from workers.errors import RefundTaken, VersionConflict
from workers.settlement import loading
from workers.settlement.plan import (
    AccountKey,
    Decide,
    Delivery,
    HeldRow,
    LedgerEntry,
    LoadRequest,
    OrderWrite,
    Position,
    StoreSnapshot,
    WritePlan,
)


def settle(connection: Connection, needs: LoadRequest, decide: Decide, *, now_ms: int) -> tuple[WritePlan, int]:
    """Load, decide, write, and move the cursors. Return the plan, and how many parked rows it woke."""
    snapshot = load(connection, needs)
    plan = decide(snapshot)
    woken = write(connection, plan, snapshot.settled, now_ms=now_ms)
    _advance(connection, needs.positions)
    return plan, woken


def register(
    connection: Connection,
    named: AccountKey,
    refunds: Sequence[str],
    decide: Callable[[Order | None], WritePlan],
    *,
    now_ms: int,
) -> tuple[WritePlan, int]:
    """Load the order, decide, write the plan, and link the refunds to the order.

    Raises:
        RefundTaken: a refund is linked to another order.
    """
    plan = decide(_orders(connection, [named]).get(named))
    woken = write(connection, plan, frozenset(), now_ms=now_ms)
    _link(connection, named, refunds)
    return plan, woken


def load(connection: Connection, needs: LoadRequest) -> StoreSnapshot:
    """Return the snapshot that a batch needs."""
    settled = _settled(connection, needs.positions)
    tries = _tries_of_open(connection, settled)
    by_trade = _named(connection, _ORDER_BY_TRADE, needs.trades)
    by_refund = _named(connection, _ORDER_BY_REFUND, needs.refunds)
    wanted = set(needs.orders)
    wanted.update((account, number) for (account, _), number in by_trade.items())
    wanted.update((account, number) for (account, _), number in by_refund.items())
    orders = _orders(connection, wanted)
    wanted_movements = loading.movements_to_load(needs, orders, by_trade, by_refund)
    return StoreSnapshot(
        settled=settled,
        open_held=frozenset(tries),
        held_attempts=tries,
        ledger=_ledger(connection, needs.ids),
        orders=orders,
        order_by_trade=by_trade,
        order_by_refund=by_refund,
        histories=decisions.histories(connection, orders) if needs.with_history else {},
        movements=movements.load(connection, wanted_movements),
    )


def write(connection: Connection, plan: WritePlan, settled: frozenset[Position], *, now_ms: int) -> int:
    """Write the plan; return how many parked rows were woken.

    Raises:
        VersionConflict: an order does not have the version that the plan expects.
    """
    # Events before their orders, because the triggers require it. Held rows before the wakes, because this batch may
    # both park a notification and make its condition come true.
    if plan.decisions:
        decisions.decide(connection, plan.decisions)
    sql.insert(connection, _INSERT_LEDGER, [row_codec.ledger_row(each) for each in plan.ledger])
    _write_events(connection, plan.events, now_ms)
    _write_orders(connection, plan.orders, now_ms)
    if plan.movements or plan.movements_gone:
        movements.write(connection, plan)
    _write_deliveries(connection, plan.deliveries, settled)
    if plan.numbers:
        sql.insert(connection, _INSERT_NUMBER, list(map(row_codec.number_row, plan.numbers)), after=_UNLESS_KNOWN)
    _release(connection, plan, now_ms)
    if plan.held:
        _hold(connection, plan.held)
    return wakes.wake(connection, plan.wakes, now_ms)


def cursor(connection: Connection, partition: int) -> int:
    """Return the offset up to which every record of the partition has its disposition."""
    row = connection.execute("SELECT log_offset FROM cursors WHERE log_partition = ?", (partition,)).fetchone()
    return row[0] if row else 0


_LEDGER = """
    SELECT n.notification_id, n.digest, n.log_partition, n.log_offset
    FROM json_each(?) AS wanted CROSS JOIN notifications AS n ON n.notification_id = wanted.value AND n.account = ?
"""
_ORDER_BY_TRADE = """
    SELECT t.trade, t.order_number FROM json_each(?) AS wanted CROSS JOIN trades AS t
    ON t.trade = wanted.value AND t.account = ?
"""
_ORDER_BY_REFUND = """
    SELECT r.refund, r.order_number FROM json_each(?) AS wanted CROSS JOIN refund_links AS r
    ON r.refund = wanted.value AND r.account = ?
"""
_ORDERS = """
    SELECT o.order_number, o.facts FROM json_each(?) AS wanted CROSS JOIN orders AS o
    ON o.order_number = wanted.value AND o.account = ?
"""
_SETTLED = """
    SELECT d.log_offset FROM json_each(?) AS wanted CROSS JOIN deliveries AS d
    ON d.log_offset = wanted.value AND d.log_partition = ?
"""
_LAST_SETTLED = "SELECT max(log_offset) FROM deliveries WHERE log_partition = ?"
_SETTLED_AFTER = "SELECT log_offset FROM deliveries WHERE log_partition = ? AND log_offset > ? ORDER BY log_offset"
_OPEN_HELD = """
    SELECT h.log_offset, h.attempts FROM json_each(?) AS wanted CROSS JOIN held AS h
    ON h.log_offset = wanted.value AND h.log_partition = ? WHERE h.resolved_at_ms IS NULL
"""

_INSERT_LEDGER = """
    INSERT INTO notifications
    (notification_id, account, order_number, digest, log_partition, log_offset, key, value, headers)
"""
_INSERT_EVENT = "INSERT INTO outbox (id, topic, key, value, headers, version, written_at_ms)"
_INSERT_ORDER = """
    INSERT INTO orders
    (version, facts, rank, status, closed_because, trade, amount_minor, currency, refunded_minor, flags,
     changed_at_ms, order_number, account)
"""
_UPDATE_ORDER = """
    UPDATE orders SET version = ?, facts = ?, rank = ?, status = ?, closed_because = ?, trade = ?, amount_minor = ?,
        currency = ?, refunded_minor = ?, flags = ?, changed_at_ms = ?
    WHERE order_number = ? AND account = ? AND version = ?
"""
_INSERT_TRADE = "INSERT INTO trades (trade, account, order_number)"
_INSERT_NUMBER = "INSERT INTO numbers (number, account, kind, log_partition, log_offset)"
_UNLESS_KNOWN = "ON CONFLICT DO NOTHING"
_INSERT_DELIVERY = f"INSERT INTO deliveries ({sql.DELIVERY})"
# A held notification that is applied later keeps the version that it gave its order when it was held.
_IN_ITS_PLACE = """
    ON CONFLICT DO UPDATE SET
    account = excluded.account, order_number = excluded.order_number, notification_id = excluded.notification_id,
    type = excluded.type, status = excluded.status, news = excluded.news, disposition = excluded.disposition,
    reason = excluded.reason, detail = excluded.detail, version = coalesce(excluded.version, deliveries.version),
    received_at_ms = excluded.received_at_ms, decided_at_ms = excluded.decided_at_ms
"""
# A snooze is for the reason that the operator saw: a row that is held for another one is back in the list.
_HOLD = f"""
    INSERT INTO held ({sql.HELD}) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
    ON CONFLICT DO UPDATE SET
    account = excluded.account, order_number = excluded.order_number, notification_id = excluded.notification_id,
    disposition = excluded.disposition, reason = excluded.reason, detail = excluded.detail,
    attempts = excluded.attempts, due_at_ms = excluded.due_at_ms, waits_for = excluded.waits_for,
    snoozed_until_ms = CASE WHEN (held.disposition, held.reason) = (excluded.disposition, excluded.reason)
        THEN held.snoozed_until_ms END
"""
_RELEASE = """
    UPDATE held SET resolved_at_ms = ?, resolution = ?, due_at_ms = NULL
    WHERE log_partition = ? AND log_offset = ? AND resolved_at_ms IS NULL
"""
_ADVANCE = """
    INSERT INTO cursors (log_partition, log_offset) VALUES (?, ?)
    ON CONFLICT DO UPDATE SET log_offset = excluded.log_offset
"""


def _named(connection: Connection, statement: str, names: frozenset[AccountKey]) -> dict[AccountKey, Any]:
    """(account, number) → the statement's second column, for the names that the store has."""
    return {
        (account, number): found
        for account, numbers in sql.by_account(names)
        for number, found in connection.execute(statement, (numbers, account))
    }


def _ledger(connection: Connection, ids: frozenset[AccountKey]) -> dict[AccountKey, LedgerEntry]:
    return {
        (account, id_): LedgerEntry(digest, Position(partition, offset))
        for account, numbers in sql.by_account(ids)
        for id_, digest, partition, offset in connection.execute(_LEDGER, (numbers, account))
    }


def _orders(connection: Connection, names: Sequence[AccountKey] | set[AccountKey]) -> dict[AccountKey, Order]:
    return {
        (account, number): row_codec.order(facts)
        for account, numbers in sql.by_account(names)
        for number, facts in connection.execute(_ORDERS, (numbers, account))
    }


def _settled(connection: Connection, positions: frozenset[Position]) -> frozenset[Position]:
    """The positions that have a disposition. The usual batch lies after the last of them and needs no look-up."""
    found: set[Position] = set()
    for partition, offsets in _by_partition(positions).items():
        last = _last_settled(connection, partition)
        candidates = [offset for offset in offsets if offset <= last]
        if candidates:
            known = connection.execute(_SETTLED, (sql.as_json(candidates), partition))
            found.update(Position(partition, offset) for (offset,) in known)
    return frozenset(found)


def _last_settled(connection: Connection, partition: int) -> int:
    last: int | None = connection.execute(_LAST_SETTLED, (partition,)).fetchone()[0]
    return last or 0


def _tries_of_open(connection: Connection, settled: frozenset[Position]) -> dict[Position, int]:
    """The positions with an unresolved held row, each with its number of attempts."""
    return {
        Position(partition, offset): tries
        for partition, offsets in _by_partition(settled).items()
        for offset, tries in connection.execute(_OPEN_HELD, (sql.as_json(offsets), partition))
    }


def _by_partition(positions: frozenset[Position]) -> dict[int, list[int]]:
    offsets: dict[int, list[int]] = {}
    for position in positions:
        offsets.setdefault(position.partition, []).append(position.offset)
    return offsets


def _write_events(connection: Connection, outgoing: Sequence[Outgoing], now_ms: int) -> None:
    """Write the events. A second order event with the same id is an error; a second notice with the same id is
    skipped."""
    order_events = [event for event in outgoing if event.topic == topics.ORDER_EVENT]
    sql.insert(connection, _INSERT_EVENT, [row_codec.outbox_row(event, now_ms) for event in order_events])
    if len(order_events) < len(outgoing):
        notices = [row_codec.outbox_row(event, now_ms) for event in outgoing if event.topic != topics.ORDER_EVENT]
        sql.insert(connection, _INSERT_EVENT, notices, after=_UNLESS_KNOWN)


def _write_orders(connection: Connection, writes: Sequence[OrderWrite], now_ms: int) -> None:
    new = [row_codec.order_row(each, now_ms) for each in writes if each.expected_version is None]
    changed = [
        (*row_codec.order_row(each, now_ms), each.expected_version)
        for each in writes
        if each.expected_version is not None
    ]
    written = sql.insert(connection, _INSERT_ORDER, new, after=_UNLESS_KNOWN)
    if changed:
        written += connection.executemany(_UPDATE_ORDER, changed).rowcount
    if written != len(writes):
        raise VersionConflict("an order has another version than the decision was based on")
    trades = {
        (claim.trade, each.order.account, each.order.number)
        for each in writes
        for claim in each.order.claims
        if claim.trade
    }
    sql.insert(connection, _INSERT_TRADE, sorted(trades), after=_UNLESS_KNOWN)


def _write_deliveries(connection: Connection, deliveries: Sequence[Delivery], settled: frozenset[Position]) -> None:
    first: list[row_codec.Row] = []
    again: list[row_codec.Row] = []
    for delivery in deliveries:
        (again if delivery.position in settled else first).append(row_codec.delivery_row(delivery))
    sql.insert(connection, _INSERT_DELIVERY, first)
    sql.insert(connection, _INSERT_DELIVERY, again, after=_IN_ITS_PLACE)


def _hold(connection: Connection, held: Sequence[HeldRow]) -> None:
    connection.executemany(_HOLD, map(row_codec.held_row, held))


def _release(connection: Connection, plan: WritePlan, now_ms: int) -> None:
    if not plan.released:
        return
    ends: dict[Position, Disposition] = {each.position: each.disposition for each in plan.deliveries}
    connection.executemany(
        _RELEASE,
        [(now_ms, ends[position].value, position.partition, position.offset) for position in plan.released],
    )


def _link(connection: Connection, named: AccountKey, refunds: Sequence[str]) -> None:
    account, number = named
    for refund in refunds:
        connection.execute(
            "INSERT INTO refund_links (refund, account, order_number) VALUES (?, ?, ?) ON CONFLICT DO NOTHING",
            (refund, account, number),
        )
        linked = connection.execute(
            "SELECT order_number FROM refund_links WHERE refund = ? AND account = ?", (refund, account)
        ).fetchone()[0]
        if linked != number:
            raise RefundTaken(refund, linked)


def _advance(connection: Connection, positions: frozenset[Position]) -> None:
    """Move each cursor to the last disposition before the first gap.

    A batch may be settled in two parts, the second with the orders that another worker had locked. If the cursor moved
    to the end of the first part and the process died then, the second part would be skipped forever.
    """
    for partition, offsets in _by_partition(positions).items():
        end = cursor(connection, partition)
        is_usual = min(offsets) == end + 1 and len(offsets) == max(offsets) - end
        if is_usual and _last_settled(connection, partition) <= max(offsets):
            upto = max(offsets)
        else:
            upto = _end_of_run(connection, partition, end)
        if upto > end:
            connection.execute(_ADVANCE, (partition, upto))


def _end_of_run(connection: Connection, partition: int, after: int) -> int:
    for (offset,) in connection.execute(_SETTLED_AFTER, (partition, after)):
        if offset != after + 1:
            break
        after = offset
    return after
