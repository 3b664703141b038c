"""The listener over connections in memory. With PostgreSQL: tests/contract/test_wake_listener.py."""

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Any

import asyncpg
import pytest

from workers.postgres.wake_listener import WakeListener
from workers.postgres.wakes import CHANNEL

SCHEMA = "shop"


class Connection:
    """A session. `notify` is a notification for it, `lose` its end."""

    def __init__(self, dead: BaseException | None) -> None:
        self.is_terminated = False
        self._dead = dead
        self._on_end: list[Callable[[object], object]] = []
        self._on_notify: Callable[..., object] | None = None

    def add_termination_listener(self, call: Callable[[object], object]) -> None:
        self._on_end.append(call)

    async def fetchval(self, query: str) -> str:
        return SCHEMA

    async def add_listener(self, channel: str, call: Callable[..., object]) -> None:
        assert channel == CHANNEL
        self._on_notify = call

    async def execute(self, query: str) -> None:
        if self._dead is not None:
            raise self._dead

    def terminate(self) -> None:
        self.is_terminated = True

    def notify(self, payload: str) -> None:
        assert self._on_notify is not None
        self._on_notify(self, 1, CHANNEL, payload)

    def lose(self) -> None:
        for call in self._on_end:
            call(self)


class Server:
    """Makes connections. `refusals` are raised by the first attempts, `dead` by each statement of the first session."""

    def __init__(self) -> None:
        self.refusals: list[Exception] = []
        self.dead: BaseException | None = None
        self.made: list[Connection] = []
        self.woken = asyncio.Event()
        self._tasks: list[asyncio.Task[None]] = []

    async def connect(self, *_: Any, **__: Any) -> Connection:
        if self.refusals:
            raise self.refusals.pop(0)
        self.made.append(Connection(None if self.made else self.dead))
        return self.made[-1]

    async def listen(self, *, alive_every_s: float = 3600) -> None:
        """Return when a listener listens."""
        listener = WakeListener("", self.woken, again_s=0.001, alive_every_s=alive_every_s)
        self._tasks.append(asyncio.create_task(listener.run()))
        await self.wake()

    async def wake(self) -> None:
        """Return when the sweeper is woken."""
        async with asyncio.timeout(60):
            await self.woken.wait()
        self.woken.clear()

    async def close(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)


@pytest.fixture
async def server(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Server]:
    server = Server()
    monkeypatch.setattr(asyncpg, "connect", server.connect)
    yield server
    await server.close()


async def test_sweeper_is_woken_by_notifications_of_its_own_schema(server: Server) -> None:
    await server.listen()
    server.made[0].notify("another")
    assert not server.woken.is_set()
    server.made[0].notify(SCHEMA)
    assert server.woken.is_set()


async def test_server_that_is_away_is_tried_again(server: Server) -> None:
    server.refusals = [OSError("refused"), TimeoutError(), asyncpg.CannotConnectNowError("starting up")]
    await server.listen()
    assert len(server.made) == 1


async def test_connection_that_ends_is_replaced_and_the_sweeper_looks(server: Server) -> None:
    await server.listen()
    server.made[0].lose()
    await server.wake()
    assert [each.is_terminated for each in server.made] == [True, False]


async def test_connection_that_does_not_answer_any_more_is_replaced(server: Server) -> None:
    server.dead = TimeoutError()
    await server.listen(alive_every_s=0.001)
    await server.wake()
    assert server.made[0].is_terminated


async def test_connection_is_closed_with_its_listener(server: Server) -> None:
    await server.listen()
    await server.close()
    assert server.made[0].is_terminated
