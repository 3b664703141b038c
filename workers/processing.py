"""One batch of records: read, decide and apply, and hold what cannot be applied. `workers.consumer` calls `process`.

    read      each record by itself: size, format, signature, meaning; a record's own failure is noted, not raised
    decide    pure, inside the store's transaction, on what the store knows  (`workers.settlement.decision`)
    apply     one transaction: dispositions, ledger, orders, held notifications, events for the outbox
    hold      a record that cannot be applied becomes a dead letter: the batch is halved until that record is alone

Here are also `retry`, for held notifications (`workers.settlement.parking` has their life), and `emit`, for the relay.

A redelivered record is recognised by its position, so processing a batch again changes nothing. Trouble with
infrastructure is raised to the caller, which retries the same batch; it holds no record and counts no attempt.
"""

import asyncio
import hashlib
import random
import time
import traceback
from collections.abc import Callable, Mapping, Sequence
from typing import Protocol

from msgspec import structs

from schemas import interpret, record_format, scopes
from schemas.accounts import NAME, Account, Family
from schemas.dispositions import Disposition, Reason
from schemas.events import Outgoing
from schemas.notification import Notification, Unreadable
from schemas.record_format import RecordContents
from workers import record_bounds
from workers.errors import (
    DecisionFailed,
    EventRefused,
    InfrastructureDamaged,
    InfrastructureDown,
    RecordRefused,
    TooManyDeadLetters,
    UnknownAccount,
)
from workers.settlement import decision, parking
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

DEAD_LETTERS_MAX = 20  # in a row and by our own fault; so many point at a broken program, not at broken records
OUR_FAULTS = frozenset({Reason.OUR_FAULT, Reason.BAD_RECORD})
DETAIL_CHARACTERS_MAX = 1000
FAMILIES = frozenset(family.value for family in Family)

_END_PROCESS = (KeyboardInterrupt, SystemExit, GeneratorExit)  # never a record's failure


class Store(Protocol):
    """The order store: dispositions, orders, held notifications and the outbox, in one database."""

    async def settle(self, needs: LoadRequest, decide: Decide) -> WritePlan:
        """Load and lock what the batch needs, decide, and write the plan, in one transaction.

        The store may run `decide` on a thread of its own, and again if the transaction is repeated. When this returns,
        the transaction is committed and durable.

        Raises:
            VersionConflict: another worker wrote first; nothing is written.
            RecordRefused: the store cannot hold a value of the plan; nothing is written.
            InfrastructureDown: anything else. The plan may be written or not; settling the batch again finds out.
        """

    async def unsent(self, limit: int) -> Sequence[tuple[int, Outgoing]]:
        """Return events that no topic has acknowledged yet, oldest first, each with its number in the outbox."""

    async def mark_sent(self, numbers: Sequence[int]) -> None:
        """Mark these events as acknowledged. An event whose mark is lost is sent again, with the same id."""


class Events(Protocol):
    """The topics of events."""

    async def publish(self, events: Sequence[Outgoing]) -> None:
        """Send the events in this order. All are acknowledged when this returns.

        Raises:
            EventRefused: some can never be sent; the others are acknowledged.
            InfrastructureDown: any number of them may have been sent.
        """


class Authenticate(Protocol):
    """The receiver's signature check, repeated: anything that can write to the log can put a record there."""

    def __call__(self, contents: RecordContents, account: Account, /, *, anew: bool = False) -> bool:
        """Return whether Alipay confirmed the record; raise any exception if no key of this account signed it.

        `anew`: check against today's keys, and do not accept a receipt MAC instead.
        """


class ProcessingObserver(Protocol):
    """Observes each step after the fact: metrics, log lines, long polls. Best effort."""

    def settled(self, plan: WritePlan, parsed_records: Sequence[ParsedRecord]) -> None: ...
    def emitted(self, events: Sequence[Outgoing]) -> None: ...
    def step(self, name: str, seconds: float) -> None: ...


class Processing:
    """Brings records to their dispositions, and events to their topics, for the three loops of one worker."""

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
        dead_letters_max: int = DEAD_LETTERS_MAX,
    ) -> None:
        self._accounts = accounts
        self._authenticate = authenticate
        self._store = store
        self._events = events
        self._observer = observer
        self._now_ms = now_ms
        self._chance = chance
        self._dead_letters = 0  # in a row
        self._dead_letters_max = dead_letters_max

    async def process(self, batch: Sequence[LogRecord]) -> None:
        """Bring every record of the batch to its disposition. All have one, durably, when this returns.

        Raises:
            InfrastructureDown: process the same batch again later.
            TooManyDeadLetters: the records are held, but too many in a row were dead by our own fault; stop.
        """
        started, now_ms = time.perf_counter(), self._now_ms()
        parsed_records = [self.read(log_record, now_ms=now_ms) for log_record in batch]
        accounts = self._accounts_of(parsed_records)
        self._observer.step("read", time.perf_counter() - started)
        await self._settle(parsed_records, accounts)

    async def retry(self, rows: Sequence[HeldRow]) -> None:
        """Process held notifications again, as if their records had just arrived; for the sweeper and for a replay."""
        now_ms = self._now_ms()
        parsed_records = [self.read(LogRecord(row.position, row.record), now_ms=now_ms, held=row) for row in rows]
        await self._settle(parsed_records, self._accounts_of(parsed_records))

    def _accounts_of(self, parsed_records: Sequence[ParsedRecord]) -> Mapping[str, Account]:
        """Return the accounts by which these records were just read, by scope. A reload may replace them meanwhile."""
        found = {parsed.account for parsed in parsed_records if parsed.notification is not None}
        return {scope: self._accounts[scopes.account_of(scope)] for scope in found}

    async def _settle(self, parsed_records: Sequence[ParsedRecord], accounts: Mapping[str, Account]) -> None:
        """Decide and apply. If a record of the batch cannot be applied, halve the batch until that record is alone."""
        try:
            plan = await self._apply(parsed_records, accounts)
        except (InfrastructureDown, asyncio.CancelledError):
            raise
        except Exception as error:
            if len(parsed_records) == 1:
                await self._hold(parsed_records[0], error)
                return
            middle = len(parsed_records) // 2
            await self._settle(parsed_records[:middle], accounts)
            await self._settle(parsed_records[middle:], accounts)
            return
        self._observer.settled(plan, parsed_records)
        self._count_dead_letters(plan, parsed_records)

    async def emit(self, limit: int = 500) -> int:
        """Publish events of the outbox, oldest first; mark those that are acknowledged and return their number.

        Raises:
            EventRefused: none of these events can ever be sent.
            InfrastructureDown: some may be sent and not marked. They are sent again, with the same ids.
        """
        unsent = await self._store.unsent(limit)
        if not unsent:
            return 0
        started = time.perf_counter()
        outgoing = [event for _, event in unsent]
        acknowledged: Sequence[int] = range(len(unsent))
        try:
            await self._events.publish(outgoing)
        except EventRefused as refused:
            # An event that no topic will ever take stays in the outbox, and the gauges show it. The rest must go on.
            if not refused.acknowledged:
                raise
            acknowledged = refused.acknowledged
        await self._store.mark_sent([unsent[index][0] for index in acknowledged])
        self._observer.step("emit", time.perf_counter() - started)
        self._observer.emitted([outgoing[index] for index in acknowledged])
        return len(acknowledged)

    def read(self, log_record: LogRecord, *, now_ms: int, held: HeldRow | None = None) -> ParsedRecord:
        """Return the record with its notification, or with the reason why it has none. No record makes this raise.

        A record without a valid receive time counts as received at `now_ms`; a held one when it was first held.
        """
        record = log_record.record
        account, received_at_ms = "", now_ms if held is None else held.first_at_ms
        try:
            record_bounds.check(record)
            contents = record_format.decode(record, now_ms=received_at_ms)
            account, received_at_ms = contents.account, contents.received_at_ms
            configured = self._account(contents)
            # A receipt MAC saves the check once. A held record may be days old: check it against today's keys.
            is_confirmed = self._check_authentic(contents, configured, anew=held is not None)
            try:
                notification = interpret.read(contents.body, configured, is_confirmed=is_confirmed)
            except Exception:
                account = interpret.scope(contents.body, configured)
                raise
        except record_format.NewerRecord as error:
            failure = _failure(Disposition.PARKED, Reason.NEWER_ENVELOPE, error)
        except UnknownAccount as error:
            failure = _failure(Disposition.PARKED, Reason.UNKNOWN_ACCOUNT, error)
            failure = structs.replace(failure, waits_for=parking.account_key(error.family))
        except record_format.BadRecord as error:
            failure = _failure(Disposition.DEAD, Reason.BAD_RECORD, error)
        except Unreadable as error:
            failure = _failure(error.disposition, error.reason, error, error.order, error.notification_id, error.digest)
        except _END_PROCESS:
            raise
        except BaseException as error:
            # Reading awaits nothing, so the record is to blame even for a cancellation that is raised in here.
            failure = _failure(Disposition.DEAD, Reason.OUR_FAULT, error)
        else:
            return ParsedRecord(
                position=log_record.position,
                record=record,
                account=notification.account,
                received_at_ms=received_at_ms,
                notification=notification,
                held=held,
            )
        return ParsedRecord(
            position=log_record.position,
            record=record_bounds.trimmed(record),
            account=account,
            received_at_ms=received_at_ms,
            notification=None,
            failure=_identified(failure, held),
            held=held,
        )

    def _account(self, contents: RecordContents) -> Account:
        account = self._accounts.get(contents.account)
        if account is None or account.family != contents.family:
            if NAME.fullmatch(contents.account) is None or contents.family not in FAMILIES:
                raise record_format.BadRecord("the record names an account or a family that cannot exist")
            raise UnknownAccount(contents.family)
        return account

    def _check_authentic(self, contents: RecordContents, account: Account, *, anew: bool) -> bool:
        try:
            return self._authenticate(contents, account, anew=anew)
        except Exception as error:
            detail = f"not signed by a key of this account: {type(error).__name__}"
            raise Unreadable(Reason.UNAUTHENTICATED, detail, disposition=Disposition.DEAD) from None

    async def _apply(self, parsed_records: Sequence[ParsedRecord], accounts: Mapping[str, Account]) -> WritePlan:
        """Decide the batch and write the plan, in one transaction of the store; return the plan once committed."""
        started, now_ms = time.perf_counter(), self._now_ms()

        def decide(snapshot: StoreSnapshot) -> WritePlan:
            if snapshot.prior_deliveries:
                _check_same_log(parsed_records, snapshot)
            try:
                plan = decision.decide(parsed_records, snapshot, accounts, now_ms=now_ms, chance=self._chance)
                plan.wakes.update(parking.learnt_meanwhile(parsed_records, self._accounts))
                return plan
            except _END_PROCESS:
                raise
            except BaseException as error:
                raise DecisionFailed(type(error).__name__) from error

        plan = await self._store.settle(decision.load_request(parsed_records), decide)
        self._observer.step("apply", time.perf_counter() - started)
        return plan

    async def _hold(self, parsed: ParsedRecord, error: Exception) -> None:
        """Hold a record that cannot be applied as a dead letter, with its bytes.

        Raises:
            InfrastructureDown: the store refuses even this row, so the batch must wait for an operator or a fix.
        """
        notification = parsed.notification
        order, notification_id = ("", "") if notification is None else (notification.order, notification.id)
        cause = error.__cause__ if isinstance(error, DecisionFailed) and error.__cause__ else error
        failure = _failure(Disposition.DEAD, Reason.OUR_FAULT, cause, order, notification_id)
        dead = ParsedRecord(
            position=parsed.position,
            record=parsed.record,
            account=_storable(parsed.account),
            received_at_ms=parsed.received_at_ms,
            notification=None,
            failure=_identified(failure, parsed.held),
            held=parsed.held,
        )
        try:
            plan = await self._apply([dead], {})
        except RecordRefused as refused:
            raise InfrastructureDown("the store refused to hold a dead letter") from refused
        self._observer.settled(plan, [dead])
        self._count_dead_letters(plan, [dead])

    def _count_dead_letters(self, plan: WritePlan, parsed_records: Sequence[ParsedRecord]) -> None:
        """Count dead letters by our own fault in a row, among records from the log.

        A message that its sender wrote wrongly does not count, because then any sender could stop the worker. A retried
        record was counted when it first came.

        Raises:
            TooManyDeadLetters: the limit is reached.
        """
        retried = {parsed.position for parsed in parsed_records if parsed.held is not None}
        for delivery in plan.deliveries:
            if delivery.position in retried:
                continue
            is_our_fault = delivery.disposition is Disposition.DEAD and delivery.reason in OUR_FAULTS
            self._dead_letters = self._dead_letters + 1 if is_our_fault else 0
            if self._dead_letters >= self._dead_letters_max:
                raise TooManyDeadLetters(
                    f"{self._dead_letters} dead letters in a row, the last for {delivery.reason.value}"
                )


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
        source = parsed.notification or parsed.failure
        id_ = source.id if isinstance(source, Notification) else source.notification_id if source else ""
        if id_ and prior.notification_id and id_ != prior.notification_id:
            raise InfrastructureDamaged(
                f"the store has processed another record at {parsed.position} than the log holds there: the topic was "
                "created anew, or the store belongs to another log. Give each log a store of its own"
            )


def _failure(
    disposition: Disposition,
    reason: Reason,
    error: BaseException,
    order: str = "",
    notification_id: str = "",
    digest: bytes = b"",
) -> ParseFailure:
    detail = str(error)
    if reason is Reason.OUR_FAULT:
        trace = "".join(traceback.format_exception(error)).encode("utf-8", "backslashreplace")
        detail = f"{type(error).__name__}, traceback {hashlib.sha256(trace).hexdigest()[:12]}"
    id_ = _number(notification_id)
    return ParseFailure(
        disposition=disposition,
        reason=reason,
        detail=_storable(detail)[:DETAIL_CHARACTERS_MAX],
        order=_number(order),
        notification_id=id_,
        digest=digest if id_ else b"",
    )


def _identified(failure: ParseFailure, held: HeldRow | None) -> ParseFailure:
    """Return the failure with the row's order and id, if it has none of its own.

    A row that loses its id while its account or key is away would later count as a copy of itself: a duplicate.
    """
    if held is None or failure.notification_id:
        return failure
    return structs.replace(failure, order=failure.order or held.order, notification_id=held.notification_id)


def _number(text: str) -> str:
    """Return a number to file a held row under; empty if it must be escaped, because that could be another's number."""
    return text if _storable(text) == text else ""


def _storable(text: str) -> str:
    """Escape the characters that a database cannot hold: NUL and lone surrogates."""
    return text.encode("utf-8", "backslashreplace").decode().replace("\x00", "\\x00")
