"""Mutated requests, read by the public port's parser and by h11, which is written from the specification.

Two parsers that find different requests in the same bytes are how requests are smuggled past a load balancer. Ours may
refuse more. A request that it finds must be the one that h11 finds, with the same body, wherever the bytes are cut.

make soak MUTATIONS=3000000     as many as the variable says; by default enough for a first look
"""

import os
import random
import re
from collections import deque

import h11
import pytest

from ingest.errors import Malformed
from ingest.http.parsing import Parser
from ingest.http.request import Request

MUTATIONS = int(os.environ.get("MUTATIONS") or "10000")
PARTS = 8
BROKEN, INCOMPLETE, UPGRADE = "broken", "incomplete", "upgrade"
Found = tuple[str, bytes, bytes] | str

REQUESTS = (
    b"POST /notify/shop HTTP/1.1\r\nHost: x\r\nContent-Type: a/b\r\nContent-Length: 21\r\n\r\nout_trade_no=1&sign=x",
    b"POST /notify/shop HTTP/1.1\r\nHost: x\r\nContent-Type: a/b\r\nTransfer-Encoding: chunked\r\n\r\n"
    b"5\r\nout_t\r\n10;x=y\r\nrade_no=1&sign=x\r\n0\r\nT: v\r\n\r\n",
    b"POST /a?b HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nConnection: keep-alive\r\nContent-Length: 3\r\n\r\na=1",
    b"GET / HTTP/1.1\r\nHost: x\r\n\r\n",
    b"POST / HTTP/1.0\r\nContent-Length: 3\r\n\r\na=1",
)
TOKENS = (
    *(b"\r\n", b"\n", b"\r", b" ", b"\t", b":", b"0", b"1", b";", b",", b"+", b"-", b"0x", b"\x00", b"\x0b", b"\xff"),
    *(b"chunked", b"HTTP/1.0", b"HTTP/1.1", b"\r\n\r\n", b"0\r\n\r\n", b"Host: y\r\n", b"Connection: close\r\n"),
    *(b"Content-Length: 5\r\n", b"Content-Length: 0\r\n", b"Transfer-Encoding: chunked\r\n"),
    *(b"Transfer-Encoding: identity\r\n", b"Transfer-Encoding: x, chunked\r\n"),
    *(b"Connection: upgrade\r\nUpgrade: h2c\r\n", b"GET /b HTTP/1.1\r\nHost: y\r\n\r\n"),
)
# h11 refuses these, and llhttp does not: empty lines or a line's end before a request, more than one space in its first
# line, and codings of the body besides chunks, for which the receiver's story has its own refusal.
LENIENT = re.compile(r"no request line received|illegal request line|Only Transfer-Encoding: chunked is supported")


def mutated(chance: random.Random) -> bytes:
    """Return a few requests, one after the other, with a few mistakes in them."""
    data = bytearray(b"".join(chance.choices(REQUESTS, k=chance.randint(1, 3))))
    for _ in range(chance.randint(1, 4)):
        place = chance.randrange(len(data) + 1)
        match chance.randrange(6):
            case 0 if place < len(data):
                data[place] = chance.randrange(256)
            case 1:
                data[place:place] = chance.choice(TOKENS)
            case 2:
                del data[place : place + chance.randint(1, 4)]
            case 3 if (line := data.find(b"\r\n", place)) >= 0:
                data[line + 2 : line + 2] = chance.choice(TOKENS)
            case 4:
                copied = chance.randrange(len(data) + 1)
                data[place:place] = data[copied : copied + chance.randint(1, 30)]
            case 5 if digits := [at for at, byte in enumerate(data) if byte in b"0123456789"]:
                data[chance.choice(digits)] = ord("0") + chance.randrange(10)
    return bytes(data)


class Waiting:
    """The connection of a parser: every request waits for its body."""

    def await_body(self, request: Request) -> None: ...


async def found_by_ours(data: bytes, chance: random.Random) -> list[Found]:
    requests: deque[Request | None] = deque()
    begun: list[Request | None] = []
    parser = Parser(Waiting(), requests)
    while data and not parser.is_broken:
        size = min(parser.room, chance.choice((1, 3, 17, len(data))))
        parser.parse(data[:size])
        data = data[size:]
        begun += requests
        requests.clear()
    found: list[Found] = []
    for request in begun:
        if request is None or not request.is_complete:
            return [*found, BROKEN if parser.is_broken else INCOMPLETE]
        try:
            found.append((request.method, request.target, await request.read_body()))
        except Malformed:  # HTTP/1.0 has no chunks
            return [*found, BROKEN]
        if not request.keeps_alive:
            break
    return found


def found_by_h11(data: bytes) -> tuple[list[Found], str]:
    """Return the requests, and why the last is broken."""
    connection = h11.Connection(h11.SERVER, max_incomplete_event_size=1 << 20)
    connection.receive_data(data)
    found: list[Found] = []
    head, body = None, b""
    try:
        while True:
            event = connection.next_event()
            if isinstance(event, h11.Request):
                head, body = event, b""
            elif isinstance(event, h11.Data):
                body += bytes(event.data)
            elif isinstance(event, h11.EndOfMessage) and head is not None:
                found.append((head.method.decode(), head.target, body))
                head = None
                connection.send(h11.Response(status_code=200, headers=[("Content-Length", "0")]))
                connection.send(h11.EndOfMessage())
                if connection.our_state is not h11.DONE:
                    return found, ""
                connection.start_next_cycle()
            elif event is h11.PAUSED:
                return [*found, UPGRADE], ""
            else:
                return ([*found, INCOMPLETE] if head is not None else found), ""
    except h11.RemoteProtocolError as error:
        return [*found, BROKEN], str(error)


@pytest.mark.parametrize("part", range(PARTS))
async def test_requests_are_those_that_another_parser_finds(part: int) -> None:
    both = refused = 0
    for number in range(part, MUTATIONS, PARTS):
        chance = random.Random(number)
        data = mutated(chance)
        ours = await found_by_ours(data, chance)
        theirs, why = found_by_h11(data)
        for place, request in enumerate(ours):
            if isinstance(request, str):
                refused += request == BROKEN
                break
            other = theirs[place] if place < len(theirs) else None
            if other == BROKEN and LENIENT.search(why):
                break
            if other == UPGRADE:
                break  # h11 leaves the rest to the other protocol
            assert request == other, (number, data)
            both += 1
    assert both > MUTATIONS / PARTS / 4
    assert refused > MUTATIONS / PARTS / 10
