"""The order store of the cluster engine: the workers' ports, over one PostgreSQL database that many workers share.

Operators' reads have connections of their own, with a time limit: no batch waits for a connection behind them.

`settle` is one transaction: lock, load, decide, write, COMMIT. Kafka's offsets are committed after it, so records that
have a disposition may be redelivered; the store recognises them by partition and offset.

Offsets belong to one log. A topic that was created anew counts from 0 again, and its records would seem to be processed
already. So the worker's composition compares `last_settled` with the end of each partition, and refuses a log that ends
before it. If the log ends after it, `workers.processing` notices the first record at an offset that another record had.
"""

import asyncio
import time
from collections.abc import Callable, Collection, Sequence
from functools import partial

from msgspec import structs

from schemas import record_format, topics
from schemas.events import Outgoing
from schemas.orders import Movement, Order
from workers import queries, store_trouble
from workers.emission import EVERYTHING, NOTHING_AWAY, Away
from workers.errors import RowsLocked
from workers.postgres import (
    audit,
    held_lookups,
    load,
    lookups,
    migrations,
    order_lists,
    outbox,
    replays,
    settling,
    state_resend,
)
from workers.postgres.clock import DatabaseClock
from workers.postgres.database import BRIEFLY, OPERATORS, Address, Database, DatabaseLimits, SqlConnection
from workers.postgres.feed import Feed
from workers.postgres.leadership import Leadership
from workers.postgres.marks import Marks
from workers.postgres.orphans import OrphanWalk, WalkStep
from workers.postgres.outbox import UnsentEvents
from workers.postgres.settling import SettleResult
from workers.postgres.state_resend import ResendRequest, StateResends
from workers.postgres.wakes import NotedWakes
from workers.replays import NewTask, ReplayState, ReplayTask, TaskList
from workers.settlement.plan import Decide, Delivery, HeldRow, LoadRequest, LogRecord, Position, WritePlan, position_of

# Two roles, because a stopped worker no longer sweeps but goes on sending: with one role it would keep the others from
# sweeping.
SWEEPING, SENDING = "sweeping", "sending"

OFFSET_MAX = 2**63 - 1  # beyond every offset


class PostgresOrderStore:
    """The open store of one process. Without a relay, it leaves the events that it writes to the leader.

    `woken` is set whenever this worker made parked notifications due early, and by a `WakeListener` when another
    process did. `leadership` elects the worker that sweeps, `sending` the one that adopts orphaned events. `reads` has
    the connections for operators' reads. `clock` is the database's.
    """

    def __init__(
        self,
        database: Database,
        *,
        holder: str,
        now_ms: Callable[[], int],
        now_s: Callable[[], float] = time.monotonic,
        has_relay: bool = True,
        reads: Database | None = None,
        clock: DatabaseClock | None = None,
    ) -> None:
        self.clock = clock or DatabaseClock()
        self.woken = asyncio.Event()
        self.leadership = Leadership(database, role=SWEEPING, holder=holder)
        self.sending = Leadership(database, role=SENDING, holder=holder)
        self._database = database
        self._reads = reads or database
        self._now_ms = now_ms
        self._now_s = now_s
        self._has_relay = has_relay
        self._unsent = UnsentEvents()
        self._resends = StateResends()
        self._marks = Marks(self._unsent, self._resends, now_ms=now_ms)
        self._walks: dict[frozenset[str], OrphanWalk] = {}
        self._one_look_at_a_time = asyncio.Lock()
        self._pruned_upto = 0  # an event number
        self._feed = Feed()

    @classmethod
    async def open(
        cls,
        dsn: Address,
        *,
        holder: str,
        now_ms: Callable[[], int] | None = None,
        now_s: Callable[[], float] = time.monotonic,
        limits: DatabaseLimits | None = None,
        has_relay: bool = True,
        clock: DatabaseClock | None = None,
    ) -> "PostgresOrderStore":
        """Open the store in this database. `holder` is a name that no other process has; tests set `now_ms`.

        Raises:
            DatabaseNotUsable: the schema lacks steps, or the server does not keep what it commits.
            InfrastructureDown: the database cannot be reached now.
        """
        limits = limits or DatabaseLimits()
        clock = clock or DatabaseClock()
        database = await Database.open(dsn, limits=limits, clock=clock)
        try:
            await database.read(migrations.check)
            of_reads = structs.replace(OPERATORS, statement_cache=limits.statement_cache)
            reads = await Database.open_for_reads(dsn, limits=of_reads)
        except BaseException:
            await database.close()
            raise
        now_ms = now_ms or clock.epoch_ms
        return cls(database, holder=holder, now_ms=now_ms, now_s=now_s, has_relay=has_relay, reads=reads, clock=clock)

    @property
    def trouble(self) -> str | None:
        """The last failure, by the rules of `workers.store_trouble`; `None` if all is well."""
        return self._database.trouble

    @property
    def reads_trouble(self) -> str | None:
        """The last failure of a read for operators; `None` if it succeeded, or was only too slow."""
        return self._reads.trouble

    @property
    def database(self) -> Database:
        """The database itself, for checks."""
        return self._database

    @property
    def reads(self) -> Database:
        """The same database, by the connections for operators' reads."""
        return self._reads

    async def close(self) -> None:
        """Resign from both roles, finish the running transaction, and close the connections."""
        await self.leadership.resign()
        await self.sending.resign()
        await self._reads.close()
        await self._database.close()

    async def last_settled(self, partition: int, *, below: int | None = None) -> int | None:
        """Return the partition's highest offset below `below` that has a disposition; `None` if none has."""
        end = OFFSET_MAX if below is None else below
        return await self._database.read(lambda connection: settling.last_settled(connection, partition, end))

    async def all_settled(self, positions: Sequence[Position]) -> bool:
        """Return whether each of these positions has a disposition. They must all be different."""
        found = await self._database.read(lambda connection: settling.count_settled(connection, positions))
        return found == len(positions)

    async def are_settled(self, records: Sequence[LogRecord]) -> bool:
        """Return whether each record is the one that was processed at its position: with the same receive time."""
        try:
            moments = [record_format.decode(each.record).received_at_ms for each in records]
        except (record_format.BadRecord, record_format.NewerRecord):
            return False
        positions = [each.position for each in records]
        found = await self._database.read(lambda connection: settling.count_same(connection, positions, moments))
        return found == len(records)

    async def settled_between(self, partition: int, first: int, end: int) -> int:
        """Count the partition's records from `first` up to, but not including, `end` that have a disposition."""
        return await self._database.read(lambda connection: settling.settled_between(connection, partition, first, end))

    async def note(self, action: str, subjects: Sequence[str], *, by: str, why: str) -> None:
        """Write an audit row for each subject of the operator's action."""

        async def work(connection: SqlConnection) -> None:
            await audit.note(connection, action, subjects, by=by, why=why, now_ms=self._now_ms())

        await self._database.write(work)

    # workers.processing.Store

    async def settle(self, needs: LoadRequest, decide: Decide) -> WritePlan:
        async def work(connection: SqlConnection) -> SettleResult:
            return await settling.settle(connection, needs, decide, now_ms=self._now_ms())

        first = load.AROUND_LOCKS if needs.around_locks else ""
        return self._written(await self._database.write(work, store_trouble.kind(needs), first=first))

    async def unsent(
        self, limit: int, away: Away = NOTHING_AWAY, *, only: frozenset[str] = EVERYTHING
    ) -> Sequence[tuple[int, Outgoing]]:
        """Return events that this worker wrote; if it leads, also orphaned events and due resends."""
        if not self._has_relay:
            return ()

        def is_ready(event: Outgoing) -> bool:
            return event.topic in only and not away.holds(event)

        due: Sequence[ResendRequest] = ()
        # The other loop may be looking. Events of our own do not wait for that.
        if self._walk(only).begins_look(is_hungry=not self._unsent.has_any(is_ready)):
            async with self._one_look_at_a_time:
                if unmarked := self._unsent.unmarked:
                    self._unsent.forget(await self._database.write(partial(self._marks.mark_free, numbers=unmarked)))
                due = await self._look(limit, away, only)
        batch = self._unsent.next_batch(limit, is_ready)
        return batch + self._resends.start(due) if topics.ORDER_STATE in only else batch

    async def mark_sent(self, numbers: Sequence[int]) -> None:
        try:
            marked = await self._database.write(partial(self._marks.mark, numbers=numbers), first=BRIEFLY)
        except RowsLocked:
            marked = await self._database.write(partial(self._marks.mark_free, numbers=numbers))
            self._unsent.keep_unmarked(set(numbers).difference(marked))
        self._unsent.forget(marked)
        self._resends.forget(numbers)

    async def set_aside(self, numbers: Sequence[int]) -> None:
        self._unsent.set_aside(numbers)

    def _walk(self, only: frozenset[str]) -> OrphanWalk:
        return self._walks.setdefault(only, OrphanWalk(only, self._now_s))

    async def _look(self, limit: int, away: Away, only: frozenset[str]) -> Sequence[ResendRequest]:
        """If this worker leads, adopt orphaned events; return the due resends, but of no event that we send anyway."""
        walk = self._walk(only)
        if not await self.sending.leads():
            walk.forget_sight()
            return ()
        if self._unsent.is_full(only):
            self._unsent.leave(away.holds)
            walk.walk_again()
        walk.heed(away)
        room = 0 if self._unsent.is_full(only) else limit
        resends_max = limit if topics.ORDER_STATE in only - away.topics else 0

        async def work(
            connection: SqlConnection, *, around_locks: bool = False
        ) -> tuple[WalkStep, Sequence[ResendRequest]]:
            now_ms = self._now_ms()
            found = await walk.find(connection, room, own=self._unsent, away=away)
            if around_locks:
                found = structs.replace(found, orphans=await outbox.free_orphans(connection, found.orphans))
            await outbox.request_resends(connection, found.orphans, own=self._unsent, now_ms=now_ms)
            due = await state_resend.take_due(connection, resends_max, now_ms=now_ms) if resends_max else ()
            return found, due

        try:
            found, due = await self._database.write(work, first=BRIEFLY)
        except RowsLocked:
            found, due = await self._database.write(partial(work, around_locks=True), first=BRIEFLY)
        walk.moved(found)
        self._unsent.adopt(found.orphans)
        return [request for request in due if request.newest not in self._unsent]

    # workers.queries.OrdersPort

    async def order_page(self, scope: str, number: str) -> queries.OrderPage | None:
        return await self._reads.read(
            lambda connection: lookups.order_page(connection, scope, number), of_one_moment=True
        )

    async def movements(
        self, scope: str, number: str, *, after: int, limit: int
    ) -> Sequence[tuple[int, Movement]] | None:
        return await self._reads.read(
            lambda connection: lookups.order_movements(connection, scope, number, after=after, limit=limit),
            of_one_moment=True,
        )

    async def find(self, number: str) -> Sequence[tuple[str, str]]:
        return await self._reads.read(lambda connection: lookups.find(connection, number))

    async def notifications(self, number: str) -> Sequence[Delivery]:
        return await self._reads.read(lambda connection: lookups.notifications(connection, number))

    async def notification(self, id_: str) -> queries.NotificationPage | None:
        if (position := position_of(id_)) is None:
            return None
        return await self._reads.read(lambda connection: lookups.notification(connection, position))

    async def order_list(self, query: queries.OrderQuery) -> queries.OrderList:
        return await self._reads.read(lambda connection: order_lists.page(connection, query))

    async def events_after(self, number: int, limit: int) -> Sequence[queries.Emitted]:
        """Return the events and notices after this number of the outbox, oldest first."""
        return await self._reads.read(lambda connection: self._feed.after(connection, number, limit))

    async def newest_event(self) -> int:
        """Return the highest number in the outbox: `events_after` it returns only events that are new."""
        return await self._reads.read(outbox.highest_number)

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
        async def work(connection: SqlConnection) -> SettleResult:
            now_ms = self._now_ms()
            settled = await settling.register(connection, (scope, number), refunds, decide, now_ms=now_ms)
            await audit.note(connection, "register", [f"{scope}:{number}"], by=by, why=why, now_ms=now_ms)
            return settled

        return self._written(await self._database.write(work))

    # workers.queries.HeldPort

    async def held_list(self, query: queries.HeldQuery) -> Sequence[queries.HeldPage]:
        return await self._reads.read(lambda connection: held_lookups.list_(connection, query))

    async def held_groups(self, query: queries.HeldQuery) -> Sequence[queries.HeldGroup]:
        return await self._reads.read(lambda connection: held_lookups.groups(connection, query))

    async def held_page(self, id_: str) -> queries.HeldPage | None:
        if (position := position_of(id_)) is None:
            return None
        return await self._reads.read(lambda connection: held_lookups.page(connection, position))

    async def wake_more(self) -> bool:
        return await NotedWakes(self._database, self._now_ms).go_on()

    async def due(self, *, now_ms: int, limit: int) -> Sequence[HeldRow]:
        return await self._database.read(lambda connection: held_lookups.due(connection, now_ms, limit))

    async def next_due_ms(self) -> int | None:
        return await self._database.read(held_lookups.next_due_ms)

    async def note_replay(
        self, ids: Sequence[str], *, by: str, why: str, now_ms: int, replay: int | None = None
    ) -> None:
        positions = [position for position in map(position_of, ids) if position is not None]
        await audit.note_replay(self._database, positions, by=by, why=why, now_ms=now_ms, replay=replay)

    async def counts(self) -> queries.Counts:
        return await self._reads.read(partial(held_lookups.counts, now_ms=self._now_ms()), of_one_moment=True)

    # workers.replays.ReplaysPort

    async def start_replay(self, new: NewTask, *, now_ms: int) -> ReplayTask:
        return await self._database.write(lambda connection: replays.start(connection, new, now_ms=now_ms))

    async def replay(self, number: int) -> ReplayTask | None:
        return await self._reads.read(lambda connection: replays.one(connection, number))

    async def replays(self, limit: int, before: int | None = None) -> TaskList:
        return await self._reads.read(lambda connection: replays.newest(connection, limit, before))

    async def running_replay(self, *, aside: Collection[int] = ()) -> ReplayTask | None:
        return await self._database.read(lambda connection: replays.running(connection, aside))

    async def switch_replay(
        self, number: int, *, before: ReplayState, after: ReplayState, by: str, why: str, now_ms: int
    ) -> bool:
        return await self._database.write(
            lambda connection: replays.switch(connection, number, before, after, by=by, why=why, now_ms=now_ms)
        )

    async def advance_replay(self, task: ReplayTask, upto: queries.HeldPlace | None, *, now_ms: int) -> None:
        await self._database.write(lambda connection: replays.advance(connection, task, upto, now_ms))

    # housekeeping

    async def prune_sent(self, *, older_than_ms: int) -> bool:
        """Delete some events that were acknowledged before that moment. Return whether more may be left; if not, the
        next call starts again with the oldest.

        The newest event of each order stays: its successor is checked against it, and a new consumer may start from it.
        """
        after = self._pruned_upto
        last = await self._database.write(
            lambda connection: outbox.prune(connection, after=after, older_than_ms=older_than_ms)
        )
        self._pruned_upto = last or 0
        return last is not None

    async def add_up_counts(self) -> bool:
        """Add some changes to the counts of held notifications; return whether there were any."""
        if not await self._database.read(held_lookups.has_changes):
            return False
        return await self._database.write(held_lookups.add_up) > 0

    def _written(self, settled: SettleResult) -> WritePlan:
        if self._has_relay and not self._unsent.add(settled):
            for walk in self._walks.values():
                walk.walk_again()
        if settled.woken:
            self.woken.set()
        return settled.plan
