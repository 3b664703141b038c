"""A running `alipay-notify up`, as a stranger would start and drive it: a process, two addresses, HTTP, signals."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any
from urllib.error import HTTPError, URLError
from urllib.request import Request, urlopen

from tests.support.paths import ROOT

READY_WITHIN_S = 30.0


class Engine:
    """One engine process over a data directory. Start it again after a kill: the directory is what survives."""

    def __init__(self, accounts: Path, data_dir: Path, **environment: str) -> None:
        self._accounts = accounts
        self._data_dir = data_dir
        self._environment = environment
        self._process: subprocess.Popen[str] | None = None
        self.public = ""
        self.admin = ""
        self.log = data_dir.with_suffix(".log")

    def start(self, module: str = "deploy.cli.main", **environment_now: str) -> None:
        """Returns when the ready line has been read. Raises AssertionError with the log's end if it never comes.

        `module` is run in place of the program, for this one time; it is given `environment_now` too.
        """
        environment = os.environ | {
            "ALIPAY_NOTIFY_ACCOUNTS": str(self._accounts),
            "ALIPAY_NOTIFY_DATA_DIR": str(self._data_dir),
            "ALIPAY_NOTIFY_HOST": "127.0.0.1",
            "ALIPAY_NOTIFY_PORT": "0",
            "ALIPAY_NOTIFY_ADMIN_PORT": "0",
            "ALIPAY_NOTIFY_DRAIN_DELAY_S": "0",
            **self._environment,
            **environment_now,
        }
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", module, "up"],
                env=environment,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
                cwd=ROOT,
            )
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        assert line, f"it ended before it was ready:\n{self.log.read_text(errors='replace')[-4000:]}"
        ready = json.loads(line)
        assert ready["event"] == "ready"
        self.public, self.admin = ready["public"], ready["admin"]

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    def kill(self) -> None:
        """SIGKILL: whatever it was doing, it stops doing it there."""
        assert self._process is not None
        self._process.send_signal(signal.SIGKILL)
        self._process.wait()
        self._close()

    def died(self, within_s: float) -> int:
        """Wait until it ends by itself; the exit code, which is negative where a signal ended it."""
        assert self._process is not None
        code = self._process.wait(within_s)
        self._close()
        return code

    def stop(self, within_s: float = 30.0) -> int:
        """SIGTERM; the exit code."""
        assert self._process is not None
        self._process.send_signal(signal.SIGTERM)
        try:
            code = self._process.wait(within_s)
        except subprocess.TimeoutExpired:
            self.kill()
            raise
        self._close()
        return code

    def end(self) -> None:
        """For a test's clean-up: stop it if it runs, however."""
        if self._process is not None and self._process.poll() is None:
            self.kill()

    def _close(self) -> None:
        assert self._process is not None
        assert self._process.stdout is not None
        self._process.stdout.close()

    def get(self, path: str, *, timeout_s: float = 30.0) -> tuple[int, Any]:
        return self._call("GET", path, None, timeout_s)

    def put(self, path: str, body: Any) -> tuple[int, Any]:
        return self._call("PUT", path, body, 30.0)

    def post(self, path: str, body: Any) -> tuple[int, Any]:
        return self._call("POST", path, body, 30.0)

    def metrics(self) -> dict[str, float]:
        """Every sample of /metrics by its name with labels, as Prometheus writes it."""
        with urlopen(f"{self.admin}/metrics", timeout=10) as answer:
            lines = answer.read().decode().splitlines()
        samples = (line.rsplit(" ", 1) for line in lines if line and not line.startswith("#"))
        return {name: float(value) for name, value in samples}

    def _call(self, method: str, path: str, body: Any, timeout_s: float) -> tuple[int, Any]:
        encoded = None if body is None else json.dumps(body).encode()
        request = Request(self.admin + path, data=encoded, method=method, headers={"Content-Type": "application/json"})
        try:
            with urlopen(request, timeout=timeout_s) as answer:
                return answer.status, json.loads(answer.read())
        except HTTPError as error:
            return error.code, json.loads(error.read() or b"null")


def eventually(condition: Any, *, within_s: float = 10.0) -> Any:
    """The first true value of `condition()`; asks again until then. Fails the test when the time is over."""
    deadline = time.monotonic() + within_s
    while True:
        try:
            value = condition()
        except (URLError, ConnectionError):
            value = None
        if value:
            return value
        assert time.monotonic() < deadline, f"never came true within {within_s} s"
        time.sleep(0.05)
