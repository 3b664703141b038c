"""The deliveries of one notification are counted on the order's page, on every order store."""

from tests.contract.engines import AnyStore
from tests.contract.shortcuts import parked
from tests.support import log_records
from tests.support.log_records import NOW_MS, REGISTERED
from workers.admin import shapes, timeline
from workers.admin.timeline_entries import NotificationEntry
from workers.processing import Processing
from workers.queries import HeldQuery


async def test_deliveries_of_a_notification_are_counted(work: Processing, store: AnyStore) -> None:
    again = [parked("P1", id_="n-1"), parked("P1", id_="n-1"), parked("P1", id_="n-2")]
    await work.process(log_records.logged(again))
    page = await store.order_page(REGISTERED.name, "P1")
    assert page is not None
    shown = [entry for entry in timeline.of(page, []) if isinstance(entry, NotificationEntry)]
    assert [(entry.notification_id, entry.delivery) for entry in shown] == [("n-1", 1), ("n-1", 2), ("n-2", 1)]
    held = [shapes.held(each, None) for each in await store.held_list(HeldQuery())]
    assert {each.received_at.timestamp() * 1000 for each in held if each.received_at} == {NOW_MS}
