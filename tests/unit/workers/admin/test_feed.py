"""The API for events: their order, the long poll for the next, and the count of changes."""

import asyncio

from tests.support.admin import World, form, serving
from tests.support.waiting import until


async def test_feed_gives_events_in_order_and_waits_for_the_next() -> None:
    world = World()
    await world.deliver(form("A1", "WAIT_BUYER_PAY"))
    await world.deliver(form("B1"), "strict")  # parked: a notice, on the other topic
    await world.deliver(form("A1"))
    async with serving(world) as client:
        fed = await (await client.get("/api/events?after=0&limit=1")).json()
        assert [(event["id"], event["specversion"]) for event in fed["events"]] == [("shop:A1:1", "1.0")]
        assert fed["events"][0]["data"]["status"] == "WAITING"
        assert fed["events"][0]["source"] == "/alipay-notify/shop"
        rest = await (await client.get(f"/api/events?after={fed['next']}&limit=1")).json()
        assert [event["id"] for event in rest["events"]] == ["shop:A1:2"]
        notices = await (await client.get("/api/events?topic=payments.notification.held.v1")).json()
        assert [event["data"]["reason"] for event in notices["events"]] == ["unknown_order"]
        noted = await (await client.get("/api/events?topic=payments.notification.noted.v1")).json()
        assert noted["events"] == []
        waiting = asyncio.ensure_future(client.get(f"/api/events?after={rest['next']}&wait=60s"))
        await until(lambda: bool(world.changes._of_all))
        await world.deliver(form("A2"))
        last = await (await asyncio.wait_for(waiting, 5)).json()
        assert [event["id"] for event in last["events"]] == ["shop:A2:1"]
        nothing = await (await client.get(f"/api/events?after={last['next']}&wait=10ms")).json()
        assert nothing == {"events": [], "next": last["next"]}
        assert (await client.get("/api/events?topic=other")).status == 400


async def test_changes_are_answered_at_once_if_the_count_differs() -> None:
    world = World()
    async with serving(world) as client:
        seen = (await (await client.get("/api/changes?seen=99")).json())["seen"]
        waiting = asyncio.ensure_future(client.get(f"/api/changes?seen={seen}&wait=60s"))
        await until(lambda: bool(world.changes._of_all))
        await world.deliver(form("A1"))
        assert (await (await asyncio.wait_for(waiting, 5)).json())["seen"] > seen
