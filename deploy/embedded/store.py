"""The order store of the one-machine engine: the workers' ports, over one SQLite file.

`settle` is one piece of work on the database's thread: BEGIN IMMEDIATE, load, decide, write, move the cursor, COMMIT.
So the cursor always matches the dispositions, and a crash leaves whole batches or nothing. Reads of the worker's loops
are a few index look-ups on the same thread. Reads of operators have a connection and a thread of their own
(`sqlite_reader`), so that no batch waits for them.
"""

import asyncio
import time
from collections.abc import Callable, Collection, Sequence
from pathlib import Path
from sqlite3 import Connection

from deploy.embedded import decisions, held_lookups, lookups, migrations, order_lists, replays, settling, sql, wakes
from deploy.embedded.sqlite import SqliteDatabase
from deploy.embedded.sqlite_reader import SqliteReader
from schemas.events import Outgoing
from schemas.orders import Movement, Order
from workers import held_lists, store_trouble
from workers.emission import EVERYTHING, NOTHING_AWAY, Away, SetAside
from workers.queries import (
    Counts,
    Emitted,
    HeldGroup,
    HeldPage,
    HeldPlace,
    HeldQuery,
    NotificationPage,
    OrderList,
    OrderPage,
    OrderQuery,
)
from workers.replays import NewTask, ReplayState, ReplayTask, TaskList
from workers.settlement.plan import Decide, Delivery, HeldRow, LoadRequest, WritePlan, position_of

APPLICATION_ID = 0x414E4F31
PARTITION = 0
COUNT_DEADLINE_S = 60.0  # of the rows that a replay will try, if there are many within a span of time
PRUNE_ROWS_MAX = 1000  # per transaction, because batches wait meanwhile


class SqliteOrderStore:
    """The open store. `woken` is set whenever parked notifications become due early; the sweeper waits for it."""

    def __init__(
        self, database: SqliteDatabase, *, now_ms: Callable[[], int], now_s: Callable[[], float] = time.monotonic
    ) -> None:
        self.woken = asyncio.Event()
        self._database = database
        self._reader = SqliteReader(database.path)
        self._now_ms = now_ms
        self._set_aside = SetAside(now_s)

    @classmethod
    async def open(
        cls,
        path: Path,
        *,
        now_ms: Callable[[], int],
        now_s: Callable[[], float] = time.monotonic,
        create: bool = True,
    ) -> "SqliteOrderStore":
        """Open the store in this file.

        Raises:
            FileNotUsable, Damaged, InfrastructureDown: as for `SqliteDatabase.open`.
        """
        schema = migrations.load("store", application_id=APPLICATION_ID)
        return cls(await SqliteDatabase.open(path, schema, create=create), now_ms=now_ms, now_s=now_s)

    @property
    def trouble(self) -> str | None:
        """The last failure, by the rules of `workers.store_trouble`; `None` if all is well."""
        return self._database.trouble

    @property
    def database(self) -> SqliteDatabase:
        """The file itself, for its size, checks and housekeeping."""
        return self._database

    @property
    def reads(self) -> SqliteReader:
        """The same file, by the connection for operators' reads."""
        return self._reader

    async def close(self) -> None:
        """Finish the running transaction, and close the file."""
        await self._reader.close()
        await self._database.close()

    async def cursor(self) -> int:
        """Return the journal's offset up to which every record has its disposition."""
        return await self._database.read(lambda connection: settling.cursor(connection, PARTITION))

    # workers.processing.Store

    async def settle(self, needs: LoadRequest, decide: Decide) -> WritePlan:
        def work(connection: Connection) -> tuple[WritePlan, int]:
            return settling.settle(connection, needs, decide, now_ms=self._now_ms())

        return self._wake(*await self._database.write(work, store_trouble.kind(needs)))

    async def unsent(
        self, limit: int, away: Away = NOTHING_AWAY, *, only: frozenset[str] = EVERYTHING
    ) -> Sequence[tuple[int, Outgoing]]:
        def is_ready(event: Outgoing) -> bool:
            return event.topic in only and not away.holds(event) and not self._set_aside.holds(event)

        found = await self._database.read(lambda connection: lookups.unsent(connection, limit, is_ready))
        return [(emitted.number, emitted.event) for emitted in found]

    async def mark_sent(self, numbers: Sequence[int]) -> None:
        def work(connection: Connection) -> None:
            connection.execute(
                "UPDATE outbox SET sent_at_ms = ? WHERE number IN (SELECT value FROM json_each(?))",
                (self._now_ms(), sql.as_json(list(numbers))),
            )

        await self._database.write(work)

    async def set_aside(self, numbers: Sequence[int]) -> None:
        self._set_aside.add(await self._database.read(lambda connection: lookups.outbox_keys(connection, numbers)))

    # workers.queries.OrdersPort

    async def order_page(self, scope: str, number: str) -> OrderPage | None:
        return await self._reader.read(lambda connection: lookups.order_page(connection, scope, number))

    async def movements(
        self, scope: str, number: str, *, after: int, limit: int
    ) -> Sequence[tuple[int, Movement]] | None:
        return await self._reader.read(
            lambda connection: lookups.order_movements(connection, scope, number, after=after, limit=limit)
        )

    async def find(self, number: str) -> Sequence[tuple[str, str]]:
        return await self._reader.read(lambda connection: lookups.find(connection, number))

    async def notifications(self, number: str) -> Sequence[Delivery]:
        return await self._reader.read(lambda connection: lookups.notifications(connection, number))

    async def notification(self, id_: str) -> NotificationPage | None:
        position = position_of(id_)
        if position is None:
            return None
        return await self._reader.read(lambda connection: lookups.notification(connection, position))

    async def order_list(self, query: OrderQuery) -> OrderList:
        return await self._reader.read(lambda connection: order_lists.page(connection, query))

    async def events_after(self, number: int, limit: int) -> Sequence[Emitted]:
        """Return the events and notices after this number of the outbox, oldest first."""
        return await self._reader.read(lambda connection: lookups.events_after(connection, number, limit))

    async def newest_event(self) -> int:
        """Return the highest number in the outbox, 0 if it is empty."""
        return await self._reader.read(lookups.newest_event)

    async def register(
        self,
        scope: str,
        number: str,
        refunds: Sequence[str],
        decide: Callable[[Order | None], WritePlan],
        *,
        by: str,
        why: str,
    ) -> WritePlan:
        def work(connection: Connection) -> tuple[WritePlan, int]:
            now_ms = self._now_ms()
            written = settling.register(connection, (scope, number), refunds, decide, now_ms=now_ms)
            decisions.audit(connection, now_ms, "register", [f"{scope}:{number}"], by, why)
            return written

        return self._wake(*await self._database.write(work))

    # workers.queries.HeldPort

    async def held_list(self, query: HeldQuery) -> Sequence[HeldPage]:
        return await self._reader.read(lambda connection: held_lookups.list_(connection, query))

    async def held_groups(self, query: HeldQuery) -> Sequence[HeldGroup]:
        return await self._reader.read(lambda connection: held_lookups.groups(connection, query))

    async def held_page(self, id_: str) -> HeldPage | None:
        position = position_of(id_)
        if position is None:
            return None
        return await self._reader.read(lambda connection: held_lookups.page(connection, position))

    async def wake_more(self) -> bool:
        if not await self._database.read(wakes.has_any):
            return False
        await self._database.write(lambda connection: wakes.go_on(connection, self._now_ms()))
        return True

    async def due(self, *, now_ms: int, limit: int) -> Sequence[HeldRow]:
        return await self._database.read(lambda connection: held_lookups.due(connection, now_ms, limit))

    async def next_due_ms(self) -> int | None:
        return await self._database.read(held_lookups.next_due_ms)

    async def note_replay(
        self, ids: Sequence[str], *, by: str, why: str, now_ms: int, replay: int | None = None
    ) -> None:
        positions = [position for position in map(position_of, ids) if position is not None]
        await self._database.write(
            lambda connection: decisions.note_replay(
                connection, positions, by=by, why=why, now_ms=now_ms, replay=replay
            )
        )

    async def counts(self) -> Counts:
        return await self._reader.read(lambda connection: held_lookups.counts(connection, self._now_ms()))

    # workers.replays.ReplaysPort

    async def start_replay(self, new: NewTask, *, now_ms: int) -> ReplayTask:
        counted = held_lists.until_now(held_lists.for_task(new.query, now_ms), now_ms)
        groups = await self._reader.read(
            lambda connection: held_lookups.groups(connection, counted), deadline_s=COUNT_DEADLINE_S
        )
        total = sum(group.count for group in groups)
        return await self._database.write(lambda connection: replays.start(connection, new, total=total, now_ms=now_ms))

    async def replay(self, number: int) -> ReplayTask | None:
        return await self._reader.read(lambda connection: replays.one(connection, number))

    async def replays(self, limit: int, before: int | None = None) -> TaskList:
        return await self._reader.read(lambda connection: replays.newest(connection, limit, before))

    async def running_replay(self, *, aside: Collection[int] = ()) -> ReplayTask | None:
        return await self._database.read(lambda connection: replays.running(connection, aside))

    async def switch_replay(
        self, number: int, *, before: ReplayState, after: ReplayState, by: str, why: str, now_ms: int
    ) -> bool:
        return await self._database.write(
            lambda connection: replays.switch(connection, number, before, after, by=by, why=why, now_ms=now_ms)
        )

    async def advance_replay(self, task: ReplayTask, upto: HeldPlace | None, *, now_ms: int) -> None:
        await self._database.write(lambda connection: replays.advance(connection, task, upto, now_ms))

    # housekeeping

    async def prune_sent(self, *, older_than_ms: int) -> int:
        """Delete at most `PRUNE_ROWS_MAX` events that were acknowledged before that moment; return how many.

        The newest event of each order stays: its successor is checked against it, and a new consumer may start from it.
        """
        return await self._database.write(lambda connection: _prune_sent(connection, older_than_ms))

    def _wake(self, plan: WritePlan, woken: int) -> WritePlan:
        if woken:
            self.woken.set()
        return plan


def _prune_sent(connection: Connection, older_than_ms: int) -> int:
    return connection.execute(
        """
        DELETE FROM outbox WHERE number IN (
            SELECT old.number FROM outbox AS old
            WHERE old.sent_at_ms < ?1 AND (old.version IS NULL OR EXISTS (
                SELECT 1 FROM outbox AS next
                WHERE next.id = substr(old.id, 1, length(old.id) - length(old.version)) || (old.version + 1)
            ))
            ORDER BY old.number LIMIT ?2
        )
        """,
        (older_than_ms, PRUNE_ROWS_MAX),
    ).rowcount
