"""The list of audit rows (`workers.audit`), which other actions write with their own transactions (`audit`)."""

# ruff: noqa: S608 - only our own lists of columns are formatted into statements; values are always parameters

from collections.abc import Sequence
from typing import Any

from workers import audit
from workers.audit import EXAMINED_MAX, AuditList, AuditQuery
from workers.postgres import audit as audit_rows
from workers.postgres.database import Database, SqlConnection

_NAMES = "entry, at, action, subject, by_whom, why"
_ALL = f"SELECT {_NAMES} FROM audit WHERE entry < $1 ORDER BY entry DESC LIMIT {EXAMINED_MAX}"
# Materialized, so that the rows are found by the index of subjects, of which each has few.
_OF_SUBJECT = f"SELECT {_NAMES} FROM audit WHERE subject = $6 AND entry < $1"
_PAGE = """
    WITH examined AS MATERIALIZED ({examined})
    SELECT {names} FROM examined
    WHERE ($2::text IS NULL OR position($2 IN by_whom) > 0) AND ($3::text IS NULL OR action = $3)
        AND ($4::timestamptz IS NULL OR at >= $4)
    ORDER BY entry DESC LIMIT $5
"""
_PAGE_OF_ALL = _PAGE.format(examined=_ALL, names=_NAMES)
_PAGE_OF_SUBJECT = _PAGE.format(examined=_OF_SUBJECT, names=_NAMES)
_OLDEST = f"SELECT {_NAMES} FROM audit WHERE entry < $1 ORDER BY entry DESC OFFSET {EXAMINED_MAX - 1} LIMIT 1"
_NEWEST = 2**63 - 1  # beyond every entry


class PostgresAudit:
    """The audit rows, in the database that many workers share. Reads are operators' reads."""

    def __init__(self, database: Database, reads: Database) -> None:
        self._database = database
        self._reads = reads

    async def audit_list(self, query: AuditQuery) -> AuditList:
        return await self._reads.read(lambda connection: _page(connection, query))

    async def note(self, action: str, subjects: Sequence[str], *, by: str, why: str, now_ms: int) -> None:
        await self._database.write(
            lambda connection: audit_rows.note(connection, action, subjects, by=by, why=why, now_ms=now_ms)
        )


async def _page(connection: SqlConnection, query: AuditQuery) -> AuditList:
    before = _NEWEST if query.before is None else query.before
    parameters: list[Any] = [before, query.by, query.action, query.since_ms, query.limit + 1]
    if query.subject is not None:
        return audit.page(query, await connection.fetch(_PAGE_OF_SUBJECT, *parameters, query.subject), None)
    found = await connection.fetch(_PAGE_OF_ALL, *parameters)
    oldest = await connection.fetchrow(_OLDEST, before) if len(found) <= query.limit else None
    return audit.page(query, found, oldest)
