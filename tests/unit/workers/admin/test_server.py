"""The admin port over raw sockets: bytes that are not HTTP, and answers that name no library."""

import asyncio
import json
from collections.abc import AsyncIterator

import pytest

from tests.support.admin import World
from workers.admin import server


@pytest.fixture
async def address() -> AsyncIterator[int]:
    world = World()
    async with server.serving(world.application(), host="127.0.0.1", port=0, log=world.log) as number:
        yield number
    assert world.log.lines == []


async def exchange(number: int, sent: bytes) -> tuple[bytes, bytes]:
    """Send these bytes; return the head and the body of the answer."""
    async with asyncio.timeout(10):
        reader, writer = await asyncio.open_connection("127.0.0.1", number)
        writer.write(sent)
        answer = await reader.read()
        writer.close()
    head, _, body = answer.partition(b"\r\n\r\n")
    return head, body


@pytest.mark.parametrize(
    "sent",
    [
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
        b"GET / HTTP/9\r\n\r\n",
        b"GET /livez HTTP/1.1\r\nHost: localhost\r\nContent-Length: x\r\n\r\n",
        b"GET /livez HTTP/1.1\r\nHost: localhost\r\nX: " + b"y" * 70_000 + b"\r\n\r\n",
    ],
)
async def test_bytes_that_are_not_http_get_our_error_and_a_closed_connection(address: int, sent: bytes) -> None:
    head, body = await exchange(address, sent)
    assert head.startswith((b"HTTP/1.1 400", b"HTTP/1.0 400"))
    assert json.loads(body) == {"error": "no_http", "detail": "this is not an HTTP request"}


@pytest.mark.parametrize(
    "sent",
    [
        b"nonsense\r\n\r\n",
        b"GET /livez HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n",
        b"GET /nowhere HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n",
        b"POST /livez HTTP/1.1\r\nHost: localhost\r\nExpect: a miracle\r\nConnection: close\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n",
    ],
)
async def test_no_answer_names_aiohttp_or_python(address: int, sent: bytes) -> None:
    head, body = await exchange(address, sent)
    assert b"\r\nServer: alipay-notify\r\n" in head + b"\r\n"
    assert b"aiohttp" not in head.lower() + body.lower()
    assert b"python" not in head.lower() + body.lower()
