"""The workers' story: what happens to a batch of records, from the log to the committed position.

    read      each record on its own; a record's own fault is written down, never raised
    claim     set aside what another worker is at (an optimisation: the store decides, see `workers.locks`)
    decide    pure, inside the store's transaction, on what the store knows  (`workers.settlement.decision`)
    apply     one transaction: dispositions, ledger, orders, held notifications, outgoing events
    commit    the position, when everything before it has a disposition
    emit      beside all that: the events, acknowledged by their topic in version order, then marked

Each step follows the durable thing it announces. If we die anywhere, the batch is delivered again, and each record that
has a disposition is recognised by its position. Trouble with infrastructure pauses: the same batch is tried again and
nobody's attempts are counted. Only what is a record's own fault may hold that record; then the batch is halved until
the one is found.
"""

import asyncio
import hashlib
import random
import time
import traceback
from collections.abc import Callable, Mapping, Sequence
from typing import Protocol

from schemas import interpret, record_format
from schemas.accounts import Account
from schemas.dispositions import Disposition, Reason
from schemas.events import Outgoing
from schemas.notification import Notification, Unreadable
from schemas.record_format import Record, RecordContents
from workers.errors import (
    DecisionFailed,
    EventRefused,
    InfrastructureDamaged,
    InfrastructureDown,
    RecordRefused,
    TooManyDeadLetters,
)
from workers.settlement import decision
from workers.settlement.plan import (
    Decide,
    HeldRow,
    LoadRequest,
    LogRecord,
    ParsedRecord,
    ParseFailure,
    StoreSnapshot,
    WritePlan,
)

RECORD_BYTES_MAX = 256 * 1024  # four times the largest body a receiver takes; beyond it no receiver of ours wrote it
DEAD_RUN_MAX = 20  # so many dead in a row are not twenty broken records but one broken program
HEADERS_MAX = 64  # the receiver writes at most twelve
HEADER_BYTES_MAX = 4096
DETAIL_CHARACTERS_MAX = 1000

_NEVER_OURS = (KeyboardInterrupt, SystemExit, GeneratorExit)  # somebody wants the process to end


class Store(Protocol):
    """Where dispositions, orders, held notifications and outgoing events are kept, in one database."""

    async def settle(self, needs: LoadRequest, decide: Decide) -> WritePlan:
        """Load and lock what is needed, decide, write the plan, in one transaction.

        When this returns, the transaction is committed and durable.

        Raises:
            Fenced: an order's version was not the expected one; nothing is written.
            RecordRefused: the store cannot hold what the plan says; nothing is written.
            InfrastructureDown: anything else. Whether something was written is unknown; settling again finds out.
        """

    async def unsent(self, limit: int) -> Sequence[tuple[int, Outgoing]]:
        """Outgoing events that no topic has acknowledged yet, oldest first, each with its number in the outbox."""

    async def mark_sent(self, numbers: Sequence[int]) -> None:
        """Remember that these were acknowledged. Forgetting it sends them again, with the same ids."""


class Events(Protocol):
    """The topics that consumers read."""

    async def publish(self, events: Sequence[Outgoing]) -> None:
        """Returns when all are acknowledged, in the order given.

        Raises:
            EventRefused: all are that can be.
            InfrastructureDown: some may be there, some not.
        """


class Authenticate(Protocol):
    """The signature check of the receiver, once more: what lies in the log proves nothing by lying there."""

    def __call__(self, sealed: RecordContents, account: Account, *, anew: bool = False) -> None:
        """Returns for an authentic record; raises anything else for one that nobody signed for this account.

        `anew`: by the keys of now, whoever has verified it before.
        """


class ProcessingObserver(Protocol):
    """Those who want to know, without a guarantee: metrics, logs, long polls."""

    def settled(self, plan: WritePlan, parsed_records: Sequence[ParsedRecord]) -> None: ...
    def emitted(self, events: Sequence[Outgoing]) -> None: ...
    def step(self, name: str, seconds: float) -> None: ...


class Processing:
    """The story, with everything it calls."""

    def __init__(
        self,
        *,
        accounts: Mapping[str, Account],
        authenticate: Authenticate,
        store: Store,
        events: Events,
        observer: ProcessingObserver,
        now_ms: Callable[[], int],
        chance: Callable[[], float] = random.random,
        dead_run_max: int = DEAD_RUN_MAX,
    ) -> None:
        self._accounts = accounts
        self._authenticate = authenticate
        self._store = store
        self._events = events
        self._observer = observer
        self._now_ms = now_ms
        self._chance = chance
        self._dead_run = 0
        self._dead_run_max = dead_run_max

    async def process(self, batch: Sequence[LogRecord]) -> None:
        """Bring every record of the batch to its disposition. When this returns, all of them have one, durably.

        Raises:
            InfrastructureDown: try the same batch again later.
            TooManyDeadLetters: stop; the records are held, and too many in a row were.
        """
        started, now_ms = time.perf_counter(), self._now_ms()
        parsed_records = [self.read(log_record, now_ms=now_ms) for log_record in batch]
        self._observer.step("read", time.perf_counter() - started)
        await self.settle(parsed_records)

    async def retry(self, rows: Sequence[HeldRow]) -> None:
        """Try held notifications again, as if their records had just come; for the sweeper and for replay."""
        now_ms = self._now_ms()
        await self.settle([self.read(LogRecord(row.position, row.record), now_ms=now_ms, held=row) for row in rows])

    async def settle(self, parsed_records: Sequence[ParsedRecord]) -> None:
        """Decide and apply; a batch with a record that cannot be applied is halved until that record is alone."""
        try:
            plan = await self._decide_and_apply(parsed_records)
        except (InfrastructureDown, asyncio.CancelledError):
            raise
        except Exception as error:
            if len(parsed_records) == 1:
                await self._hold(parsed_records[0], error)
                return
            middle = len(parsed_records) // 2
            await self.settle(parsed_records[:middle])
            await self.settle(parsed_records[middle:])
            return
        self._observer.settled(plan, parsed_records)
        self._count_dead(plan, parsed_records)

    async def emit(self, limit: int = 500) -> int:
        """Publish what the outbox holds, oldest first, and mark it once it is acknowledged; how many there were."""
        unsent = await self._store.unsent(limit)
        if not unsent:
            return 0
        started = time.perf_counter()
        outgoing = [event for _, event in unsent]
        acknowledged: Sequence[int] = range(len(unsent))
        try:
            await self._events.publish(outgoing)
        except EventRefused as refused:
            # What no topic will ever take stays in the outbox, where somebody sees it; it must not keep the rest there.
            if not refused.acknowledged:
                raise
            acknowledged = refused.acknowledged
        await self._store.mark_sent([unsent[place][0] for place in acknowledged])
        self._observer.step("emit", time.perf_counter() - started)
        self._observer.emitted([outgoing[place] for place in acknowledged])
        return len(acknowledged)

    def read(self, log_record: LogRecord, *, now_ms: int, held: HeldRow | None = None) -> ParsedRecord:
        """One record with its meaning, or with the fault that it has none. Never raises for what a record holds.

        One that does not say when it was received counts as received at `now_ms`.
        """
        record = log_record.record
        account, received_at_ms = "", now_ms
        try:
            _check_size(record)
            sealed = record_format.decode(record, received_at_ms=received_at_ms)
            account, received_at_ms = sealed.account, sealed.received_at_ms
            configured = self._account(sealed)
            # A receipt vouches for a record on its way through this process; what was held is verified by today's keys.
            self._check_authentic(sealed, configured, anew=held is not None)
            notification = interpret.read(sealed.body, configured)
        except record_format.NewerRecord as error:
            fault = _fault(Disposition.PARKED, Reason.NEWER_ENVELOPE, error)
        except record_format.BadRecord as error:
            fault = _fault(Disposition.DEAD, Reason.BAD_RECORD, error)
        except Unreadable as error:
            fault = _fault(error.disposition, error.reason, error, error.order, error.notification_id, error.digest)
        except _NEVER_OURS:
            raise
        except BaseException as error:
            # Reading awaits nothing, so even a cancellation raised in here is the record's doing and not the loop's.
            fault = _fault(Disposition.DEAD, Reason.OUR_FAULT, error)
        else:
            return ParsedRecord(
                position=log_record.position,
                record=record,
                account=account,
                received_at_ms=received_at_ms,
                notification=notification,
                held=held,
            )
        return ParsedRecord(
            position=log_record.position,
            record=_kept(record),
            account=account,
            received_at_ms=received_at_ms,
            notification=None,
            fault=fault,
            held=held,
        )

    def _account(self, sealed: RecordContents) -> Account:
        account = self._accounts.get(sealed.account)
        if account is None or account.family != sealed.family:
            raise record_format.BadRecord("the record names an account that is not configured, or another family")
        return account

    def _check_authentic(self, sealed: RecordContents, account: Account, *, anew: bool) -> None:
        try:
            self._authenticate(sealed, account, anew=anew)
        except Exception as error:
            detail = f"not signed by a key of this account: {type(error).__name__}"
            raise Unreadable(Reason.UNAUTHENTICATED, detail, disposition=Disposition.DEAD) from None

    async def _decide_and_apply(self, parsed_records: Sequence[ParsedRecord]) -> WritePlan:
        started = time.perf_counter()
        now_ms = self._now_ms()
        plan = await self._store.settle(
            decision.load_request(parsed_records), lambda known: self._decide(parsed_records, known, now_ms=now_ms)
        )
        self._observer.step("apply", time.perf_counter() - started)
        return plan

    def _decide(self, parsed_records: Sequence[ParsedRecord], known: StoreSnapshot, *, now_ms: int) -> WritePlan:
        if known.prior_deliveries:
            _check_log(parsed_records, known)
        try:
            return decision.decide(parsed_records, known, self._accounts, now_ms=now_ms, chance=self._chance)
        except _NEVER_OURS:
            raise
        except BaseException as error:
            raise DecisionFailed(type(error).__name__) from error

    async def _hold(self, parsed: ParsedRecord, error: Exception) -> None:
        """The one record that cannot be applied becomes `dead`, its bytes kept; if even that fails, we pause."""
        notification = parsed.notification
        order, notification_id = ("", "") if notification is None else (notification.order, notification.id)
        cause = error.__cause__ if isinstance(error, DecisionFailed) and error.__cause__ else error
        fault = _fault(Disposition.DEAD, Reason.OUR_FAULT, cause, order, notification_id)
        dead = ParsedRecord(
            position=parsed.position,
            record=parsed.record,
            account=_storable(parsed.account),
            received_at_ms=parsed.received_at_ms,
            notification=None,
            fault=fault,
            held=parsed.held,
        )
        try:
            plan = await self._decide_and_apply([dead])
        except RecordRefused as refused:
            raise InfrastructureDown("a dead record could not be held") from refused
        self._observer.settled(plan, [dead])
        self._count_dead(plan, [dead])

    def _count_dead(self, plan: WritePlan, parsed_records: Sequence[ParsedRecord]) -> None:
        """Count the dead among what came from the log. Those that are tried again were counted when they came."""
        again = {parsed.position for parsed in parsed_records if parsed.held is not None}
        for delivery in plan.deliveries:
            if delivery.position in again:
                continue
            self._dead_run = self._dead_run + 1 if delivery.disposition is Disposition.DEAD else 0
            if self._dead_run >= self._dead_run_max:
                raise TooManyDeadLetters(
                    f"{self._dead_run} dead records in a row, the last for {delivery.reason.value}"
                )


def _check_log(parsed_records: Sequence[ParsedRecord], known: StoreSnapshot) -> None:
    """Returns where what is delivered again is what was settled: sameness is checked, since a position alone proves
    nothing. Two logs on one store, or a topic that was made anew, have the same positions, and each record whose
    position is taken would be passed over as settled.

    Raises:
        InfrastructureDamaged: a position was settled by another record, which had another id and came at another
        moment.
    """
    for parsed in parsed_records:
        settled = known.prior_deliveries.get(parsed.position) if parsed.held is None else None
        if settled is None or settled.received_at_ms == parsed.received_at_ms:
            continue
        end = parsed.notification or parsed.fault
        id_ = end.id if isinstance(end, Notification) else end.notification_id if end else ""
        if id_ and settled.notification_id and id_ != settled.notification_id:
            raise InfrastructureDamaged(
                f"the store has settled another record at {parsed.position} than the log holds there: the topic was "
                "made anew, or the store is another log's. Give each log a store of its own"
            )


def _check_size(record: Record) -> None:
    if len(record.headers) > HEADERS_MAX:
        raise record_format.BadRecord(f"more than {HEADERS_MAX} headers")
    if len(record.value) + sum([len(value) for _, value in record.headers]) > RECORD_BYTES_MAX:
        raise record_format.BadRecord(f"more than {RECORD_BYTES_MAX} bytes")


def _kept(record: Record) -> Record:
    """The record as a held row keeps it: its value whole, its headers within bounds, since they are advice."""
    if len(record.headers) <= HEADERS_MAX and all(len(value) <= HEADER_BYTES_MAX for _, value in record.headers):
        return record
    headers = tuple((name[:HEADER_BYTES_MAX], value[:HEADER_BYTES_MAX]) for name, value in record.headers[:HEADERS_MAX])
    return Record(record.key, record.value, headers)


def _fault(
    disposition: Disposition,
    reason: Reason,
    error: BaseException,
    order: str = "",
    notification_id: str = "",
    digest: bytes = b"",
) -> ParseFailure:
    detail = str(error)
    if reason is Reason.OUR_FAULT:
        trace = "".join(traceback.format_exception(error)).encode("utf-8", "replace")
        detail = f"{type(error).__name__}, traceback {hashlib.sha256(trace).hexdigest()[:12]}"
    return ParseFailure(
        disposition=disposition,
        reason=reason,
        detail=_storable(detail)[:DETAIL_CHARACTERS_MAX],
        order=_storable(order),
        notification_id=_storable(notification_id),
        digest=digest,
    )


def _storable(text: str) -> str:
    """The text as any database can hold it: no NUL, no lone surrogate."""
    return text.encode("utf-8", "replace").decode().replace("\x00", "\N{REPLACEMENT CHARACTER}")
