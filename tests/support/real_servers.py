"""Real Kafka, Redis and PostgreSQL for the tests that ask for them: each started once, at the first test that does.

    kafka          the bootstrap servers of one broker that takes producers and groups
    redis_url      redis://…
    postgres_dsn   postgresql://…, an empty database whose role may create others

`local_kafka`, `local_redis` and `local_postgres` are the same servers with their processes, for tests that kill and
freeze them and leave them running again. A missing server skips the test, and fails it under CI=true.

Their files are in `.stack/` of the work tree. A killed run leaves its servers running, and the next run in the same
tree ends them. Concurrent runs, and the workers of one run, each take a directory and servers of their own.
"""

import asyncio
import os
import threading
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from typing import Any, NoReturn, TypeVar

import pytest

from deploy.directory_lock import AlreadyRunning
from deploy.local import directory as directories
from deploy.local import postgres, redis
from deploy.local.directory import Directory
from deploy.local.kafka import cluster
from deploy.local.kafka.cluster import Kafka
from deploy.local.machine import Machine, Missing
from deploy.local.postgres import Postgres
from deploy.local.redis import Redis
from tests.support.paths import ROOT

STACK = ROOT / ".stack"
RUNS_AT_A_TIME_MAX = 8

T = TypeVar("T")


class Servers:
    """The started servers, until the session ends. Its event loop runs in a thread, so tests can use it from theirs."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="servers", daemon=True)
        self._thread.start()
        self._stack = AsyncExitStack()
        self._directory: Directory | None = None
        self.machine = Machine(environ=dict(os.environ))

    def start(self, running: Callable[[Directory, Machine], AbstractAsyncContextManager[T]]) -> T:
        """Start the server; it runs until the end of the session."""

        async def enter() -> T:
            if self._directory is None:
                self._directory = await self._stack.enter_async_context(first_free())
            return await self._stack.enter_async_context(running(self._directory, self.machine))

        try:
            return self._finish(enter())
        except Missing as missing:
            absent(missing)

    def end(self) -> None:
        try:
            self._finish(self._stack.aclose())
        finally:
            self._loop.call_soon_threadsafe(self._loop.stop)
            self._thread.join()
            self._loop.close()

    def _finish(self, work: Coroutine[Any, Any, T]) -> T:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result()


def absent(missing: Missing) -> NoReturn:
    """Skip the test, or fail it in CI, where skipped tests go unnoticed."""
    if os.environ.get("CI") == "true":
        pytest.fail(str(missing), pytrace=False)
    pytest.skip(f"NOT TESTED: {missing}")


@asynccontextmanager
async def had(server: AbstractAsyncContextManager[T]) -> AsyncIterator[T]:
    """The server; if a program is missing, skip or fail the test as the fixtures do."""
    async with AsyncExitStack() as entered:
        try:
            running = await entered.enter_async_context(server)
        except Missing as missing:
            absent(missing)
        yield running


@asynccontextmanager
async def first_free() -> AsyncIterator[Directory]:
    """A directory that no other run of this tree has."""
    for number in range(RUNS_AT_A_TIME_MAX):
        async with AsyncExitStack() as stack:
            try:
                held = await stack.enter_async_context(directories.held(STACK / f"tests-{number}", fresh=True))
            except AlreadyRunning:
                continue
            yield held
            return
    raise AssertionError(f"{RUNS_AT_A_TIME_MAX} other runs have all directories in {STACK}")


@pytest.fixture(scope="session")
def servers() -> Iterator[Servers]:
    started = Servers()
    try:
        yield started
    finally:
        started.end()


@pytest.fixture(scope="session")
def local_kafka(servers: Servers) -> Kafka:
    return servers.start(cluster.running)


@pytest.fixture(scope="session")
def local_redis(servers: Servers) -> Redis:
    return servers.start(redis.running)


@pytest.fixture(scope="session")
def local_postgres(servers: Servers) -> Postgres:
    return servers.start(postgres.running)


@pytest.fixture(scope="session")
def kafka(local_kafka: Kafka) -> str:
    return local_kafka.bootstrap


@pytest.fixture(scope="session")
def redis_url(local_redis: Redis) -> str:
    return local_redis.url


@pytest.fixture(scope="session")
def postgres_dsn(local_postgres: Postgres) -> str:
    return local_postgres.dsn
