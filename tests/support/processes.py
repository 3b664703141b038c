"""Our program as a process, driven from outside: `up` (`Engine`) and `up --demo` (`Demo`), by HTTP and signals."""

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
        """Return when the ready line has been read.

        `module` is run instead of the program, this once, and `environment_now` holds for it too.

        Raises:
            AssertionError: the process ended first; with the end of its log.
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
                stdin=subprocess.DEVNULL,
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

    def __enter__(self) -> "Engine":
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.end()

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    @property
    def runs(self) -> bool:
        return self._process is not None and self._process.poll() is None

    def kill(self) -> None:
        """Send SIGKILL and wait for the end."""
        assert self._process is not None
        self._process.send_signal(signal.SIGKILL)
        self._process.wait()
        self._close()

    def died(self, within_s: float) -> int:
        """Wait until it ends by itself; return the exit code, negative if a signal ended it."""
        assert self._process is not None
        code = self._process.wait(within_s)
        self._close()
        return code

    def stop(self, within_s: float = 30.0) -> int:
        """Send SIGTERM; return the exit code."""
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
        """Kill it if it runs: for the clean-up of a test."""
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
        return samples(self.admin)

    def _call(self, method: str, path: str, body: Any, timeout_s: float) -> tuple[int, Any]:
        encoded = None if body is None else json.dumps(body).encode()
        request = Request(self.admin + path, data=encoded, method=method, headers={"Content-Type": "application/json"})
        try:
            with urlopen(request, timeout=timeout_s) as answer:
                return answer.status, json.loads(answer.read())
        except HTTPError as error:
            return error.code, json.loads(error.read() or b"null")


def samples(admin: str) -> dict[str, float]:
    """Return every sample of the /metrics of an admin port by its name with labels."""
    with urlopen(f"{admin}/metrics", timeout=10) as answer:
        lines = answer.read().decode().splitlines()
    found = (line.rsplit(" ", 1) for line in lines if line and not line.startswith("#"))
    return {name: float(value) for name, value in found}


class Demo:
    """One `up --demo` on free ports, with a directory and settings of its own. `began` is when it was started."""

    def __init__(self, directory: Path, **settings: str) -> None:
        self._log = directory.with_suffix(".log")
        self.began = time.monotonic()
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "deploy.cli.main", "up", "--demo", "--port", "0", "--admin-port", "0"],
                env=os.environ | {"ALIPAY_NOTIFY_DATA_DIR": str(directory)} | settings,
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
        """Its stderr so far."""
        return self._log.read_text(errors="replace")

    def stop(self) -> int:
        """Send SIGINT, as Ctrl-C does; return the exit code."""
        self._process.send_signal(signal.SIGINT)
        try:
            code = self._process.wait(30)
        finally:
            self._process.kill()
        assert self._process.stdout is not None
        self._process.stdout.close()
        return code


def eventually(condition: Any, *, within_s: float = 10.0) -> Any:
    """Return the first true value of `condition()`; fail the test if there is none in time."""
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
