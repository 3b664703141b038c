"""A running `alipay-notify up --demo`, on free ports and a directory of its own; and how a browser looks at it."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from playwright.sync_api import Page, sync_playwright

from tests.support.browser import ARGUMENTS, CHROMIUM, PHONE
from tests.support.paths import ROOT


class Demo:
    """The process. `began` is when it was started, so that what it took is told from there."""

    def __init__(self, directory: Path) -> None:
        self._log = directory.with_suffix(".log")
        self.began = time.monotonic()
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "deploy.cli.main", "up", "--demo", "--port", "0", "--admin-port", "0"],
                env=os.environ | {"ALIPAY_NOTIFY_DATA_DIR": str(directory)},
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
                cwd=ROOT,
            )
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        assert line, f"it ended before it was ready:\n{self.log()[-4000:]}"
        self.addresses: dict[str, str] = json.loads(line)

    def log(self) -> str:
        """All that it wrote to stderr so far."""
        return self._log.read_text(errors="replace")

    def stop(self) -> int:
        """Ctrl-C; the exit code."""
        self._process.send_signal(signal.SIGINT)
        try:
            code = self._process.wait(30)
        finally:
            self._process.kill()
        assert self._process.stdout is not None
        self._process.stdout.close()
        return code


@contextmanager
def browsing() -> Iterator[tuple[Page, list[str]]]:
    """A page, and what it complained of."""
    complaints: list[str] = []
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=ARGUMENTS)
        page = browser.new_page(viewport=PHONE)
        page.on("console", lambda message: complaints.append(message.text))
        page.on("pageerror", lambda error: complaints.append(str(error)))
        yield page, complaints
        browser.close()
