"""Takes the README's pictures from a real run: `python -m tests.browser.pictures`.

Starts `up --demo`, plays one order's life, buys something in the shop with a real browser, and keeps the screenshots.
Needs Chromium; text in Chinese needs a font for it.
"""

import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from urllib.request import urlopen

from playwright.sync_api import sync_playwright

from tests.support.paths import ROOT

PICTURES = ROOT / "deploy/docs"
ORDER = "OP-20261124-000042"
WATCH_S = 40


def main() -> None:
    directory = Path(tempfile.mkdtemp(prefix="alipay-notify-pictures-"))
    command = [sys.executable, "-m", "deploy.cli.main"]
    demo = subprocess.Popen(
        [*command, "up", "--demo", "--port", "0", "--admin-port", "0", "--data-dir", directory],
        stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, cwd=ROOT,
    )  # fmt: skip
    try:
        assert demo.stdout is not None
        ready = json.loads(demo.stdout.readline())
        environment = os.environ | {"ALIPAY_NOTIFY_SANDBOX_DIR": str(directory / "world")}
        for scenario in ("partial_refund", "duplicate_x8"):
            played = [*command, "trigger", scenario, "--account", "demo-cn", "--order", ORDER, "--to", ready["public"]]
            subprocess.run(played, env=environment, check=False, cwd=ROOT, stdout=subprocess.DEVNULL)
        time.sleep(WATCH_S)
        take(ready)
    finally:
        demo.terminate()
        demo.wait()
        shutil.rmtree(directory, ignore_errors=True)


def take(ready: dict[str, str]) -> None:
    """Look at the console and the shop as a person would."""
    with sync_playwright() as browsers:
        browser = browsers.chromium.launch(
            executable_path=shutil.which("chromium"), args=["--no-sandbox", "--disable-gpu"]
        )
        page = browser.new_page(viewport={"width": 1180, "height": 820})
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
        browser.close()
    with urlopen(f"{ready['admin']}/api/orders/demo-cn/{ORDER}") as answer:
        print(answer.read().decode())


if __name__ == "__main__":
    main()
