"""From bytes to requests: whole, in pieces, one after the other, and invalid ones.

`tests/bad_input/test_transport.py` sends hostile bytes to a whole receiver.
"""

from collections import deque

import pytest

from ingest.errors import TooLarge
from ingest.http.parsing import (
    HEADER_BYTES_MAX,
    HEADERS_MAX,
    KEPT_BYTES_MAX,
    PARSED_AT_ONCE,
    REQUESTS_AT_ONCE,
    WIRE_BYTES_MAX,
    Parser,
)
from ingest.http.request import BrokenBody, Request

BODY = b"a=1"
HEAD = b"POST /notify/shop?x HTTP/1.1\r\nHost: x\r\nContent-Type: t\r\n"
WHOLE = HEAD + b"Content-Length: 3\r\n\r\n" + BODY
CHUNKED = HEAD + b"Transfer-Encoding: chunked\r\n\r\n"


class Kit:
    """A parser, and the requests that it found."""

    def __init__(self) -> None:
        self.requests: deque[Request | None] = deque()
        self.parser = Parser(self, self.requests)

    def await_body(self, request: Request) -> None:
        raise AssertionError("nothing waits here")

    def parse(self, *pieces: bytes) -> list[Request | None]:
        for piece in pieces:
            self.parser.parse(piece)
        return list(self.requests)

    async def bodies(self) -> list[bytes]:
        return [await each.read_body() for each in self.requests if each is not None]


@pytest.fixture
def kit() -> Kit:
    return Kit()


async def test_whole_request_is_one_request(kit: Kit) -> None:
    (request,) = kit.parse(WHOLE)
    assert request is not None
    assert (request.method, request.target, request.version) == ("POST", b"/notify/shop?x", "1.1")
    assert request.header(b"content-length") == b"3"
    assert (request.is_complete, request.keeps_alive, kit.parser.arriving) == (True, True, None)
    assert await kit.bodies() == [BODY]


async def test_request_may_arrive_byte_by_byte(kit: Kit) -> None:
    kit.parse(*(bytes([byte]) for byte in WHOLE + WHOLE))
    assert await kit.bodies() == [BODY, BODY]


async def test_requests_in_one_piece_are_found_in_order(kit: Kit) -> None:
    kit.parse(WHOLE + WHOLE.replace(b"a=1", b"a=2") + WHOLE[:-1])
    assert [request.is_complete for request in kit.requests if request] == [True, True, False]
    assert kit.parser.arriving is kit.requests[2]
    kit.parse(b"3")
    assert await kit.bodies() == [b"a=1", b"a=2", b"a=3"]


@pytest.mark.parametrize("protocol", [b"h2c", b"websocket"])
@pytest.mark.parametrize(
    "framing", [b"Content-Length: 3\r\n\r\na=1", b"Transfer-Encoding: chunked\r\n\r\n3\r\na=1\r\n0\r\n\r\n"]
)
@pytest.mark.parametrize("size", [1, 40, 10_000])
async def test_request_for_another_protocol_is_an_ordinary_one(
    kit: Kit, protocol: bytes, framing: bytes, size: int
) -> None:
    asking = HEAD + b"Connection: Upgrade\r\nUpgrade: " + protocol + b"\r\n" + framing + WHOLE
    kit.parse(*(asking[first : first + size] for first in range(0, len(asking), size)))
    assert await kit.bodies() == [BODY, BODY]
    assert not kit.parser.is_broken


@pytest.mark.parametrize(
    "broken",
    [
        b"\x16\x03\x01",
        b"POST / HTTP/1.2\r\n\r\n",
        b"POST / HTTP/2.0\r\n\r\n",
        b"POST /\r\n\r\n",
        b"POST * HTTP/1.1\r\nHost: x\r\n\r\n",
        b"POST / HTTP/1.1\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: x\r\nHost: x\r\n\r\n",
        b"POST / HTTP/1.0\r\nHost: x\r\nHost: x\r\n\r\n",
        HEAD + b"Content-Type: t\r\n\r\n",
        HEAD + b"Content-Length: 3\r\nContent-Length: 3\r\n\r\n",
        HEAD + b"Content-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n",
        HEAD + b"Transfer-Encoding: gzip, chunked\r\n\r\n",
        HEAD + b"Transfer-Encoding: gzip\r\nTransfer-Encoding: chunked\r\n\r\n",
        HEAD + b"Transfer-Encoding: identity\r\n\r\n",
        HEAD + b"Connection: upgrade\r\nUpgrade: h2c\r\nTransfer-Encoding: gzip\r\n\r\n",
        CHUNKED + b"x\r\n",
        b"POST /" + b"a" * HEADER_BYTES_MAX + b" HTTP/1.1\r\nHost: x\r\n\r\n",
        HEAD + b"x: " + b"v" * (HEADER_BYTES_MAX + 1) + b"\r\n\r\n",
        HEAD + b"v" * (HEADER_BYTES_MAX + 1) + b": x\r\n\r\n",
        HEAD + b"x: y\r\n" * HEADERS_MAX + b"\r\n",
        HEAD
        + (b"Signature: " + b"v" * HEADER_BYTES_MAX + b"\r\n") * (KEPT_BYTES_MAX // HEADER_BYTES_MAX + 1)
        + b"\r\n",
    ],
)
def test_invalid_http_is_told_once_after_the_valid(kit: Kit, broken: bytes) -> None:
    found = kit.parse(WHOLE + broken)
    assert [request is None for request in found] == [False, True]
    assert kit.parser.is_broken


@pytest.mark.parametrize("rest", [b"", b"Content-Length: 3\r\n"])
def test_nothing_is_parsed_after_connect(kit: Kit, rest: bytes) -> None:
    (request,) = kit.parse(b"CONNECT pay:443 HTTP/1.1\r\nHost: x\r\n" + rest + b"\r\n" + WHOLE, WHOLE)
    assert request is not None
    assert (request.method, request.keeps_alive, kit.parser.is_broken) == ("CONNECT", False, True)


def test_portion_has_few_requests_and_few_bytes(kit: Kit) -> None:
    assert kit.parser.portion(WHOLE * REQUESTS_AT_ONCE) == len(WHOLE) * REQUESTS_AT_ONCE
    many = WHOLE * (REQUESTS_AT_ONCE + 1)
    kit.parse(many[: kit.parser.portion(many)])
    assert len(kit.requests) == REQUESTS_AT_ONCE
    assert kit.parser.portion(b"a" * 100_000) == PARSED_AT_ONCE


def test_field_without_an_end_is_invalid_before_it_ends(kit: Kit) -> None:
    kit.parse(HEAD + b"x: ", *[b"v" * 1000] * 20)
    assert (kit.parser.is_broken, list(kit.requests)) == (True, [None])


@pytest.mark.parametrize("is_chunked", [True, False])
def test_body_counts_nothing_against_the_first_field_of_the_next_request(kit: Kit, is_chunked: bool) -> None:
    size = PARSED_AT_ONCE
    whole = b"%x\r\n%b\r\n0\r\n\r\n" % (size, b"a" * size) if is_chunked else b"a" * size
    framing = b"Transfer-Encoding: chunked" if is_chunked else b"Content-Length: %d" % size
    kit.parse(HEAD + framing + b"\r\n\r\n" + whole[:-size], whole[-size:])
    large = b"Cookie: " + b"c" * (HEADER_BYTES_MAX - 100)
    kit.parse(b"POST /%b HTTP/1.1\r\n%b" % (b"a" * 200, large), b"\r\nHost: x\r\nContent-Length: 0\r\n\r\n")
    assert [request is not None and request.is_complete for request in kit.requests] == [True, True]


async def test_invalid_chunk_fails_the_request_that_has_begun(kit: Kit) -> None:
    (request,) = kit.parse(CHUNKED)
    assert request is not None
    kit.requests.clear()
    kit.parse(b"x\r\n")
    with pytest.raises(BrokenBody):
        await request.read_body()
    assert (kit.parser.is_broken, list(kit.requests)) == (True, [])


async def test_trailer_has_as_many_fields_as_a_header_and_adds_none(kit: Kit) -> None:
    (request,) = kit.parse(CHUNKED + b"3\r\na=1\r\n0\r\nHost: y\r\n" + b"x: y\r\n" * (HEADERS_MAX - 1) + b"\r\n")
    assert request is not None
    assert (await request.read_body(), request.header_values(b"host")) == (BODY, [b"x"])
    kit.parse(CHUNKED + b"3\r\na=1\r\n0\r\n" + b"x: y\r\n" * (HEADERS_MAX + 1) + b"\r\n")
    assert kit.parser.is_broken


@pytest.mark.parametrize("more", [0, 1])
async def test_bytes_of_a_body_on_the_wire_are_limited(kit: Kit, more: int) -> None:
    (request,) = kit.parse(CHUNKED)
    assert request is not None
    end = b"0\r\n\r\n"
    left = WIRE_BYTES_MAX + more - len(end)
    chunk = b"1;" + b"e" * 1000 + b"\r\na\r\n"
    text = chunk * (left // len(chunk) - 1)
    last = b"1;" + b"e" * (left - len(text) - len(b"1;\r\na\r\n")) + b"\r\na\r\n"
    text += last + end
    while text:
        room = kit.parser.room
        if not room:
            break
        kit.parse(text[:room])
        text = text[room:]
    if more:
        with pytest.raises(TooLarge):
            await request.read_body()
    else:
        assert set(await request.read_body()) == set(b"a")


@pytest.mark.parametrize(
    ("version", "connection", "keeps"),
    [("1.1", "", True), ("1.1", "Connection: close\r\n", False), ("1.0", "Connection: keep-alive\r\n", False)],
)
def test_connection_is_kept_by_http_1_1_alone(kit: Kit, version: str, connection: str, keeps: bool) -> None:
    (request,) = kit.parse(f"POST / HTTP/{version}\r\nHost: x\r\n{connection}Content-Length: 0\r\n\r\n".encode())
    assert request is not None
    assert request.keeps_alive is keeps
