"""Delete old notifications and orders, as if the shadow had begun later.

Orders of which an old notification was deleted are decided anew from the later ones. So a refund whose payment is
deleted is undecided, like one from before the shadow.
"""

from sqlite3 import Connection

from msgspec import Struct

_SEEN = "DELETE FROM seen WHERE received_at_ms < ?"
_ORDERS = """
DELETE FROM old_orders WHERE as_of_ms < ? AND (order_number, account) NOT IN (SELECT order_number, account FROM seen)
"""
_NUMBERS = "SELECT number FROM seen WHERE log_offset IS NOT NULL ORDER BY log_offset"


class Pruned(Struct, frozen=True, kw_only=True):
    """The numbers of deleted rows."""

    notifications: int = 0
    orders: int = 0


def prune(connection: Connection, before_ms: int) -> Pruned:
    """Delete the notifications received before this moment, and the orders exported before it that have no other.

    If there were any, new decisions begin. The digests of imported lines are kept, so that a
    deleted line is not imported again.
    """
    notifications = connection.execute(_SEEN, (before_ms,)).rowcount
    orders = connection.execute(_ORDERS, (before_ms,)).rowcount
    if notifications or orders:
        # Offsets have no gaps. In ascending order, each new one is free already.
        numbers = [number for (number,) in connection.execute(_NUMBERS)]
        connection.executemany("UPDATE seen SET log_offset = ? WHERE number = ?", enumerate(numbers, 1))
        connection.execute("UPDATE generation SET number = number + 1")
    return Pruned(notifications=notifications, orders=orders)
