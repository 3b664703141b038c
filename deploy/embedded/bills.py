"""Reports of comparisons with bills (`workers.bills`), in SQLite."""

# ruff: noqa: S608 - only our own lists of columns are formatted into statements; values are always parameters

from collections.abc import Sequence
from sqlite3 import Connection

import msgspec

from deploy.embedded import decisions, sql
from deploy.embedded.sqlite import SqliteDatabase
from deploy.embedded.sqlite_reader import SqliteReader
from workers import bills, row_codec
from workers.bills import KEPT_MS, UNFINISHED_KEPT_MS, BillDifference, BillImport, NewImport
from workers.queries import OrderPage

_ACCOUNT = "substr({0}, 1, instr({0} || '/', '/') - 1) = ?2"
_ORDER = f"{', '.join(f'o.{name}' for name in sql.ORDER.split(', '))}, o.changed_at_ms"
# CROSS JOIN keeps the order of the tables: the numbers first, then the index of the other table.
_BY_NUMBER = f"""
    SELECT {_ORDER} FROM json_each(?1) AS wanted
    CROSS JOIN orders AS o ON o.order_number = wanted.value WHERE {_ACCOUNT.format("o.account")}
"""
_BY_TRADE = f"""
    SELECT {_ORDER} FROM json_each(?1) AS wanted CROSS JOIN trades AS t ON t.trade = wanted.value
    CROSS JOIN orders AS o ON o.order_number = t.order_number AND o.account = t.account
    WHERE {_ACCOUNT.format("t.account")}
"""
_COLUMNS = "number, account, digest, begun_at_ms, finished_at_ms, report"
_OLD = "SELECT number FROM bill_imports WHERE begun_at_ms < ? OR (finished_at_ms IS NULL AND begun_at_ms < ?)"
_BEGIN = "INSERT INTO bill_imports (account, digest, begun_at_ms, report) VALUES (?, ?, ?, ?) RETURNING number"
_ADD = "INSERT INTO bill_differences (bill, place, difference) VALUES (?, ?, ?) ON CONFLICT DO NOTHING"
_FINISH = "UPDATE bill_imports SET finished_at_ms = ? WHERE number = ?"
_EARLIER = f"""
    SELECT {_COLUMNS} FROM bill_imports
    WHERE digest = ? AND account = ? AND number < ? AND finished_at_ms IS NOT NULL ORDER BY number
"""
_LIST = f"""
    SELECT {_COLUMNS} FROM bill_imports WHERE finished_at_ms IS NOT NULL AND number < ? ORDER BY number DESC LIMIT ?
"""
_ONE = f"SELECT {_COLUMNS} FROM bill_imports WHERE number = ?"
_PAGE = "SELECT place, difference FROM bill_differences WHERE bill = ? AND place > ? ORDER BY place LIMIT ?"
_NUMBER_MAX = 2**63 - 1


class SqliteBills:
    """The reports of one file. Reads are operators' reads."""

    def __init__(self, database: SqliteDatabase, reader: SqliteReader) -> None:
        self._database = database
        self._reader = reader

    async def bill_orders(self, account: str, numbers: Sequence[str], trades: Sequence[str]) -> Sequence[OrderPage]:
        def work(connection: Connection) -> list[OrderPage]:
            rows = [
                row
                for statement, wanted in ((_BY_NUMBER, numbers), (_BY_TRADE, trades))
                for row in connection.execute(statement, (sql.as_json([*wanted]), account))
            ]
            found = map(row_codec.listed_order, rows)
            return [*{(page.account, page.number): page for page in found}.values()]

        return await self._reader.read(work)

    async def begin_import(self, new: NewImport, *, now_ms: int) -> int:
        report = msgspec.json.encode(new.report).decode()

        def work(connection: Connection) -> int:
            old = connection.execute(_OLD, (now_ms - KEPT_MS, now_ms - UNFINISHED_KEPT_MS))
            _delete(connection, [number for (number,) in old.fetchall()])
            return int(connection.execute(_BEGIN, (new.account, new.digest, now_ms, report)).fetchone()[0])

        return await self._database.write(work)

    async def add_differences(self, number: int, first: int, differences: Sequence[BillDifference]) -> bool:
        rows = [
            (number, place, msgspec.json.encode(difference).decode())
            for place, difference in enumerate(differences, first)
        ]

        def work(connection: Connection) -> bool:
            found = connection.execute(_ONE, (number,)).fetchone()
            if found is None or bills.import_of(found).finished_at_ms is not None:
                return False
            connection.executemany(_ADD, rows)
            return True

        return await self._database.write(work)

    async def finish_import(self, number: int, *, by: str, now_ms: int) -> BillImport | None:
        def work(connection: Connection) -> BillImport | None:
            row = connection.execute(_ONE, (number,)).fetchone()
            if row is None or (found := bills.import_of(row)).finished_at_ms is not None:
                return None
            connection.execute(_FINISH, (now_ms, number))
            earlier = connection.execute(_EARLIER, (found.digest, found.account, number)).fetchall()
            replaced = [bills.import_of(each) for each in earlier]
            _delete(connection, [each.number for each in replaced])
            decisions.audit(connection, now_ms, "bill_import", [f"bill:{number}"], by, bills.audited(found))
            return bills.last_of(replaced)

        return await self._database.write(work)

    async def imports(self, limit: int, before: int | None = None) -> Sequence[BillImport]:
        below = _NUMBER_MAX if before is None else before
        rows = await self._reader.read(lambda connection: connection.execute(_LIST, (below, limit)).fetchall())
        return [bills.import_of(row) for row in rows]

    async def bill_import(self, number: int) -> BillImport | None:
        row = await self._reader.read(lambda connection: connection.execute(_ONE, (number,)).fetchone())
        return None if row is None else bills.import_of(row)

    async def differences(self, number: int, *, after: int, limit: int) -> Sequence[tuple[int, BillDifference]]:
        given = (number, after, limit)
        rows = await self._reader.read(lambda connection: connection.execute(_PAGE, given).fetchall())
        return [(place, bills.difference_of(text)) for place, text in rows]


def _delete(connection: Connection, numbers: Sequence[int]) -> None:
    given = (sql.as_json([*numbers]),)
    connection.execute("DELETE FROM bill_imports WHERE number IN (SELECT value FROM json_each(?))", given)
    connection.execute("DELETE FROM bill_differences WHERE bill IN (SELECT value FROM json_each(?))", given)
