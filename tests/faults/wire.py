"""A proxy to a server, which a test can break: it loses one way's bytes, delays them, swallows an answer, or resets."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

Line = tuple[asyncio.StreamReader, asyncio.StreamWriter]


class Wire:
    """Carries bytes both ways.

    `swallow_after`: once the client has sent this, no answer comes back, and the line is cut; `cuts` counts that.
    `loses_requests`, `loses_answers`: what is sent that way vanishes, and connections stay open. `delay_s`: every piece
    is so long on its way. `piece`: bytes are carried in pieces of this size at most, each with that delay.
    `reset_after`: connections are reset after so many bytes of the client.
    """

    def __init__(self, port: int) -> None:
        self.port = 0
        self.swallow_after: bytes | None = None
        self.cuts = 0
        self.loses_requests = False
        self.loses_answers = False
        self.delay_s = 0.0
        self.piece = 65536
        self.reset_after: int | None = None
        self._to = port
        self._carrying: set[asyncio.Task[Any]] = set()

    async def carry(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._carrying.add(task)
        try:
            async with closing(writer):
                there_reader, there_writer = await asyncio.open_connection("127.0.0.1", self._to)
                async with closing(there_writer):
                    await self._both_ways((reader, writer), (there_reader, there_writer))
        except (OSError, asyncio.CancelledError):
            pass  # the server is away, or the wire is closed
        finally:
            self._carrying.discard(task)

    async def _both_ways(self, here: Line, there: Line) -> None:
        swallowing = asyncio.Event()
        ways = [
            asyncio.create_task(self._send(here[0], there[1], swallowing)),
            asyncio.create_task(self._answer(there[0], here[1], swallowing)),
        ]
        try:
            await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for way in ways:
                way.cancel()
            await asyncio.gather(*ways, return_exceptions=True)

    async def _send(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, swallowing: asyncio.Event
    ) -> None:
        carried = 0
        while data := await reader.read(self.piece):
            if self.swallow_after is not None and self.swallow_after in data:
                self.swallow_after = None
                swallowing.set()
            carried += len(data)
            if self.reset_after is not None and carried > self.reset_after:
                return
            await self._put(writer, data, is_lost=self.loses_requests)

    async def _answer(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, swallowing: asyncio.Event
    ) -> None:
        while data := await reader.read(self.piece):
            if swallowing.is_set():
                self.cuts += 1
                return
            await self._put(writer, data, is_lost=self.loses_answers)

    async def _put(self, writer: asyncio.StreamWriter, data: bytes, *, is_lost: bool) -> None:
        if self.delay_s:
            await asyncio.sleep(self.delay_s)
        if not is_lost:
            writer.write(data)
            await writer.drain()

    async def close(self) -> None:
        carrying = [*self._carrying]
        for task in carrying:
            task.cancel()
        await asyncio.gather(*carrying, return_exceptions=True)


@asynccontextmanager
async def closing(writer: asyncio.StreamWriter) -> AsyncIterator[None]:
    """Close the connection afterwards at once, without flushing: its peer is gone."""
    try:
        yield
    finally:
        writer.transport.abort()
        with contextlib.suppress(OSError):
            await writer.wait_closed()


@asynccontextmanager
async def wire(port: int, *, at: int = 0) -> AsyncIterator[Wire]:
    """A wire to this port of this machine, at the port `at`, or at a free one."""
    laid = Wire(port)
    server = await asyncio.start_server(laid.carry, "127.0.0.1", at)
    laid.port = server.sockets[0].getsockname()[1]
    try:
        yield laid
    finally:
        server.close()
        await laid.close()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(1):
                await server.wait_closed()
