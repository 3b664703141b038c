"""A way to a server that can be cut: what the client sends arrives, and the answer does not."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager


class Wire:
    """Carries bytes both ways. Once the client has sent `swallow_after`, no answer comes back, and the line is cut."""

    def __init__(self, port: int) -> None:
        self.port = 0
        self.swallow_after: bytes | None = None
        self.cuts = 0
        self._to = port
        self._carrying: set[asyncio.Task[None]] = set()

    async def carry(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there_reader, there_writer = await asyncio.open_connection("127.0.0.1", self._to)
        swallowing = asyncio.Event()
        ways = [
            asyncio.create_task(self._send(reader, there_writer, swallowing)),
            asyncio.create_task(self._answer(there_reader, writer, swallowing)),
        ]
        self._carrying.update(ways)
        await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
        for way in ways:
            way.cancel()
        await asyncio.gather(*ways, return_exceptions=True)
        self._carrying.difference_update(ways)
        writer.close()
        there_writer.close()

    async def _send(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, swallowing: asyncio.Event
    ) -> None:
        while told := await reader.read(65536):
            if self.swallow_after is not None and self.swallow_after in told:
                self.swallow_after = None
                swallowing.set()
            writer.write(told)

    async def _answer(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, swallowing: asyncio.Event
    ) -> None:
        while told := await reader.read(65536):
            if swallowing.is_set():
                self.cuts += 1
                return
            writer.write(told)

    async def close(self) -> None:
        for way in self._carrying:
            way.cancel()
        await asyncio.sleep(0)


@asynccontextmanager
async def wire(port: int) -> AsyncIterator[Wire]:
    """A wire to this port of this machine, at a port of its own."""
    laid = Wire(port)
    server = await asyncio.start_server(laid.carry, "127.0.0.1", 0)
    laid.port = server.sockets[0].getsockname()[1]
    try:
        yield laid
    finally:
        server.close()
        await laid.close()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(1):
                await server.wait_closed()
