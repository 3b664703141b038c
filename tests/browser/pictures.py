"""Takes pictures of real pages.

    python -m tests.browser.pictures                    # those of the README and the documents, from `up --demo`
    python -m tests.browser.pictures OUT                # every page of the console and the sandbox, from `up --demo`
    python -m tests.browser.pictures OUT --console URL  # every page of a console that runs, of whatever engine

With OUT each page is taken at 1360 and 390 pixels, in light and dark, in English and Chinese; a page that is wider than
its window is named. Needs Chromium, and a font for Chinese (on Debian: `apt-get install fonts-noto-cjk`).
"""

import argparse
import itertools
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal
from urllib.parse import quote
from urllib.request import urlopen

from playwright.sync_api import Browser, Page, ViewportSize, sync_playwright

from tests.support.browser import ARGUMENTS, CHROMIUM
from tests.support.paths import ROOT

PICTURES = ROOT / "deploy/docs"
ORDER = "OP-20261124-000042"
SCENARIOS = (("partial_refund", ORDER), ("duplicate_x8", ORDER), ("wrong_amount", "OP-20261124-000043"))
WATCH_S = 40
WIDTHS = (1360, 390)
SCHEMES: tuple[Literal["light", "dark"], ...] = ("light", "dark")
LANGUAGES = ("en-GB", "zh-CN")


@contextmanager
def demo() -> Iterator[dict[str, str]]:
    """A demo that has run for a while, with the life of one order; yields its addresses."""
    directory = Path(tempfile.mkdtemp(prefix="alipay-notify-pictures-"))
    command = [sys.executable, "-m", "deploy.cli.main"]
    running = subprocess.Popen(
        [*command, "up", "--demo", "--port", "0", "--admin-port", "0", "--data-dir", directory],
        stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, cwd=ROOT,
    )  # fmt: skip
    try:
        assert running.stdout is not None
        ready: dict[str, str] = json.loads(running.stdout.readline())
        environment = os.environ | {"ALIPAY_NOTIFY_SANDBOX_DIR": str(directory / "world")}
        for scenario, order in SCENARIOS:
            played = [*command, "trigger", scenario, "--account", "demo-cn", "--order", order, "--to", ready["public"]]
            subprocess.run(played, env=environment, check=False, cwd=ROOT, stdout=subprocess.DEVNULL)
        time.sleep(WATCH_S)
        yield ready
    finally:
        running.terminate()
        running.wait()
        shutil.rmtree(directory, ignore_errors=True)


def for_documents(browser: Browser, ready: dict[str, str]) -> None:
    """Look at the console and the shop as a person would, and keep the pictures in the documents."""
    page = browser.new_page(viewport=ViewportSize(width=1180, height=820), timezone_id="Asia/Shanghai")
    page.goto(ready["admin"])
    page.wait_for_timeout(500)
    page.screenshot(path=PICTURES / "overview.png")
    page.goto(f"{ready['admin']}/orders/demo-cn/{ORDER}")
    page.wait_for_timeout(500)
    page.screenshot(path=PICTURES / "console.png")
    page.goto(ready["shop"])
    page.click("button")
    page.wait_for_url("**/cashier/**")
    page.screenshot(path=PICTURES / "cashier.png")
    page.click("button")
    page.wait_for_url("**/shop/return**")
    page.get_by_role("status").get_by_text("PAID").wait_for(timeout=15_000)
    page.screenshot(path=PICTURES / "shop.png")


def of_every_page(browser: Browser, out: Path, console: str, shop: str | None) -> None:
    """Take every page in every width, scheme and language."""
    out.mkdir(parents=True, exist_ok=True)
    pages = console_pages(console)
    for width, scheme, language in itertools.product(WIDTHS, SCHEMES, LANGUAGES):
        page = browser.new_page(
            viewport=ViewportSize(width=width, height=900),
            color_scheme=scheme,
            locale=language,
            timezone_id="Europe/Berlin",
        )
        ending = f"{width}-{scheme}-{language[:2]}.png"
        for name, path in pages.items():
            page.goto(f"{console}{path}")
            taken(page, out / f"{name}-{ending}", width)
        if shop is not None:
            _take_sandbox(page, shop, out, ending, width)
        page.close()


def console_pages(console: str) -> dict[str, str]:
    """The paths of the console's pages, those of single things by what is there; each by its name."""
    pages = {
        "now": "/",
        "orders": "/orders",
        "orders-filtered": "/orders?status=PAID&since=24h",
        "held": "/held",
        "tail": "/tail",
        "callbacks": "/callbacks",
        "bills": "/bills",
        "keys": "/keys",
        "audit": "/audit",
        "found-nothing": "/find?number=nothing",
        "error": "/held/zzz",
    }
    held = _read(f"{console}/api/held?limit=1000")["held"]
    orders = _read(f"{console}/api/orders?limit=1000")["orders"]
    for each in sorted(held, key=lambda each: each["reason"] != "amount_mismatch")[:1]:
        pages["held-one"] = f"/held/{quote(each['id'])}"
    for each in sorted(orders, key=lambda each: (each["order"] != ORDER, not each["flags"], -each["version"]))[:1]:
        path = f"/orders/{quote(each['account'])}/{quote(each['order'], safe='')}"
        pages["order"] = path
        entries = [entry for entry in _read(f"{console}/api{path}")["timeline"] if "notification_id" in entry]
        for entry in [entry for entry in entries if entry.get("disposition") == "applied"][:1]:
            pages["notification"] = f"/notifications/{quote(entry['position'])}"
    return pages


def _take_sandbox(page: Page, shop: str, out: Path, ending: str, width: int) -> None:
    sandbox = shop.removesuffix("/shop")
    for name, path in {"sandbox": "/", "sandbox-app": "/app", "sandbox-error": "/nowhere", "shop": "/shop"}.items():
        page.goto(f"{sandbox}{path}")
        taken(page, out / f"{name}-{ending}", width)
    page.click("#pay")
    page.wait_for_url("**/cashier/**")
    page.click("summary")
    taken(page, out / f"cashier-{ending}", width)
    page.click("#confirm")
    page.wait_for_url("**/shop/return**")
    page.wait_for_selector("#status.good", timeout=30_000)
    taken(page, out / f"shop-order-{ending}", width)


def taken(page: Page, path: Path, width: int) -> None:
    """Take the whole page, and name it if it is wider than its window."""
    page.wait_for_timeout(300)
    page.screenshot(path=path, full_page=True)
    if page.evaluate("document.documentElement.scrollWidth") > width:
        print(f"wider than its window: {path.name}")


def _read(url: str) -> Any:
    with urlopen(url, timeout=30) as answer:
        return json.load(answer)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path, nargs="?")
    parser.add_argument("--console", help="the address of a console that runs, without a token")
    given = parser.parse_args()
    with sync_playwright() as browsers:
        browser = browsers.chromium.launch(executable_path=CHROMIUM, args=ARGUMENTS)
        if given.console:
            of_every_page(browser, given.out or Path("pictures"), given.console.rstrip("/"), None)
            return
        with demo() as ready:
            if given.out:
                of_every_page(browser, given.out, ready["admin"], ready["shop"])
            else:
                for_documents(browser, ready)
        browser.close()


if __name__ == "__main__":
    main()
