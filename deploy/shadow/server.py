"""The port for mirrored notifications: it records each one, and acknowledges none.

A mirror ignores the answer. It is 202 with a text that Alipay never takes for `success`: if a notify URL leads here by
mistake, Alipay sends again, and no payment is lost. The answer comes before anything is written, because nginx lets the
next request of a connection wait for its mirror.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path

from aiohttp import web

from deploy import directory_lock
from deploy.shadow.directory import Shadow, opened
from deploy.shadow.shapes import MirroredRequest
from deploy.start_errors import CannotBind
from ingest.log_port import Logger
from schemas.form import BODY_BYTES_MAX

PATH = "/notify/{account}"
ANSWER = "shadow: recorded, not acknowledged"
QUEUE_MAX = 5000  # notifications in memory: at most 320 MB, usually 5
BATCH_MAX = 500
PAUSE_S = 0.2  # between two writes, so that one transaction takes many notifications
LOOK_EVERY_S = 2.0  # for notifications and orders that an import has written
RETRY_S = 2.0
LAST_S = 2.0  # for copies that still arrive, at a stop
_HEADERS = ("content-type", "content-encoding", "client-id", "request-time", "signature")
_REQUEST = "X-Request-ID"
_REQUEST_CHARACTERS_MAX = 128


class ShadowServer:
    """Takes mirrored notifications, and decides them, until it is stopped. `lost` counts those beyond the queue.

    One task writes and another decides: new decisions on a whole book take minutes, and no copy waits for them.
    """

    def __init__(self, shadow: Shadow, logger: Logger) -> None:
        self._shadow = shadow
        self._logger = logger
        self._waiting: list[MirroredRequest] = []
        self._has_new = asyncio.Event()
        self._has_written = asyncio.Event()
        self._is_stopping = False
        self.lost = 0

    def stop(self) -> None:
        """Ask `run` to end after it has written what waits. The next process decides the rest."""
        self._is_stopping = True
        self._has_new.set()

    async def take(self, request: web.Request) -> web.Response:
        """Answer a mirrored notification, and leave it to `run`."""
        body = await request.read()
        if len(self._waiting) >= QUEUE_MAX:
            self.lost += 1
            self._logger.warning("mirrored notification dropped", count=self.lost)
            return web.Response(status=503, text=ANSWER)
        named = request.headers.get(_REQUEST, "")
        self._waiting.append(
            MirroredRequest(
                account=request.match_info["account"],
                target=request.path,
                method=request.method,
                received_at_ms=self._shadow.now_ms(),
                headers={name: request.headers[name] for name in _HEADERS if name in request.headers},
                body=body,
                request=named if named.isascii() and len(named) <= _REQUEST_CHARACTERS_MAX else "",
                is_mirrored=True,
            )
        )
        self._has_new.set()
        return web.Response(status=202, text=ANSWER)

    async def run(self) -> None:
        """Write and decide until stopped. What fails, such as a full disk, is tried again."""
        deciding = asyncio.create_task(self._decide_for_good())
        try:
            while not self._is_stopping:
                await self._has_new.wait()
                await asyncio.sleep(PAUSE_S)
                await self._tried(self._write)
        finally:
            deciding.cancel()
            with suppress(asyncio.CancelledError):
                await deciding
        await self._write()

    async def _decide_for_good(self) -> None:
        while True:
            self._has_written.clear()
            await self._tried(self._shadow.decider.catch_up)
            with suppress(TimeoutError):
                async with asyncio.timeout(LOOK_EVERY_S):
                    await self._has_written.wait()

    async def _tried(self, work: Callable[[], Awaitable[None]]) -> None:
        try:
            await work()
        except Exception as error:  # a full disk gets room again, and no failure of one task ends the other
            self._logger.warning("shadow is behind", error=f"{type(error).__name__}: {error}")
            await asyncio.sleep(RETRY_S)

    async def _write(self) -> None:
        while batch := self._waiting[:BATCH_MAX]:
            await self._shadow.add(batch)
            del self._waiting[: len(batch)]
            self._has_written.set()
        self._has_new.clear()


@asynccontextmanager
async def running(directory: Path, accounts: Path, logger: Logger, *, host: str, port: int) -> AsyncIterator[int]:
    """Run the shadow with its port until the block ends; yield the port's number. No other process decides meanwhile.

    Raises:
        AlreadyRunning: another process decides.
        BadAccounts, FileNotUsable, Damaged, InfrastructureDown: as `directory.opened`.
        CannotBind: the port is not free.
    """
    async with opened(directory, accounts) as shadow:
        with directory_lock.held(directory):
            async with serving(shadow, logger, host=host, port=port) as number:
                yield number


@asynccontextmanager
async def serving(shadow: Shadow, logger: Logger, *, host: str, port: int) -> AsyncIterator[int]:
    """Serve the port until the block ends; yield its number.

    Raises:
        CannotBind: the port is not free.
    """
    server = ShadowServer(shadow, logger)
    application = web.Application(client_max_size=BODY_BYTES_MAX + 1)
    application.router.add_route("*", PATH, server.take)
    runner = web.AppRunner(application, access_log=None, shutdown_timeout=LAST_S)
    await runner.setup()
    running = asyncio.create_task(server.run())
    try:
        try:
            await web.TCPSite(runner, host, port).start()
        except OSError as error:
            raise CannotBind(f"{host}:{port} cannot be used: {error.strerror}; choose another --port") from error
        yield int(runner.addresses[0][1])
    finally:
        await runner.cleanup()
        server.stop()
        await running
