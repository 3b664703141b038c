"""Log lines: one object a line, nothing that must not be seen, and nobody who waits for their reader."""

import json
import logging
import threading
import time
from io import StringIO

import pytest
from hypothesis import given
from hypothesis import strategies as st

from deploy import logs
from deploy.logs import LogWriter
from schemas.dispositions import HELD
from schemas.telemetry import REDACTED

NASTY = 'a\r\n{"event":"false"}\x1b[31m\u2028\u202e\x00\x7f\x85\u200b'


def written(*calls: tuple[str, dict[str, object]], console: bool = False) -> str:
    text = StringIO()
    lines = LogWriter(text, console=console)
    lines.start()
    for event, fields in calls:
        lines.info(event, **fields)
    lines.close()
    return text.getvalue()


def test_a_line_is_one_json_object_with_time_level_and_event() -> None:
    (line,) = written(("notification", {"account": "s", "out_trade_no": b"O-1", "duration_ms": 0.5})).splitlines()
    shown = json.loads(line)
    assert shown | {"timestamp": ""} == {
        "timestamp": "", "level": "info", "event": "notification", "account": "s", "out_trade_no": "O-1",
        "duration_ms": 0.5,
    }  # fmt: skip
    assert shown["timestamp"].endswith("Z")


@pytest.mark.parametrize("console", [False, True])
@pytest.mark.parametrize("value", [NASTY, NASTY.encode(), ValueError(NASTY)])
def test_a_value_cannot_leave_its_line(value: object, console: bool) -> None:
    text = written(("e", {"error": value}), console=console)
    assert text.count("\n") == 1
    assert not set("\r\u2028\u202e\x00\x7f\x85\u200b") & set(text)
    assert "[31m" not in text or "\\u001b" in text


@pytest.mark.parametrize("key", sorted(REDACTED))
def test_redacted_keys_show_nothing(key: str) -> None:
    assert "secret-7" not in written(("e", {key: "secret-7"}))


VALUES = st.one_of(
    st.text(), st.text(st.characters(max_codepoint=0x7F)), st.binary(), st.none(), st.booleans(), st.integers(),
    st.floats(), st.sampled_from(sorted(HELD)), st.just("x" * 2_001),
)  # fmt: skip


@given(st.dictionaries(st.sampled_from(["account", "status", "sign", "a"]), VALUES))
def test_a_line_that_is_written_quickly_is_the_line_that_looking_at_each_value_writes(
    fields: dict[str, object],
) -> None:
    quickly = logs._plain_json(fields)
    assert quickly is None or quickly == logs._json({key: logs._shown(key, value) for key, value in fields.items()})


@pytest.mark.parametrize("number", ["O-1", b"O-1"])
def test_the_usual_line_is_written_quickly(number: str | bytes) -> None:
    assert logs._plain_json({"account": "s", "out_trade_no": number, "duration_ms": 0.5, "version": None}) is not None


def test_chinese_stays_readable() -> None:
    assert "验签失败" in written(("e", {"reason": "验签失败"}))


def test_what_json_cannot_hold_is_shown_all_the_same() -> None:
    shown = json.loads(written(("e", {"a": b"\xff", "b": "\ud800", "c": 10**400, "d": object()})))
    assert shown["a"] == "\\xff"


def test_a_value_is_no_longer_than_anybody_reads() -> None:
    assert len(written(("e", {"a": "x" * 100_000}))) < 3_000


class Blocked:
    """A pipe whose reader stands still."""

    def __init__(self) -> None:
        self.may_go_on = threading.Event()
        self.text = ""

    def write(self, text: str) -> None:
        self.may_go_on.wait()
        self.text += text

    def flush(self) -> None:
        """Nothing is held back."""


def test_nobody_waits_for_a_reader_that_stands_still_and_what_is_dropped_is_counted() -> None:
    stream = Blocked()
    dropped: list[int] = []
    lines = LogWriter(stream, queue_max=100)
    lines.tell_dropped(dropped.append)
    lines.start()
    lines.info("first")
    time.sleep(0.1)
    began = time.monotonic()
    for _ in range(250):
        lines.info("more")
    assert time.monotonic() - began < 0.1
    assert (lines.dropped, sum(dropped)) == (150, 150)
    stream.may_go_on.set()
    lines.close()
    assert stream.text.count("\n") == 101


def test_a_broken_pipe_is_nobodys_trouble() -> None:
    stream = StringIO()
    lines = LogWriter(stream)
    lines.start()
    stream.close()
    lines.info("e")
    lines.close()


def test_many_writers_lose_no_line() -> None:
    text = StringIO()
    lines = LogWriter(text)
    lines.start()
    for number in range(2_000):
        lines.info("e", count=number)
        if number % 100 == 0:
            time.sleep(0.003)
    lines.close()
    assert [json.loads(line)["count"] for line in text.getvalue().splitlines()] == list(range(2_000))


def test_the_libraries_warn_through_it_and_aiohttps_server_does_not() -> None:
    text = StringIO()
    lines = LogWriter(text)
    lines.start()
    root = logging.getLogger()
    before = root.handlers[:], root.level
    try:
        logs.capture_standard_logging(lines)
        logging.getLogger("asyncio").warning("slow: %s", NASTY)
        logging.getLogger("aiohttp.server").error("Error handling request")
        logging.getLogger("asyncio").warning("slow: %s", "again, at once")
    finally:
        root.handlers[:], root.level = before
        for name in ("aiohttp.server", "aiohttp.access"):
            logging.getLogger(name).setLevel(logging.NOTSET)
    lines.close()
    (line,) = text.getvalue().splitlines()
    assert json.loads(line)["logger"] == "asyncio"
