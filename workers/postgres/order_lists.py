"""Lists of orders by operators' filters, page by page. Read-only.

A page reads an index in its own order: that of numbers for a prefix, else the last changes, of flagged orders or of one
account if they are asked for. The rest of the filter is tried on the rows that it comes upon, at most `EXAMINED_MAX`.
"""

# ruff: noqa: S608 - only our own lists of columns are formatted into statements; values are always parameters

from typing import Any

from workers import queries, row_codec
from workers.postgres import columns
from workers.postgres.database import SqlConnection
from workers.queries import EXAMINED_MAX, OrderList, OrderPlace, OrderQuery

_ACCOUNT = "split_part(account, '/', 1)"  # without the merchant of a service provider
_BY_CHANGE = ["changed_at", "order_number", "account"]
_BY_NUMBER = ["order_number", "account"]


async def page(connection: SqlConnection, query: OrderQuery) -> OrderList:
    """Return a page of the orders that match the query, without their timelines."""
    values: list[Any] = []
    examined, rest = _examined(query, values), _rest(query, values)
    values.append(query.limit + 1)
    statement = f"SELECT {columns.ORDER}, changed_at FROM ({examined}) AS examined {rest} LIMIT ${len(values)}"
    found = [row_codec.listed_order(row) for row in await connection.fetch(statement, *values)]
    has_more = bool(rest) and len(found) <= query.limit
    return queries.order_list(query, found, await _examined_to(connection, query) if has_more else None)


async def _examined_to(connection: SqlConnection, query: OrderQuery) -> OrderPlace | None:
    """Return the last order that the page looks at; `None` if it looks at all."""
    values: list[Any] = []
    examined = _examined(query, values, "changed_at, order_number, account")
    row = await connection.fetchrow(f"SELECT * FROM ({examined}) AS examined OFFSET {EXAMINED_MAX - 1}", *values)
    return None if row is None else OrderPlace(changed_at_ms=row[0], number=row[1], account=row[2])


def _examined(
    query: OrderQuery, values: list[Any], names: str = f"{columns.ORDER}, changed_at, order_number, account"
) -> str:
    """The statement of the rows that a page looks at, which appends the values of its parameters.

    An account is a span of its index, because with an equation the planner may go through all orders by their change.
    """
    key, order = _key(query), [*_BY_NUMBER] if query.prefix else [*_BY_CHANGE]
    conditions = ["flags <> ''"] if query.is_flagged and not query.prefix else []
    if query.prefix:
        conditions.append(f"order_number >= {_mark(values, query.prefix)}")
        end = queries.prefix_end(query.prefix)
        conditions += [f"order_number < {_mark(values, end)}"] if end is not None else []
    else:
        conditions += _span(query, key, values)
    if query.after is not None:
        place = [query.after.number, query.after.account]
        conditions.append(_compared([*key, *order], "<", [*key.values(), *_moment(query), *place], values))
    where = f"WHERE {' AND '.join(conditions)} " if conditions else ""
    by = ", ".join([f"{column} DESC" for column in [*key, *order]])
    return f"SELECT {names} FROM orders {where}ORDER BY {by} LIMIT {EXAMINED_MAX}"


def _key(query: OrderQuery) -> dict[str, str]:
    """The columns with which the list's index begins, with the query's values of them."""
    return {_ACCOUNT: query.account} if query.account and not query.is_flagged and not query.prefix else {}


def _moment(query: OrderQuery) -> list[int]:
    """The moment in the place after which the page begins; by number, a place has none."""
    return [] if query.prefix or query.after is None else [query.after.changed_at_ms]


def _span(query: OrderQuery, key: dict[str, str], values: list[Any]) -> list[str]:
    """The span of time, within the index."""
    conditions = []
    for comparison, at_ms, whole in ((">=", query.since_ms, ">="), ("<", query.before_ms, "<=")):
        if at_ms is not None:
            conditions.append(_compared([*key, "changed_at"], comparison, [*key.values(), at_ms], values))
        elif key:
            conditions.append(_compared([*key], whole, [*key.values()], values))
    return conditions


def _compared(names: list[str], comparison: str, given: list[Any], values: list[Any]) -> str:
    marks = [_mark(values, each) for each in given]
    return f"({', '.join(names)}) {comparison} ({', '.join(marks)})"


def _rest(query: OrderQuery, values: list[Any]) -> str:
    """The part of the filter that is tried on each row."""
    has_account = query.account is not None and not _key(query)
    amounts = query.amounts
    conditions = []
    for condition, value in (
        (f"{_ACCOUNT} =", query.account if has_account else None),
        ("account =", query.scope),
        ("status =", query.status),
        ("changed_at >=", query.since_ms if query.prefix else None),
        ("changed_at <", query.before_ms if query.prefix else None),
        ("currency =", None if amounts is None else amounts.currency),
        ("amount_minor >=", None if amounts is None else amounts.from_minor),
        ("amount_minor <=", None if amounts is None else amounts.to_minor),
    ):
        if value is not None:
            conditions.append(f"{condition} {_mark(values, value)}")
    if query.is_flagged and query.prefix:
        conditions.append("flags <> ''")
    return f"WHERE {' AND '.join(conditions)}" if conditions else ""


def _mark(values: list[Any], value: Any) -> str:
    values.append(value)
    return f"${len(values)}"
