"""Refunds and captures of orders that have many, as rows (`workers.settlement.movements`). On the database's thread."""

# ruff: noqa: S608 - only our own lists of columns are formatted into statements; values are always parameters

from collections.abc import Mapping
from sqlite3 import Connection

from deploy.embedded import sql
from schemas.orders import Movement, Order
from workers import row_codec
from workers.settlement.movements import name_of
from workers.settlement.plan import AccountKey, KnownMovements, MovementName, WritePlan

_OF_ORDER = f"SELECT {sql.MOVEMENT} FROM movements AS m WHERE m.order_number = ? AND m.account = ?"
_OF_NAMES = f"""
    SELECT {sql.MOVEMENT} FROM json_each(?3) AS wanted CROSS JOIN movements AS m
    ON m.order_number = ?1 AND m.account = ?2 AND m.named = wanted.value
"""
_INSERT = f"INSERT INTO movements ({sql.MOVEMENT_ROW})"
_DELETE = "DELETE FROM movements WHERE order_number = ? AND account = ? AND named = ? AND stated = ?"
_WITHOUT_TRADE = f"""
    SELECT {sql.MOVEMENT} FROM movements AS m
    WHERE m.order_number = ? AND m.account = ? AND m.trade = '' ORDER BY m.number DESC LIMIT ?
"""


def load(
    connection: Connection, wanted: Mapping[AccountKey, frozenset[MovementName] | None]
) -> dict[AccountKey, KnownMovements]:
    """Return the movements of these orders with these names; all of an order for `None`."""
    return {
        key: KnownMovements(found=tuple(_of_order(connection, key, names)), names=names)
        for key, names in wanted.items()
    }


def _of_order(connection: Connection, key: AccountKey, names: frozenset[MovementName] | None) -> list[Movement]:
    account, number = key
    if names is None:
        return [row_codec.movement(row) for row in connection.execute(_OF_ORDER, (number, account))]
    digests = sql.as_json(sorted(map(row_codec.movement_digest, names)))
    found = [row_codec.movement(row) for row in connection.execute(_OF_NAMES, (number, account, digests))]
    return [movement for movement in found if name_of(movement) in names]  # two names may have the same digest


def write(connection: Connection, plan: WritePlan) -> None:
    """Write the plan's new rows, and delete those that are gone. It fails if a new one exists."""
    connection.executemany(_DELETE, [row_codec.movement_row(row)[:4] for row in plan.movements_gone])
    sql.insert(connection, _INSERT, [row_codec.movement_row(row) for row in plan.movements])


def without_trade(connection: Connection, order: Order | None, limit: int) -> list[Movement]:
    """Return the latest movements that name no trade, of an order that has its movements as rows; else none."""
    if order is None or order.movement_sums is None:
        return []
    found = connection.execute(_WITHOUT_TRADE, (order.number, order.account, limit))
    return [row_codec.movement(row) for row in found]
