"""The adapters of both engines, behind their ports.

An engine can be opened, closed and opened again, as by a process that died in between.
"""

import asyncio
import secrets
from collections.abc import AsyncIterator, Awaitable, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from itertools import count
from pathlib import Path
from typing import Protocol

from deploy.embedded.journal import Journal
from deploy.embedded.locks import LocalLocks
from deploy.embedded.source import JournalSource
from deploy.embedded.store import SqliteOrderStore
from deploy.local.postgres import Postgres
from deploy.local.redis import Redis
from ingest.kafka import producer
from ingest.kafka.publisher import Publisher
from schemas.events import Outgoing
from schemas.record_format import Record
from tests.support.fakes import MemoryLogger, ProducerObserver
from tests.support.kafka_topics import Settling, Topic
from tests.support.log_records import Time
from workers.consumer import Source
from workers.locks import IdempotencyLocks
from workers.postgres.database import Database, DatabaseLimits
from workers.postgres.migrations import run
from workers.postgres.store import PostgresOrderStore as OrderStoreOnPostgres
from workers.processing import Store
from workers.queries import Emitted, HeldPort, OrdersPort
from workers.redis import clients
from workers.redis.locks import RedisLocks
from workers.replays import ReplaysPort


class AnyStore(Store, OrdersPort, HeldPort, ReplaysPort, Protocol):
    """An order store, with all its ports."""

    async def events_after(self, number: int, limit: int) -> Sequence[Emitted]: ...

    async def newest_event(self) -> int: ...


class Log(Protocol):
    """The log to which a receiver appends."""

    def append(self, record: Record, /) -> Awaitable[object]: ...


class Engine(Protocol):
    """Opens its adapters. An adapter that is opened again sees everything written before."""

    def store(self) -> AbstractAsyncContextManager[AnyStore]: ...

    def log(self) -> AbstractAsyncContextManager[Log]: ...

    def source(self) -> AbstractAsyncContextManager[Source]:
        """The worker's source of the same log, from the committed offset."""

    def locks(self) -> IdempotencyLocks: ...

    async def close(self) -> None:
        """The test is over."""


class LogEngine(Protocol):
    """An engine of which the log is wanted, and nothing else."""

    def log(self) -> AbstractAsyncContextManager[Log]: ...

    def source(self) -> AbstractAsyncContextManager[Source]: ...

    async def close(self) -> None: ...


class Embedded:
    """SQLite files in a directory."""

    def __init__(self, directory: Path, now_ms: Time) -> None:
        self._directory = directory
        self._now_ms = now_ms
        self._journal: Journal | None = None
        self._committed = 0

    @asynccontextmanager
    async def store(self) -> AsyncIterator[AnyStore]:
        store = await SqliteOrderStore.open(
            self._directory / "orders.sqlite3", now_ms=self._now_ms, now_s=self._now_ms.now_s
        )
        try:
            yield store
        finally:
            await store.close()

    @asynccontextmanager
    async def log(self) -> AsyncIterator[Log]:
        self._journal = await Journal.open(self._directory / "journal.sqlite3", now_ms=self._now_ms)
        try:
            yield self._journal
        finally:
            await self._journal.close()
            self._journal = None

    @asynccontextmanager
    async def source(self) -> AsyncIterator[Source]:
        assert self._journal is not None, "the log is open"
        source = JournalSource(self._journal, cursor=self._committed, poll_wait_s=0.01, linger_s=0)
        try:
            yield source
        finally:
            self._committed = source.committed  # the order store's part of the bargain

    def locks(self) -> IdempotencyLocks:
        return LocalLocks()

    async def close(self) -> None: ...


class Cluster:
    """A schema of its own on a real PostgreSQL, and keys of its own on a real Redis."""

    def __init__(self, postgres: Postgres, redis: Redis | None, now_ms: Time) -> None:
        self.name = f"t{secrets.token_hex(8)}"
        self.url = f"{postgres.dsn}?search_path={self.name}"
        self.redis_url = "" if redis is None else redis.url
        self._now_ms = now_ms
        self._workers = count(1)
        self._is_ready = False
        self._locks: list[RedisLocks] = []

    @asynccontextmanager
    async def store(self, now_ms: Time | None = None) -> AsyncIterator[OrderStoreOnPostgres]:
        """One more worker's store; `now_ms` is the clock of its machine."""
        await self.prepare()
        holder, time = f"worker-{next(self._workers)}", now_ms or self._now_ms
        store = await OrderStoreOnPostgres.open(self.url, holder=holder, now_ms=time, now_s=self._now_ms.now_s)
        try:
            yield store
        finally:
            await store.close()

    def log(self) -> AbstractAsyncContextManager[Log]:
        raise NotImplementedError("the cluster's log stands apart: `ClusterLog`")

    def source(self) -> AbstractAsyncContextManager[Source]:
        raise NotImplementedError("the cluster's log stands apart: `ClusterLog`")

    def locks(self) -> IdempotencyLocks:
        self._locks.append(RedisLocks(clients.connect(self.redis_url), prefix=self.name.encode()))
        return self._locks[-1]

    async def close(self) -> None:
        for locks in self._locks:
            await locks.close()

    async def prepare(self) -> None:
        """Make the schema, once."""
        if self._is_ready:
            return
        database = await Database.open(self.url, limits=DatabaseLimits())
        await database.write(lambda connection: connection.execute(f"CREATE SCHEMA {self.name}"))
        await database.close()
        await run.upgrade(self.url)
        self._is_ready = True


class ClusterLog:
    """A topic of its own on a real Kafka, with a group that reads it."""

    def __init__(self, bootstrap: str) -> None:
        self._topic = Topic(bootstrap)
        self._is_made = False

    @asynccontextmanager
    async def log(self) -> AsyncIterator[Log]:
        """A receiver's end, ready to take records."""
        await self._make()
        build = producer.factory(self._topic.connection, self._topic.name, client_id="contract")
        publisher = Publisher(build=build, observer=ProducerObserver(), logger=MemoryLogger())
        await publisher.start()
        try:
            async with asyncio.timeout(10):
                while publisher.trouble is not None:
                    await asyncio.sleep(0.01)
            yield publisher
        finally:
            await publisher.stop()

    @asynccontextmanager
    async def source(self) -> AsyncIterator[Source]:
        source = self._topic.source()
        try:
            yield Settling(source, self._topic.settled)
        finally:
            await source.stop()

    async def close(self) -> None: ...

    async def _make(self) -> None:
        if not self._is_made:
            await self._topic.make()
            self._is_made = True


async def all_unsent(store: Store) -> Sequence[Outgoing]:
    """The events that wait in the outbox, in their order."""
    return [event for _, event in await store.unsent(10_000)]
