"""`up --demo`: a simulated Alipay beside the engine, playing what a shop's day brings, until it is stopped.

The sandbox's world is made first, since its accounts are the engine's configuration; its shop asks the engine's admin
API, and its notifications go to the engine's public port, so it is started once both addresses are known.
"""

import asyncio
import random
import socket
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from deploy.sandbox import server
from deploy.sandbox.notifications import UnplayableError
from deploy.sandbox.server import SandboxServer
from deploy.sandbox.world import World, WorldError
from ingest import requests

PORT = 8089
TIME_SCALE = 120  # Alipay's first retry, after four minutes in life, comes after two seconds here
PAUSE_S = (1.5, 4.0)

# The first minute shows one of each; after it chance decides.
OPENING: Sequence[tuple[str, str]] = (
    ("paid", "demo-app"),
    ("partial_refund", "demo-cn"),
    ("duplicate_x8", "demo-app"),
    ("forged_signature", "demo-cn"),
    ("paid", "demo-antom"),
    ("out_of_order", "demo-cn"),
    ("gbk_text", "demo-app"),
    ("full_refund", "demo-cn"),
    ("foreign_seller", "demo-app"),
    ("closed_unpaid", "demo-cn"),
    ("late_by_a_day", "demo-app"),
)


class Demo:
    """The sandbox's world, and later the sandbox itself."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._socket: socket.socket | None = None

    def accounts(self, *, public_url: str) -> Path:
        """The merchant's accounts.toml for a receiver at this address; binds the sandbox's port."""
        try:
            self._socket = server.listening("127.0.0.1", PORT)
        except OSError:
            self._socket = server.listening("127.0.0.1", 0)
        self._world = World.create(
            self._directory, gateway_url=server.url_of(self._socket), notify_base=public_url.rstrip("/")
        )
        return self._world.accounts_file

    def sandbox(self, *, admin_url: str, admin_token: str = "") -> SandboxServer:
        """The sandbox, to be entered."""
        assert self._socket is not None, "accounts() binds its port"
        return SandboxServer(
            self._world,
            sock=self._socket,
            admin_url=admin_url,
            admin_token=admin_token,
            request_url=requests.redirect_url,
            time_scale=TIME_SCALE,
        )


async def play(sandbox: SandboxServer, accounts: Sequence[str]) -> None:
    """Play the opening, then one scenario after another, until cancelled. A scenario with retries goes on beside."""
    chance = random.SystemRandom()
    running: set[asyncio.Task[None]] = set()
    try:
        for number in range(10**9):
            name, account = OPENING[number] if number < len(OPENING) else chance.choice(OPENING)
            if account in accounts:
                task = asyncio.create_task(_play(sandbox, name, account))
                running.add(task)
                task.add_done_callback(running.discard)
            await asyncio.sleep(chance.uniform(*PAUSE_S) if number >= len(OPENING) else 0.7)
    finally:
        for task in running:
            task.cancel()


async def _play(sandbox: SandboxServer, name: str, account: str) -> None:
    # A world that was replaced under us, or a scenario that an account cannot play, is no reason to end the demo.
    with suppress(UnplayableError, WorldError):
        await sandbox.play(name, account)
