"""Requests with mistakes (`mutations`), read by the public port and by others.

Two readers that find different requests in the same bytes are how requests are smuggled past a load balancer. Ours may
refuse more. A request that it finds must be the one that the reference (`strict_http`) and h11 find, with the same
body, wherever the bytes are cut. A whole receiver answers each that it began once, and keeps only what is signed. What
it reads in forms, and a worker in JSON, is what other readers find.

make soak MUTATIONS=3000000     as many as the variable says; by default enough for a first look
"""

import asyncio
import os
import random
import re
from collections import deque
from pathlib import Path
from typing import Any

import h11
import msgspec
import pytest

from ingest import receive
from ingest.errors import Malformed, TooLarge, Unavailable
from ingest.http.connection import Connection
from ingest.http.parsing import Parser
from ingest.http.request import Request
from ingest.http.responses import Reply
from ingest.http.server import Receiver
from ingest.pending import Pending
from schemas import antom, form
from schemas.dispositions import Refusal
from schemas.record_format import Record
from tests.bad_input import mutations, strict_http
from tests.bad_input.strict_http import Found
from tests.unit.ingest.http.test_connection import Transport
from tests.unit.ingest.http.test_server import Harness
from tests.unit.ingest.test_receive import BODY
from tests.unit.schemas.test_form import read_by_the_book

MUTATIONS = int(os.environ.get("MUTATIONS") or "10000")
PARTS = 8
WHOLE_ONES = 5  # one of so many is given to a whole receiver too
TOO_LARGE = {Refusal.TOO_MANY_FIELDS, Refusal.FIELD_TOO_LONG}  # for us; the grammar allows them
TURNS_MAX = 500  # of the loop, for the answers to a few requests
NO_H11 = re.compile(rb" (?:RTSP|ICE)/|[0-9A-Fa-f]{21}")
SURROGATE = re.compile(rb"\\u[dD][89a-fA-F]")
STATUSES = {b"200", b"400", b"401", b"403", b"404", b"405", b"413", b"415", b"503"}


class Waiting:
    """The connection of a parser: every request waits for its body."""

    def await_body(self, request: Request) -> None: ...


async def found_by_ours(data: bytes, chance: random.Random) -> list[Found]:
    """Return the requests that the parser and the checks before the body let through, in pieces of chance sizes."""
    requests: deque[Request | None] = deque()
    begun: list[Request | None] = []
    parser = Parser(Waiting(), requests)
    while data and not parser.is_broken:
        size = min(parser.portion(data), chance.choice((1, 3, 17, len(data), len(data))))
        parser.parse(data[:size])
        data = data[size:]
        begun += requests
        requests.clear()
    found: list[Found] = []
    for request in begun:
        if request is None or not request.is_complete:
            break
        try:
            receive._announced_size(request)
            body = await request.read_body()
        except (Malformed, TooLarge):
            break
        media_type = request.header(b"content-type") or b""
        found.append(Found(request.method, request.target, body, media_type, request.keeps_alive))
    return found


def found_by_h11(data: bytes) -> list[tuple[str, bytes, bytes]]:
    """Return the requests that h11 finds. Each is read by itself, so that no option of one ends the others.

    h11 takes no empty line before a request, and one blank between the words of its first line. llhttp takes more.
    """
    found: list[tuple[str, bytes, bytes]] = []
    while data:
        connection = h11.Connection(h11.SERVER, max_incomplete_event_size=1 << 20)
        first, end, rest = data.lstrip(b"\r\n").partition(b"\n")
        connection.receive_data(re.sub(rb" +", b" ", first) + end + rest)
        try:
            request = _one_of(connection)
        except h11.RemoteProtocolError:
            break
        if request is None:
            break
        found.append(request)
        data = connection.trailing_data[0]
    return found


def _one_of(connection: h11.Connection) -> tuple[str, bytes, bytes] | None:
    head, body = None, b""
    while True:
        event = connection.next_event()
        if isinstance(event, h11.Request):
            head = event
        elif isinstance(event, h11.Data):
            body += bytes(event.data)
        elif isinstance(event, h11.EndOfMessage) and head is not None:
            return head.method.decode(), head.target, body
        else:
            return None


def check_body(request: Found) -> None:
    """Read the body as the family does, and as another reader does."""
    if b"json" in request.media_type.lower():
        check_json(request.body)
        return
    expected = read_by_the_book(request.body)
    read = _read_form(request.body)
    if isinstance(read, Refusal):
        assert expected is None or read in TOO_LARGE
        return
    signed = {b"sign": read.sign, b"sign_type": read.sign_type}
    assert expected == read.fields | {name: value for name, value in signed.items() if value is not None}


def _read_form(body: bytes) -> form.Form | Refusal:
    try:
        return form.read(body)
    except form.BadForm as refused:
        return refused.reason


def check_json(body: bytes) -> None:
    """What the strict reader accepts, another reader finds too, or refuses for a surrogate or a size of its own."""
    try:
        message = antom.read(body)
    except antom.BadMessage:
        return
    try:
        other = msgspec.json.Decoder(float_hook=str).decode(body)
    except msgspec.DecodeError:
        assert SURROGATE.search(body) is not None
        return
    assert _with_numbers_as_text(message) == _with_numbers_as_text(other)


def _with_numbers_as_text(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _with_numbers_as_text(member) for name, member in value.items()}
    if isinstance(value, list):
        return [_with_numbers_as_text(member) for member in value]
    return str(value) if type(value) is int else value


@pytest.mark.parametrize("part", range(PARTS))
async def test_requests_are_those_that_other_parsers_find(part: int) -> None:
    agreed = refused = 0
    for number in range(part, MUTATIONS, PARTS):
        chance = random.Random(number)
        data = mutations.mutated(chance).data
        ours = await found_by_ours(data, chance)
        strict, theirs = strict_http.requests_in(data), found_by_h11(data)
        assert [each._replace(keeps=True) for each in ours] == [
            each._replace(keeps=True) for each in strict[: len(ours)]
        ], (number, data)
        for place, request in enumerate(ours):
            assert strict[place].keeps or not request.keeps, (number, data)
            if request.method == "CONNECT" or max(request.target) >= 0x80 or NO_H11.search(data):
                break  # h11 gives it a body, or refuses such a target, protocol or chunk
            assert request[:3] == (theirs[place] if place < len(theirs) else None), (number, data)
        for request in ours:
            check_body(request)
        agreed += len(ours)
        refused += len(ours) < len(strict) or not strict
    assert agreed > MUTATIONS / PARTS / 3
    assert refused > MUTATIONS / PARTS / 10


class Wire(Transport):
    """A transport in memory, whose socket nobody asks anything."""

    def __init__(self) -> None:
        super().__init__()
        self.socket: Any = _NoSocket()

    def get_extra_info(self, name: str) -> Any:
        return self.socket


class _NoSocket:
    def setsockopt(self, *_: object) -> None: ...


def said(body: bytes) -> dict[bytes, bytes]:
    """Return the parameters that have a value. `%2b` for `%2B`, or another empty parameter, changes nothing of this."""
    return {name: value for name, value in (read_by_the_book(body) or {}).items() if value}


class ChanceLog:
    """A log that acknowledges records when the test says so, or refuses them. `foreign` are those nobody signed."""

    def __init__(self) -> None:
        self.waiting: list[tuple[Record, Pending]] = []
        self.durable = 0
        self.foreign: list[Record] = []

    def append(self, record: Record) -> Pending:
        pending = Pending()
        self.waiting.append((record, pending))
        return pending

    def end_one(self, chance: random.Random) -> None:
        if not self.waiting:
            return
        record, pending = self.waiting.pop(chance.randrange(len(self.waiting)))
        if record.value != BODY and said(record.value) != said(BODY):
            self.foreign.append(record)
        is_durable = chance.random() < 0.7
        self.durable += is_durable
        pending.end(None if is_durable else Unavailable("by chance"))


class Watched:
    """A receiver, and each request that it began, with its answer."""

    def __init__(self, receiver: Receiver) -> None:
        self._receiver = receiver
        self._handle = receiver.handle
        self.begun: list[tuple[Request, list[Reply]]] = []
        self.parse_errors = 0
        receiver.handle = self.handle  # type: ignore[method-assign]
        self._parse_error = receiver.parse_error
        receiver.parse_error = self.parse_error

    async def handle(self, request: Request, connection: Connection) -> Reply:
        replies: list[Reply] = []
        self.begun.append((request, replies))
        replies.append(await self._handle(request, connection))
        return replies[0]

    def parse_error(self) -> None:
        self.parse_errors += 1
        self._parse_error()

    def begin(self) -> tuple[Connection, Wire]:
        self.begun, self.parse_errors = [], 0
        connection, wire = self._receiver.new_connection(), Wire()
        connection.connection_made(wire)  # type: ignore[arg-type]
        return connection, wire


async def converse(watched: Watched, log: ChanceLog, data: bytes, chance: random.Random) -> tuple[Connection, Wire]:
    """Send the bytes in pieces as the transport would, end what waits in the log, and wait for all answers."""
    connection, wire = watched.begin()
    has_ended = False
    for _ in range(TURNS_MAX):
        if data and wire.is_reading() and not wire.is_closing():
            size = chance.choice((1, 17, len(data), len(data)))
            connection.data_received(data[:size])
            data = data[size:]
        elif not data and not has_ended and wire.is_reading():
            has_ended = True
            connection.eof_received()
        if chance.random() < 0.5:
            log.end_one(chance)
        await asyncio.sleep(0)
        if wire.is_closing() or wire.has_ended or (has_ended and connection.is_idle):
            break
    while log.waiting:
        log.end_one(chance)
        await asyncio.sleep(0)
    return connection, wire


def check_answers(watched: Watched, wire: Wire, number: int, data: bytes) -> int:
    """Each request that was begun has one answer, in order, and nothing follows the last. Return the successes."""
    heads = [head for head in wire.written if not head.startswith(b"HTTP/1.1 100 ")]
    statuses = [head.split(b" ")[1] for head in heads]
    replied = [b"%d" % reply.answer.status for _, replies in watched.begun for reply in replies]
    assert statuses == replied + [b"400"] * watched.parse_errors, (number, data)
    assert len(replied) == len(watched.begun), (number, data)
    assert watched.parse_errors <= 1
    assert set(statuses) <= STATUSES
    closing = [b"\r\nConnection: close\r\n" in head for head in heads]
    assert True not in closing[:-1], (number, data)
    strict = strict_http.requests_in(data)
    for place, (request, _) in enumerate(watched.begun):
        if request.is_complete and request.body is not None:
            assert (request.method, request.target, request.body) == strict[place][:3], (number, data)
    return statuses.count(b"200")


async def test_receiver_answers_each_request_once_and_keeps_what_is_signed(tmp_path: Path) -> None:
    harness, log = Harness(tmp_path), ChanceLog()
    harness.log = log  # type: ignore[assignment]
    accepted = 0
    async with harness.serving(log_sample=1_000_000, log_refusals_per_s=0.001) as receiver:
        watched = Watched(receiver)
        for number in range(0, MUTATIONS, WHOLE_ONES):
            chance = random.Random(number)
            data = mutations.mutated(chance, [BODY]).data
            connection, wire = await converse(watched, log, data, chance)
            connection.connection_lost(None)
            accepted += check_answers(watched, wire, number, data)
            assert not log.foreign, (number, data)
            assert accepted == log.durable, (number, data)
    assert accepted > MUTATIONS / WHOLE_ONES / 20
    assert harness.logger.of("unexpected exception") == []
