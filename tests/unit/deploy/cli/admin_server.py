"""An admin port on a real socket, in a thread of its own, for commands that are run in the test's."""

import asyncio
import threading
from collections.abc import Callable, Coroutine, Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from typing import Any, TypeVar

from aiohttp import web

from tests.support.admin import TOKEN, World
from workers.admin.guard import Access
from workers.admin.operators import Operator

T = TypeVar("T")


class Server:
    """The address, the world behind it, and the way to do something in its loop."""

    def __init__(self, world: World, url: str, loop: asyncio.AbstractEventLoop) -> None:
        self.world = world
        self.url = url
        self._loop = loop

    def do(self, work: Coroutine[Any, Any, T]) -> T:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(10)

    def start(self, work: Coroutine[Any, Any, T]) -> Future[T]:
        """Start something in its loop, and do not wait."""
        return asyncio.run_coroutine_threadsafe(work, self._loop)

    def world_call(self, call: Callable[[], None]) -> None:
        """Call something in its loop."""
        self._loop.call_soon_threadsafe(call)


@contextmanager
def running(
    *, reads_need_token: bool = False, operators: tuple[Operator, ...] = (Operator("", TOKEN.encode()),)
) -> Iterator[Server]:
    """A server with the token of the tests, or those of its operators, until the block ends."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    world = World()
    runner = asyncio.run_coroutine_threadsafe(_start(world, operators, reads_need_token), loop).result(10)
    try:
        host, port = runner.addresses[0][:2]
        yield Server(world, f"http://{host}:{port}", loop)
    finally:
        asyncio.run_coroutine_threadsafe(runner.cleanup(), loop).result(10)
        loop.call_soon_threadsafe(loop.stop)
        thread.join(10)
        loop.close()


async def _start(world: World, operators: tuple[Operator, ...], reads_need_token: bool) -> web.AppRunner:
    access = Access(operators=operators, reads_need_token=reads_need_token)
    runner = web.AppRunner(world.application(access), access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    return runner
