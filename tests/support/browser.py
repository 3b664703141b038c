"""A real Chromium. Without one the tests that need it are skipped, and fail when CI is set."""

import os
import shutil
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from urllib.parse import urlencode

import pytest
from playwright import async_api, sync_api

from tests.support.paths import ROOT

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
ARGUMENTS = ["--no-sandbox", "--disable-gpu"]
AXE = ROOT / "tests/browser/axe/axe.min.js"
PHONE = async_api.ViewportSize(width=420, height=780)

needs_browser = pytest.mark.skipif(
    CHROMIUM is None and not os.environ.get("CI"), reason="NO BROWSER: no Chromium is installed"
)


@asynccontextmanager
async def browsing(
    *,
    excused: str = "",
    arguments: Sequence[str] = (),
    password: str = "",
    language: str = "en-GB",
    zone: str = "Europe/Berlin",
) -> AsyncIterator[async_api.Page]:
    """A page of the size of a phone. Messages on its console and errors fail the test, unless they hold `excused`.

    `arguments` are the browser's; `password` is what its user enters if a server asks for one, by an answer 401.
    `language` and `zone` are those of its user.
    """
    complaints: list[str] = []
    async with async_api.async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=CHROMIUM, args=[*ARGUMENTS, *arguments])
        credentials = async_api.HttpCredentials(username="operator", password=password) if password else None
        page = await browser.new_page(viewport=PHONE, http_credentials=credentials, locale=language, timezone_id=zone)
        page.on("console", lambda message: complaints.append(message.text))
        page.on("pageerror", lambda error: complaints.append(str(error)))
        yield page
        await browser.close()
    excuses = [each for each in (excused, "401" if password else "") if each]
    assert [each for each in complaints if not any(excuse in each for excuse in excuses)] == []


def sign_in_path(path: str) -> str:
    """The path at which a browser is asked for its password, and is led to this one."""
    return f"/sign-in?{urlencode({'then': path})}"


async def violations(page: async_api.Page) -> list[str]:
    """What axe-core finds wrong with the page for people who see, hear or move otherwise: rule, element, why."""
    await page.emulate_media(reduced_motion="reduce")  # so that no fading colour of a new row is judged
    if not await page.evaluate("typeof axe === 'object'"):
        await page.evaluate(AXE.read_text(encoding="utf-8"))
    found = await page.evaluate("axe.run(document, {resultTypes: ['violations']})")
    return [
        f"{each['id']}: {node['html'][:120]}: {node['failureSummary']}"
        for each in found["violations"]
        for node in each["nodes"]
    ]


@contextmanager
def browsing_in_sync() -> Iterator[tuple[sync_api.Page, list[str]]]:
    """The same for synchronous tests; yields the page and its complaints."""
    complaints: list[str] = []
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=ARGUMENTS)
        page = browser.new_page(viewport=sync_api.ViewportSize(width=420, height=780))
        page.on("console", lambda message: complaints.append(message.text))
        page.on("pageerror", lambda error: complaints.append(str(error)))
        yield page, complaints
        browser.close()
