"""Log lines on stderr: one JSON object a line, or coloured text on a terminal. All processes use it.

Every JSON line ends with the names of the process and of its version (`service`, `version`). On a terminal they are
left out, because its reader has started the process.

Logging never blocks the event loop. A call appends the fields to a bounded queue, which takes about a microsecond; a
thread formats and writes what has gathered, many lines at a time. If the reader of the pipe stops reading, the queue
fills, further lines are dropped and counted, and notifications are acknowledged as before.

Every line satisfies two rules. Values of the keys in `telemetry.REDACTED` never appear. And no value can break its line
or imitate another one, because senders choose the text of an order number: control characters, line separators and
bidirectional marks are escaped.
"""

import json
import logging
import re
import threading
import time
import traceback
from collections import deque
from collections.abc import Callable, MutableMapping
from contextlib import suppress
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any, Protocol, TextIO

import msgspec

from schemas.telemetry import REDACTED, Field

LIBRARY_EVERY_S = 10.0  # between two lines with the same text from a library
LIBRARY_TEXTS_MAX = 500
SERVICE = "alipay-notify"  # and the name of the role, if there are several
# Libraries that report outages as errors: a broker's, which our own lines report as far as it matters; a collector's.
WARN_ONLY = frozenset({"aiokafka", "opentelemetry"})
GATHER_S = 0.02  # lines that arrive within this time are written together
QUEUE_MAX = 20_000
STOP_S = 2.0  # for writing the last lines, if the reader has stopped reading
VALUE_CHARACTERS_MAX = 2_000
REDACTED_TEXT = "[redacted]"

_ESCAPED = re.compile("[\x00-\x1f\x7f-\x9f\u061c\u200b-\u200f\u2028-\u202e\u2060-\u2069\ufeff\ud800-\udfff]")
_PLAIN = (bool, int, float)
_PLAIN_TYPES = frozenset({*_PLAIN, str, type(None)})
_KEY_SETS_MAX = 256  # cached; each log call in the code has its own keys
_encoder = msgspec.json.Encoder()
_Fields = MutableMapping[str, Any]
_Queued = tuple[float, str, str, dict[str, Any]]


class Sink(Protocol):
    """Destination of finished lines; `write` may block."""

    def write(self, text: str, /) -> Any: ...
    def flush(self) -> Any: ...


class LogWriter:
    """A logger (`info`, `warning`, `error`) and the thread that writes its lines."""

    def __init__(
        self,
        stream: TextIO | Sink,
        *,
        console: bool = False,
        queue_max: int = QUEUE_MAX,
        clock: Callable[[], float] = time.time,
        service: str = SERVICE,
        version: str = "",
    ) -> None:
        self._stream = stream
        self._is_console = console
        self.service = service
        self.version = version
        # The last fields of each line, as finished text: they cost nothing then. No caller has fields of these names.
        self._end_of_line = f",{_json(_all_shown({Field.SERVICE: service, Field.VERSION: version}))[1:]}\n"
        self._queue: deque[_Queued] = deque()
        self._queue_max = queue_max
        self._on_dropped: Callable[[int], None] | None = None
        self._clock = clock
        self._millisecond, self._timestamp_text = -1, ""
        self._is_waiting = False
        self._wake = threading.Event()
        self._is_closing = False
        self._thread = threading.Thread(target=self._run, name="log-lines", daemon=True)
        self.dropped = 0

    def count_dropped(self, increment: Callable[[int], None]) -> None:
        """Call `increment` with the number of lines dropped so far, and from now on with 1 for each."""
        increment(self.dropped)
        self._on_dropped = increment

    def start(self) -> None:
        self._thread.start()

    def close(self) -> None:
        """Write the queued lines. Give up after `STOP_S` if the reader has stopped: a log must not delay the exit."""
        self._is_closing = True
        self._wake.set()
        if self._thread.is_alive():
            self._thread.join(STOP_S)

    def info(self, event: str, /, **fields: Any) -> None:
        self._put("info", event, fields)

    def warning(self, event: str, /, **fields: Any) -> None:
        self._put("warning", event, fields)

    def error(self, event: str, /, **fields: Any) -> None:
        self._put("error", event, fields)

    def _put(self, level: str, event: str, fields: dict[str, Any]) -> None:
        if len(self._queue) >= self._queue_max:
            self.dropped += 1
            if self._on_dropped is not None:
                self._on_dropped(1)
            return
        self._queue.append((self._clock(), level, event, fields))
        # Setting an event costs as much as a line. A thread that is writing looks at the queue again by itself.
        if self._is_waiting:
            self._is_waiting = False
            self._wake.set()

    def _run(self) -> None:
        while True:
            self._wait()
            if not self._is_closing:
                time.sleep(GATHER_S)
            self._write_gathered()
            if self._is_closing and not self._queue:
                return

    def _wait(self) -> None:
        self._wake.clear()
        self._is_waiting = True
        # A line that was queued before the flag was set has woken no thread, so look at the queue once more.
        if not self._queue and not self._is_closing:
            self._wake.wait()
        self._is_waiting = False

    def _write_gathered(self) -> None:
        gathered = [self._queue.popleft() for _ in range(len(self._queue))]
        if not gathered:
            return
        text = "".join(self._formatted(queued) for queued in gathered)
        with suppress(OSError, ValueError):  # the pipe is broken or closed, and there is no other place to report it
            self._stream.write(text)
            self._stream.flush()

    def _formatted(self, queued: _Queued) -> str:
        at_s, level, event, fields = queued
        line: _Fields = {Field.TIMESTAMP: self._timestamp(at_s), Field.LEVEL: level, Field.EVENT: event, **fields}
        if self._is_console:
            return f"{_console_line(line)}\n"
        return _json_line(line)[:-1] + self._end_of_line

    def _timestamp(self, at_s: float) -> str:
        millisecond = int(at_s * 1000)
        if millisecond != self._millisecond:
            self._millisecond = millisecond
            second, rest = divmod(millisecond, 1000)
            self._timestamp_text = f"{datetime.fromtimestamp(second, UTC):%Y-%m-%dT%H:%M:%S}.{rest:03d}Z"
        return self._timestamp_text


def capture_standard_logging(log_writer: LogWriter) -> None:
    """Send warnings and errors of libraries through `log_writer`, at most one per text every `LIBRARY_EVERY_S`.

    aiohttp's server is silenced: it logs a traceback for each malformed request, which any sender can cause. The
    receiver counts such requests itself. Lines of the libraries in `WARN_ONLY` are warnings without a traceback,
    whatever their level.
    """
    logging.getLogger("aiohttp.server").setLevel(logging.CRITICAL)
    logging.getLogger("aiohttp.access").setLevel(logging.CRITICAL)
    forward = _Forward(log_writer)
    forward.addFilter(_RateLimit())
    root = logging.getLogger()
    root.setLevel(logging.WARNING)
    root.handlers = [forward]


class _RateLimit(logging.Filter):
    """Passes each text once in `LIBRARY_EVERY_S`: while a broker is down, aiokafka logs several at each attempt."""

    def __init__(self) -> None:
        super().__init__()
        self._logged_s: dict[tuple[str, str], float] = {}

    def filter(self, record: logging.LogRecord) -> bool:
        text = (record.name, str(record.msg))
        if record.created - self._logged_s.get(text, float("-inf")) < LIBRARY_EVERY_S:
            return False
        if len(self._logged_s) >= LIBRARY_TEXTS_MAX:  # a library that formats its texts itself
            self._logged_s.clear()
        self._logged_s[text] = record.created
        return True


class _Forward(logging.Handler):
    def __init__(self, log_writer: LogWriter) -> None:
        super().__init__()
        self._log_writer = log_writer

    def emit(self, record: logging.LogRecord) -> None:
        raised = record.exc_info[1] if record.exc_info else None
        error: BaseException | str | None = raised
        put = self._log_writer.error if record.levelno >= logging.ERROR else self._log_writer.warning
        # An error of the client may also reach asyncio's log, from a task that nobody awaited.
        if not WARN_ONLY.isdisjoint((_package(record.name), _package(type(raised).__module__))):
            put = self._log_writer.warning
            error = f"{type(raised).__name__}: {raised}".rstrip(": ") if raised else None
        put(record.getMessage()[:VALUE_CHARACTERS_MAX], logger=record.name, **({Field.ERROR: error} if error else {}))


def _package(module: str) -> str:
    return module.partition(".")[0]


def _shown(key: str, value: Any) -> Any:
    """Return the value as it is written: redacted by its key, on one line, at most `VALUE_CHARACTERS_MAX` long."""
    if key in REDACTED:
        return REDACTED_TEXT
    if value is None or isinstance(value, _PLAIN):
        return value
    if isinstance(value, bytes):
        value = _decoded(value)
    elif isinstance(value, BaseException):
        value = "".join(traceback.format_exception(value, limit=-8)).rstrip().replace("\n", " | ")
    elif not isinstance(value, str):
        value = str(value)
    if len(value) <= VALUE_CHARACTERS_MAX and value.isprintable():
        return value
    if len(value) > VALUE_CHARACTERS_MAX:
        value = value[:VALUE_CHARACTERS_MAX]
    # Most values are plain ASCII, and these two checks are cheaper than a search by the pattern.
    return value if value.isascii() and value.isprintable() else _ESCAPED.sub(_escape, value)


def _escape(match: re.Match[str]) -> str:
    return f"\\u{ord(match[0]):04x}"


def _decoded(value: bytes) -> str:
    return value.decode("utf-8", "backslashreplace")


def _all_shown(fields: _Fields) -> _Fields:
    return {key: _shown(key, value) for key, value in fields.items()}


def _json_line(fields: _Fields) -> str:
    line = _plain_json(fields)
    return _json(_all_shown(fields)) if line is None else line


def _plain_json(fields: _Fields) -> str | None:
    """Return the line if none of its values has to be rewritten, as in nearly all lines; otherwise `None`.

    It takes half the time of looking at each value. The finished line shows whether a value has to be rewritten: JSON
    puts a backslash before quotes and control characters, and of the other characters that are escaped all but DEL lie
    outside ASCII.
    """
    if not _PLAIN_TYPES.issuperset(map(type, fields.values())) or _is_any_redacted(tuple(fields)):
        return None
    try:
        line = _encoder.encode(fields)
    except (TypeError, ValueError, UnicodeError):
        return None
    is_plain = len(line) <= VALUE_CHARACTERS_MAX and line.isascii() and b"\\" not in line and b"\x7f" not in line
    return line.decode() if is_plain else None


@lru_cache(_KEY_SETS_MAX)
def _is_any_redacted(keys: tuple[str, ...]) -> bool:
    return not REDACTED.isdisjoint(keys)


def _json(fields: _Fields) -> str:
    try:
        return _encoder.encode(fields).decode()
    except (TypeError, ValueError, UnicodeError):
        return json.dumps({str(key): str(value) for key, value in fields.items()})


_DIM, _BOLD, _CYAN, _MAGENTA, _RESET = "\x1b[2m", "\x1b[1m", "\x1b[36m", "\x1b[35m", "\x1b[0m"
_LEVEL_COLOURS = {"info": "\x1b[32m", "warning": "\x1b[33m", "error": "\x1b[31m"}
_QUOTED = re.compile("[\\s='\"]")


def _console_line(fields: _Fields) -> str:
    shown = _all_shown(fields)
    timestamp, level, event = (str(shown.pop(name)) for name in (Field.TIMESTAMP, Field.LEVEL, Field.EVENT))
    values = (f" {_CYAN}{name}{_RESET}={_MAGENTA}{_console_value(value)}{_RESET}" for name, value in shown.items())
    head = f"{_DIM}{timestamp}{_RESET} [{_LEVEL_COLOURS.get(level, '')}{_BOLD}{level:<9}{_RESET}]"
    return f"{head} {_BOLD}{event:<30}{_RESET}{''.join(values)}"


def _console_value(value: Any) -> str:
    text = str(value)
    return repr(text) if _QUOTED.search(text) else text
