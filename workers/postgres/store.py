"""The order store of the cluster engine: the workers' ports, over one PostgreSQL database that many workers share.

`settle` is one transaction: lock, load, decide, write, COMMIT. Offsets are the log's own affair and are committed after
it, so the log may deliver again what is settled, and the store knows it by its position.

Positions belong to one log. A topic that was made anew counts from 0 again, and its records would pass for settled:
whoever composes a worker compares `last_settled` with the end of each partition, and refuses a log that ends before it.
Where it ends after it, the first record that has a settled one's position tells (`workers.processing`).
"""

import asyncio
from collections.abc import Callable, Sequence

from schemas import record_format
from schemas.events import Outgoing
from schemas.orders import Order
from workers.postgres import audit, lookups, migrations, outbox, settling, state_resend
from workers.postgres.database import Database, DatabaseLimits, SqlConnection
from workers.postgres.feed import Feed
from workers.postgres.leadership import Leadership
from workers.postgres.outbox import UnsentEvents
from workers.postgres.settling import SettleResult
from workers.postgres.state_resend import ResendRequest, StateResends
from workers.queries import Counts, Emitted, HeldPage, HeldQuery, OrderPage
from workers.settlement.plan import Decide, HeldRow, LoadRequest, LogRecord, Position, WritePlan, position_of

# Two roles, since a worker that stands still sweeps no more and goes on sending: were it one, it would keep the others
# from sweeping.
SWEEPING, SENDING = "sweeping", "sending"

OFFSET_MAX = 2**63 - 1  # no log has as many records


class PostgresOrderStore:
    """The open store of one process. One that has no relay leaves the events it writes to the worker that leads.

    `woken` is set whenever this worker made parked notifications come due early; a sweeper in another process finds
    them when it looks. `leadership` tells whether sweeping is this worker's business, `sending` whether what others
    left behind is.
    """

    def __init__(self, database: Database, *, holder: str, now_ms: Callable[[], int], has_relay: bool = True) -> None:
        self.woken = asyncio.Event()
        self.leadership = Leadership(database, role=SWEEPING, holder=holder)
        self.sending = Leadership(database, role=SENDING, holder=holder)
        self._database = database
        self._now_ms = now_ms
        self._has_relay = has_relay
        self._fresh = UnsentEvents()
        self._repeats = StateResends()
        self._looked_at_ms = 0  # for what was left behind, and what is to be repeated
        self._pruned_upto = 0  # the number of an event
        self._feed = Feed()

    @classmethod
    async def open(
        cls,
        dsn: str,
        *,
        holder: str,
        now_ms: Callable[[], int],
        limits: DatabaseLimits | None = None,
        has_relay: bool = True,
    ) -> "PostgresOrderStore":
        """The store in this database, for a process that is called `holder` and nobody else is.

        Raises:
            NotUsable: it lacks steps of the schema, or does not keep what it commits.
            Infrastructure: it cannot be reached now.
        """
        database = await Database.open(dsn, limits=limits or DatabaseLimits())
        try:
            await database.read(migrations.check)
        except BaseException:
            await database.close()
            raise
        return cls(database, holder=holder, now_ms=now_ms, has_relay=has_relay)

    @property
    def trouble(self) -> str | None:
        """What the last transaction failed of; `None` while all is well."""
        return self._database.trouble

    async def close(self) -> None:
        """Hand over what this worker leads, finish the transaction under way, and close the connections."""
        await self.leadership.resign()
        await self.sending.resign()
        await self._database.close()

    async def last_settled(self, partition: int, *, below: int | None = None) -> int | None:
        """The highest offset of the partition that has a disposition, among those `below`; `None` where none has."""
        end = OFFSET_MAX if below is None else below
        return await self._database.read(lambda connection: settling.last_settled(connection, partition, end))

    async def all_settled(self, positions: Sequence[Position]) -> bool:
        """Whether each of the positions, which are all different, has a disposition."""
        found = await self._database.read(lambda connection: settling.count_settled(connection, positions))
        return found == len(positions)

    async def are_settled(self, records: Sequence[LogRecord]) -> bool:
        """Whether each of the records is what was settled at its position: one that was received at that moment."""
        try:
            moments = [record_format.decode(logged.record).received_at_ms for logged in records]
        except (record_format.BadRecord, record_format.NewerRecord):
            return False
        positions = [logged.position for logged in records]
        found = await self._database.read(lambda connection: settling.count_same(connection, positions, moments))
        return found == len(records)

    async def settled_between(self, partition: int, first: int, end: int) -> int:
        """How many records of the partition, from `first` up to and not including `end`, have a disposition."""
        return await self._database.read(lambda connection: settling.settled_between(connection, partition, first, end))

    async def note(self, action: str, subjects: Sequence[str], *, by: str, why: str) -> None:
        """Leave an audit row for each subject of what somebody did."""

        async def work(connection: SqlConnection) -> None:
            await audit.note(connection, action, subjects, by=by, why=why, now_ms=self._now_ms())

        await self._database.write(work)

    # workers.processing.Store

    async def settle(self, needs: LoadRequest, decide: Decide) -> WritePlan:
        async def work(connection: SqlConnection) -> SettleResult:
            return await settling.settle(connection, needs, decide, now_ms=self._now_ms())

        return self._written(await self._database.write(work))

    async def unsent(self, limit: int) -> Sequence[tuple[int, Outgoing]]:
        """What this worker wrote, and, where it leads, what was left behind and what is to be repeated: also while it
        always has some of its own, or one that no topic takes."""
        if not self._has_relay:
            return ()
        now_ms = self._now_ms()
        repeated: Sequence[ResendRequest] = ()
        if not self._fresh or abs(now_ms - self._looked_at_ms) >= outbox.LOOK_EVERY_MS:  # clocks are set back, too
            self._looked_at_ms = now_ms
            if await self.sending.leads():
                repeated = await self._look(limit, now_ms)
        return self._fresh.offer(limit) + self._repeats.offer(repeated)

    async def mark_sent(self, numbers: Sequence[int]) -> None:
        repeated = self._repeats.done(numbers)
        first = self._fresh.ids(numbers)
        doubtful = self._fresh.doubtful(first)

        async def work(connection: SqlConnection) -> None:
            now_ms = self._now_ms()
            if first:
                await outbox.mark_sent(connection, first, doubtful=doubtful, now_ms=now_ms)
            if repeated:
                await state_resend.settle(connection, repeated, now_ms=now_ms)

        await self._database.write(work)
        self._fresh.forget(numbers)
        self._repeats.forget(numbers)

    async def _look(self, limit: int, now_ms: int) -> list[ResendRequest]:
        """Take up what was left behind; what is to be repeated, but for what we are about to send anyway."""

        async def work(connection: SqlConnection) -> tuple[Sequence[Emitted], Sequence[ResendRequest]]:
            left = await outbox.take_up(connection, limit, ours=self._fresh, now_ms=now_ms)
            return left, await state_resend.take(connection, limit, now_ms=now_ms)

        left, taken = await self._database.write(work)
        self._fresh.took_up(left)
        return [asked for asked in taken if asked.newest not in self._fresh]

    # workers.queries.OrdersPort

    async def order_page(self, account: str, number: str) -> OrderPage | None:
        return await self._database.read(
            lambda connection: lookups.order_page(connection, account, number), of_one_moment=True
        )

    async def find(self, number: str) -> Sequence[tuple[str, str]]:
        return await self._database.read(lambda connection: lookups.find(connection, number))

    async def recent(self, limit: int) -> Sequence[OrderPage]:
        return await self._database.read(lambda connection: lookups.recent(connection, limit))

    async def events_after(self, number: int, limit: int) -> Sequence[Emitted]:
        """Events and notices behind this number of the outbox, oldest first."""
        return await self._database.read(lambda connection: self._feed.after(connection, number, limit))

    async def newest_event(self) -> int:
        """The highest number in the outbox: whoever asks for what comes after it learns of what is new."""
        return await self._database.read(outbox.newest)

    async def register(
        self,
        account: str,
        number: str,
        refunds: Sequence[str],
        decide: Callable[[Order | None], WritePlan],
        *,
        by: str,
        why: str,
    ) -> WritePlan:
        async def work(connection: SqlConnection) -> SettleResult:
            now_ms = self._now_ms()
            settled = await settling.register(connection, (account, number), refunds, decide, now_ms=now_ms)
            await audit.note(connection, "register", [f"{account}:{number}"], by=by, why=why, now_ms=now_ms)
            return settled

        return self._written(await self._database.write(work))

    # workers.queries.HeldPort

    async def held_list(self, query: HeldQuery) -> Sequence[HeldPage]:
        return await self._database.read(lambda connection: lookups.held_list(connection, query))

    async def held_page(self, id_: str) -> HeldPage | None:
        position = position_of(id_)
        if position is None:
            return None
        return await self._database.read(lambda connection: lookups.held_page(connection, position))

    async def due(self, *, now_ms: int, limit: int) -> Sequence[HeldRow]:
        return await self._database.read(lambda connection: lookups.due(connection, now_ms, limit))

    async def next_due_ms(self) -> int | None:
        return await self._database.read(lookups.next_due_ms)

    async def discard(self, id_: str, *, by: str, why: str, now_ms: int) -> bool:
        position = position_of(id_)
        if position is None:
            return False
        return await self._database.write(
            lambda connection: audit.discard(connection, position, by=by, why=why, now_ms=now_ms)
        )

    async def note_replay(self, ids: Sequence[str], *, by: str, why: str, now_ms: int) -> None:
        positions = [position for position in map(position_of, ids) if position is not None]
        await self._database.write(
            lambda connection: audit.note_replay(connection, positions, by=by, why=why, now_ms=now_ms)
        )

    async def counts(self) -> Counts:
        return await self._database.read(lookups.counts, of_one_moment=True)

    # upkeep

    async def prune_sent(self, *, older_than_ms: int) -> bool:
        """Delete some events that were acknowledged before that moment; whether there may be more of them. Where there
        are none, the next call begins anew with the oldest.

        The newest event of each order stays: its successor is checked against it, and a new consumer may start from it.
        """
        after = self._pruned_upto
        last = await self._database.write(
            lambda connection: outbox.prune(connection, after=after, older_than_ms=older_than_ms)
        )
        self._pruned_upto = last or 0
        return last is not None

    def _written(self, settled: SettleResult) -> WritePlan:
        if self._has_relay:
            self._fresh.wrote(settled)
        if settled.woken:
            self.woken.set()
        return settled.plan
