"""Load a batch's snapshot inside its transaction: the orders first, with row locks.

An existing order is locked before anything else is read, so the later reads see everything that the lock's last holder
wrote. If another session keeps a row locked, the batch is settled *around locks*: the snapshot names the locked orders
instead of waiting for them. The race about rows that do not exist yet is handled in `workers.postgres.settling`.
"""

# ruff: noqa: S608 - only our own lists of columns are formatted into statements; values are always parameters

import asyncio
from collections.abc import Iterable
from typing import Any

from schemas.orders import Order
from workers import row_codec
from workers.errors import VersionConflict
from workers.postgres import movements
from workers.postgres.database import BRIEFLY, SqlConnection
from workers.settlement import loading
from workers.settlement.plan import (
    AccountKey,
    LedgerEntry,
    LoadRequest,
    Position,
    PriorDelivery,
    PriorNotification,
    StoreSnapshot,
)

BRIEF_S = 0.2  # longer than another worker's transaction usually takes
# For a transaction that settles around foreign locks. A lock on a whole table is no row's: it fails here, at once, and
# the batch waits for its end.
AROUND_LOCKS = f"""
    {BRIEFLY};
    LOCK TABLE orders, trades, notifications, deliveries, held, outbox, numbers, movements, wakes IN ROW EXCLUSIVE MODE
"""


async def load(connection: SqlConnection, needs: LoadRequest) -> StoreSnapshot:
    """Return the snapshot that a batch needs, and lock its orders and held rows.

    Raises:
        VersionConflict: the condition that a held row waits for came true after the first look for it. The transaction
            that made it true also made the row due, before we locked it; holding it once more would undo that.
    """
    by_trade = await _numbers(connection, _ORDER_BY_TRADE, needs.trades)
    by_refund = await _numbers(connection, ORDER_BY_REFUND, needs.refunds)
    wanted = set(needs.orders)
    wanted.update((account, number) for (account, _), number in by_trade.items())
    wanted.update((account, number) for (account, _), number in by_refund.items())
    locked: frozenset[AccountKey] = frozenset()
    if needs.around_locks:
        orders, locked = await _free_orders(connection, wanted)
    else:
        orders = await locked_orders(connection, wanted)
    wanted_movements = loading.movements_to_load(needs, orders, by_trade, by_refund)
    prior_deliveries = await _settled(connection, needs.positions)
    settled = frozenset(prior_deliveries)
    # A redelivered record needs no lock, because it has its disposition.
    held_attempts = await _held_attempts(connection, settled & needs.retried if needs.around_locks else settled)
    if held_attempts:
        unknown = frozenset(wanted - orders.keys() - locked)
        missing = (needs.trades - by_trade.keys(), needs.refunds - by_refund.keys(), unknown)
        for statement, names in zip((_ORDER_BY_TRADE, ORDER_BY_REFUND, _ORDERS_THERE), missing, strict=True):
            if await _numbers(connection, statement, names):
                raise VersionConflict("a held notification's condition came true while it was retried")
    return StoreSnapshot(
        settled=settled,
        prior_deliveries=prior_deliveries,
        open_held=frozenset(held_attempts),
        held_attempts=held_attempts,
        ledger=await _ledger(connection, needs.ids),
        orders=orders,
        order_by_trade=by_trade,
        order_by_refund=by_refund,
        histories=await _histories(connection, orders) if needs.with_history else {},
        movements=await movements.load(connection, wanted_movements) if wanted_movements else {},
        locked=locked,
    )


_WANTED = "unnest($1::text[], $2::text[]) AS wanted(number, account)"
_PLACES = "unnest($1::integer[], $2::bigint[]) AS place(log_partition, log_offset)"

_LEDGER = f"""
    SELECT n.account, n.notification_id, n.digest, n.log_partition, n.log_offset FROM {_WANTED}
    JOIN notifications AS n ON n.notification_id = wanted.number AND n.account = wanted.account
"""
_ORDER_BY_TRADE = f"""
    SELECT t.account, t.trade, t.order_number FROM {_WANTED}
    JOIN trades AS t ON t.trade = wanted.number AND t.account = wanted.account
"""
ORDER_BY_REFUND = f"""
    SELECT r.account, r.refund, r.order_number FROM {_WANTED}
    JOIN refund_links AS r ON r.refund = wanted.number AND r.account = wanted.account
"""
_ORDERS_THERE = f"""
    SELECT o.account, o.order_number, true FROM {_WANTED}
    JOIN orders AS o ON o.order_number = wanted.number AND o.account = wanted.account
"""
_LOCKED_ORDERS = f"""
    SELECT o.account, o.order_number, o.facts FROM {_WANTED}
    JOIN orders AS o ON o.order_number = wanted.number AND o.account = wanted.account
    ORDER BY o.order_number, o.account FOR NO KEY UPDATE OF o
"""
_FREE_ORDERS = f"{_LOCKED_ORDERS} SKIP LOCKED"
# A polled batch is a run of offsets, which is one range scan of the index; retried held rows are scattered.
_SETTLED_IN_RUN = """
    SELECT log_partition, log_offset, notification_id, received_at FROM deliveries
    WHERE log_partition = $1 AND log_offset BETWEEN $2 AND $3
"""
_SETTLED = f"""
    SELECT d.log_partition, d.log_offset, d.notification_id, d.received_at FROM {_PLACES}
    JOIN deliveries AS d ON d.log_partition = place.log_partition AND d.log_offset = place.log_offset
"""
_OPEN_HELD = f"""
    SELECT h.log_partition, h.log_offset, h.attempts FROM {_PLACES}
    JOIN held AS h ON h.log_partition = place.log_partition AND h.log_offset = place.log_offset
    WHERE h.resolved_at IS NULL
    ORDER BY h.log_partition, h.log_offset FOR NO KEY UPDATE OF h
"""
_HISTORY = """
    SELECT d.log_partition, d.log_offset, d.disposition, d.reason, h.log_offset IS NOT NULL, n.key, n.value, n.headers
    FROM deliveries AS d
    JOIN notifications AS n ON n.notification_id = d.notification_id AND n.account = d.account
        AND n.log_partition = d.log_partition AND n.log_offset = d.log_offset
    LEFT JOIN held AS h ON h.log_partition = d.log_partition AND h.log_offset = d.log_offset AND h.resolved_at IS NULL
    WHERE d.order_number = $1 AND d.account = $2
    ORDER BY d.log_partition, d.log_offset
"""


async def _histories(
    connection: SqlConnection, names: Iterable[AccountKey]
) -> dict[AccountKey, tuple[PriorNotification, ...]]:
    """The notifications of each order, each by its first record."""
    return {
        (account, number): tuple(
            row_codec.prior_notification(row) for row in await connection.fetch(_HISTORY, number, account)
        )
        for account, number in names
    }


async def _numbers(connection: SqlConnection, statement: str, names: frozenset[AccountKey]) -> dict[AccountKey, Any]:
    """(account, number) → the statement's third column, for the names that the store has."""
    if not names:
        return {}
    found = await connection.fetch(statement, *_apart(names))
    return {(account, number): value for account, number, value in found}


async def _ledger(connection: SqlConnection, ids: frozenset[AccountKey]) -> dict[AccountKey, LedgerEntry]:
    if not ids:
        return {}
    found = await connection.fetch(_LEDGER, *_apart(ids))
    return {
        (account, id_): LedgerEntry(digest, Position(partition, offset))
        for account, id_, digest, partition, offset in found
    }


async def locked_orders(connection: SqlConnection, names: set[AccountKey]) -> dict[AccountKey, Order]:
    """Lock and return the orders that exist. No other transaction writes them until this one ends."""
    if not names:
        return {}
    found = await connection.fetch(_LOCKED_ORDERS, *_apart(names))
    return {(account, number): row_codec.order(facts) for account, number, facts in found}


async def _free_orders(
    connection: SqlConnection, names: set[AccountKey]
) -> tuple[dict[AccountKey, Order], frozenset[AccountKey]]:
    """Lock and return the orders that no other session has locked, and name those that one has.

    Another worker's lock lasts for one transaction, so look at the missing orders once more. This waits for no
    lock, so that no circle of waiting transactions can arise.
    """
    if not names:
        return {}, frozenset()
    free = await _free(connection, names)
    missing = (await _numbers(connection, _ORDERS_THERE, frozenset(names))).keys() - free.keys()
    if missing:
        await asyncio.sleep(BRIEF_S)
        free.update(await _free(connection, missing))
    return free, frozenset(missing - free.keys())


async def _free(connection: SqlConnection, names: Iterable[AccountKey]) -> dict[AccountKey, Order]:
    found = await connection.fetch(_FREE_ORDERS, *_apart(names))
    return {(account, number): row_codec.order(facts) for account, number, facts in found}


def _apart(names: Iterable[AccountKey]) -> tuple[list[str], list[str]]:
    """The numbers and their accounts, as two parameters."""
    ordered = list(names)
    return [number for _, number in ordered], [account for account, _ in ordered]


async def _settled(connection: SqlConnection, positions: frozenset[Position]) -> dict[Position, PriorDelivery]:
    """The positions that have a disposition, each with the record that got it."""
    found: list[Any] = []
    scattered: list[Position] = []
    by_partition: dict[int, list[Position]] = {}
    for position in positions:
        by_partition.setdefault(position.partition, []).append(position)
    for partition, of_partition in by_partition.items():
        offsets = [position.offset for position in of_partition]
        first, last = min(offsets), max(offsets)
        if last - first >= 2 * len(offsets):
            scattered += of_partition
            continue
        found += await connection.fetch(_SETTLED_IN_RUN, partition, first, last)
    if scattered:
        found += await connection.fetch(_SETTLED, *places(scattered))
    settled = (
        (Position(partition, offset), PriorDelivery(notification_id=id_, received_at_ms=received_at_ms))
        for partition, offset, id_, received_at_ms in found
    )
    return {position: record for position, record in settled if position in positions}


async def _held_attempts(connection: SqlConnection, settled: frozenset[Position]) -> dict[Position, int]:
    """The positions with an unresolved held row, each with its number of attempts; the rows are locked."""
    if not settled:
        return {}
    found = await connection.fetch(_OPEN_HELD, *places(settled))
    return {Position(partition, offset): attempts for partition, offset, attempts in found}


def places(positions: Iterable[Position]) -> tuple[list[int], list[int]]:
    """The partitions and the offsets, as two parameters."""
    ordered = list(positions)
    return [position.partition for position in ordered], [position.offset for position in ordered]
