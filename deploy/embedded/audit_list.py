"""The list of audit rows (`workers.audit`), which other actions write with their own transactions (`decisions`)."""

# ruff: noqa: S608 - only our own lists of columns are formatted into statements; values are always parameters

from collections.abc import Sequence
from sqlite3 import Connection

from deploy.embedded import decisions
from deploy.embedded.sqlite import SqliteDatabase
from deploy.embedded.sqlite_reader import SqliteReader
from workers import audit
from workers.audit import EXAMINED_MAX, AuditList, AuditQuery

_NAMES = "entry, at_ms, action, subject, by_whom, why"
_ALL = f"SELECT {_NAMES} FROM audit WHERE entry < ?1 ORDER BY entry DESC LIMIT {EXAMINED_MAX}"
_OF_SUBJECT = f"SELECT {_NAMES} FROM audit WHERE subject = ?6 AND entry < ?1"
_PAGE = """
    WITH examined AS MATERIALIZED ({examined})
    SELECT {names} FROM examined
    WHERE (?2 IS NULL OR instr(by_whom, ?2) > 0) AND (?3 IS NULL OR action = ?3) AND (?4 IS NULL OR at_ms >= ?4)
    ORDER BY entry DESC LIMIT ?5
"""
_PAGE_OF_ALL = _PAGE.format(examined=_ALL, names=_NAMES)
_PAGE_OF_SUBJECT = _PAGE.format(examined=_OF_SUBJECT, names=_NAMES)
_OLDEST = f"SELECT {_NAMES} FROM audit WHERE entry < ? ORDER BY entry DESC LIMIT 1 OFFSET {EXAMINED_MAX - 1}"
_NEWEST = 2**63 - 1  # beyond every entry


class SqliteAudit:
    """The audit rows, in the engine's order store. Reads are operators' reads."""

    def __init__(self, database: SqliteDatabase, reader: SqliteReader) -> None:
        self._database = database
        self._reader = reader

    async def audit_list(self, query: AuditQuery) -> AuditList:
        return await self._reader.read(lambda connection: _page(connection, query))

    async def note(self, action: str, subjects: Sequence[str], *, by: str, why: str, now_ms: int) -> None:
        await self._database.write(lambda connection: decisions.audit(connection, now_ms, action, subjects, by, why))


def _page(connection: Connection, query: AuditQuery) -> AuditList:
    before = _NEWEST if query.before is None else query.before
    parameters = [before, query.by, query.action, query.since_ms, query.limit + 1]
    if query.subject is not None:
        return audit.page(query, connection.execute(_PAGE_OF_SUBJECT, [*parameters, query.subject]).fetchall(), None)
    found = connection.execute(_PAGE_OF_ALL, parameters).fetchall()
    oldest = connection.execute(_OLDEST, (before,)).fetchone() if len(found) <= query.limit else None
    return audit.page(query, found, oldest)
