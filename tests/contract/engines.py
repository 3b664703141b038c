"""The engines' adapters, each behind the port it implements: what the contract suites run on.

An engine is a directory-like place that can be opened, closed and opened again, as a process would that died between.
"""

from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import Protocol

from deploy.embedded.claims import LocalClaims
from deploy.embedded.journal import Journal
from deploy.embedded.source import JournalSource
from deploy.embedded.store import OrderStore
from schemas.envelope import Record
from schemas.events import Outgoing
from tests.journey import Time
from workers.claims import Claims
from workers.consumer import Source
from workers.pages import Emitted, HeldPort, OrdersPort
from workers.processing import Store


class AnyStore(Store, OrdersPort, HeldPort, Protocol):
    """An order store, with all its ports."""

    async def events_after(self, number: int, limit: int) -> Sequence[Emitted]: ...


class Log(Protocol):
    """What a receiver appends to."""

    async def append(self, record: Record, /) -> None: ...


class Engine(Protocol):
    """Opens its adapters on one place. What is opened twice sees what was written in between."""

    def store(self) -> AbstractAsyncContextManager[AnyStore]: ...

    def log(self) -> AbstractAsyncContextManager[Log]: ...

    def source(self) -> AbstractAsyncContextManager[Source]:
        """The worker's end of the same log, from what was committed."""

    def claims(self) -> Claims: ...


class Embedded:
    """SQLite files in a directory."""

    def __init__(self, directory: Path, now_ms: Time) -> None:
        self._directory = directory
        self._now_ms = now_ms
        self._journal: Journal | None = None
        self._committed = 0

    @asynccontextmanager
    async def store(self) -> AsyncIterator[AnyStore]:
        store = await OrderStore.open(self._directory / "orders.sqlite3", now_ms=self._now_ms)
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

    def claims(self) -> Claims:
        return LocalClaims()


ENGINES: dict[str, Callable[[Path, Time], Engine]] = {"embedded": Embedded}


async def all_unsent(store: Store) -> Sequence[Outgoing]:
    """The events that wait in the outbox, in their order."""
    return [event for _, event in await store.unsent(10_000)]
