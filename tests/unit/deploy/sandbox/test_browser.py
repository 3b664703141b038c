"""The shop in a real browser: the order page turns PAID by itself, without a reload and without an error."""

from __future__ import annotations

import os
import shutil

import pytest
from playwright.async_api import async_playwright

from tests.unit.deploy.sandbox.test_server import Town, town

__all__ = ["town"]
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")

pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(CHROMIUM is None and not os.environ.get("CI"), reason="NO BROWSER: no Chromium is installed"),
]


async def test_a_buyer_pays_and_is_refunded_without_a_reload(town: Town) -> None:
    complaints: list[str] = []
    loads: list[str] = []
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        page = await browser.new_page(viewport={"width": 420, "height": 780})
        page.on("console", lambda message: complaints.append(message.text))
        page.on("pageerror", lambda error: complaints.append(str(error)))
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
        await browser.close()
    assert complaints == []
