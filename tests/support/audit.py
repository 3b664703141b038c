"""The audit rows of an order store in memory."""

from collections.abc import Sequence

from tests.support.log_records import NOW_MS
from tests.support.stores import MemoryStore
from workers import audit
from workers.audit import AuditList, AuditQuery


class MemoryAudit:
    """All rows have the same moment, but for those in `at_ms`, by number."""

    def __init__(self, store: MemoryStore) -> None:
        self._store = store
        self.at_ms: dict[int, int] = {}

    async def audit_list(self, query: AuditQuery) -> AuditList:
        rows = [(number, self.at_ms.get(number, NOW_MS), *row) for number, row in enumerate(self._store.audit, 1)]
        found = [row for row in reversed(rows) if _matches(query, row)]
        return audit.page(query, found[: query.limit + 1], None)

    async def note(self, action: str, subjects: Sequence[str], *, by: str, why: str, now_ms: int) -> None:
        self._store.audit += [(action, subject, by, why) for subject in subjects]


def _matches(query: AuditQuery, row: tuple[int, int, str, str, str, str]) -> bool:
    number, at_ms, action, subject, by, _ = row
    return (
        (query.before is None or number < query.before)
        and (query.by is None or query.by in by)
        and query.action in (None, action)
        and query.subject in (None, subject)
        and (query.since_ms is None or at_ms >= query.since_ms)
    )
