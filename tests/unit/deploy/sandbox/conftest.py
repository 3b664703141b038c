"""A shared world, because keys are slow to generate; tests write only into copies of it. And a town around a copy."""

from __future__ import annotations

import shutil
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path

import aiohttp
import pytest

from deploy.sandbox import server
from deploy.sandbox.server import SandboxServer
from deploy.sandbox.world import World
from tests.unit.deploy.sandbox.receiver import serving
from tests.unit.deploy.sandbox.town import Buyer, Merchant, Town, redirect_url


@pytest.fixture(scope="session")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    """A world that no test may change."""
    return World.create(tmp_path_factory.mktemp("world"), gateway_url="http://127.0.0.1:9", notify_base="http://h")


@pytest.fixture
def own_directory(world: World, tmp_path: Path) -> Path:
    """A copy of the world's directory, for a test that creates its own world with the same keys."""
    return Path(shutil.copytree(world.directory, tmp_path / "own"))


@pytest.fixture
async def town(own_directory: Path) -> AsyncIterator[Town]:
    merchant = Merchant()
    async with AsyncExitStack() as stack:
        receiver_url = await stack.enter_async_context(serving(merchant.app()))
        sock = server.listening("127.0.0.1", 0)
        world = World.create(own_directory, gateway_url=server.url_of(sock), notify_base=receiver_url)
        merchant.world = world
        sandbox = SandboxServer(world, sock=sock, admin_url=receiver_url, request_url=redirect_url, notify_delay_s=0.0)
        await stack.enter_async_context(sandbox)
        http = await stack.enter_async_context(aiohttp.ClientSession())
        stack.push_async_callback(merchant.close)
        yield Town(sandbox, merchant, Buyer(http, sandbox.url))
