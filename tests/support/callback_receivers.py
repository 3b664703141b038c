"""A merchant's services that get callbacks: real servers on loopback, of which each can be slow, failing or away."""

import asyncio
import base64
from collections import defaultdict
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from aiohttp import web
from standardwebhooks import Webhook

from deploy.local import ports

SECRET = "whsec_" + base64.b64encode(b"merchant" * 4).decode()
NETWORKS = {"ALIPAY_NOTIFY_CALLBACK_NETWORKS": "127.0.0.0/8"}


class Receiver:
    """One service. It answers when `may_answer` is set, with `status`, and keeps the events that it has accepted."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.status = 204
        self.may_answer = asyncio.Event()
        self.may_answer.set()
        self.asked = 0
        self.arrived: list[tuple[str, int]] = []  # order with its account, and version
        (self.port,) = ports.free(1)
        self._runner: web.AppRunner | None = None

    async def start(self) -> None:
        application = web.Application()
        application.router.add_post("/callbacks", self._take)
        self._runner = web.AppRunner(application, access_log=None, shutdown_timeout=0.1)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", self.port).start()

    async def stop(self) -> None:
        if self._runner is not None:
            await self._runner.cleanup()

    @property
    def order_of_versions(self) -> dict[str, list[int]]:
        """The versions of each order in the order of their first arrival."""
        found: dict[str, list[int]] = defaultdict(list)
        for order, version in self.arrived:
            if version not in found[order]:
                found[order].append(version)
        return dict(found)

    async def _take(self, request: web.Request) -> web.Response:
        self.asked += 1
        body = await request.read()
        # Raises if it is not signed by the secret, or too old.
        event: dict[str, Any] = Webhook(SECRET).verify(body, {name.lower(): v for name, v in request.headers.items()})
        await self.may_answer.wait()
        if self.status < 300:
            order, _, version = event["data"]["id"].rpartition(":")
            self.arrived.append((order, int(version)))
        return web.Response(status=self.status)


def write_file(directory: Path, receivers: list[Receiver], *, timeout_s: float = 30) -> Path:
    """Write callbacks.toml and the secret."""
    (directory / "callback.secret").write_text(SECRET)
    tables = [
        f'[callbacks.{each.name}]\nurl = "http://127.0.0.1:{each.port}/callbacks"\n'
        f'secret_files = ["callback.secret"]\ntimeout_s = {timeout_s}\n'
        for each in receivers
    ]
    file = directory / "callbacks.toml"
    file.write_text("\n".join(tables))
    return file


@asynccontextmanager
async def receiving(*receivers: Receiver) -> AsyncIterator[None]:
    """Run the services until the block ends."""
    for each in receivers:
        await each.start()
    try:
        yield
    finally:
        for each in receivers:
            each.may_answer.set()
            await each.stop()
