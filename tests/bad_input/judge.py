"""Checks that hold for every row, before and after each request, and with a valid notification right after it."""

import base64
import json
import re
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.bad_input import merchant, wire
from tests.bad_input.merchant import Signer
from tests.bad_input.wire import Answer
from tests.support.paths import ROOT

SUCCESS = b"success"
FAIL = b"fail"
ANTOM_SUCCESS = {"result": {"resultCode": "SUCCESS", "resultStatus": "S", "resultMessage": "success"}}
UNKNOWN_STATUSES = (408, 503)  # Antom gets "unknown" and retries
# Less than any time limit of the receiver, so that a request that waits for another is found on a busy machine too.
AT_ONCE_S = 1.5
MEMORY_MAX = 8 << 20
STATUSES_EVER = {0, 100, 200, 400, 401, 403, 404, 405, 408, 413, 415, 417, 431, 503}

_ACCEPTED = re.compile(r'alipay_notify_received_total\{account="[^"]+",outcome="(\w+)"\}')
_PARSE_ERRORS = "alipay_notify_http_parse_errors_total"


@dataclass(frozen=True)
class Expected:
    """The expected answer of a row. `status` 0 stands for P400: refused by the parser, or closed without an answer."""

    status: int
    outcome: str = ""
    reason: str = ""

    @property
    def is_parse_error(self) -> bool:
        return self.status == 0


OK = Expected(200, "accepted")
P400 = Expected(0)


class Server:
    """The receiver as a process, and the window into it."""

    def __init__(self, accounts: Path, **environment: str) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.bad_input.server", str(accounts)],
            env={
                "PYTHONPATH": str(ROOT),
                "ALIPAY_NOTIFY_PORT": "0",
                "ALIPAY_NOTIFY_DRAIN_DELAY_S": "0",
                "ALIPAY_NOTIFY_LOG_REFUSALS_PER_S": "1000000",
                **environment,
            },
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        assert self._process.stdout is not None
        ports = json.loads(self._process.stdout.readline())
        self.port: int = ports["public"]
        self._window = socket.create_connection(("127.0.0.1", ports["window"]))
        self._lines = self._window.makefile("r", encoding="utf-8")
        self.log_at = self.records_at = 0

    def state(self) -> dict[str, Any]:
        """Counters, records and log lines; records and lines since the last `mark`."""
        self._window.sendall(json.dumps({"records_from": self.records_at, "log_from": self.log_at}).encode() + b"\n")
        state: dict[str, Any] = json.loads(self._lines.readline())
        return state

    def mark(self) -> dict[str, Any]:
        state = self.state()
        self.log_at, self.records_at = state["log_size"], state["records_count"]
        return state

    def until(self, condition: Callable[[dict[str, Any]], object], *, within_s: float = 10.0) -> dict[str, Any]:
        """Return the first state for which the condition is true; fail the test if there is none in time."""
        deadline = time.monotonic() + within_s
        while not condition(state := self.state()):
            assert time.monotonic() < deadline, "never came true"
            time.sleep(0.02)
        return state

    def until_serving(self, requests: int) -> None:
        """Return when so many requests are being served."""
        active = 'http_server_active_requests{http_request_method="POST"}'
        self.until(lambda state: state["samples"].get(active, 0) == requests)

    def stop(self) -> None:
        self._lines.close()
        self._window.close()
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.close()
        try:
            assert self._process.wait(20) == 0
        finally:
            self._process.kill()
            self._process.stdout.close()


class Judge:
    """Sends a row's request and looks at everything that must hold."""

    def __init__(self, server: Server, signer: Signer) -> None:
        self.server = server
        self.signer = signer

    @property
    def port(self) -> int:
        return self.server.port

    def row(
        self,
        request: bytes,
        expected: Expected,
        *,
        secrets: tuple[bytes, ...] = (),
        antom: bool = False,
        within_s: float = 6.0,
        close_half: bool = False,
    ) -> Answer:
        """The answer, after all of section 3 was asserted; `secrets` are parts of the request that must not return."""
        before = self.server.mark()
        answer = wire.send(self.port, request, within_s=within_s, close_half=close_half)
        self.judge(answer, expected, before, antom=antom)
        for part in (*secrets, *_telling_parts(request)):
            assert part not in answer.raw, f"the answer echoes {part[:60]!r}"
        return answer

    def judge(self, answer: Answer, expected: Expected, before: Mapping[str, Any], *, antom: bool = False) -> None:
        """Everything that holds after one request."""
        self._check_answer(answer, expected, antom=antom)
        state = self._settled(before)
        counted = outcomes(state["samples"], before["samples"])
        if expected.is_parse_error:
            assert counted == {"parse_error": 1}
        else:
            assert counted == {expected.outcome: 1}
        if expected.reason:
            assert state["reasons"][-1] == expected.reason
        assert len(state["records"]) == (1 if expected.status == 200 else 0)
        self._check_leaks(answer, state, before)
        self.canary()

    def _settled(self, before: Mapping[str, Any]) -> dict[str, Any]:
        """The state once the outcome is counted and its line written; both follow the answer by a moment."""
        deadline = time.monotonic() + 5.0
        while True:
            state = self.server.state()
            if state["log"] and outcomes(state["samples"], before["samples"]):
                return state
            if time.monotonic() > deadline:
                return state
            time.sleep(0.02)

    def _check_answer(self, answer: Answer, expected: Expected, *, antom: bool) -> None:
        assert answer.status in STATUSES_EVER
        if expected.is_parse_error:
            assert answer.status in (0, 400, 431), answer.raw
            assert answer.status == 0 or (answer.body == FAIL and answer.is_closed)
            return
        assert answer.status == expected.status, answer.raw
        check_body(answer, antom=antom)
        if answer.status == 405:
            assert answer.headers["allow"] == "POST"
        if answer.status == 503:
            assert answer.headers["retry-after"] == "60"

    def _check_leaks(self, answer: Answer, state: Mapping[str, Any], before: Mapping[str, Any]) -> None:
        assert "Traceback" not in state["log"]
        assert "Error handling request" not in state["log"]
        for line in state["log"].splitlines():
            assert isinstance(json.loads(line), dict), "one JSON object a line"
        for place in (state["log"], state["metrics"], answer.raw.decode("latin-1")):
            assert merchant.MD5_KEY not in place
        assert "aiohttp" not in answer.raw.decode("latin-1").lower()
        assert not re.search(r"python|/\d+\.\d+\.\d+", answer.raw.decode("latin-1").lower())
        assert state["rss"] - before["rss"] < MEMORY_MAX

    def canary(self) -> None:
        """A valid notification on a fresh connection is taken at once."""
        request = wire.post("/notify/shop-cn", merchant.encode(self.signer.cn(merchant.payment())))
        answer = wire.send(self.port, request)
        assert (answer.status, answer.body) == (200, SUCCESS)
        assert answer.seconds < AT_ONCE_S


def outcomes(now: Mapping[str, float], before: Mapping[str, float]) -> dict[str, int]:
    """How often each outcome was counted in between."""
    counted: dict[str, int] = {}
    for name, value in now.items():
        grown = int(value - before.get(name, 0.0))
        match = _ACCEPTED.fullmatch(name)
        word = match[1] if match else "parse_error" if name == _PARSE_ERRORS else ""
        if grown and word:
            counted[word] = counted.get(word, 0) + grown
    return counted


def check_body(answer: Answer, *, antom: bool) -> None:
    """The body is one of the fixed texts of the family."""
    assert answer.headers["server"] == "alipay-notify"
    if not antom:
        assert answer.body == (SUCCESS if answer.status == 200 else FAIL)
        assert answer.headers["content-type"] == "text/plain"
        return
    assert answer.headers["content-type"] == "application/json"
    body = json.loads(answer.body)
    if answer.status == 200:
        assert body == ANTOM_SUCCESS
        assert answer.headers["client-id"] == merchant.HK_CLIENT
        assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", answer.headers["response-time"])
        assert "signature" not in answer.headers
    else:
        assert body["result"]["resultStatus"] == ("U" if answer.status in UNKNOWN_STATUSES else "F")


def body_of(record: Mapping[str, Any]) -> bytes:
    return base64.b64decode(record["value"])


def _telling_parts(request: bytes) -> list[bytes]:
    """Pieces of a request's body that could not stand in an answer by chance."""
    body = request.partition(b"\r\n\r\n")[2]
    pieces = re.split(rb"[&=\s]", body[:4000])
    return [piece for piece in pieces if len(piece) > 12 and not piece.startswith(b'"result')][:40]
