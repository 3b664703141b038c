"""Log lines, written by a thread of their own: JSON, one object a line; readable text where a person watches.

Nobody waits for a log. The event loop drops a line's fields into a bounded queue, which takes about a microsecond; the
thread formats and writes what has gathered, many lines at a time. If the reader of the pipe stands still, the queue
fills and further lines are dropped and counted, and notifications are acknowledged as before.

Lines go to stderr: stdout belongs to what a command prints.

Two things hold for every line, wherever it comes from. Values of the keys in `telemetry.REDACTED` never appear. And
one line is one line: control characters, line separators and the marks that turn text around are written as escapes,
because a sender chooses what stands in an order number.
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
from typing import Any, Protocol, TextIO

import msgspec
import structlog

from schemas.telemetry import REDACTED, Field

LIBRARY_EVERY_S = 10.0  # each text of a library's
LIBRARY_TEXTS_MAX = 500
GATHER_S = 0.02  # lines of this long are formatted and written together
QUEUE_MAX = 20_000
STOP_S = 2.0  # how long the last lines may take when their reader stands still
VALUE_CHARACTERS_MAX = 2_000
REDACTED_TEXT = "[redacted]"

_ESCAPED = re.compile("[\x00-\x1f\x7f-\x9f\u061c\u200b-\u200f\u2028-\u202e\u2060-\u2069\ufeff\ud800-\udfff]")
_PLAIN = (bool, int, float)
_PLAIN_TYPES = frozenset({*_PLAIN, str, bytes, type(None)})
_encoder = msgspec.json.Encoder()
_Fields = MutableMapping[str, Any]
_Line = tuple[float, str, str, dict[str, Any]]


class Sink(Protocol):
    """Where finished lines go; `write` may wait."""

    def write(self, text: str, /) -> Any: ...
    def flush(self) -> Any: ...


class LogWriter:
    """A logger (`info`, `warning`, `error`) and the thread behind it. `close` writes what is left."""

    def __init__(
        self,
        stream: TextIO | Sink,
        *,
        console: bool = False,
        queue_max: int = QUEUE_MAX,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._stream = stream
        self._render = _console_renderer() if console else _json_line
        self._queue: deque[_Line] = deque()
        self._queue_max = queue_max
        self._on_dropped: Callable[[int], None] | None = None
        self._clock = clock
        self._second, self._second_text = -1, ""
        self._is_waiting = False
        self._wake = threading.Event()
        self._is_closing = False
        self._thread = threading.Thread(target=self._run, name="log-lines", daemon=True)
        self.dropped = 0

    def tell_dropped(self, told: Callable[[int], None]) -> None:
        """Call `told` with the number of lines dropped so far, and from now on with each that is dropped."""
        told(self.dropped)
        self._on_dropped = told

    def start(self) -> None:
        self._thread.start()

    def close(self) -> None:
        """Write what is left, unless the reader stands still: a log never keeps a process from ending."""
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
        # A wake-up costs as much as a line; while the thread is writing, it will come back by itself.
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
        # A line that was put before the flag went up woke nobody, so the queue is looked at once more.
        if not self._queue and not self._is_closing:
            self._wake.wait()
        self._is_waiting = False

    def _write_gathered(self) -> None:
        lines = [self._queue.popleft() for _ in range(len(self._queue))]
        if not lines:
            return
        text = "".join(self._formatted(line) for line in lines)
        with suppress(OSError, ValueError):  # the pipe is broken or closed; there is nobody to tell
            self._stream.write(text)
            self._stream.flush()

    def _formatted(self, line: _Line) -> str:
        at_s, level, event, fields = line
        told: _Fields = {Field.TIMESTAMP: self._timestamp(at_s), Field.LEVEL: level, Field.EVENT: event, **fields}
        return f"{self._render(told)}\n"

    def _timestamp(self, at_s: float) -> str:
        second = int(at_s)
        if second != self._second:
            self._second = second
            self._second_text = datetime.fromtimestamp(second, UTC).strftime("%Y-%m-%dT%H:%M:%S.")
        return f"{self._second_text}{int((at_s - second) * 1000):03d}Z"


def capture_standard_logging(lines: LogWriter) -> None:
    """Send the libraries' warnings through `lines`: one line each, and none that a sender could cause.

    aiohttp's server reports every malformed request with its traceback; the receiver counts these itself.
    """
    logging.getLogger("aiohttp.server").setLevel(logging.CRITICAL)
    logging.getLogger("aiohttp.access").setLevel(logging.CRITICAL)
    forward = _Forward(lines)
    forward.addFilter(_Seldom())
    root = logging.getLogger()
    root.setLevel(logging.WARNING)
    root.handlers = [forward]


class _Seldom(logging.Filter):
    """Each thing that a library says, once in a while: while a broker is away aiokafka says several at each try."""

    def __init__(self) -> None:
        super().__init__()
        self._said_s: dict[tuple[str, str], float] = {}

    def filter(self, record: logging.LogRecord) -> bool:
        said = (record.name, str(record.msg))
        if record.created - self._said_s.get(said, float("-inf")) < LIBRARY_EVERY_S:
            return False
        if len(self._said_s) >= LIBRARY_TEXTS_MAX:  # a library that formats its texts itself
            self._said_s.clear()
        self._said_s[said] = record.created
        return True


class _Forward(logging.Handler):
    def __init__(self, lines: LogWriter) -> None:
        super().__init__()
        self._lines = lines

    def emit(self, record: logging.LogRecord) -> None:
        put = self._lines.error if record.levelno >= logging.ERROR else self._lines.warning
        error = record.exc_info[1] if record.exc_info else None
        put(record.getMessage()[:VALUE_CHARACTERS_MAX], logger=record.name, **({Field.ERROR: error} if error else {}))


def _shown(key: str, value: Any) -> Any:
    """The value as it may be seen: redacted by its key, one line, no longer than anybody reads."""
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
    # Most values are numbers and words; to look at them is cheaper than to search them.
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
    """The line, where none of its values has to be rewritten, as in nearly all lines: in two thirds of the time.

    The line as a whole shows whether one has to be: JSON puts a backslash before quotes and control characters, and of
    the other characters that are rewritten all but DEL lie outside ASCII.
    """
    types = set(map(type, fields.values()))
    if not (types <= _PLAIN_TYPES and REDACTED.isdisjoint(fields)):
        return None
    if bytes in types:
        fields = {key: _decoded(value) if type(value) is bytes else value for key, value in fields.items()}
    try:
        line = _encoder.encode(fields)
    except (TypeError, ValueError, UnicodeError):
        return None
    is_plain = len(line) <= VALUE_CHARACTERS_MAX and line.isascii() and b"\\" not in line and b"\x7f" not in line
    return line.decode() if is_plain else None


def _json(fields: _Fields) -> str:
    try:
        return _encoder.encode(fields).decode()
    except (TypeError, ValueError, UnicodeError):
        return json.dumps({str(key): str(value) for key, value in fields.items()})


def _console_renderer() -> Callable[[_Fields], str]:
    renderer = structlog.dev.ConsoleRenderer(colors=True, sort_keys=False)
    return lambda fields: renderer(None, "", _all_shown(fields))
