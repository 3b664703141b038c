"""The timeline of an order: its own deliveries, and those that only name one of its trades. Queries of held rows."""

import pytest
from msgspec import structs

from schemas.dispositions import HELD, Disposition, Reason
from schemas.money import Money
from schemas.notification import NamedNumber, NumberKind
from schemas.orders import Claim, Order, Refund
from tests.support.plans import delivery, held_page
from workers import queries
from workers.queries import HeldQuery


def test_timeline_has_each_delivery_once_by_position() -> None:
    own = [delivery(5), delivery(2)]
    by_trade = [delivery(3, order=""), delivery(2)]
    assert [each.position.offset for each in queries.timeline("N1", own, by_trade)] == [2, 3, 5]


def test_delivery_of_another_order_has_no_version_here() -> None:
    other = delivery(3, order="N2", version=7)
    assert queries.timeline("N1", [delivery(2, version=1)], [other]) == (
        delivery(2, version=1),
        structs.replace(other, version=None),
    )


@pytest.mark.parametrize(
    ("query", "is_kept"),
    [
        (HeldQuery(), True),
        (HeldQuery(account="a", reason=Reason.BAD_AMOUNT, disposition=Disposition.DEAD, resolved=True), True),
        (HeldQuery(order="N1"), False),
        (HeldQuery(account="a", scope="a/1"), True),
        (HeldQuery(since_ms=0), False),
        (HeldQuery(before_ms=0), False),
    ],
)
def test_counts_of_one_order_or_of_a_span_of_time_are_not_kept(query: HeldQuery, is_kept: bool) -> None:
    assert queries.is_kept(query) is is_kept


def test_end_that_is_not_past_is_no_end() -> None:
    assert queries.until_now(HeldQuery(before_ms=1000), 1000) == HeldQuery()
    assert queries.until_now(HeldQuery(before_ms=999), 1000) == HeldQuery(before_ms=999)
    assert queries.until_now(HeldQuery(account="a"), 1000) == HeldQuery(account="a")


def test_reason_is_asked_for_each_disposition() -> None:
    parts = queries.in_order(HeldQuery(reason=Reason.BAD_AMOUNT, account="a"))
    assert {part.disposition for part in parts} == HELD
    assert {(part.reason, part.account) for part in parts} == {(Reason.BAD_AMOUNT, "a")}
    for query in (HeldQuery(), HeldQuery(reason=Reason.BAD_AMOUNT, disposition=Disposition.DEAD)):
        assert queries.in_order(query) == [query]


def test_pages_are_joined_oldest_first() -> None:
    first, second = [held_page(1, at_ms=5), held_page(4, at_ms=7)], [held_page(2, at_ms=5), held_page(3, at_ms=6)]
    joined = queries.oldest_first([first, [], second], 3)
    assert [page.row.position.offset for page in joined] == [1, 2, 3]


def test_page_is_reached_by_the_order_s_trades_and_refunds() -> None:
    claims = tuple(Claim(trade=trade, amount_minor=1, currency="USD") for trade in ("T1", "", "T1"))
    refunds = tuple(Refund(id=f"R{len(trade)}", amount=Money(1, "USD"), trade=trade) for trade in ("", "T1"))
    order = Order(account="shop", number="N1", claims=claims, refunds=refunds)
    trade, refund = NamedNumber(NumberKind.TRADE, "T1"), NamedNumber(NumberKind.REFUND, "R0")
    assert queries.page_numbers(order) == (trade, refund)
    assert queries.page_numbers(None) == ()
    number = NamedNumber(NumberKind.CLAIMED_ORDER, "N1")
    assert queries.claimed_numbers("N1", order) == (number, NamedNumber(NumberKind.CLAIMED_NUMBER, "T1"))
    assert queries.claimed_numbers("N1", None) == (number,)
