"""The deliveries of a notification are numbered by their arrival, and one without an id is alone."""

from tests.support.admin import NOW_MS, World, form
from workers.admin import deliveries


def test_requests_are_numbered_by_their_arrival_for_each_notification() -> None:
    found = deliveries.numbered([("a", 30), ("b", 5), ("a", 10), ("", 1), ("", 2), ("a", 20)])
    assert [(came.number, came.first_ms, came.is_last) for came in found] == [
        (3, 10, True), (1, 5, True), (1, 10, False), (1, 1, True), (1, 2, True), (2, 10, False)
    ]  # fmt: skip
    assert found[0].moments_ms == (10, 20, 30)
    assert deliveries.numbered([]) == []


async def test_notification_is_accepted_if_it_came_later_and_is_stored() -> None:
    world = World()
    await world.deliver(form("A1", notify_id="n-1"))
    page = await world.store.order_page("shop", "A1")
    assert page is not None
    asked = [("n-1", NOW_MS), ("n-1", NOW_MS + 1), ("n-2", NOW_MS), ("", NOW_MS)]
    assert [deliveries.is_accepted_after(page.deliveries, id_, at) for id_, at in asked] == [True, False, False, False]
