"""Read a captured request from a file: an HTTP message with its headers, or a body alone.

It is lenient about line ends, and exact about the body's bytes.
"""

import re

from msgspec import Struct

_REQUEST_LINE = re.compile(rb"(?:POST|GET|PUT) (\S+) HTTP/\d(?:\.\d)?\r?\n")
_HEADER = re.compile(rb"([!#$%&'*+\-.^_`|~0-9A-Za-z]+):[ \t]*(.*)")
_END_OF_HEADERS = re.compile(rb"\r?\n\r?\n")


class Captured(Struct, frozen=True, kw_only=True):
    """A captured request. Header names are in lower case; `target` is the path with its query, if known."""

    body: bytes
    headers: dict[str, str] = {}
    target: str = ""


def read(content: bytes) -> Captured:
    """Return the request in a file; without a request line at the start, the whole file is the body.

    If the headers have a Content-Length, the body ends there, so that a line end added by an editor is ignored.
    """
    start = _REQUEST_LINE.match(content)
    if start is None:
        return Captured(body=content)
    head, body = _split(content[start.end() :])
    headers: dict[str, str] = {}
    for line in head.splitlines():
        match = _HEADER.fullmatch(line)
        if match is not None:
            headers[match[1].decode("ascii").lower()] = match[2].decode("utf-8", "replace").strip()
    length = headers.get("content-length", "")
    if length.isascii() and length.isdigit():
        body = body[: int(length)]
    return Captured(body=body, headers=headers, target=start[1].decode("utf-8", "replace"))


def _split(content: bytes) -> tuple[bytes, bytes]:
    end = _END_OF_HEADERS.search(content)
    return (content, b"") if end is None else (content[: end.start()], content[end.end() :])
