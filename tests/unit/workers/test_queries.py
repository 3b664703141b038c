"""The timeline of an order: its own deliveries, and those that only name one of its trades."""

from msgspec import structs

from schemas.money import Money
from schemas.notification import NamedNumber, NumberKind
from schemas.orders import Claim, Order, Refund
from tests.support.plans import delivery
from workers import queries


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
