"""Which counts of held notifications are kept, and how their lists are read."""

import pytest

from schemas.dispositions import HELD, Disposition, Reason
from tests.support.plans import held_page
from workers import held_lists
from workers.queries import HeldQuery


@pytest.mark.parametrize(
    ("query", "is_kept"),
    [
        (HeldQuery(), True),
        (HeldQuery(account="a", reason=Reason.BAD_AMOUNT, disposition=Disposition.DEAD, resolved=True), True),
        (HeldQuery(order="N1"), False),
        (HeldQuery(account="a", scope="a/1"), True),
        (HeldQuery(since_ms=0), False),
        (HeldQuery(before_ms=0), False),
        (HeldQuery(ids=("0-1",)), False),
    ],
)
def test_counts_of_one_order_or_of_a_span_of_time_are_not_kept(query: HeldQuery, is_kept: bool) -> None:
    assert held_lists.is_kept(query) is is_kept


def test_task_leaves_snoozed_rows_out_unless_they_are_named() -> None:
    every, named = HeldQuery(reason=Reason.BAD_AMOUNT), HeldQuery(ids=("0-1",))
    assert held_lists.for_task(every, 5) == HeldQuery(reason=Reason.BAD_AMOUNT, awake_at_ms=5)
    assert held_lists.for_task(named, 5) == named


def test_end_that_is_not_past_is_no_end() -> None:
    assert held_lists.until_now(HeldQuery(before_ms=1000), 1000) == HeldQuery()
    assert held_lists.until_now(HeldQuery(before_ms=999), 1000) == HeldQuery(before_ms=999)
    assert held_lists.until_now(HeldQuery(account="a"), 1000) == HeldQuery(account="a")


def test_reason_is_asked_for_each_disposition() -> None:
    parts = held_lists.in_order(HeldQuery(reason=Reason.BAD_AMOUNT, account="a"))
    assert {part.disposition for part in parts} == HELD
    assert {(part.reason, part.account) for part in parts} == {(Reason.BAD_AMOUNT, "a")}
    for query in (HeldQuery(), HeldQuery(reason=Reason.BAD_AMOUNT, disposition=Disposition.DEAD)):
        assert held_lists.in_order(query) == [query]


def test_pages_are_joined_in_the_order_of_the_query() -> None:
    first, second = [held_page(1, at_ms=5), held_page(4, at_ms=7)], [held_page(2, at_ms=5), held_page(3, at_ms=6)]
    joined = held_lists.joined([first, [], second], HeldQuery(limit=3))
    assert [page.row.position.offset for page in joined] == [1, 2, 3]
    joined = held_lists.joined([first[::-1], [], second[::-1]], HeldQuery(limit=3, newest_first=True))
    assert [page.row.position.offset for page in joined] == [4, 3, 2]
