"""The parser of one connection: llhttp (`httptools`), with limits and without leniency.

llhttp refuses bytes that are not HTTP, above all those that two parsers could read as different requests. This module
checks the rest: sizes, the version, fields that may stand only once, and the coding of the body, which is `chunked` or
none.
"""

from collections import deque
from typing import Any

import httptools

from ingest.errors import TooLarge
from ingest.http.request import HTTP_1_0, KEPT, Asks, BrokenBody, Request
from schemas.form import BODY_BYTES_MAX

HEADERS_MAX = 64
HEADER_BYTES_MAX = 4096  # of the target, and of a field's name and value
LINE_BYTES_MAX = 3 * HEADER_BYTES_MAX  # llhttp tells a field only when it is whole
WIRE_BYTES_MAX = 2 * BODY_BYTES_MAX  # of one body, with the sizes, extensions and trailers of its chunks
KEPT_BYTES_MAX = 16 * 1024  # of one header, in the fields that are kept; a connection may wait with them for a minute
PARSED_AT_ONCE = 8 * 1024  # bytes: more than most requests; as chunks of one byte they take the parser half a ms
REQUESTS_AT_ONCE = 8  # the smallest takes 30 bytes on the wire, and a thousand in memory
CONNECT = "CONNECT"
VERSIONS = frozenset({HTTP_1_0, "1.1"})

_HEADER_END = b"\r\n\r\n"


class Parser:
    """Adds each request to `requests` when its header is complete, and then its body to it.

    `arriving` is the request whose body is not complete. `is_broken` is true when nothing more can be parsed. After
    invalid HTTP `requests` then ends with `None`, unless a request in progress has failed by it.
    """

    def __init__(self, connection: Asks, requests: deque[Request | None]) -> None:
        self.arriving: Request | None = None
        self.is_broken = False
        self._connection: Any = connection
        self._requests = requests
        self._llhttp: Any = httptools.HttpRequestParser(self)
        self._target = b""
        self._headers: dict[bytes, list[bytes]] = {}
        self._fields = 0
        self._kept_bytes = 0
        self._line_bytes = 0  # since the last whole field
        self._wire_bytes = 0  # of the body that arrives
        self._retold: Request | None = None  # `_ignore_upgrade`

    @property
    def room(self) -> int:
        """How many bytes may be parsed at once."""
        return PARSED_AT_ONCE if self.arriving is None else min(PARSED_AT_ONCE, WIRE_BYTES_MAX - self._wire_bytes)

    def portion(self, data: bytes) -> int:
        """Return how many of the next bytes to parse at once: `room`, or fewer if they contain many requests."""
        room = self.room
        if data.count(_HEADER_END, 0, room) <= REQUESTS_AT_ONCE:
            return min(len(data), room)
        end = 0
        for _ in range(REQUESTS_AT_ONCE):
            end = data.index(_HEADER_END, end) + len(_HEADER_END)
        return end

    def close(self) -> None:
        """Parse nothing more, and let go of the others: in a circle all would stay until garbage is collected."""
        self.is_broken = True
        self._llhttp = self._connection = self.arriving = self._retold = None

    def parse(self, data: bytes) -> None:
        """Parse the next bytes, at most `room`; none after invalid HTTP."""
        if self.is_broken:
            return
        is_continued = self.arriving is not None
        self._line_bytes += len(data)
        self._feed(data)
        arriving = self.arriving
        if arriving is not None:
            self._line_bytes = 0
            self._wire_bytes += len(data) if is_continued else len(data.partition(_HEADER_END)[2])
            if self._wire_bytes >= WIRE_BYTES_MAX:
                arriving.fail(TooLarge(f"the body takes more than {WIRE_BYTES_MAX} bytes on the wire"))
        elif self._line_bytes > LINE_BYTES_MAX:
            self._break()

    def _feed(self, data: bytes) -> None:
        try:
            self._llhttp.feed_data(data)
        except httptools.HttpParserUpgrade as upgrade:
            self._ignore_upgrade(data[upgrade.args[0] :])
        except httptools.HttpParserError:
            self._break()

    def _ignore_upgrade(self, rest: bytes) -> None:
        """Go on as if the request had not asked for another protocol, because there is none.

        The parser takes its body for that protocol. So a new parser gets the framing of the request again, and then its
        body. Only after CONNECT nothing is parsed: a load balancer may take the rest for a tunnel, or for a body.
        """
        request = self._requests[-1]
        assert request is not None
        if request.method == CONNECT:
            self.is_broken = True
            return
        names = (b"content-length", b"transfer-encoding")
        framing = [(name, value) for name in names for value in request.header_values(name)]
        self._llhttp = httptools.HttpRequestParser(self)
        if framing:
            request.is_complete = False
            self._retold = request
            self._feed(b"POST / HTTP/1.1\r\n%b\r\n" % b"".join(b"%b: %b\r\n" % field for field in framing))
        self._feed(rest)

    def on_url(self, piece: bytes) -> None:
        self._target += piece

    def on_header(self, name: bytes, value: bytes) -> None:
        self._line_bytes = 0
        self._fields += 1
        if self._fields > HEADERS_MAX or len(value) > HEADER_BYTES_MAX or len(name) > HEADER_BYTES_MAX:
            raise ValueError("the header is too large")
        name = name.lower()
        if name in KEPT and self.arriving is None:
            self._kept_bytes += len(value)
            if self._kept_bytes > KEPT_BYTES_MAX:
                raise ValueError("the header is too large")
            self._headers.setdefault(name, []).append(value.rstrip(b" \t"))

    def on_headers_complete(self) -> None:
        if self._retold is not None:
            self.arriving, self._retold = self._retold, None
            self._begin_header()
            return
        parser = self._llhttp
        method, version = parser.get_method().decode("ascii"), parser.get_http_version()
        request = Request(
            self._connection,
            method=method,
            target=self._target,
            version=version,
            headers=self._headers,
            keeps_alive=parser.should_keep_alive() and version != HTTP_1_0 and method != CONNECT,
        )
        self._begin_header()
        if not _is_sound(request):
            raise ValueError("the header is not valid")
        self.arriving = request
        self._wire_bytes = 0
        self._requests.append(request)

    def _begin_header(self) -> None:
        self._target, self._headers = b"", {}
        self._fields = self._kept_bytes = self._line_bytes = 0

    def on_body(self, piece: bytes) -> None:
        if self.arriving is not None:
            self.arriving.add(piece)

    def on_message_complete(self) -> None:
        arrived, self.arriving = self.arriving, None
        self._fields = self._line_bytes = 0  # of its trailer, and the end of its body
        if arrived is not None:
            arrived.is_complete = True

    def _break(self) -> None:
        """Parse nothing more, because it is not HTTP."""
        self.is_broken = True
        arriving, self.arriving = self.arriving or self._retold, None
        if arriving is not None and self._requests and self._requests[-1] is arriving:
            self._requests.pop()  # it has not begun, so it is invalid as a whole
        elif arriving is not None:
            arriving.fail(BrokenBody())
            return
        self._requests.append(None)


def _is_sound(request: Request) -> bool:
    """Whether a header is valid that the parser accepts: version, target, coding, and what may stand there once."""
    hosts, codings = len(request.header_values(b"host")), request.header_values(b"transfer-encoding")
    return (
        request.version in VERSIONS
        and len(request.target) <= HEADER_BYTES_MAX
        and (hosts == 1 or (hosts == 0 and request.version == HTTP_1_0))
        and len(request.header_values(b"content-type")) <= 1
        and (not codings or [coding.lower() for coding in codings] == [b"chunked"])
        and request.target != b"*"
    )
