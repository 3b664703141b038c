"""Free ports outside of the kernel's own range, parsed addresses, and the health of a server."""

import asyncio
import random
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from deploy.local import ports


def test_free_ports_differ_and_lie_below_the_kernels_own_range() -> None:
    drawn = ports.free(20)
    assert len({*drawn}) == 20
    assert all(ports.FIRST <= port <= ports.LAST < 32_768 for port in drawn)


def test_port_in_use_is_not_returned() -> None:
    would_be = ports.free(1, random.Random(7))
    with socket.create_server((ports.LOOPBACK, *would_be)):
        assert not ports.is_free(would_be[0])
        assert ports.free(1, random.Random(7)) != would_be
    assert ports.is_free(would_be[0])


def test_too_many_wanted_ports_are_an_error_instead_of_an_endless_search() -> None:
    with pytest.raises(ports.NoPort):
        ports.free(ports.TRIES_MAX + 1)


async def test_port_answers_only_while_a_server_listens() -> None:
    (port,) = ports.free(1)
    assert not await ports.answers(ports.LOOPBACK, port)
    with socket.create_server((ports.LOOPBACK, port)):
        assert await ports.answers(ports.LOOPBACK, port)


@pytest.mark.parametrize(
    ("address", "parts"),
    [("127.0.0.1:9092", ("127.0.0.1", 9092)), ("kafka.example:1", ("kafka.example", 1)), ("[::1]:9092", ("::1", 9092))],
)
def test_address_is_parsed_into_host_and_port(address: str, parts: tuple[str, int]) -> None:
    assert ports.parts(address) == parts


@pytest.mark.parametrize("address", ["9092", "localhost", "localhost:", "localhost:kafka", ":9092", ""])
def test_malformed_address_is_refused(address: str) -> None:
    with pytest.raises(ValueError, match="not a host and a port"):
        ports.parts(address)


def test_preferred_port_is_replaced_only_if_it_is_taken() -> None:
    free, taken = ports.free(2)
    with socket.create_server((ports.LOOPBACK, taken)):
        first, second = ports.preferred([free, taken])
    assert first == free
    assert second not in (free, taken)


@asynccontextmanager
async def answering(answer: bytes) -> AsyncIterator[int]:
    async def answer_one(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(answer)
        writer.close()

    (port,) = ports.free(1)
    async with await asyncio.start_server(answer_one, ports.LOOPBACK, port):
        yield port


async def test_answer_200_is_ok_and_has_a_body() -> None:
    async with answering(b"HTTP/1.1 200 OK\r\nA: 503 b\r\n\r\nmetric 1\n") as port:
        assert await ports.is_ok(port, "/readyz")
        assert await ports.body(port, "/metrics") == "metric 1\n"


async def test_answer_503_is_not_ok_and_has_no_body() -> None:
    async with answering(b"HTTP/1.1 503 Unavailable\r\nA: 200 b\r\n\r\n 200 ") as port:
        assert not await ports.is_ok(port, "/readyz")
        assert await ports.body(port, "/metrics") == ""


async def test_missing_or_silent_server_is_not_ok(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ports, "ASK_WITHIN_S", 0.1)
    (port,) = ports.free(1)
    assert not await ports.is_ok(port, "/readyz")
    async with answering(b"") as silent:
        assert not await ports.is_ok(silent, "/readyz")


@pytest.mark.parametrize("turns", range(5))
async def test_cancelled_look_ends_also_when_the_connection_fails(monkeypatch: pytest.MonkeyPatch, turns: int) -> None:
    refused = asyncio.get_running_loop().create_future()

    async def refuse(*_: object) -> None:
        await refused

    monkeypatch.setattr(asyncio, "open_connection", refuse)
    looking = asyncio.create_task(ports.answers(ports.LOOPBACK, 1))
    await asyncio.sleep(0)
    refused.set_exception(ConnectionRefusedError())
    for _ in range(turns):
        await asyncio.sleep(0)
    was_running = looking.cancel()
    await asyncio.wait([looking])
    assert looking.cancelled() == was_running
