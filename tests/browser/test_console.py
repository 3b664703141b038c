"""The console in a real browser: pages update by themselves, and an operator decides held notifications there."""

from tests.support.admin import TOKEN, World, form, serving
from tests.support.browser import browsing, needs_browser

pytestmark = needs_browser


async def test_order_page_shows_new_events_without_a_reload() -> None:
    world = World()
    await world.deliver(form("A1", "WAIT_BUYER_PAY"))
    async with serving(world) as client, browsing() as page:
        loads: list[str] = []
        await page.goto(str(client.make_url("/orders/shop/A1")))
        page.on("framenavigated", lambda frame: loads.append(frame.url))
        assert await page.text_content(".pill") == "WAITING"
        await world.deliver(form("A1"))
        await page.wait_for_selector(".pill.paid")
        assert await page.locator(".timeline li").count() == 4
        assert loads == []


async def test_operator_replays_a_held_notification_from_the_page() -> None:
    world = World()
    position = await world.deliver(form("B1"), "strict")
    async with serving(world) as client, browsing() as page:
        await client.put("/api/orders/strict/B1", json={"amount": "12.80"})
        await page.goto(str(client.make_url(f"/held/{position}")))
        await page.fill("input[name=reason]", "it is registered now")
        await page.fill("input[name=token]", TOKEN)
        await page.click("button[value=replay]")
        await page.wait_for_selector(".good-note")
        assert "applied" in (await page.text_content("output") or "")
    assert [why for *_, why in world.store.decided] == ["it is registered now"]


async def test_without_the_token_the_page_asks_for_it_and_nothing_is_discarded() -> None:
    world = World()
    position = await world.deliver(form("B1"), "strict")
    async with serving(world) as client, browsing(excused="401") as page:
        await page.goto(str(client.make_url(f"/held/{position}")))
        await page.fill("input[name=reason]", "let it go")
        page.on("dialog", lambda dialog: dialog.accept())
        await page.click("button[value=discard]")
        await page.wait_for_function("document.querySelector('output').textContent.includes('admin token')")
    assert not world.store.decided
