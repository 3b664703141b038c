"""Read what people have of a message: an HTTP request with its headers, a body alone, or a dump of its parameters.

It is lenient about everything around a body, and exact about the body's bytes.
"""

import json
import re
import shlex
from collections.abc import Iterator
from itertools import pairwise
from urllib.parse import quote_plus

from msgspec import Struct

from deploy.verify import dumps
from deploy.verify.dumps import Dump
from schemas.accounts import CHARSETS

BYTES_MAX = 1024 * 1024

_REQUEST_LINE = re.compile(rb"(?:POST|GET|PUT) (\S+) HTTP/\d(?:\.\d)?\r?\n")
_HEADER = re.compile(rb"([!#$%&'*+\-.^_`|~0-9A-Za-z]+):[ \t]*(.*)")
_END_OF_HEADERS = re.compile(rb"\r?\n\r?\n")
_CURL = re.compile(r"\s*curl(?:\.exe)?\s")
_CURL_DATA = frozenset({"-d", "--data", "--data-raw", "--data-binary", "--data-ascii"})


class Captured(Struct, frozen=True, kw_only=True):
    """A captured request. Header names are in lower case; `target` is the path with its query, if known.

    `read_as` is how it was written. If it `is_decoded`, the body was made of decoded parameters or members, so it may
    differ from the one that was sent.
    """

    body: bytes
    headers: dict[str, str] = {}
    target: str = ""
    read_as: str = "body"
    is_decoded: bool = False


def readings(content: bytes) -> Iterator[Captured]:
    """Yield everything that a file may be, the most exact reading first. Never raises."""
    content = _without_mark(content)
    whole = read(content)
    yield whole
    text = _decoded(content)
    yield from _headers_and_body(content)
    yield from _curl(text)
    for event in dumps.events(text):
        headers = {name: value.strip() for name, value in event.headers.items()}
        yield Captured(
            body=event.body.encode("utf-8", "replace"), headers=headers, target=event.target, read_as="event",
            is_decoded=event.is_parsed,
        )  # fmt: skip
    for form in dumps.forms_in(text):
        if form.encode() != whole.body:
            yield Captured(body=form.encode("utf-8", "replace"), read_as="log_line")
    for dump in dumps.read(text):
        yield from encoded(dump)


def read(content: bytes) -> Captured:
    """Return the request in a file; without a request line at the start, the whole file is the body.

    If the headers have a Content-Length, the body ends there, so that a line end added by an editor is ignored.
    """
    start = _REQUEST_LINE.match(content)
    if start is None:
        return Captured(body=content)
    head, body = _split(content[start.end() :])
    headers = _headers(head)
    length = headers.get("content-length", "")
    if length.isascii() and length.isdigit():
        body = body[: int(length)]
    target = start[1].decode("utf-8", "replace")
    return Captured(body=body, headers=headers, target=target, read_as="request")


def encoded(dump: Dump) -> Iterator[Captured]:
    """Yield the dump as a form's body, in the charset that it names and in the others; or as an app's result."""
    if dump.value("resultStatus"):
        result = {name: dump.value(name) for name in ("resultStatus", "result", "memo")}
        yield Captured(body=json.dumps(result).encode(), read_as=dump.notation.value)
        return
    declared = (dump.value("charset") or dump.value("_input_charset")).lower()
    charsets = dict.fromkeys([*([declared] if declared in CHARSETS else []), "utf-8", "gb18030"])
    seen = set()
    for charset in charsets:
        body = "&".join(f"{_quoted(name, charset)}={_quoted(value, charset)}" for name, value in dump.pairs).encode()
        if body not in seen:
            seen.add(body)
            yield Captured(body=body, read_as=dump.notation.value, is_decoded=True)


def _quoted(value: str | bytes, charset: str) -> str:
    if isinstance(value, bytes):
        return quote_plus(value)
    try:
        return quote_plus(value.encode(charset))
    except UnicodeEncodeError:
        return quote_plus(value.encode("utf-8", "replace"))


def _without_mark(content: bytes) -> bytes:
    """Return a file of Windows as UTF-8 without a byte-order mark."""
    if content.startswith((b"\xff\xfe", b"\xfe\xff")):
        return content.decode("utf-16", "replace").encode()
    return content.removeprefix(b"\xef\xbb\xbf")


def _decoded(content: bytes) -> str:
    for charset in ("utf-8", "gb18030"):
        try:
            return content.decode(charset)
        except UnicodeDecodeError:
            continue
    return content.decode("utf-8", "replace")


def _split(content: bytes) -> tuple[bytes, bytes]:
    end = _END_OF_HEADERS.search(content)
    return (content, b"") if end is None else (content[: end.start()], content[end.end() :])


def _headers(head: bytes) -> dict[str, str]:
    found = (_HEADER.fullmatch(line) for line in head.splitlines())
    return {match[1].decode("ascii").lower(): match[2].decode("utf-8", "replace").strip() for match in found if match}


def _headers_and_body(content: bytes) -> Iterator[Captured]:
    """Yield headers without a request line, a blank line, and a body; they must include Antom's signature."""
    head, body = _split(content.lstrip())
    headers = _headers(head)
    if body and "signature" in headers:
        yield Captured(body=body, headers=headers, read_as="request")


def _curl(text: str) -> Iterator[Captured]:
    """Yield the request of a curl command, as browsers and proxies copy it."""
    if _CURL.match(text) is None or len(text) > dumps.CHARACTERS_MAX:
        return
    try:
        words = shlex.split(text.replace("\\\n", " "))
    except ValueError:
        return
    body, target, headers = "", "", dict[str, str]()
    for option, value in pairwise(words):
        if option in _CURL_DATA:
            body = value if not body else f"{body}&{value}"
        elif option in ("-H", "--header"):
            name, _, header = value.partition(":")
            headers[name.strip().lower()] = header.strip()
    urls = (word for word in words[1:] if word.startswith(("http://", "https://")))
    url = next(urls, "")
    if url:
        target = "/" + url.split("/", 3)[3] if url.count("/") > 2 else "/"
    yield Captured(body=body.encode("utf-8", "replace"), headers=headers, target=target, read_as="curl")
