"""One connection over a transport in memory: order, slow readers, deadlines, ends, and what never answers."""

import asyncio
import random
from collections.abc import AsyncIterator
from typing import Any
from unittest import mock

import pytest

from ingest.errors import Unavailable
from ingest.http import responses
from ingest.http.connection import Connection, ConnectionLimits, Surroundings
from ingest.http.deadlines import Deadlines
from ingest.http.open_connections import OpenConnections
from ingest.http.parsing import PARSED_AT_ONCE, REQUESTS_AT_ONCE
from ingest.http.request import Request
from ingest.http.responses import Reply, Stamp
from ingest.pending import NEXT_STAGE, Pending
from tests.support.waiting import until

ANSWER = responses.refusal(None, 404)
LINGERING_S = 0.05
WRITE_DEADLINE_S = 0.05


def post(number: int, *, close: bool = False) -> bytes:
    ends = b"Connection: close\r\n" if close else b""
    return b"POST /%d HTTP/1.1\r\nHost: x\r\n%bContent-Length: 3\r\n\r\na=1" % (number, ends)


def chunked(number: int) -> bytes:
    return b"POST /%d HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n2\r\na=\r\n1\r\n1\r\n0\r\n\r\n" % number


def upgrading(number: int) -> bytes:
    return post(number).replace(b"Host", b"Connection: Upgrade\r\nUpgrade: h2c\r\nHost")


class Transport:
    """Keeps what is written. A test calls the connection's methods as the event loop would."""

    def __init__(self) -> None:
        self.written: list[bytes] = []
        self.is_paused = self.is_closed = self.is_aborted = self.has_ended = False

    @property
    def statuses(self) -> list[bytes]:
        return [each.split(b" ")[1] for each in self.written]

    def write(self, data: bytes) -> None:
        self.written.append(data)

    def write_eof(self) -> None:
        self.has_ended = True

    def can_write_eof(self) -> bool:
        return True

    def close(self) -> None:
        self.is_closed = True

    def abort(self) -> None:
        self.is_aborted = True

    def is_closing(self) -> bool:
        return self.is_closed or self.is_aborted

    def is_reading(self) -> bool:
        return not self.is_paused

    def pause_reading(self) -> None:
        self.is_paused = True

    def resume_reading(self) -> None:
        self.is_paused = False

    def set_write_buffer_limits(self, *, high: int) -> None: ...
    def get_extra_info(self, name: str) -> Any:
        return mock.Mock()


class Kit:
    """A connection whose stories wait until the test ends them, by the number in their target."""

    def __init__(self) -> None:
        self.is_accepting = True
        self.begun: list[int] = []
        self.told: list[str] = []
        self.ends: dict[int, Pending] = {}
        self.surroundings = Surroundings(
            service=self,
            limits=ConnectionLimits(keepalive_s=60, lingering_s=LINGERING_S, write_deadline_s=WRITE_DEADLINE_S),
            connections=OpenConnections(connections_max=9),
            requests=Deadlines(limit_s=60),
            bodies=Deadlines(limit_s=60),
            stamp=Stamp(),
        )
        self.connection, self.transport = self.join()

    def join(self) -> tuple[Connection, Transport]:
        connection, transport = Connection(self.surroundings, asyncio.get_running_loop()), Transport()
        connection.connection_made(transport)  # type: ignore[arg-type]
        return connection, transport

    async def handle(self, request: Request, connection: Connection) -> Reply:
        number = int(request.target[1:])
        self.begun.append(number)
        try:
            await request.read_body()
            self.ends[number] = Pending()
            await self.ends[number]
        except Exception as error:
            self.told.append(type(error).__name__)
            raise
        return Reply(ANSWER, closing=False)

    def parse_error(self) -> None:
        self.told.append("parse error")

    def turned_away(self) -> None:
        self.told.append("turned away")

    def our_fault(self, error: BaseException) -> None:
        self.told.append(f"our fault: {type(error).__name__}")

    def send(self, data: bytes) -> None:
        self.connection.data_received(data)

    async def answer(self, number: int) -> None:
        self.ends[number].end()
        await asyncio.sleep(0)

    async def begun_soon(self, number: int) -> None:
        await until(lambda: number in self.ends)

    @property
    def statuses(self) -> list[bytes]:
        return self.transport.statuses


@pytest.fixture
async def kit() -> AsyncIterator[Kit]:
    kit = Kit()
    yield kit
    kit.connection.connection_lost(None)


async def test_whole_request_waits_for_its_log_before_the_call_returns(kit: Kit) -> None:
    kit.send(post(1))
    assert list(kit.ends) == [1]
    kit.ends[1].end()
    assert kit.statuses == [b"404"], "it is answered within the end"
    assert (kit.connection.is_idle, kit.transport.is_closed) == (True, False)


async def test_requests_are_answered_in_their_order_one_after_the_other(kit: Kit) -> None:
    kit.send(post(1) + post(2) + post(3)[:-1])
    assert kit.begun == [1]
    await kit.answer(1)
    assert kit.begun == [1, 2]
    await kit.answer(2)
    assert kit.begun == [1, 2, 3]
    kit.send(b"1")
    await kit.answer(3)
    assert kit.statuses == [b"404"] * 3


@pytest.mark.parametrize("seed", range(8))
async def test_each_request_of_a_random_history_is_answered_once_in_its_turn(kit: Kit, seed: int) -> None:
    chance, count = random.Random(seed), 60
    kit.connection._limits = ConnectionLimits(keepalive_s=60, lingering_s=60, write_deadline_s=60)
    stream = b"".join(chance.choice([post, post, chunked, upgrading])(number) for number in range(count))
    is_unread = False
    for _ in range(20_000):
        if stream and not kit.transport.is_paused:
            size = chance.choice([1, 30, 300, PARSED_AT_ONCE])
            kit.send(stream[:size])
            stream = stream[size:]
        if kit.ends and chance.random() < 0.5:
            ((number, end),) = kit.ends.items()
            kit.ends.clear()
            end.end()
            assert len(kit.statuses) == number + 1
        if chance.random() < 0.2:
            is_unread = not is_unread
            (kit.connection.pause_writing if is_unread else kit.connection.resume_writing)()
        await asyncio.sleep(0)
        if len(kit.statuses) == count:
            break
    assert kit.begun == list(range(count))
    assert (len(kit.statuses), kit.told) == (count, [])


async def test_sender_far_ahead_is_not_read(kit: Kit) -> None:
    kit.send(post(1) + post(2))
    kit.send(post(3))
    kit.send(post(4))
    assert kit.transport.is_paused
    for number in (1, 2, 3, 4):
        await kit.begun_soon(number)
        await kit.answer(number)
    assert kit.begun == [1, 2, 3, 4]
    await until(lambda: not kit.transport.is_paused)


async def test_sender_far_ahead_takes_little_memory(kit: Kit) -> None:
    piece = kit.connection.get_buffer(-1)
    many = b"GET /1 HTTP/1.1\r\nHost: x\r\n\r\n" * 1_000
    while many and not kit.transport.is_paused:
        piece[:], many = many[: len(piece)], many[len(piece) :]
        kit.connection.buffer_updated(len(piece))
    await kit.begun_soon(1)
    assert len(kit.connection._waiting) < REQUESTS_AT_ONCE
    assert len(kit.connection._unparsed) <= 2 * PARSED_AT_ONCE


async def test_request_after_an_unread_answer_waits_and_the_sender_is_cut_off_at_last(kit: Kit) -> None:
    kit.send(post(1) + post(2))
    kit.connection.pause_writing()
    await kit.answer(1)
    assert kit.begun == [1]
    kit.connection.resume_writing()
    assert kit.begun == [1, 2]
    kit.connection.pause_writing()
    await until(lambda: kit.transport.is_aborted)


async def test_invalid_http_is_answered_once_after_what_came_before(kit: Kit) -> None:
    kit.send(post(1) + b"nonsense\r\n\r\n")
    kit.send(post(2))
    assert kit.told == []
    await kit.answer(1)
    assert (kit.statuses, kit.told, kit.begun) == ([b"404", b"400"], ["parse error"], [1])
    assert kit.transport.has_ended, "the sender learns that nothing follows"
    await until(lambda: kit.transport.is_aborted)


async def test_connection_is_closed_after_a_request_that_asks_for_it(kit: Kit) -> None:
    kit.send(post(1, close=True) + post(2))
    await kit.answer(1)
    assert kit.begun == [1]
    assert b"Connection: close\r\n" in kit.transport.written[0]
    assert kit.transport.is_closed or kit.transport.has_ended


async def test_late_end_of_a_request_that_expired_is_ignored(kit: Kit) -> None:
    kit.send(post(1))
    kit.connection.expire()
    assert (kit.told, kit.statuses) == (["Unavailable", "our fault: Unavailable"], [b"503"])
    kit.ends[1].end()
    assert kit.statuses == [b"503"]


async def test_sender_that_left_gets_nothing_and_its_story_goes_on(kit: Kit) -> None:
    kit.send(post(1))
    kit.connection.connection_lost(None)
    assert (kit.connection.is_gone, kit.told) == (True, [])
    await kit.answer(1)
    assert (kit.transport.written, kit.told) == ([], [])


async def test_sender_that_left_in_its_body_is_gone(kit: Kit) -> None:
    kit.send(post(1)[:-1])
    kit.connection.connection_lost(None)
    assert kit.told[0] == "Gone"


async def test_sender_that_ends_after_its_request_is_answered_and_closed(kit: Kit) -> None:
    kit.send(post(1))
    assert kit.connection.eof_received()
    await kit.answer(1)
    assert kit.statuses == [b"404"]
    await until(lambda: kit.transport.is_closed)


async def test_sender_that_ends_in_its_body_is_gone(kit: Kit) -> None:
    kit.send(post(1)[:-1])
    kit.connection.eof_received()
    assert kit.told[0] == "Gone"


async def test_sender_that_ends_without_a_request_is_closed(kit: Kit) -> None:
    assert not kit.connection.eof_received()


@pytest.mark.parametrize("wait", ["turn", "future", "cancelled"])
async def test_story_may_wait_for_a_turn_or_a_future(kit: Kit, wait: str) -> None:
    async def handle(request: Request, connection: Connection) -> Reply:
        await (asyncio.sleep(0) if wait == "turn" else future)
        return Reply(ANSWER, closing=False)

    future = asyncio.get_running_loop().create_future()
    kit.handle = handle  # type: ignore[method-assign]
    kit.send(post(1))
    assert kit.statuses == []
    if wait == "cancelled":
        future.cancel()
    else:
        future.set_result(None)
    await until(lambda: kit.statuses)
    assert kit.statuses == ([b"503"] if wait == "cancelled" else [b"404"])


def in_stages(kit: Kit) -> list[str]:
    """Let each story have two stages. Return the list in which they note what they have done."""
    notes: list[str] = []

    async def handle(request: Request, connection: Connection) -> Reply:
        name = request.target.decode()
        notes.append(f"{name} first")
        try:
            await NEXT_STAGE
        except Unavailable:
            return Reply(responses.fixed(503), closing=False)
        notes.append(f"{name} second")
        return Reply(ANSWER, closing=False)

    kit.handle = handle  # type: ignore[method-assign]
    return notes


async def test_requests_of_several_connections_take_each_stage_together(kit: Kit) -> None:
    notes = in_stages(kit)
    other, transport = kit.join()
    kit.send(post(1))
    other.data_received(post(2))
    assert notes == ["/1 first", "/2 first"]
    await asyncio.sleep(0)
    assert notes[2:] == ["/1 second", "/2 second"]
    assert (kit.statuses, transport.statuses) == ([b"404"], [b"404"])
    other.connection_lost(None)


async def test_request_whose_deadline_passes_between_stages_is_answered_once(kit: Kit) -> None:
    notes = in_stages(kit)
    kit.send(post(1) + post(2))
    kit.connection.expire()
    assert kit.statuses == [b"503"]
    await until(lambda: len(kit.statuses) > 1)
    for _ in range(3):
        await asyncio.sleep(0)
    assert kit.statuses == [b"503", b"404"]
    assert notes == ["/1 first", "/2 first", "/2 second"]


async def test_request_whose_sender_leaves_between_stages_ends_unanswered(kit: Kit) -> None:
    notes = in_stages(kit)
    kit.send(post(1))
    kit.connection.connection_lost(None)
    await until(lambda: notes == ["/1 first", "/1 second"])
    assert kit.statuses == []


async def test_continue_is_sent_when_the_body_is_wanted(kit: Kit) -> None:
    kit.send(post(1).replace(b"Host", b"Expect: 100-continue\r\nHost")[:-3])
    assert kit.transport.written == [b"HTTP/1.1 100 Continue\r\n\r\n"]
    kit.send(b"a=1")
    await kit.answer(1)
    assert kit.statuses[1:] == [b"404"]


async def test_idle_connection_is_closed_after_the_keep_alive_time_and_a_busy_one_is_not(kit: Kit) -> None:
    now_s = asyncio.get_running_loop().time()
    kit.connection.expire_if_idle(now_s + 59)
    kit.send(post(1))
    kit.connection.expire_if_idle(now_s + 61)
    assert not kit.transport.is_closed
    await kit.answer(1)
    assert kit.connection.idle_since_s >= now_s
    kit.connection.expire_if_idle(asyncio.get_running_loop().time() + 61)
    assert kit.transport.is_closed


async def test_connection_beyond_the_limit_is_answered_503_and_may_read_it(kit: Kit) -> None:
    kit.surroundings.connections._connections_max = 4
    busy = [(kit.connection, kit.transport), *(kit.join() for _ in range(3))]
    for connection, _ in busy:
        connection.data_received(post(1))
    (refused, answered), (beyond, aborted) = kit.join(), kit.join()
    assert (answered.statuses, answered.is_aborted, kit.told) == ([b"503"], False, ["turned away"])
    assert (aborted.statuses, aborted.is_aborted) == ([], True), "memory has a limit too"
    refused.data_received(post(2))
    assert (answered.has_ended, answered.is_closed, kit.begun) == (True, False, [1] * 4)
    await until(lambda: answered.is_aborted)
    for connection in (refused, beyond, *(connection for connection, _ in busy[1:])):
        connection.connection_lost(None)


async def test_sender_that_has_reset_its_connection_does_no_harm(kit: Kit) -> None:
    with mock.patch.object(kit.transport, "write_eof", side_effect=OSError("not connected")):
        kit.send(b"no HTTP\r\n\r\n")
    assert kit.statuses == [b"400"]
    await until(lambda: kit.transport.is_aborted)
