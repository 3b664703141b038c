"""The configuration of Redis, and its health check. The contract tests run a real one."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from deploy.local import ports, redis


@asynccontextmanager
async def answering(answer: bytes) -> AsyncIterator[int]:
    async def answer_one(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        assert await reader.readline() == b"PING\r\n"
        writer.write(answer)
        writer.close()

    (port,) = ports.free(1)
    async with await asyncio.start_server(answer_one, ports.LOOPBACK, port):
        yield port


def test_redis_listens_on_loopback_and_keeps_nothing_on_disk() -> None:
    lines = redis._configuration(7000, "/some home", {}).splitlines()
    assert {"bind 127.0.0.1", "port 7000", 'dir "/some home"', 'save ""', "appendonly no"} <= set(lines)


def test_settings_of_the_caller_override_ours() -> None:
    lines = redis._configuration(7000, "/home", {"maxmemory": "10mb", "appendonly": "yes"}).splitlines()
    assert "maxmemory 10mb" in lines
    assert [line for line in lines if line.startswith("appendonly")] == ["appendonly yes"]


@pytest.mark.parametrize(
    ("answer", "is_healthy"), [(b"+PONG\r\n", True), (b"-LOADING Redis is loading\r\n", False), (b"", False)]
)
async def test_redis_is_healthy_when_it_answers_pong(answer: bytes, is_healthy: bool) -> None:
    async with answering(answer) as port:
        assert await redis.answers(port) == is_healthy


async def test_missing_redis_is_not_healthy() -> None:
    (port,) = ports.free(1)
    assert not await redis.answers(port)
