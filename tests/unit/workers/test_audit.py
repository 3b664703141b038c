"""Pages of audit rows: when another one follows."""

from workers import audit
from workers.audit import AuditEntry, AuditList, AuditQuery

ROWS = [(number, number * 1000, "replay", f"0-{number}", "kim", "why") for number in (9, 8, 7)]
ENTRIES = tuple(
    AuditEntry(number=number, at_ms=number * 1000, action="replay", subject=f"0-{number}", by="kim", why="why")
    for number in (9, 8, 7)
)


def test_page_with_one_more_match_goes_on_after_its_last_row() -> None:
    assert audit.page(AuditQuery(limit=2), ROWS, None) == AuditList(entries=ENTRIES[:2], next_=8)


def test_page_without_more_matches_goes_on_where_it_stopped_to_look() -> None:
    oldest = (3, 3000, "replay", "0-3", "sam", "")
    assert audit.page(AuditQuery(limit=3), ROWS, oldest) == AuditList(entries=ENTRIES, next_=3)
    assert audit.page(AuditQuery(limit=3, since_ms=3000), ROWS, oldest).next_ == 3
    assert audit.page(AuditQuery(limit=3, since_ms=3001), ROWS, oldest).next_ is None, "all others are older"
    assert audit.page(AuditQuery(limit=3), ROWS, None).next_ is None


def test_page_of_no_rows_has_no_next() -> None:
    assert audit.page(AuditQuery(limit=0), ROWS[:1], None) == AuditList(entries=(), next_=None)
