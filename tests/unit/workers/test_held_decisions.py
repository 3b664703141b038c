"""An operator's decision, from the held row to the store: what is checked before it is decided."""

import pytest

from schemas import interpret
from tests.support.admin import World, form, serving
from workers.settlement.verdicts import DecisionRefused
from workers.time_limit import TimeLimit


async def mismatched(world: World) -> str:
    async with serving(world) as client:
        await client.put("/api/orders/shop/A1", json={"amount": "99.00"})
    return str(await world.deliver(form("A1")))


async def test_notification_that_does_not_verify_now_is_not_accepted_but_discarded() -> None:
    world = World()
    id_ = await mismatched(world)
    world.is_authentic = False
    page = await world.store.held_page(id_)
    assert page is not None
    with pytest.raises(DecisionRefused, match="does not verify now"):
        await world.decisions.accept(page, by="kim", why="right")
    await world.decisions.discard(page, by="kim", why="wrong")
    assert world.store.views["shop", "A1"].flags == ()


async def test_notification_whose_reading_never_returns_is_shown_and_discarded(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def never_return(*arguments: object, **options: object) -> None:
        while True:
            pass

    world = World(time_limit=TimeLimit(0.2))
    id_ = await mismatched(world)
    monkeypatch.setattr(interpret, "read", never_return)
    page = await world.store.held_page(id_)
    assert page is not None
    with world.time_limit.watching():
        async with serving(world) as client:
            assert (await client.get(f"/api/notifications/{id_}")).status == 200
            assert (await client.get(f"/api/held/{id_}")).status == 200
        await world.decisions.discard(page, by="kim", why="our fault")
    page = await world.store.held_page(id_)
    assert page is not None
    assert page.resolution == "discarded"


async def test_resolved_row_says_by_whom_and_why() -> None:
    world = World()
    id_ = await mismatched(world)
    page = await world.store.held_page(id_)
    assert page is not None
    await world.decisions.accept(page, by="kim", why="right")
    page = await world.store.held_page(id_)
    assert page is not None
    with pytest.raises(DecisionRefused, match="already resolved: accepted, by kim: right"):
        await world.decisions.discard(page, by="bo", why="wrong")


async def test_decision_is_counted_by_the_observers() -> None:
    world = World()
    id_ = await mismatched(world)
    page = await world.store.held_page(id_)
    assert page is not None
    seen = world.changes.seen
    await world.decisions.accept(page, by="kim", why="right")
    assert world.changes.seen > seen
    assert world.registry.get_sample_value("alipay_notify_processed_total", {"result": "applied"}) == 1
