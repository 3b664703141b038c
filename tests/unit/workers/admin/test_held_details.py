"""One held notification in full: what disagrees, how often it came, and its bytes."""

import pytest

from tests.support.admin import World, form, serving
from workers.errors import ReadTooSlow
from workers.queries import OrderPage


async def test_two_values_that_disagree_and_the_number_of_deliveries_are_in_the_answer() -> None:
    world = World()
    async with serving(world) as client:
        await client.put("/api/orders/strict/A1", json={"amount": "99.00"})
        held = await world.deliver(form("A1"), "strict")
        await world.deliver(form("A1"), "strict")
        shown = await (await client.get(f"/api/held/{held}")).json()
    assert shown["contradiction"] == {
        "name": "Amount", "said": "12.80 USD", "known": "99.00 USD", "source": "registered", "refunded": "",
    }  # fmt: skip
    assert shown["deliveries"] == 2


async def test_one_without_an_order_or_two_values_has_no_contradiction() -> None:
    world = World()
    parked = await world.deliver(form("B1"), "strict")
    broken = await world.deliver_raw(b"no form at all", "")
    async with serving(world) as client:
        for held in (parked, broken):
            shown = await (await client.get(f"/api/held/{held}")).json()
            assert (shown["contradiction"], shown["deliveries"]) == (None, 1)


async def test_order_that_cannot_be_read_in_time_leaves_the_rest(monkeypatch: pytest.MonkeyPatch) -> None:
    world = World()
    held = await world.deliver(form("B1"), "strict")

    async def slow(_: str, __: str) -> OrderPage | None:
        raise ReadTooSlow("too slow")

    monkeypatch.setattr(world.store, "order_page", slow)
    async with serving(world) as client:
        shown = await (await client.get(f"/api/held/{held}")).json()
        page = await client.get(f"/held/{held}")
        assert (page.status, "out_trade_no=B1" in await page.text()) == (200, True)
    assert (shown["deliveries"], shown["contradiction"], shown["order"]) == (None, None, "B1")
