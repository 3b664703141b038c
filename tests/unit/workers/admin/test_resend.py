"""Publishing events of one order again over HTTP."""

import pytest

from tests.support.admin import World, form, serving


async def two_versions() -> World:
    """A world in which order A1 has two versions, both sent."""
    world = World()
    await world.deliver(form("A1", "WAIT_BUYER_PAY"))
    await world.deliver(form("A1"))
    await world.store.mark_sent([1, 2])
    return world


async def test_events_come_again_with_an_audit_row_each_and_the_feed_shows_them() -> None:
    world = await two_versions()
    async with serving(world) as client:
        newest = await (await client.get("/api/events?after=newest")).json()
        asked = {"reason": "lost", "by": "kim", "version": 1}
        answer = await (await client.post("/api/orders/shop/A1/resend", json=asked)).json()
    assert (newest["events"], newest["next"]) == ([], 2)
    assert answer == {"account": "shop", "order": "A1", "versions": [1, 2]}
    assert [event.id for event in world.store.outbox] == ["shop:A1:1", "shop:A1:2"]
    assert not world.store.sent_at_ms, "they are sent again"
    assert [row for row in world.store.audit if row[0] == "resend"] == [
        ("resend", "shop:A1:1", "kim (127.0.0.1)", "lost"),
        ("resend", "shop:A1:2", "kim (127.0.0.1)", "lost"),
    ]
    (line,) = world.log.of("events_resent")
    assert (line["account"], line["out_trade_no"], line["count"]) == ("shop", "A1", 2)


@pytest.mark.parametrize(
    ("path", "body", "status"),
    [
        ("shop/A1", {}, 400),
        ("shop/A1", {"reason": "x", "version": 0}, 400),
        ("shop/A1", {"reason": "x", "version": "1"}, 400),
        ("shop/A1", {"reason": "x", "version": 3}, 404),
        ("shop/A2", {"reason": "x"}, 404),
        ("none/A1", {"reason": "x"}, 404),
    ],
)
async def test_wrong_requests_publish_nothing(path: str, body: dict[str, object], status: int) -> None:
    world = await two_versions()
    async with serving(world) as client:
        assert (await client.post(f"/api/orders/{path}/resend", json=body)).status == status
    assert len(world.store.sent_at_ms) == 2


async def test_event_on_its_way_is_a_conflict_and_the_token_is_needed() -> None:
    world = await two_versions()
    async with serving(world) as client:
        await client.post("/api/orders/shop/A1/resend", json={"reason": "x"})
        again = await client.post("/api/orders/shop/A1/resend", json={"reason": "x"})
        assert (again.status, (await again.json())["error"]) == (409, "not_sent_yet")
    async with serving(world, carried=None) as client:
        assert (await client.post("/api/orders/shop/A1/resend", json={"reason": "x"})).status == 401
