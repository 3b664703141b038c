"""The simulated shop in a real browser: the order page turns PAID by itself, without a reload and without an error."""

import pytest

from tests.support.browser import browsing, needs_browser, violations
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


async def test_recent_notification_is_sent_again_with_the_keyboard(town: Town) -> None:
    async with browsing() as page:
        await page.goto(f"{town.sandbox.url}/")
        await page.click("main form button")
        await page.wait_for_selector("#recent a[href='/deliveries/1']")
        await page.focus("#recent a[href='/deliveries/1']")
        await page.keyboard.press("Enter")
        await page.wait_for_selector("select[name=signature]")
        await page.select_option("select[name=signature]", "placeholder")
        await page.focus("input[name=amount]")
        await page.keyboard.press("Enter")
        await page.wait_for_selector("#recent a[href='/deliveries/2']")


@pytest.mark.parametrize(("scheme", "language", "width"), [("light", "en", 1360), ("dark", "zh-CN", 390)])
async def test_axe_finds_nothing_wrong_on_the_sandbox_s_pages(
    town: Town, scheme: str, language: str, width: int
) -> None:
    async with browsing(excused="status of 404", language=language) as page:
        await page.emulate_media(color_scheme="dark" if scheme == "dark" else "light", reduced_motion="reduce")
        await page.set_viewport_size({"width": width, "height": 900})

        async def look(path: str) -> None:
            assert await violations(page) == [], path
            assert await page.get_attribute("html", "lang") == language
            assert await page.evaluate("document.documentElement.scrollWidth") == width, path

        await page.goto(f"{town.sandbox.url}/")
        await page.click("main form button")
        await page.wait_for_selector("#recent tr[class]")
        for path in ("/", "/deliveries/1", "/app", "/nowhere", "/shop"):
            await page.goto(f"{town.sandbox.url}{path}")
            await look(path)
        await page.click("#pay")
        await page.click("summary")
        await look("cashier")
        await page.click("#confirm")
        await page.wait_for_selector("#status.good")
        await look("order")
