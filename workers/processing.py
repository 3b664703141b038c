"""One batch of records: read, decide and apply, and hold what cannot be applied. `workers.consumer` calls `process`.

    read      each record by itself: size, format, signature, meaning; a record's own failure is noted, not raised
    decide    pure, inside the store's transaction, on what the store knows  (`workers.settlement.decision`)
    apply     one transaction: dispositions, ledger, orders, held notifications, events for the outbox
    hold      a record that cannot be applied becomes a dead letter: the batch is halved until that record is alone
    limit     reading and deciding are interrupted after a time (`workers.time_limit`), and settling is cancelled after
              `SETTLING_MAX_S`: the record on which they would never return becomes a dead letter like this too
    set aside one that needs a row which another session of the database has locked is parked; the others go on

Here are also `retry`, for held notifications (`workers.settlement.parking` has their life), and `emit`, for the relay.

A redelivered record is recognised by its position, so processing a batch again changes nothing. Trouble with
infrastructure is raised to the caller, which retries the same batch; it holds no record and counts no attempt.
"""

import asyncio
import random
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from functools import partial
from typing import Protocol

from msgspec import Struct, structs

from schemas import scopes
from schemas.accounts import Account
from schemas.dispositions import Reason
from workers import emission, record_reader, traces
from workers.dead_letters import DeadLetters
from workers.emission import EmissionObserver, Events, UnsentStore
from workers.errors import (
    DecisionFailed,
    InfrastructureDamaged,
    InfrastructureDown,
    NeverSettled,
    RecordRefused,
    RowsLocked,
    TooManyDeadLetters,
)
from workers.record_reader import AccountsFiles, Authenticate, FixedFiles, RecordReader
from workers.settlement import decision, identity, loading, parking
from workers.settlement.plan import Decide, HeldRow, LoadRequest, LogRecord, ParsedRecord, StoreSnapshot, WritePlan
from workers.time_limit import TimeLimit, TookTooLong
from workers.traces import NOT_TRACED, Tracing

MET_LATELY_S = 30.0
LIMIT_S = 5.0  # a batch is decided in a twentieth of a second
HALVES_SHARE = 1 / 16  # of the limit: a record of five hundred is alone before the limit has passed a second time
SETTLING_MAX_S = 60.0  # longer than every limit of the stores' own: what takes longer is our bug, not an outage

_END_PROCESS = (KeyboardInterrupt, SystemExit, GeneratorExit)  # never a record's failure


class Store(UnsentStore, Protocol):
    """The order store: dispositions, orders, held notifications and the outbox, in one database."""

    async def settle(self, needs: LoadRequest, decide: Decide) -> WritePlan:
        """Load and lock what the batch needs, decide, and write the plan, in one transaction.

        The store may run `decide` on a thread of its own, and again if the transaction is repeated. When this returns,
        the transaction is committed and durable.

        Raises:
            RowsLocked: another session holds a row for longer than the store waits; nothing is written. With
                `needs.around_locks` the store does not wait for orders: the snapshot names those that are locked.
            VersionConflict: another worker wrote first; nothing is written.
            RecordRefused: the store cannot hold a value of the plan; nothing is written.
            InfrastructureDown: anything else. The plan may be written or not; settling the batch again finds out.
        """


class ProcessingObserver(EmissionObserver, Protocol):
    """Observes each step after the fact: metrics, log lines, long polls. Best effort."""

    def settled(self, plan: WritePlan, parsed_records: Sequence[ParsedRecord]) -> None: ...


class ForeignLocks:
    """Whether other sessions of the database have kept rows locked lately: then no batch waits for a lock first."""

    def __init__(self) -> None:
        self._until_s = float("-inf")

    def meet(self) -> None:
        """Note that a lock was met."""
        self._until_s = time.monotonic() + MET_LATELY_S

    @property
    def met_lately(self) -> bool:
        return time.monotonic() < self._until_s


class AccountsState(Struct, frozen=True):
    """The accounts by which the records of a batch were read, by scope, and the version of the files that had them."""

    accounts: Mapping[str, Account]
    version: int


class Processing:
    """Brings records to their dispositions, and events to their topics, for the loops of one worker.

    `events` are the topics of order events; also those of notices, if there are no `notices`.
    """

    def __init__(
        self,
        *,
        accounts: Mapping[str, Account],
        authenticate: Authenticate,
        store: Store,
        events: Events,
        notices: Events | None = None,
        observer: ProcessingObserver,
        now_ms: Callable[[], int],
        chance: Callable[[], float] = random.random,
        dead_letters: DeadLetters | None = None,
        files: AccountsFiles | None = None,
        time_limit: TimeLimit | None = None,
        settling_max_s: float = SETTLING_MAX_S,
        tracing: Tracing = NOT_TRACED,
    ) -> None:
        self.dead_letters = dead_letters or DeadLetters()
        self._accounts = accounts
        self._files = files or FixedFiles()
        self._foreign_locks = ForeignLocks()
        self._reader = RecordReader(accounts, authenticate, self._files)
        self.time_limit = time_limit or TimeLimit(LIMIT_S)
        self._settling_max_s = settling_max_s
        self._tracing = tracing
        self._store = store
        self._events = events
        self._notices = notices
        self._observer = observer
        self._now_ms = now_ms
        self._chance = chance

    def read(self, log_record: LogRecord, *, now_ms: int, held: HeldRow | None = None) -> ParsedRecord:
        """Return the record with its notification, or with the reason why it has none, within the time limit."""
        return self._read_some([(log_record, held)], now_ms)[0]

    async def process(self, batch: Sequence[LogRecord]) -> None:
        """Bring every record of the batch to its disposition. All have one, durably, when this returns.

        Raises:
            InfrastructureDown: process the same batch again later; after `RowsLocked`, the other records have theirs.
            TooManyDeadLetters: the records are held, but too many in a row were dead by our own fault; stop.
        """
        if left := await self._handle([(log_record, None) for log_record in batch]):
            raise RowsLocked(f"another session of the database has locked what the row of {left[0].position} needs")

    async def retry(self, rows: Sequence[HeldRow]) -> None:
        """Process held notifications again, as if their records had just arrived; for the sweeper and for a replay."""
        with self._tracing.batch(rows):
            left = await self._handle([(LogRecord(row.position, row.record), row) for row in rows])
        if left:
            # The others are settled. This one's held row is locked, so that not even its due time can change.
            raise RowsLocked(f"another session of the database has locked the held row {left[0].position}")

    async def set_aside(self, log_record: LogRecord) -> None:
        """Hold a record as a dead letter without reading it: reading or deciding it ends the process.

        Raises:
            InfrastructureDown: do it again later.
        """
        await self._hold_dead(record_reader.fatal(log_record, now_ms=self._now_ms(), held=None))

    async def set_aside_row(self, row: HeldRow) -> None:
        """Hold a held notification as such a dead letter, instead of retrying it.

        Raises:
            InfrastructureDown: as `set_aside`.
        """
        log_record = LogRecord(row.position, row.record)
        await self._hold_dead(record_reader.fatal(log_record, now_ms=self._now_ms(), held=row))

    async def _handle(self, batch: Sequence[tuple[LogRecord, HeldRow | None]]) -> Sequence[ParsedRecord]:
        """Read and settle the batch; return what `_settle` leaves as it was.

        When reading a record was interrupted, settle first what is read. So the event loop gets its turns, and the dead
        letters are counted, even if reading never returns for any record of the batch.
        """
        left: list[ParsedRecord] = []
        while batch:
            started = time.perf_counter()
            parsed_records, read_by = await self._read_all(batch)
            self._observer.step("read", time.perf_counter() - started)
            left += await self._settle(parsed_records, read_by)
            batch = batch[len(parsed_records) :]
        return left

    async def _read_all(
        self, batch: Sequence[tuple[LogRecord, HeldRow | None]]
    ) -> tuple[Sequence[ParsedRecord], AccountsState]:
        """Read the batch by one state of accounts and keys, up to a record whose reading was interrupted.

        If a record lacks its account or its key, have the files read first: its receiver may have read newer ones.
        """
        parsed_records, read_by = self._read_once(batch)
        if any(parsed.failure is not None and parsed.failure.waits_for for parsed in parsed_records):
            await self._files.read_again()
            if self._files.version != read_by.version:
                return self._read_once(batch)
        return parsed_records, read_by

    def _read_once(
        self, batch: Sequence[tuple[LogRecord, HeldRow | None]]
    ) -> tuple[Sequence[ParsedRecord], AccountsState]:
        now_ms = self._now_ms()
        parsed_records = self._read_some(batch, now_ms)
        # Keep the accounts: a reload may replace them before the batch is decided.
        found = {parsed.account for parsed in parsed_records if parsed.notification is not None}
        accounts = {scope: self._accounts[scopes.account_of(scope)] for scope in found}
        return parsed_records, AccountsState(accounts, self._files.version)

    def _read_some(self, batch: Sequence[tuple[LogRecord, HeldRow | None]], now_ms: int) -> Sequence[ParsedRecord]:
        """Read records of the batch, up to one whose reading was interrupted."""
        opened, interrupted = self.time_limit.run_each(partial(self._reader.open, now_ms=now_ms), batch, "read")
        parsed_records, late = self.time_limit.run_each(self._reader.read, opened, "read")
        if late is None and len(parsed_records) == len(opened):
            late = interrupted
        if late is not None:
            log_record, held = batch[len(parsed_records)]
            parsed_records.append(record_reader.unread(log_record, late, now_ms=now_ms, held=held))
        return parsed_records

    async def _settle(
        self, parsed_records: Sequence[ParsedRecord], read_by: AccountsState, *, limit_s: float | None = None
    ) -> Sequence[ParsedRecord]:
        """Decide and apply. If a record of the batch cannot be applied, halve the batch until that record is alone.

        Return those that stay as they were, because another session has locked even the rows that would hold them.
        """
        around_locks = self._foreign_locks.met_lately
        if len(parsed_records) == 1:
            limit_s = None  # the whole one: a shorter one might hold a sound record
        try:
            await self._apply(parsed_records, read_by, around_locks=around_locks, limit_s=limit_s)
        except RowsLocked:
            self._foreign_locks.meet()
            if not around_locks:
                return await self._settle(parsed_records, read_by, limit_s=limit_s)
            if len(parsed_records) == 1:
                return await self._left(parsed_records[0], self._set_aside(parsed_records[0]))
        except (InfrastructureDown, TooManyDeadLetters, asyncio.CancelledError):
            raise
        except Exception as error:
            if len(parsed_records) == 1:
                return await self._left(parsed_records[0], self._hold(parsed_records[0], error))
            if isinstance(error.__cause__, TookTooLong):
                limit_s = self.time_limit.limit_s * HALVES_SHARE
        else:
            return []
        middle = len(parsed_records) // 2
        left = await self._settle(parsed_records[:middle], read_by, limit_s=limit_s)
        return [*left, *await self._settle(parsed_records[middle:], read_by, limit_s=limit_s)]

    async def _left(self, parsed: ParsedRecord, holding: Awaitable[None]) -> Sequence[ParsedRecord]:
        """Hold the record. Return it if its rows are locked: then the others of its batch come first."""
        try:
            await holding
        except RowsLocked:
            self._foreign_locks.meet()
            return [parsed]
        return []

    async def _set_aside(self, parsed: ParsedRecord) -> None:
        """Park a record that needs a row which another session has locked.

        Raises:
            RowsLocked: its own rows meet a lock too.
        """
        try:
            await self._apply([record_reader.locked(parsed)], AccountsState({}, self._files.version), around_locks=True)
        except (InfrastructureDown, TooManyDeadLetters, asyncio.CancelledError):
            raise
        except Exception as error:
            await self._hold(parsed, error)

    async def emit(self, limit: int = 500) -> int:
        """Publish events of the outbox: all of them, or only order events if notices have topics of their own.

        Raises:
            InfrastructureDown: as `emission.emit`.
        """
        only = emission.EVERYTHING if self._notices is None else emission.ORDER_EVENTS
        return await emission.emit(self._store, self._events, self._observer, limit, only=only, tracing=self._tracing)

    async def emit_notices(self, limit: int = 500) -> int:
        """Publish the notices of the outbox, if they have topics of their own."""
        if self._notices is None:
            return 0
        only = emission.NOTICES
        return await emission.emit(self._store, self._notices, self._observer, limit, only=only, tracing=self._tracing)

    async def _apply(
        self,
        parsed_records: Sequence[ParsedRecord],
        read_by: AccountsState,
        *,
        around_locks: bool = False,
        limit_s: float | None = None,
    ) -> None:
        """Decide the batch and write the plan, in one transaction of the store; return once it is committed."""
        started = time.perf_counter()
        trace = self._tracing.current  # asked here: the store may decide on a thread of its own
        deciding: list[tuple[float, float]] = []

        def decide(snapshot: StoreSnapshot) -> WritePlan:
            if snapshot.prior_deliveries:
                _check_same_log(parsed_records, snapshot)
            try:
                # The time is asked here: the transaction may have waited long for its locks.
                now_ms = self._now_ms()
                began = 0.0 if trace is None else time.perf_counter()
                decided = partial(decision.decide, parsed_records, snapshot, read_by.accounts)
                decided = partial(decided, now_ms=now_ms, chance=self._chance)
                plan = self.time_limit.run(decided, "decide", limit_s=limit_s)
                is_reloaded = self._files.version != read_by.version
                if trace is not None:
                    deciding.append((began, time.perf_counter()))
                    plan.events = traces.marked(plan.events, parsed_records, trace)
                plan.wakes.update(parking.learnt_meanwhile(parsed_records, self._accounts, is_reloaded=is_reloaded))
                return plan
            except _END_PROCESS:
                raise
            except BaseException as error:
                raise DecisionFailed(type(error).__name__) from error

        needs = loading.load_request(parsed_records)
        plan = await self._settled(structs.replace(needs, around_locks=True) if around_locks else needs, decide)
        now = time.perf_counter()
        for began, ended in deciding:
            self._tracing.step("decide", ended - began, ago_s=now - ended)
        self._observer.step("apply", now - started)
        self._observer.settled(plan, parsed_records)
        if around_locks and any(delivery.reason is Reason.LOCKED for delivery in plan.deliveries):
            self._foreign_locks.meet()
        self.dead_letters.count(plan, parsed_records)

    async def _settled(self, needs: LoadRequest, decide: Decide) -> WritePlan:
        """Have the store settle the batch.

        Raises:
            NeverSettled: it waits for something that does not come. The store may still write the plan, so that the
                batch is found settled when it is tried again.
        """
        try:
            async with asyncio.timeout(self._settling_max_s) as deadline:
                return await self._store.settle(needs, decide)
        except TimeoutError as error:
            if not deadline.expired():
                raise
            raise NeverSettled(f"settling did not end within {self._settling_max_s:g} s") from error

    async def _hold(self, parsed: ParsedRecord, error: Exception) -> None:
        """Hold a record that cannot be applied as a dead letter, with its bytes.

        Raises:
            RowsLocked: its own rows meet a lock.
            InfrastructureDown: the store refuses even this row, so the batch must wait for an operator or a fix.
        """
        cause = error.__cause__ if isinstance(error, DecisionFailed) and error.__cause__ else error
        await self._hold_dead(record_reader.dead_letter(parsed, cause))

    async def _hold_dead(self, dead: ParsedRecord) -> None:
        try:
            await self._apply(
                [dead], AccountsState({}, self._files.version), around_locks=self._foreign_locks.met_lately
            )
        except (RecordRefused, NeverSettled) as failed:
            why = "refused" if isinstance(failed, RecordRefused) else "did not answer when asked"
            raise InfrastructureDown(f"the store {why} to hold a dead letter") from failed


def _check_same_log(parsed_records: Sequence[ParsedRecord], snapshot: StoreSnapshot) -> None:
    """Check that redelivered records are those that the store has processed at their positions.

    A position alone proves nothing. If two logs share a store, or a topic was created anew, positions repeat, and each
    record at a repeated position would be skipped as processed.

    Raises:
        InfrastructureDamaged: the record processed at a position had another id and another receive time.
    """
    for parsed in parsed_records:
        prior = snapshot.prior_deliveries.get(parsed.position) if parsed.held is None else None
        if prior is None or prior.received_at_ms == parsed.received_at_ms:
            continue
        ids = identity.ids_of(parsed)
        if ids and prior.notification_id and prior.notification_id not in ids:
            raise InfrastructureDamaged(
                f"the store has processed another record at {parsed.position} than the log holds there: the topic was "
                "created anew, or the store belongs to another log. Give each log a store of its own"
            )
