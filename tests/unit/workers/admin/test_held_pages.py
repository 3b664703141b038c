"""The pages of held notifications: amounts and sums, what disagrees, and the bytes."""

import re
from collections.abc import Sequence

import pytest

from tests.support.admin import World, form, serving
from workers.errors import ReadTooSlow
from workers.queries import HeldGroup, HeldQuery

SCRIPT = "<script>alert(1)</script>"


async def test_held_notification_is_shown_beside_its_bytes() -> None:
    world = World()
    position = await world.deliver(form("B1"), "strict")
    async with serving(world) as client:
        text = await (await client.get(f"/held/{position}")).text()
        world.is_authentic = False
        forged = await (await client.get(f"/held/{position}")).text()
        assert (await client.get("/held/0-99")).status == 404
    assert "out_trade_no=B1&amp;trade_no=" in text
    assert ">som***<" in text
    assert "The signature is valid" in text
    assert "The signature is not valid" in forged
    assert f'data-held="{position}"' in text
    assert "(acknowledged, not sent again)" in text
    assert "deliveries" not in text


async def test_held_notification_that_came_several_times_says_so() -> None:
    world = World()
    position = await world.deliver(form("B1"), "strict")
    await world.deliver(form("B1"), "strict")
    async with serving(world) as client:
        text = await (await client.get(f"/held/{position}")).text()
    assert "one of 2 deliveries" in text


async def test_held_list_has_amounts_sums_ages_and_what_comes_next() -> None:
    world = World()
    await world.deliver(form("B1"), "strict")
    await world.deliver(form("B2", total_fee="1.20"), "strict")
    async with serving(world) as client:
        await client.put("/api/orders/shop/A1", json={"amount": "99.00"})
        await world.deliver(form("A1"))
        text = await (await client.get("/held")).text()
        one = await (await client.get("/held?account=shop&reason=&order=")).text()
        wrong = await client.get("/held?reason=because")
    assert '<span class="amount">26.80 <small>USD</small></span> <small>paid in 3</small>' in text
    ages = re.findall(r"<li><span>(.*?)</span><meter .*?</meter><b>(\d+)</b>", text)
    assert ages == [("0 – 1 h", "3"), ("1 – 6 h", "0"), ("6 – 25 h", "0"), ("25 – 72 h", "0"), ("72 h and more", "0")]
    for part in ("retry in 30 s", "given up in 25 h", "needs a decision", 'value="0-1"'):
        assert part in text
    assert "said 12.80 USD, registered 99.00 USD" in one
    assert "1, the oldest first" in one
    assert "/held/0-1" not in one
    assert 'data-filter=\'{"account": "shop"}\'' in one
    assert wrong.status == 400


async def test_number_is_a_least_one_until_somebody_has_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    world = World()
    for number in range(3):
        await world.deliver(form(f"B{number}"), "strict")
    groups = world.store.held_groups

    async def slow(query: HeldQuery) -> Sequence[HeldGroup]:
        if query.order is None and query.since_ms is None:
            return await groups(query)
        raise ReadTooSlow("too slow")

    monkeypatch.setattr(world.store, "held_groups", slow)
    async with serving(world) as client:
        assert "2+, the oldest first" in await (await client.get("/held?since=24h&limit=2")).text()
        assert "2 of 3, the oldest first" in await (await client.get("/held?limit=2")).text()


async def test_held_notification_shows_the_two_values_that_disagree_and_its_siblings() -> None:
    world = World()
    await world.deliver(form("A1", "WAIT_BUYER_PAY"))
    held = await world.deliver(form("A1", notify_id="n2", total_fee="0.01"))
    async with serving(world) as client:
        text = await (await client.get(f"/held/{held}")).text()
    said, known = text.index("<dd>0.01 USD</dd>"), text.index("<dd>12.80 USD</dd>")
    assert said < known < text.index("<h2>Fields</h2>")
    assert text.index(">trade_status<") < text.index("more</summary>") < text.index(">buyer_email<")
    assert "Other notifications of this order" in text
    assert 'href="/notifications/0-1"' in text


async def test_resolved_notification_has_no_buttons() -> None:
    world = World()
    position = await world.deliver(form("B1"), "strict")
    async with serving(world) as client:
        await client.post(f"/api/held/{position}/discard", json={"reason": SCRIPT, "by": "kim"})
        text = await (await client.get(f"/held/{position}")).text()
    assert "<button name=" not in text
    assert "Resolved: discarded" in text
    assert SCRIPT not in text
