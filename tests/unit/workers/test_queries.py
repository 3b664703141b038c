"""The timeline of an order: its own deliveries, and those that only name one of its trades."""

from msgspec import structs

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
