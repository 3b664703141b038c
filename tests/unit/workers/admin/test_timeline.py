"""The timeline of an order: the order of its entries, and the claims that stand beside its notifications."""

from tests.support.admin import NOW_MS, Refused, World, form
from workers.admin import timeline
from workers.admin.timeline import ClaimEntry, EventEntry, NotificationEntry, RefusedEntry


async def test_event_follows_right_after_the_notification_that_caused_it() -> None:
    world = World()
    await world.deliver(form("A1", "WAIT_BUYER_PAY"))
    await world.deliver(form("A1"))
    page = await world.store.order_page("shop", "A1")
    assert page is not None
    refused = [Refused("shop", "A1", "bad_signature", NOW_MS + 1), Refused("shop", "A1", "bad_signature", NOW_MS - 1)]
    shown = timeline.of(page, refused)
    kinds = [type(entry) for entry in shown]
    assert kinds == [RefusedEntry, NotificationEntry, EventEntry, NotificationEntry, EventEntry, RefusedEntry]
    versions = [entry.version for entry in shown if isinstance(entry, NotificationEntry | EventEntry)]
    assert versions == [1, 1, 2, 2]


async def test_claim_is_told_as_what_it_is() -> None:
    world = World()
    await world.deliver(form("A1"))
    await world.deliver(form("A1", subject="S&total_fee=9", notify_id="c"))
    page = await world.store.order_page("shop", "A1")
    assert page is not None
    claim = timeline.of(page, [])[-1]
    assert isinstance(claim, ClaimEntry)
    assert (claim.reason, claim.resolution, claim.position) == ("ambiguous", "", "0-2")
    assert claim.notification_id.startswith("sign-")
