"""The simulated shop in a real browser: the order page turns PAID by itself, without a reload and without an error."""

from tests.support.browser import browsing, needs_browser
from tests.unit.deploy.sandbox.town import Town

pytestmark = needs_browser


async def test_buyer_pays_and_is_refunded_without_a_reload(town: Town) -> None:
    loads: list[str] = []
    async with browsing() as page:
        page.on("framenavigated", lambda frame: loads.append(frame.url))
        await page.goto(f"{town.sandbox.url}/shop")
        await page.click("#pay")
        await page.click("#confirm")
        await page.wait_for_selector("#status.good")
        assert await page.text_content("#status") == "PAID"
        assert [url.split("?")[0].rsplit("/", 1)[-1] for url in loads][-1] == "return"
        await page.click("#refund button")
        await page.wait_for_selector("text=REFUNDED")
        assert "12.80" in (await page.text_content("#refunded") or "")
        assert await page.is_hidden("#refund")


async def test_other_endings_are_a_keyboard_s_reach_away(town: Town) -> None:
    async with browsing() as page:
        await page.goto(f"{town.sandbox.url}/shop")
        await page.click("#pay")
        assert await page.is_hidden("button[value=twice]")
        await page.focus("summary")
        await page.keyboard.press("Enter")
        await page.click("button[value=failed]")
        assert "too little money" in (await page.text_content("[role=alert]") or "")
        await page.click("summary")
        await page.click("button[value=browser_closed]")
        assert "no Return" in (await page.text_content("#gone") or "")
