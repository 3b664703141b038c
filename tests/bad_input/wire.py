"""A client that repairs nothing: it sends the given bytes and keeps the raw answer."""

import socket
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

FORM = "application/x-www-form-urlencoded; charset=utf-8"
JSON = "application/json"


@dataclass(frozen=True)
class Answer:
    """One answer. Status 0: the connection ended, or the time was over, without any."""

    status: int = 0
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes = b""
    raw: bytes = b""
    seconds: float = 0.0
    is_closed: bool = False


def post(
    path: str,
    body: bytes,
    *,
    content_type: str | None = FORM,
    headers: Mapping[str, str] | Sequence[tuple[str, str]] = (),
    method: str = "POST",
    host: str = "pay.merchant.example",
    length: int | None = None,
) -> bytes:
    """A whole request."""
    pairs = list(headers.items()) if isinstance(headers, Mapping) else list(headers)
    lines = [f"{method} {path} HTTP/1.1", f"Host: {host}"]
    if content_type is not None:
        lines.append(f"Content-Type: {content_type}")
    lines += [f"{name}: {value}" for name, value in pairs]
    lines.append(f"Content-Length: {len(body) if length is None else length}")
    return "\r\n".join(lines).encode("utf-8", "surrogateescape") + b"\r\n\r\n" + body


def connect(port: int) -> socket.socket:
    return socket.create_connection(("127.0.0.1", port), timeout=10)


def send(port: int, request: bytes, *, within_s: float = 6.0, close_half: bool = False) -> Answer:
    """The first answer to `request`, and whether the connection was closed after it."""
    with connect(port) as opened:
        began = time.monotonic()
        try:
            opened.sendall(request)
            if close_half:
                opened.shutdown(socket.SHUT_WR)
        except OSError:
            pass  # it was refused while we were still talking; the answer may be there all the same
        return receive(opened, within_s=within_s, began=began)


def receive(opened: socket.socket, *, within_s: float = 6.0, began: float | None = None) -> Answer:
    """The next answer on a connection."""
    began = time.monotonic() if began is None else began
    raw = b""
    opened.settimeout(within_s)
    while not _is_whole(raw):
        try:
            piece = opened.recv(65536)
        except OSError:
            break
        if not piece:
            break
        raw += piece
    return parse(raw, time.monotonic() - began)


def parse(raw: bytes, seconds: float = 0.0) -> Answer:
    """The first answer in `raw`."""
    head, end, rest = raw.partition(b"\r\n\r\n")
    if not end:
        return Answer(raw=raw, seconds=seconds)
    status_line, *lines = head.decode("latin-1").split("\r\n")
    headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
    body = rest[: int(headers.get("content-length", "0"))]
    is_closed = headers.get("connection", "").lower() == "close"
    return Answer(int(status_line.split()[1]), headers, body, raw, seconds, is_closed)


def statuses(raw: bytes) -> list[int]:
    """The status of every answer on a connection, in order."""
    found = []
    while raw:
        answer = parse(raw)
        if not answer.status:
            break
        found.append(answer.status)
        raw = raw[raw.index(b"\r\n\r\n") + 4 + len(answer.body) :]
    return found


def drain(opened: socket.socket, *, within_s: float) -> tuple[bytes, bool]:
    """Everything until the other side closes, and whether it did within the time."""
    raw = b""
    deadline = time.monotonic() + within_s
    while (left := deadline - time.monotonic()) > 0:
        opened.settimeout(left)
        try:
            piece = opened.recv(65536)
        except TimeoutError:
            break
        except OSError:
            return raw, True
        if not piece:
            return raw, True
        raw += piece
    return raw, False


def _is_whole(raw: bytes) -> bool:
    answer = parse(raw)
    if answer.status == 100:
        return False
    return bool(answer.status) and len(answer.body) == int(answer.headers.get("content-length", "0"))
