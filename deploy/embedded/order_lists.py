"""Lists of orders by operators' filters, page by page. On the database's thread; read-only.

A page reads an index in its own order: that of numbers for a prefix, else the last changes, of flagged orders or of one
account if they are asked for. The rest of the filter is tried on the rows that it comes upon, at most `EXAMINED_MAX`.
"""

# ruff: noqa: S608 - only our own lists of columns are formatted into statements; values are always parameters

from collections.abc import Sequence
from sqlite3 import Connection
from typing import Any

from deploy.embedded import sql
from workers import queries, row_codec
from workers.queries import EXAMINED_MAX, OrderList, OrderPlace, OrderQuery

_ACCOUNT = "substr(account, 1, instr(account || '/', '/') - 1)"  # without the merchant of a service provider
Conditions = Sequence[tuple[str, Any]]


def page(connection: Connection, query: OrderQuery) -> OrderList:
    """Return a page of the orders that match the query, without their timelines."""
    examined, values = _examined(query, f"{sql.ORDER}, changed_at_ms, order_number, account")
    rest, more = _where(_rest(query))
    # SQLite evaluates the inner part row by row and in its order, and ends with the limit.
    statement = f"SELECT {sql.ORDER}, changed_at_ms FROM ({examined}) {rest} LIMIT ?"
    rows = connection.execute(statement, (*values, *more, query.limit + 1))
    found = [row_codec.listed_order(row) for row in rows]
    has_more = bool(rest) and len(found) <= query.limit
    return queries.order_list(query, found, _examined_to(connection, query) if has_more else None)


def _examined_to(connection: Connection, query: OrderQuery) -> OrderPlace | None:
    """Return the last order that the page looks at; `None` if it looks at all."""
    examined, values = _examined(query, "changed_at_ms, order_number, account")
    row = connection.execute(f"SELECT * FROM ({examined}) LIMIT 1 OFFSET {EXAMINED_MAX - 1}", tuple(values)).fetchone()
    return None if row is None else OrderPlace(changed_at_ms=row[0], number=row[1], account=row[2])


def _examined(query: OrderQuery, names: str) -> tuple[str, list[Any]]:
    """The statement of the rows that a page looks at, and the values of its parameters."""
    after = query.after
    if query.prefix:
        place: Conditions = [("(order_number, account) < (?, ?)", (after.number, after.account))] if after else []
        end = queries.prefix_end(query.prefix)
        conditions = [
            ("order_number >= ?", (query.prefix,)),
            ("order_number < ?", None if end is None else (end,)),
            *place,
        ]
        order, index = "order_number DESC, account DESC", ""
    else:
        has_account = query.account is not None and not query.is_flagged
        moment = None if after is None else (after.changed_at_ms, after.number, after.account)
        conditions = [
            ("flags <> ''", () if query.is_flagged else None),
            (f"{_ACCOUNT} = ?", (query.account,) if has_account else None),
            ("changed_at_ms >= ?", _one(query.since_ms)),
            ("changed_at_ms < ?", _one(query.before_ms)),
            ("(changed_at_ms, order_number, account) < (?, ?, ?)", moment),
        ]
        order = "changed_at_ms DESC, order_number DESC, account DESC"
        name = "orders_flagged" if query.is_flagged else "orders_by_account" if has_account else "orders_changed"
        index = f"INDEXED BY {name}"
    where, values = _where(conditions)
    return f"SELECT {names} FROM orders {index} {where} ORDER BY {order} LIMIT {EXAMINED_MAX}", values


def _rest(query: OrderQuery) -> Conditions:
    """The part of the filter that is tried on each row."""
    has_account = query.account is not None and (query.is_flagged or bool(query.prefix))
    amounts = query.amounts
    return [
        ("flags <> ''", () if query.is_flagged and query.prefix else None),
        (f"{_ACCOUNT} = ?", (query.account,) if has_account else None),
        ("account = ?", _one(query.scope)),
        ("status = ?", _one(query.status)),
        ("changed_at_ms >= ?", _one(query.since_ms) if query.prefix else None),
        ("changed_at_ms < ?", _one(query.before_ms) if query.prefix else None),
        ("currency = ?", None if amounts is None else (amounts.currency,)),
        ("amount_minor >= ?", None if amounts is None else _one(amounts.from_minor)),
        ("amount_minor <= ?", None if amounts is None else _one(amounts.to_minor)),
    ]


def _one(value: Any) -> tuple[Any] | None:
    return None if value is None else (value,)


def _where(conditions: Conditions) -> tuple[str, list[Any]]:
    """The conditions that have values, and these."""
    given = [(condition, values) for condition, values in conditions if values is not None]
    where = f"WHERE {' AND '.join([condition for condition, _ in given])}" if given else ""
    return where, [value for _, values in given for value in values]
