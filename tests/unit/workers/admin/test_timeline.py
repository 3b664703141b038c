"""The timeline of an order: the order of its entries, and the claims that stand beside its notifications."""

from datetime import datetime

from msgspec import structs

from schemas import times
from schemas.dispositions import Reason
from schemas.retry_profiles import PROFILES
from tests.support.admin import NOW_MS, Refused, World, form, serving
from workers.admin import timeline
from workers.admin.timeline_entries import (
    ClaimEntry,
    EventEntry,
    HeldStep,
    NotificationEntry,
    RefusedEntry,
    RegisteredEntry,
    ReplayStep,
    ResentEntry,
    SettledStep,
    SnoozeStep,
    UnsnoozeStep,
)


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


async def test_redelivered_notification_has_its_number() -> None:
    world = World()
    for _ in range(2):
        await world.deliver(form("A1", notify_id="n-1"))
    await world.deliver(form("A1", "TRADE_FINISHED", notify_id="n-2"))
    page = await world.store.order_page("shop", "A1")
    assert page is not None
    shown = [entry for entry in timeline.of(page, []) if isinstance(entry, NotificationEntry)]
    assert [(entry.notification_id, entry.delivery) for entry in shown] == [("n-1", 1), ("n-1", 2), ("n-2", 1)]
    assert {times.to_epoch_ms(entry.first_received_at) for entry in shown} == {NOW_MS}


async def test_refused_request_tells_of_alipays_next_and_last_try() -> None:
    world = World()
    await world.deliver(form("A1", notify_id="n-1"))
    page = await world.store.order_page("shop", "A1")
    assert page is not None
    came = [("n-2", 0), ("n-2", 4), ("n-1", -4), ("n-3", 0), ("n-3", 7), ("", 1)]
    refused = [
        Refused("shop", "A1", "bad_signature", NOW_MS + minute * 60_000, notification_id=id_) for id_, minute in came
    ]
    shown = [entry for entry in timeline.of(page, refused, PROFILES["cn-4m"]) if isinstance(entry, RefusedEntry)]
    told = {
        (entry.notification_id, entry.delivery): (entry.is_accepted, _minute(entry.next_at), _minute(entry.gives_up_at))
        for entry in shown
    }
    assert told == {
        ("n-1", 1): (True, None, None),
        ("n-2", 1): (False, None, None),
        ("n-2", 2): (False, 14, 1464),
        ("n-3", 1): (False, None, None),
        ("n-3", 2): (False, None, None),
        ("", 1): (False, 5, 1465),
    }
    unknown = [entry for entry in timeline.of(page, refused) if isinstance(entry, RefusedEntry)]
    assert {entry.next_at for entry in unknown} == {None}


def _minute(moment: datetime | None) -> float | None:
    return None if moment is None else (times.to_epoch_ms(moment) - NOW_MS) / 60_000


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


async def test_held_notification_has_its_way_and_stands_where_it_arrived() -> None:
    world = World()
    held = await world.deliver(form("A1"), "strict")
    async with serving(world) as client:
        await client.post(f"/api/held/{held}/replay", json={"reason": "perhaps now", "by": "kim"})
        await client.put("/api/orders/strict/A1", json={"amount": "12.80", "by": "ana"})
        await client.post(f"/api/held/{held}/replay", json={"reason": "registered", "by": "kim"})
    page = await world.store.order_page("strict", "A1")
    assert page is not None
    early = structs.replace(page.deliveries[0], received_at_ms=NOW_MS - 60_000)
    holds = (structs.replace(page.holds[0], first_at_ms=NOW_MS - 50_000),)
    shown = timeline.of(structs.replace(page, deliveries=(early,), holds=holds), [])
    assert [type(entry) for entry in shown] == [RegisteredEntry, NotificationEntry, EventEntry]
    (notification, events), (registered, none) = timeline.groups(shown)
    assert isinstance(notification, NotificationEntry)
    assert [type(step) for step in notification.steps] == [HeldStep, ReplayStep, ReplayStep, SettledStep]
    parked, first, *_ = notification.steps
    assert isinstance(parked, HeldStep)
    assert isinstance(first, ReplayStep)
    assert (parked.reason, parked.attempts, first.why) == (Reason.UNKNOWN_ORDER, 1, "perhaps now")
    assert "kim" in first.by
    assert ([event.version for event in events], none) == ([1], [])
    assert isinstance(registered, RegisteredEntry)
    assert registered.what == "12.80 USD"


async def test_event_without_its_cause_stands_alone() -> None:
    world = World()
    await world.deliver(form("A1"))
    page = await world.store.order_page("shop", "A1")
    assert page is not None
    ((event, below),) = timeline.groups(timeline.of(structs.replace(page, deliveries=()), []))
    assert isinstance(event, EventEntry)
    assert below == []


async def test_snooze_and_its_end_are_steps_with_who_why_and_until_when() -> None:
    world = World()
    held = await world.deliver(form("A1"), "strict")
    async with serving(world) as client:
        await client.post(f"/api/held/{held}/snooze", json={"until": "4h", "reason": "the shop is asked", "by": "kim"})
        await client.post(f"/api/held/{held}/unsnooze", json={"reason": "it answered", "by": "ana"})
        answer = await (await client.get("/api/orders/strict/A1")).json()
        pages = [await (await client.get(f"/orders/strict/A1?lang={tag}")).text() for tag in ("en", "zh")]
    page = await world.store.order_page("strict", "A1")
    assert page is not None
    (notification,) = timeline.of(page, [])
    assert isinstance(notification, NotificationEntry)
    _, snoozed, ended = notification.steps
    assert isinstance(snoozed, SnoozeStep)
    assert isinstance(ended, UnsnoozeStep)
    assert (snoozed.until, snoozed.why) == (times.from_epoch_ms(NOW_MS + 4 * times.HOUR_MS), "the shop is asked")
    assert ("kim" in snoozed.by, "ana" in ended.by, ended.why) == (True, True, "it answered")
    ((*_, first, second),) = (entry["steps"] for entry in answer["timeline"])
    assert (first["kind"], first["until"][:10], second["kind"]) == ("snooze", "2025-10-09", "unsnooze")
    for text, done, over in zip(pages, ("Snoozed", "已暂缓"), ("Snooze ended", "暂缓已结束"), strict=True):
        assert text.index(f"<b>{done}</b>") < text.index("the shop is asked") < text.index(f"<b>{over}</b>")
        assert text.index(f"<b>{over}</b>") < text.index("it answered")


async def test_events_sent_again_together_are_one_entry_with_who_and_why() -> None:
    world = World()
    await world.deliver(form("A1", "WAIT_BUYER_PAY"))
    await world.deliver(form("A1"))
    await world.store.mark_sent([1, 2])
    async with serving(world) as client:
        body = {"version": 1, "reason": "the consumer lost them", "by": "kim"}
        assert (await client.post("/api/orders/shop/A1/resend", json=body)).status == 200
        world.store.audit.append(("callback_resend", "shop:A1", "ana (127.0.0.1)", "hooks: it was down: twice"))
        pages = [await (await client.get(f"/orders/shop/A1?lang={tag}")).text() for tag in ("en", "zh")]
    page = await world.store.order_page("shop", "A1")
    assert page is not None
    again = [entry for entry in timeline.of(page, []) if isinstance(entry, ResentEntry)]
    told = {(entry.endpoint, entry.versions, entry.by.partition(" ")[0], entry.why) for entry in again}
    assert told == {
        (None, (1, 2), "kim", "the consumer lost them"),
        ("hooks", (), "ana", "it was down: twice"),
    }
    assert len(again) == 2
    told_in = (("versions 1 to 2", "again to hooks"), ("版本 1 至 2", "已重发至 hooks"))
    for text, parts in zip(pages, told_in, strict=True):
        assert all(part in text for part in (*parts, "the consumer lost them", "it was down: twice"))


async def test_act_on_an_order_whose_number_is_like_an_event_of_this_one_is_not_shown() -> None:
    world = World()
    await world.deliver(form("A1"))
    async with serving(world) as client:
        await client.put("/api/orders/shop/A1:1", json={"amount": "1.00"})
    page = await world.store.order_page("shop", "A1")
    assert page is not None
    assert [type(entry) for entry in timeline.of(page, [])] == [NotificationEntry, EventEntry]
