"""The admin port's connections: what is no HTTP is answered in our words, and no answer names what we are built with.

aiohttp answers such a request before any application sees it, with a page of its own that quotes the bytes and names
its version, and it logs a traceback that any port scanner can cause.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from aiohttp import web
from aiohttp.http import HttpProcessingError

from workers.admin import responses
from workers.admin.guard import AuditLog
from workers.admin.responses import ApiError

SERVER = "alipay-notify"
SHUTDOWN_S = 2.0  # for those who are being answered; who waits for news is answered at once
KEEPALIVE_S = 65.0


class AdminConnection(web.RequestHandler):
    """aiohttp's connection, with our answer to what it could not read."""

    __slots__ = ("_log",)

    def __init__(self, server: web.Server, *, log: AuditLog, loop: asyncio.AbstractEventLoop) -> None:
        super().__init__(
            server,
            loop=loop,
            keepalive_timeout=KEEPALIVE_S,
            access_log=None,  # type: ignore[arg-type]  # None is how aiohttp itself spells "no access log"
        )
        self._log = log

    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,
    ) -> web.StreamResponse:
        """The refusal of a request that is none, or that failed beyond every other net; the connection ends."""
        if isinstance(exc, HttpProcessingError):
            refusal = ApiError(400, "no_http", "this is no HTTP request")
        else:
            self._log.info("admin_failed", route="none", error=type(exc).__name__)
            refusal = ApiError(500, "our_fault", "this is an error of ours; the log names it")
        response = responses.refused(refusal)
        response.headers["Server"] = SERVER
        response.force_close()
        return response

    def log_exception(self, *args: Any, **kwargs: Any) -> None:
        """No traceback for what a sender did; what failed has its line."""


async def sign(_: web.BaseRequest, response: web.StreamResponse) -> None:
    """Put our name where aiohttp would put its own; on every answer, also one that no middleware sees."""
    response.headers["Server"] = SERVER


@asynccontextmanager
async def serving(application: web.Application, *, host: str, port: int, log: AuditLog) -> AsyncIterator[int]:
    """The application, answering on this address until the block ends; the port in use.

    Raises:
        OSError: the address cannot be bound.
    """
    loop = asyncio.get_running_loop()
    runner = web.AppRunner(application, access_log=None, shutdown_timeout=SHUTDOWN_S)
    await runner.setup()
    try:
        server = runner.server
        assert server is not None, "it was set up"
        listener = await loop.create_server(lambda: AdminConnection(server, log=log, loop=loop), host, port)
        try:
            yield listener.sockets[0].getsockname()[1]
        finally:
            listener.close()
    finally:
        await runner.cleanup()
