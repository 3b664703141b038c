"""The body is read whole, within its limit and its deadline, and each failure has its own error."""

import asyncio
from typing import Any, cast
from unittest.mock import Mock

import pytest
from aiohttp import StreamReader, web
from aiohttp.http import HttpVersion11, RawRequestMessage
from multidict import CIMultiDict, CIMultiDictProxy
from yarl import URL

from ingest.errors import TooLarge, TooSlow
from ingest.http.connection import BrokenBody, Connection
from ingest.http.request import Incoming
from ingest.receive import Gone
from schemas.form import BODY_BYTES_MAX

TARGET = "/notify/shop?a=%20b"


class Sender:
    """The other end: it feeds the body of one request. `written` is all that it was sent."""

    def __init__(self, *, expect: str | None = None, deadline_s: float = 5.0) -> None:
        headers = CIMultiDictProxy(CIMultiDict({"Expect": expect} if expect else {}))
        message = RawRequestMessage("POST", TARGET, HttpVersion11, headers, (), False, None, False, False, URL(TARGET))
        loop = asyncio.get_running_loop()
        self.written: list[bytes] = []
        self.protocol = Mock(spec=Connection, is_broken=False)
        self.protocol.transport = Mock(is_closing=lambda: False, write=self.written.append)
        self.content = StreamReader(cast(Any, Mock(_reading_paused=False)), 2**16, loop=loop)
        self.request = Incoming(message, self.content, self.protocol, Mock(), Mock(), loop)
        self.request.body_deadline_s = deadline_s

    def send(self, *pieces: bytes) -> None:
        for piece in pieces:
            self.content.feed_data(piece)

    def end(self) -> None:
        self.content.feed_eof()


async def test_target_is_not_decoded_and_keeps_its_query() -> None:
    assert Sender().request.target == TARGET


async def test_complete_body_is_returned_without_waiting() -> None:
    sender = Sender(expect="100-continue")
    sender.send(b"a=", b"1")
    sender.end()
    assert await sender.request.read_body() == b"a=1"
    assert sender.request.body == b"a=1"
    assert sender.written == [], "nothing is left to ask for"


async def test_body_that_arrives_in_pieces_is_returned_whole() -> None:
    sender = Sender()
    reading = asyncio.create_task(sender.request.read_body())
    await asyncio.sleep(0)
    sender.send(b"a=")
    await asyncio.sleep(0)
    sender.send(b"1")
    sender.end()
    assert await reading == b"a=1"


@pytest.mark.parametrize("is_complete", [True, False])
async def test_body_limit_is_exact(is_complete: bool) -> None:
    for size, is_accepted in ((BODY_BYTES_MAX, True), (BODY_BYTES_MAX + 1, False)):
        sender = Sender()
        if is_complete:
            sender.send(b"x" * size)
            sender.end()
        reading = asyncio.create_task(sender.request.read_body())
        await asyncio.sleep(0)
        if not is_complete:
            sender.send(b"x" * size)
            sender.end()
        if is_accepted:
            assert len(await reading) == size
        else:
            with pytest.raises(TooLarge):
                await reading
            assert sender.request.body is None


async def test_endless_body_is_refused_at_the_limit() -> None:
    sender = Sender()
    sender.send(b"x" * (BODY_BYTES_MAX + 1))
    with pytest.raises(TooLarge):
        await sender.request.read_body()


async def test_body_that_misses_its_deadline_is_too_slow() -> None:
    sender = Sender(deadline_s=0.01)
    sender.send(b"a=")
    with pytest.raises(TooSlow):
        await sender.request.read_body()


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (ConnectionResetError(), Gone),
        (web.PayloadAccessError(), Gone),
        (web.RequestPayloadError(), BrokenBody),
        (BrokenBody(), BrokenBody),
    ],
)
async def test_broken_connection_and_invalid_body_have_different_errors(
    error: Exception, expected: type[Exception]
) -> None:
    sender = Sender()
    sender.content.set_exception(error)
    with pytest.raises(expected):
        await sender.request.read_body()


async def test_incomplete_body_of_a_broken_connection_is_not_waited_for() -> None:
    sender = Sender(expect="100-continue")
    sender.protocol.is_broken = True
    with pytest.raises(BrokenBody):
        await sender.request.read_body()
    assert sender.written == []


async def test_100_continue_is_sent_once_the_body_is_wanted() -> None:
    sender = Sender(expect="100-Continue")
    reading = asyncio.create_task(sender.request.read_body())
    await asyncio.sleep(0)
    assert sender.written == [b"HTTP/1.1 100 Continue\r\n\r\n"]
    sender.send(b"a=1")
    sender.end()
    assert await reading == b"a=1"
