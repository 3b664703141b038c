"""A real Chromium. Without one the tests that need it are skipped, and fail when CI is set."""

import os
import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from playwright.async_api import Page, ViewportSize, async_playwright

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
ARGUMENTS = ["--no-sandbox", "--disable-gpu"]
PHONE = ViewportSize(width=420, height=780)

needs_browser = pytest.mark.skipif(
    CHROMIUM is None and not os.environ.get("CI"), reason="NO BROWSER: no Chromium is installed"
)


@asynccontextmanager
async def browsing(*, excused: str = "") -> AsyncIterator[Page]:
    """A page of the size of a phone. Messages on its console and errors fail the test, unless they hold `excused`."""
    complaints: list[str] = []
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=CHROMIUM, args=ARGUMENTS)
        page = await browser.new_page(viewport=PHONE)
        page.on("console", lambda message: complaints.append(message.text))
        page.on("pageerror", lambda error: complaints.append(str(error)))
        yield page
        await browser.close()
    assert [complaint for complaint in complaints if not excused or excused not in complaint] == []
