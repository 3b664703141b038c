"""A real engine and the simulated Alipay, each with the other's address."""

import asyncio
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from deploy.sandbox import server
from deploy.sandbox.identities import Identity
from deploy.sandbox.server import SandboxServer
from deploy.sandbox.world import World
from ingest.checkout import requests
from tests.support.processes import Engine


class Gateway(threading.Thread):
    """The simulated Alipay in a thread, because `notify_verify` is asked while a command plays."""

    def __init__(self, sandbox: SandboxServer) -> None:
        super().__init__(daemon=True)
        self._sandbox = sandbox
        self._loop = asyncio.new_event_loop()
        self._stopping = asyncio.Event()
        self.ready = threading.Event()

    def run(self) -> None:
        self._loop.run_until_complete(self._serve())
        self._loop.close()

    async def _serve(self) -> None:
        async with self._sandbox:
            self.ready.set()
            await self._stopping.wait()

    def end(self) -> None:
        self._loop.call_soon_threadsafe(self._stopping.set)
        self.join(10)


@contextmanager
def running(home: Path, identities: Sequence[Identity], **environment: str) -> Iterator[tuple[Engine, World]]:
    """Run both for the length of a block. `environment` is the engine's."""
    sock = server.listening("127.0.0.1", 0)
    url = server.url_of(sock)
    world = World.create(home / "world", gateway_url=url, notify_base="http://127.0.0.1:1", identities=identities)
    engine = Engine(world.accounts_file, home / "data", **environment)
    engine.start()
    world = World.create(home / "world", gateway_url=url, notify_base=engine.public, identities=identities)
    gateway = Gateway(SandboxServer(world, sock=sock, admin_url=engine.admin, request_url=requests.redirect_url))
    gateway.start()
    try:
        assert gateway.ready.wait(30)
        yield engine, world
    finally:
        gateway.end()
        engine.end()
