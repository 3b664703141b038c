"""Reports of comparisons with bills (`workers.bills`), in the database that many workers share."""

# ruff: noqa: S608 - only our own lists of columns are formatted into statements; values are always parameters

from collections.abc import Sequence

import msgspec

from workers import bills, row_codec
from workers.bills import KEPT_MS, UNFINISHED_KEPT_MS, BillDifference, BillImport, NewImport
from workers.postgres import audit, columns
from workers.postgres.columns import Columns, arrays
from workers.postgres.database import Database, SqlConnection
from workers.queries import OrderPage

_ACCOUNT = "split_part({}, '/', 1) = $2"
_ORDER = f"{columns.of('o', columns.ORDER)}, o.changed_at"
_BY_NUMBER = f"""
    SELECT {_ORDER} FROM orders AS o WHERE o.order_number = ANY($1::text[]) AND {_ACCOUNT.format("o.account")}
"""
_BY_TRADE = f"""
    SELECT {_ORDER} FROM trades AS t
    JOIN orders AS o ON o.order_number = t.order_number AND o.account = t.account
    WHERE t.trade = ANY($1::text[]) AND {_ACCOUNT.format("t.account")}
"""
_COLUMNS = "number, account, digest, begun_at, finished_at, report"
_OLD = "begun_at < $1 OR (finished_at IS NULL AND begun_at < $2)"
_FORGET = f"""
    WITH gone AS (DELETE FROM bill_imports WHERE {_OLD} RETURNING number)
    DELETE FROM bill_differences WHERE bill IN (SELECT number FROM gone)
"""
_BEGIN = "INSERT INTO bill_imports (account, digest, begun_at, report) VALUES ($1, $2, $3, $4) RETURNING number"
_LOCK = f"SELECT {_COLUMNS} FROM bill_imports WHERE number = $1 FOR UPDATE"
_DIFFERENCES = Columns("bill bigint, place integer, difference text")
_ADD = _DIFFERENCES.insert("bill_differences", after="ON CONFLICT DO NOTHING")
_FINISH = "UPDATE bill_imports SET finished_at = $2 WHERE number = $1"
_REPLACE = f"""
    DELETE FROM bill_imports WHERE digest = $1 AND account = $2 AND number < $3
    AND finished_at IS NOT NULL RETURNING {_COLUMNS}
"""
_DROP = "DELETE FROM bill_differences WHERE bill = ANY($1::bigint[])"
_LIST = f"""
    SELECT {_COLUMNS} FROM bill_imports WHERE finished_at IS NOT NULL AND number < $1 ORDER BY number DESC LIMIT $2
"""
_ONE = f"SELECT {_COLUMNS} FROM bill_imports WHERE number = $1"
_PAGE = "SELECT place, difference FROM bill_differences WHERE bill = $1 AND place > $2 ORDER BY place LIMIT $3"
_NUMBER_MAX = 2**63 - 1


class PostgresBills:
    """The reports of one database. Reads are operators' reads."""

    def __init__(self, database: Database, reads: Database) -> None:
        self._database = database
        self._reads = reads

    async def bill_orders(self, account: str, numbers: Sequence[str], trades: Sequence[str]) -> Sequence[OrderPage]:
        async def work(connection: SqlConnection) -> list[OrderPage]:
            rows = await connection.fetch(_BY_NUMBER, [*numbers], account) if numbers else []
            rows += await connection.fetch(_BY_TRADE, [*trades], account) if trades else []
            found = map(row_codec.listed_order, rows)
            return [*{(page.account, page.number): page for page in found}.values()]

        return await self._reads.read(work, of_one_moment=True)

    async def begin_import(self, new: NewImport, *, now_ms: int) -> int:
        report = msgspec.json.encode(new.report).decode()

        async def work(connection: SqlConnection) -> int:
            await connection.execute(_FORGET, now_ms - KEPT_MS, now_ms - UNFINISHED_KEPT_MS)
            return int(await connection.fetchval(_BEGIN, new.account, new.digest, now_ms, report))

        return await self._database.write(work)

    async def add_differences(self, number: int, first: int, differences: Sequence[BillDifference]) -> bool:
        rows = [
            (number, place, msgspec.json.encode(difference).decode())
            for place, difference in enumerate(differences, first)
        ]

        async def work(connection: SqlConnection) -> bool:
            found = await connection.fetchrow(_LOCK, number)
            if found is None or bills.import_of(found).finished_at_ms is not None:
                return False
            if rows:
                await connection.execute(_ADD, *arrays(rows))
            return True

        return await self._database.write(work)

    async def finish_import(self, number: int, *, by: str, now_ms: int) -> BillImport | None:
        async def work(connection: SqlConnection) -> BillImport | None:
            row = await connection.fetchrow(_LOCK, number)
            if row is None or (found := bills.import_of(row)).finished_at_ms is not None:
                return None
            await connection.execute(_FINISH, number, now_ms)
            gone = await connection.fetch(_REPLACE, found.digest, found.account, number)
            replaced = sorted(map(bills.import_of, gone), key=lambda each: each.number)
            await connection.execute(_DROP, [each.number for each in replaced])
            subject, why = f"bill:{number}", bills.audited(found)
            await audit.note(connection, "bill_import", [subject], by=by, why=why, now_ms=now_ms)
            return bills.last_of(replaced)

        return await self._database.write(work)

    async def imports(self, limit: int, before: int | None = None) -> Sequence[BillImport]:
        below = _NUMBER_MAX if before is None else before
        rows = await self._reads.read(lambda connection: connection.fetch(_LIST, below, limit))
        return [bills.import_of(row) for row in rows]

    async def bill_import(self, number: int) -> BillImport | None:
        row = await self._reads.read(lambda connection: connection.fetchrow(_ONE, number))
        return None if row is None else bills.import_of(row)

    async def differences(self, number: int, *, after: int, limit: int) -> Sequence[tuple[int, BillDifference]]:
        rows = await self._reads.read(lambda connection: connection.fetch(_PAGE, number, after, limit))
        return [(place, bills.difference_of(text)) for place, text in rows]
