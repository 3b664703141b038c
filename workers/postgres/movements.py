"""Refunds and captures of orders that have many, as rows (`workers.settlement.movements`).

The order is locked before its movements are read, and written with them, so no two workers count the same ones.
"""

# ruff: noqa: S608 - only our own lists of columns are formatted into statements; values are always parameters

from collections.abc import Mapping, Sequence

from schemas.orders import Movement, Order
from workers import row_codec
from workers.postgres.columns import MOVEMENT, MOVEMENTS, arrays
from workers.postgres.database import SqlConnection
from workers.settlement.movements import name_of
from workers.settlement.plan import AccountKey, KnownMovements, MovementName, MovementRow, WritePlan

_OF_ORDERS = f"""
    SELECT m.account, m.order_number, {MOVEMENT} FROM unnest($1::text[], $2::text[]) AS wanted(number, account)
    JOIN movements AS m ON m.order_number = wanted.number AND m.account = wanted.account
"""
_OF_NAMES = f"""
    SELECT m.account, m.order_number, {MOVEMENT}
    FROM unnest($1::text[], $2::text[], $3::bigint[]) AS wanted(number, account, named)
    JOIN movements AS m ON m.order_number = wanted.number AND m.account = wanted.account AND m.named = wanted.named
"""
_INSERT = MOVEMENTS.insert("movements")
_DELETE = f"""
    DELETE FROM movements AS m USING {MOVEMENTS.arrays}
    WHERE m.order_number = given.order_number AND m.account = given.account
        AND m.named = given.named AND m.stated = given.stated
"""
_WITHOUT_TRADE = f"""
    SELECT {MOVEMENT} FROM movements AS m
    WHERE m.order_number = $1 AND m.account = $2 AND m.trade = '' ORDER BY m.number DESC LIMIT $3
"""


async def load(
    connection: SqlConnection, wanted: Mapping[AccountKey, frozenset[MovementName] | None]
) -> dict[AccountKey, KnownMovements]:
    """Return the movements of these orders with these names; all of an order for `None`."""
    found: dict[AccountKey, list[Movement]] = {key: [] for key in wanted}
    orders = [(number, account) for (account, number), names in wanted.items() if names is None]
    named = [
        (number, account, row_codec.movement_digest(name))
        for (account, number), names in wanted.items()
        for name in names or ()
    ]
    rows = await connection.fetch(_OF_ORDERS, *arrays(orders)) if orders else []
    rows += await connection.fetch(_OF_NAMES, *arrays(named)) if named else []
    for account, number, *columns in rows:
        movement, names = row_codec.movement(columns), wanted[account, number]
        if names is None or name_of(movement) in names:  # two names may have the same digest
            found[account, number].append(movement)
    return {key: KnownMovements(found=tuple(found[key]), names=names) for key, names in wanted.items()}


async def write(connection: SqlConnection, plan: WritePlan) -> None:
    """Write the plan's new rows, and delete those that are gone. It fails if a new one exists."""
    if plan.movements_gone:
        await connection.execute(_DELETE, *_arrays(plan.movements_gone))
    if plan.movements:
        await connection.execute(_INSERT, *_arrays(plan.movements))


async def without_trade(connection: SqlConnection, order: Order | None, limit: int) -> list[Movement]:
    """Return the latest movements that name no trade, of an order that has its movements as rows; else none."""
    if order is None or order.movement_sums is None:
        return []
    found = await connection.fetch(_WITHOUT_TRADE, order.number, order.account, limit)
    return [row_codec.movement(row) for row in found]


def _arrays(rows: Sequence[MovementRow]) -> list[tuple[object, ...]]:
    return arrays(map(row_codec.movement_row, rows))
