"""Decide the book's records by the workers' own rules, on an order store in the shadow's folder.

The store is an ordinary one of the embedded engine. No loop of a worker runs beside it: its events are written with
its orders, as always, and never published. It follows from the book, so it is made anew when registered amounts
change: then all records are decided again, with the right amounts from the first on.
"""

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from sqlite3 import Connection

from deploy.authentication import Authenticator
from deploy.embedded import settling
from deploy.embedded.store import SqliteOrderStore
from deploy.shadow import private_files
from deploy.shadow.book import Book
from deploy.shadow.shapes import OldOrder
from ingest.accounts_in_use import AccountsInUse
from schemas.events import Outgoing
from schemas.orders import Order
from workers.emission import NOTHING_AWAY, Published
from workers.processing import Processing
from workers.settlement import decision
from workers.settlement.plan import LogRecord, ParsedRecord, Registration, WritePlan

BATCH_MAX = 500


def store_path(directory: Path, generation: int) -> Path:
    """Return the file of these decisions."""
    return directory / f"decided-{generation}.sqlite3"


class Decider:
    """Keeps the decisions up to the book. One process for a folder at a time; the folder's lock sees to that."""

    def __init__(
        self, book: Book, accounts: AccountsInUse, authenticator: Authenticator, *, now_ms: Callable[[], int]
    ) -> None:
        self._book = book
        self._directory = book.path.parent
        self._accounts = accounts
        self._authenticator = authenticator
        self._now_ms = now_ms
        self._generation = 0
        self._cursor = 0
        self._store: SqliteOrderStore | None = None
        self._processing: Processing | None = None

    async def catch_up(self, decided: Callable[[int], None] = lambda count: None) -> None:
        """Decide all records of the book; `decided` is called with the number in each batch.

        Orders that are imported meanwhile begin new decisions at once.

        Raises:
            FileNotUsable: the file of decisions cannot be this user's alone.
            InfrastructureDown: the files do not answer.
            TooManyDeadLetters: deciding fails for record after record.
        """
        while True:
            generation = await self._book.generation()
            if generation != self._generation:
                await self._begin(generation)
            if not (batch := await self._book.authentic_after(self._cursor, BATCH_MAX)):
                return
            await self._decide(batch)
            decided(len(batch))

    async def _decide(self, batch: Sequence[LogRecord]) -> None:
        assert self._store is not None
        assert self._processing is not None
        await self._processing.process(batch)
        self._cursor = batch[-1].position.offset
        # A record that waited for an order of this batch is due now. Others wait for theirs.
        while rows := await self._store.due(now_ms=self._now_ms(), limit=BATCH_MAX):
            await self._processing.retry(rows)

    async def close(self) -> None:
        """Close the store."""
        store, self._store, self._generation = self._store, None, 0
        if store is not None:
            await store.close()

    async def _begin(self, generation: int) -> None:
        await self.close()
        path = store_path(self._directory, generation)
        for other in self._directory.glob("decided-*.sqlite3*"):
            if not other.name.startswith(path.name):
                other.unlink(missing_ok=True)
        private_files.make(path)
        store = self._store = await SqliteOrderStore.open(path, now_ms=self._now_ms)
        self._cursor = await store.cursor()
        self._processing = Processing(
            accounts=self._accounts,
            authenticate=self._authenticator.authenticate,
            store=store,
            events=_NoTopics(),
            observer=_UnobservedProcessing(),
            now_ms=self._now_ms,
        )
        if self._cursor == 0:
            await self._register_all(store)
        self._generation = generation

    async def _register_all(self, store: SqliteOrderStore) -> None:
        place = ("", "")
        while orders := await self._book.amounts_after(place, BATCH_MAX):
            await store.database.write(partial(_register, orders=orders, now_ms=self._now_ms()))
            place = (orders[-1].number, orders[-1].account)


def _register(connection: Connection, *, orders: Sequence[OldOrder], now_ms: int) -> None:
    for order in orders:
        settling.register(connection, (order.account, order.number), (), _plan(order, now_ms), now_ms=now_ms)


def _plan(old: OldOrder, now_ms: int) -> Callable[[Order | None], WritePlan]:
    registration = Registration(amounts=() if old.amount is None else (old.amount,))
    return lambda order: decision.register(order, old.account, old.number, registration, now_ms=now_ms)


class _NoTopics:
    """The topics of a shadow: there are none."""

    away = NOTHING_AWAY

    async def publish(self, events: Sequence[Outgoing]) -> Published:
        raise AssertionError("a shadow publishes nothing")


class _UnobservedProcessing:
    def settled(self, plan: WritePlan, parsed_records: Sequence[ParsedRecord]) -> None: ...

    def emitted(self, events: Sequence[Outgoing]) -> None: ...

    def step(self, name: str, seconds: float) -> None: ...
