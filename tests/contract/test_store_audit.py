"""The list of audit rows in the order store of each engine."""

import pytest
from msgspec import structs

from deploy.embedded import audit_list as sqlite_audit
from deploy.embedded.audit_list import SqliteAudit
from deploy.embedded.store import SqliteOrderStore
from tests.contract.engines import AnyStore
from tests.support.log_records import NOW_MS
from workers.audit import AuditPort, AuditQuery
from workers.postgres import audit_list as postgres_audit
from workers.postgres.audit_list import PostgresAudit
from workers.postgres.store import PostgresOrderStore

HOUR_MS = 3_600_000


@pytest.fixture
async def audit(store: AnyStore) -> AuditPort:
    """Six rows, an hour apart: the odd ones by kim, the even ones by Kim_%."""
    port: AuditPort
    if isinstance(store, SqliteOrderStore):
        port = SqliteAudit(store.database, store.reads)
    else:
        assert isinstance(store, PostgresOrderStore)
        port = PostgresAudit(store.database, store.reads)
    for number in range(1, 7):
        by = "kim (127.0.0.1)" if number % 2 else "Kim_% (::1)"
        action = "replay" if number < 5 else "discard"
        await port.note(action, [f"0-{number % 3}"], by=by, why=f"{number}", now_ms=NOW_MS + number * HOUR_MS)
    return port


async def reasons(audit: AuditPort, query: AuditQuery) -> str:
    """The reasons of all pages, the newest row first."""
    found = ""
    while True:
        page = await audit.audit_list(query)
        assert len(page.entries) <= query.limit
        found += "".join(each.why for each in page.entries)
        if page.next_ is None:
            return found
        query = structs.replace(query, before=page.next_)


CASES = [
    (AuditQuery(), "654321"),
    (AuditQuery(by="kim"), "531"),
    (AuditQuery(by="_%"), "642"),
    (AuditQuery(action="discard"), "65"),
    (AuditQuery(subject="0-1"), "41"),
    (AuditQuery(subject="0-1", by="kim"), "1"),
    (AuditQuery(since_ms=NOW_MS + 5 * HOUR_MS), "65"),
    (AuditQuery(subject="nothing"), ""),
    (AuditQuery(before=3), "21"),
]


async def test_filters_and_pages(audit: AuditPort) -> None:
    for query, expected in CASES:
        for limit in (1, 100):
            assert await reasons(audit, structs.replace(query, limit=limit)) == expected, query
    (newest, *_) = (await audit.audit_list(AuditQuery(limit=1))).entries
    assert (newest.at_ms, newest.action, newest.subject) == (NOW_MS + 6 * HOUR_MS, "discard", "0-0")
    assert (newest.by, newest.why) == ("Kim_% (::1)", "6")


async def test_page_looks_at_few_rows_and_says_where_to_go_on(
    audit: AuditPort, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in (sqlite_audit, postgres_audit):
        for name in ("_PAGE_OF_ALL", "_OLDEST"):
            text = getattr(module, name)
            few = text.replace("20000", "2").replace("19999", "1")
            assert few != text
            monkeypatch.setattr(module, name, few)
    page = await audit.audit_list(AuditQuery(by="kim", action="replay"))
    assert page.entries == ()
    assert page.next_ is not None
    assert await reasons(audit, AuditQuery(by="kim", action="replay")) == "31"
