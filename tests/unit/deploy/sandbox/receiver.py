"""A merchant's receiver for the sandbox's tests: real sockets on loopback, and answers that a test chooses."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from urllib.parse import parse_qsl

from aiohttp import web

from deploy.sandbox import server

Answer = Callable[[web.Request], Awaitable[web.StreamResponse]]


class Receiver:
    """Records the requests, and gives the configured answer."""

    def __init__(self, answer: Answer | None = None) -> None:
        self.answer = answer
        self.url = ""
        self.paths: list[str] = []
        self.headers: list[dict[str, str]] = []
        self.bodies: list[bytes] = []
        self._arrived = asyncio.Condition()

    async def take(self, request: web.Request) -> web.StreamResponse:
        """Record a request and answer it."""
        body = await request.read()
        async with self._arrived:
            self.paths.append(request.path)
            self.headers.append({name.lower(): value for name, value in request.headers.items()})
            self.bodies.append(body)
            self._arrived.notify_all()
        if self.answer is not None:
            return await self.answer(request)
        return web.Response(text="success")

    async def wait_for(self, count: int) -> None:
        """Wait until this many have arrived."""
        async with asyncio.timeout(5), self._arrived:
            await self._arrived.wait_for(lambda: len(self.bodies) >= count)

    def forms(self) -> list[dict[str, str]]:
        """Return the bodies as forms."""
        return [dict(parse_qsl(body.decode(), keep_blank_values=True)) for body in self.bodies]


@asynccontextmanager
async def serving(app: web.Application) -> AsyncIterator[str]:
    """Serve the application on a free loopback port; yield its URL."""
    sock = server.listening("127.0.0.1", 0)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.2)
    await runner.setup()
    await web.SockSite(runner, sock).start()
    try:
        yield server.url_of(sock)
    finally:
        await runner.cleanup()


@asynccontextmanager
async def receiving(answer: Answer | None = None) -> AsyncIterator[Receiver]:
    """Run a receiver."""
    receiver = Receiver(answer)
    app = web.Application()
    app.router.add_post("/{path:.*}", receiver.take)
    async with serving(app) as url:
        receiver.url = url
        yield receiver


def always(status: int = 200, text: str = "success", *, location: str = "") -> Answer:
    """Return a function that gives the same answer to every request."""

    async def answer(_request: web.Request) -> web.StreamResponse:
        return web.Response(status=status, text=text, headers={"Location": location} if location else None)

    return answer
