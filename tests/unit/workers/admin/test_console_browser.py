"""The console in a real browser: it follows by itself, a person decides from the page, and nothing complains."""

from __future__ import annotations

import os
import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from playwright.async_api import Page, async_playwright

from tests.support.admin import TOKEN, World, form, serving

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")

pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(CHROMIUM is None and not os.environ.get("CI"), reason="NO BROWSER: no Chromium is installed"),
]


@asynccontextmanager
async def browsing(*, excused: str = "") -> AsyncIterator[Page]:
    """A page; whatever it complains of fails the test, but for what is excused."""
    complaints: list[str] = []
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        page = await browser.new_page()
        page.on("console", lambda message: complaints.append(message.text))
        page.on("pageerror", lambda error: complaints.append(str(error)))
        yield page
        await browser.close()
    assert [complaint for complaint in complaints if not excused or excused not in complaint] == []


async def test_an_order_s_page_grows_by_itself_without_a_reload() -> None:
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


async def test_a_person_tries_a_held_notification_again_from_the_page() -> None:
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


async def test_without_the_token_the_page_says_so_and_nothing_happens() -> None:
    world = World()
    position = await world.deliver(form("B1"), "strict")
    async with serving(world) as client, browsing(excused="401") as page:
        await page.goto(str(client.make_url(f"/held/{position}")))
        await page.fill("input[name=reason]", "let it go")
        page.on("dialog", lambda dialog: dialog.accept())
        await page.click("button[value=discard]")
        await page.wait_for_function("document.querySelector('output').textContent.includes('admin token')")
    assert not world.store.decided
