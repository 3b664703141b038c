"""A server that is asked how it is."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from deploy.local import ports, probes


@asynccontextmanager
async def answering(answer: bytes) -> AsyncIterator[int]:
    async def answer_one(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(answer)
        writer.close()

    (port,) = ports.free(1)
    async with await asyncio.start_server(answer_one, ports.LOOPBACK, port):
        yield port


async def test_one_that_answers_200_is_well_and_its_words_are_read() -> None:
    async with answering(b"HTTP/1.1 200 OK\r\nA: 503 b\r\n\r\nmetric 1\n") as port:
        assert await probes.is_ok(port, "/readyz")
        assert await probes.body(port, "/metrics") == "metric 1\n"


async def test_one_that_answers_otherwise_is_not() -> None:
    async with answering(b"HTTP/1.1 503 Unavailable\r\nA: 200 b\r\n\r\n 200 ") as port:
        assert not await probes.is_ok(port, "/readyz")
        assert await probes.body(port, "/metrics") == ""


async def test_one_that_is_not_there_or_says_nothing_is_not(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(probes, "ASK_WITHIN_S", 0.1)
    (port,) = ports.free(1)
    assert not await probes.is_ok(port, "/readyz")
    async with answering(b"") as silent:
        assert not await probes.is_ok(silent, "/readyz")
