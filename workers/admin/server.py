"""Serve the admin port with our own answers to broken requests and our own Server header.

aiohttp answers a request that is not HTTP before any application sees it: with a page that quotes the bytes and names
aiohttp's version, and with a traceback in the log that any port scanner can cause.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

from aiohttp import web
from aiohttp.http import HttpProcessingError

from workers.admin import guard, responses
from workers.admin.guard import AuditLog
from workers.admin.responses import ApiError

# An application's last act before its port stops listening, while requests are still answered.
BEFORE_STOP: web.AppKey[Callable[[], Awaitable[None]]] = web.AppKey("before_stop")
SERVER = "alipay-notify"
SHUTDOWN_S = 2.0  # for requests in progress; long polls are answered at once
KEEPALIVE_S = 65.0


class AdminConnection(web.RequestHandler):
    """aiohttp's connection, with our answer to bytes that it cannot parse."""

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
        """Answer bytes that are not HTTP, or an error that no other handler has caught; close the connection."""
        if isinstance(exc, HttpProcessingError):
            refusal = ApiError(400, "no_http", "this is not an HTTP request")
        else:
            self._log.info("admin_failed", route="none", error=type(exc).__name__)
            refusal = ApiError(500, "our_fault", guard.INTERNAL_ERROR)
        response = responses.refused(refusal)
        response.headers["Server"] = SERVER
        response.force_close()
        return response

    def log_exception(self, *args: Any, **kwargs: Any) -> None:
        """Log no traceback for a sender's bytes; an error has its own log line."""


async def set_server_header(_: web.BaseRequest, response: web.StreamResponse) -> None:
    """Replace aiohttp's Server header on every answer, also on those that no middleware sees."""
    response.headers["Server"] = SERVER


@asynccontextmanager
async def serving(application: web.Application, *, host: str, port: int, log: AuditLog) -> AsyncIterator[int]:
    """Serve the application on this address until the block ends; yield the port in use.

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
            try:
                await application.get(BEFORE_STOP, _nothing)()
            finally:
                listener.close()
    finally:
        await runner.cleanup()


async def _nothing() -> None: ...
