"""What a read costs in each store: the rows that it reads, and whether it sorts. For tests with few rows and many."""

import itertools
import json
import sqlite3
from collections.abc import Awaitable, Callable, Iterator, Sequence
from typing import Any

from msgspec import Struct

from workers.postgres.database import SqlConnection

_NAMES = itertools.count()
_MILLISECONDS_MIN = 10**11  # integers from here on are moments


class Cost(Struct, frozen=True):
    """`read` are rows of `held` and `orders`, in SQLite instructions; `sorts` and `scans` are the plan's faults."""

    read: int
    sorts: int
    scans: int


async def on_postgres(connection: SqlConnection, work: Callable[[SqlConnection], Awaitable[object]]) -> Cost:
    """Run the reading work, and explain each of its statements as the pool prepares it."""
    explained = _Explaining(connection)
    await work(explained)
    return _cost(explained.plans)


def _cost(plans: Sequence[dict[str, Any]]) -> Cost:
    nodes = [node for plan in plans for node in _nodes(plan)]
    of_tables = [node for node in nodes if node.get("Relation Name") in ("held", "orders")]
    return Cost(
        read=sum(_rows(node) for node in of_tables),
        sorts=sum("Sort" in node["Node Type"] for node in nodes),
        scans=sum(node["Node Type"] == "Seq Scan" for node in nodes),
    )


async def of_statement(connection: SqlConnection, statement: str, *arguments: Any) -> Cost:
    """Run one statement, which may write, and explain it as the pool prepares it."""
    explained = _Explaining(connection)
    await explained.explain(statement, arguments)
    return _cost(explained.plans)


def _rows(node: dict[str, Any]) -> int:
    removed = node.get("Rows Removed by Filter", 0) + node.get("Rows Removed by Index Recheck", 0)
    rows: int = (node["Actual Rows"] + removed) * node["Actual Loops"]
    return rows


def _nodes(plan: dict[str, Any]) -> Iterator[dict[str, Any]]:
    yield plan
    for each in plan.get("Plans", ()):
        yield from _nodes(each)


class _Explaining:
    """A connection that also explains what it reads."""

    def __init__(self, connection: SqlConnection) -> None:
        self._connection = connection
        self.plans: list[dict[str, Any]] = []

    async def fetch(self, query: str, *args: Any) -> list[Any]:
        await self.explain(query, args)
        return await self._connection.fetch(query, *args)

    async def fetchrow(self, query: str, *args: Any) -> Any:
        await self.explain(query, args)
        return await self._connection.fetchrow(query, *args)

    async def fetchval(self, query: str, *args: Any) -> Any:
        await self.explain(query, args)
        return await self._connection.fetchval(query, *args)

    async def execute(self, query: str, *args: Any) -> str:
        raise AssertionError("a read writes")

    async def copy_records_to_table(
        self, table_name: str, *, records: Sequence[Sequence[Any]], columns: Sequence[str]
    ) -> str:
        raise AssertionError("a read writes")

    async def explain(self, query: str, args: Sequence[Any]) -> None:
        name = f"explained_{next(_NAMES)}"
        await self._connection.execute(f"PREPARE {name} AS {query}")
        values = f"({', '.join(map(_literal, args))})" if args else ""
        text = await self._connection.fetchval(f"EXPLAIN (ANALYZE, FORMAT JSON) EXECUTE {name}{values}")
        await self._connection.execute(f"DEALLOCATE {name}")
        self.plans.append(json.loads(text)[0]["Plan"])


def _literal(value: Any) -> str:
    if isinstance(value, list | tuple):
        return f"ARRAY[{', '.join(map(_literal, value))}]"
    if isinstance(value, int):
        return f"to_timestamp({value} / 1000.0)" if value >= _MILLISECONDS_MIN else str(value)
    return "'" + str(value).replace("'", "''") + "'"


def on_sqlite(connection: sqlite3.Connection, work: Callable[[sqlite3.Connection], object]) -> Cost:
    """Run the reading work, count its instructions, and explain each of its statements."""
    statements: list[str] = []
    count = 0

    def step() -> int:
        nonlocal count
        count += 1
        return 0

    connection.set_trace_callback(statements.append)
    connection.set_progress_handler(step, 1)
    try:
        work(connection)
    finally:
        connection.set_progress_handler(None, 0)
        connection.set_trace_callback(None)
    lines = [row[3] for each in statements for row in connection.execute(f"EXPLAIN QUERY PLAN {each}")]
    return Cost(
        read=count,
        sorts=sum("TEMP B-TREE" in line for line in lines),
        scans=sum(line in ("SCAN held", "SCAN orders", "SCAN held_counts") for line in lines),
    )
