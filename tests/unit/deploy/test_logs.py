"""Log lines: one object a line, no secrets, and no caller that waits for the reader of the pipe."""

import json
import logging
import re
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
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
    log_writer = LogWriter(text, console=console, service="shop", version="1.2")
    log_writer.start()
    for event, fields in calls:
        log_writer.info(event, **fields)
    log_writer.close()
    return text.getvalue()


def test_line_is_one_json_object_with_time_level_and_event() -> None:
    (line,) = written(("notification", {"account": "s", "out_trade_no": b"O-1", "duration_ms": 0.5})).splitlines()
    shown = json.loads(line)
    assert shown | {"timestamp": ""} == {
        "timestamp": "", "level": "info", "event": "notification", "account": "s", "out_trade_no": "O-1",
        "duration_ms": 0.5, "service": "shop", "version": "1.2",
    }  # fmt: skip
    assert shown["timestamp"].endswith("Z")


@pytest.mark.parametrize("value", ["plain", NASTY, b"\xff", None])
def test_every_line_names_the_process_and_its_version(value: object) -> None:
    shown = json.loads(written(("e", {"error": value})))
    assert (shown["service"], shown["version"]) == ("shop", "1.2")
    assert [*shown][:3] == ["timestamp", "level", "event"]


def test_name_of_the_process_cannot_break_its_lines() -> None:
    text = StringIO()
    log_writer = LogWriter(text, service=NASTY)
    log_writer.start()
    log_writer.info("e")
    log_writer.close()
    assert len(text.getvalue().splitlines()) == 1
    assert json.loads(text.getvalue())["service"].startswith("a\\u000d")


@pytest.mark.parametrize("console", [False, True])
@pytest.mark.parametrize("value", [NASTY, NASTY.encode(), ValueError(NASTY)])
def test_value_cannot_break_its_line(value: object, console: bool) -> None:
    text = written(("e", {"error": value}), console=console)
    assert text.count("\n") == 1
    assert not set("\r\u2028\u202e\x00\x7f\x85\u200b") & set(text)
    assert "[31m" not in text or "\\u001b" in text


@pytest.mark.parametrize("key", sorted(REDACTED))
def test_values_of_redacted_keys_are_never_written(key: str) -> None:
    assert "secret-7" not in written(("e", {key: "secret-7"}))


VALUES = st.one_of(
    st.text(), st.text(st.characters(max_codepoint=0x7F)), st.binary(), st.none(), st.booleans(), st.integers(),
    st.floats(), st.sampled_from(sorted(HELD)), st.just("x" * 2_001),
)  # fmt: skip


@given(st.dictionaries(st.sampled_from(["account", "status", "sign", "a"]), VALUES))
def test_fast_path_writes_the_same_line_as_the_slow_path(fields: dict[str, object]) -> None:
    line = logs._plain_json(fields)
    assert line is None or line == logs._json({key: logs._shown(key, value) for key, value in fields.items()})


def test_usual_line_takes_the_fast_path() -> None:
    assert logs._plain_json({"account": "s", "out_trade_no": "O-1", "duration_ms": 0.5, "version": None}) is not None


def test_chinese_text_is_not_escaped() -> None:
    assert "验签失败" in written(("e", {"reason": "验签失败"}))


def test_values_that_json_cannot_represent_are_written_as_text() -> None:
    shown = json.loads(written(("e", {"a": b"\xff", "b": "\ud800", "c": 10**400, "d": object()})))
    assert shown["a"] == "\\xff"


def test_long_value_is_cut() -> None:
    assert len(written(("e", {"a": "x" * 100_000}))) < 3_000


class Blocked:
    """A pipe whose reader has stopped reading, until `may_go_on` is set."""

    def __init__(self) -> None:
        self.is_blocked = threading.Event()
        self.may_go_on = threading.Event()
        self.text = ""

    def write(self, text: str) -> None:
        self.is_blocked.set()
        self.may_go_on.wait()
        self.text += text

    def flush(self) -> None:
        """Do nothing: `write` keeps no buffer."""


def test_callers_do_not_wait_for_a_stopped_reader_and_dropped_lines_are_counted() -> None:
    stream = Blocked()
    dropped: list[int] = []
    log_writer = LogWriter(stream, queue_max=100)
    log_writer.count_dropped(dropped.append)
    log_writer.start()
    log_writer.info("first")
    assert stream.is_blocked.wait(10)
    began = time.monotonic()
    for _ in range(250):
        log_writer.info("more")
    assert time.monotonic() - began < 0.1
    assert (log_writer.dropped, sum(dropped)) == (150, 150)
    stream.may_go_on.set()
    log_writer.close()
    assert stream.text.count("\n") == 101


def test_broken_pipe_does_not_stop_the_process() -> None:
    stream = StringIO()
    log_writer = LogWriter(stream)
    log_writer.start()
    stream.close()
    log_writer.info("e")
    log_writer.close()


def test_no_line_is_lost_between_gathering_and_waiting() -> None:
    text = StringIO()
    log_writer = LogWriter(text)
    log_writer.start()
    for number in range(2_000):
        log_writer.info("e", count=number)
        if number % 100 == 0:
            time.sleep(0.003)
    log_writer.close()
    assert [json.loads(line)["count"] for line in text.getvalue().splitlines()] == list(range(2_000))


@contextmanager
def captured() -> Iterator[StringIO]:
    """Capture what libraries log in this block; the lines are complete after it."""
    text = StringIO()
    log_writer = LogWriter(text)
    log_writer.start()
    root = logging.getLogger()
    before = root.handlers[:], root.level
    try:
        logs.capture_standard_logging(log_writer)
        yield text
    finally:
        root.handlers[:], root.level = before
        for name in ("aiohttp.server", "aiohttp.access"):
            logging.getLogger(name).setLevel(logging.NOTSET)
        log_writer.close()


def test_library_warnings_are_forwarded_once_and_aiohttp_server_is_silent() -> None:
    with captured() as text:
        logging.getLogger("asyncio").warning("slow: %s", NASTY)
        logging.getLogger("aiohttp.server").error("Error handling request")
        logging.getLogger("asyncio").warning("slow: %s", "again, at once")
    (line,) = text.getvalue().splitlines()
    assert json.loads(line)["logger"] == "asyncio"


class NodeNotReadyError(Exception):
    """Stands for an error of the Kafka client."""

    __module__ = "aiokafka.errors"


@pytest.mark.parametrize(
    ("logger", "error"),
    [
        ("aiokafka.conn", ConnectionRefusedError(111, "no broker")),
        ("aiokafka.consumer.group_coordinator", NodeNotReadyError("node 1")),
        ("asyncio", NodeNotReadyError("node 1")),
        ("opentelemetry.exporter.otlp.proto.http.trace_exporter", ConnectionRefusedError(111, "no collector")),
    ],
)
def test_error_of_a_client_in_an_outage_is_a_warning_without_a_traceback(logger: str, error: Exception) -> None:
    with captured() as text:
        try:
            raise error
        except Exception:
            logging.getLogger(logger).exception("Failed fetch messages")
    (line,) = text.getvalue().splitlines()
    shown = json.loads(line)
    assert (shown["level"], shown["error"]) == ("warning", f"{type(error).__name__}: {error}")


def test_error_of_our_own_task_keeps_its_traceback() -> None:
    with captured() as text:
        try:
            raise KeyError("ours")
        except KeyError:
            logging.getLogger("asyncio").exception("Task exception was never retrieved")
    (line,) = text.getvalue().splitlines()
    assert json.loads(line)["level"] == "error"
    assert "Traceback" in line


def test_terminal_line_shows_level_event_and_values_in_colour() -> None:
    line = written(("notification", {"account": "s", "reason": "two words"}), console=True)
    plain = re.sub("\x1b\\[[0-9;]*m", "", line)
    assert (
        plain.partition("Z ")[2].rstrip() == "[info     ] notification                   account=s reason='two words'"
    )
    assert line != plain
