"""An operator's decision on a held notification: `settlement.verdicts`, in the store's transaction.

The admin API calls it, and tasks over many rows (`replays`). A decision is one transaction: the resolved row, the order
with its event, the audit row. Two operators, a second tab, or the sweeper may decide on the same row at once: the first
to commit wins, and the others get `DecisionRefused`, because a decision applies only to a row that is unresolved and as
it was read.

A row that was held before its account became a service provider's has the account as its scope, and its notification is
now a merchant's. The decision is about the order for which the row was held, if there is one.
"""

import random
from collections.abc import Callable, Mapping, Sequence
from typing import Protocol

from msgspec import structs

from schemas import interpret, money, record_format, scopes
from schemas.accounts import Account
from schemas.money import Money
from schemas.notification import Notification, Unreadable
from schemas.record_format import Record
from workers import traces
from workers.backoff import retry_conflicts
from workers.processing import LIMIT_S, ProcessingObserver, Store
from workers.queries import HeldPage, HeldQuery
from workers.settlement import loading, verdicts
from workers.settlement.plan import HeldRow, LogRecord, ParsedRecord, StoreSnapshot, WritePlan
from workers.settlement.verdicts import ACCEPTABLE, PRICES, DecisionRefused, Verdict
from workers.time_limit import TimeLimit, TookTooLong
from workers.traces import NOT_TRACED, Tracing

ROWS_MAX = 100  # of one order, tried again with the price that was accepted

INSTEAD = (
    "accept is for another amount, currency or trade, or refunds beyond the payment. This one is held as {reason}: "
)
WAYS = {
    "ambiguous": "nothing in it can be believed. Query the trade at Alipay, then discard it",
    "paid_and_expired": "query the trade at Alipay, and discard the wrong one",
}
OTHERWISE = "mend the cause and replay it, or discard it"


class DecidingStore(Store, Protocol):
    """The order store, with the list of held rows."""

    async def held_list(self, query: HeldQuery) -> Sequence[HeldPage]: ...


class Read(Protocol):
    """`Processing.read`: the record with its notification, verified again."""

    def __call__(self, log_record: LogRecord, *, now_ms: int, held: HeldRow | None = None) -> ParsedRecord: ...


class HeldDecisions:
    """Accepts and discards held notifications."""

    def __init__(
        self,
        *,
        accounts: Mapping[str, Account],
        read: Read,
        store: DecidingStore,
        observer: ProcessingObserver,
        now_ms: Callable[[], int],
        chance: Callable[[], float] = random.random,
        time_limit: TimeLimit | None = None,
        tracing: Tracing = NOT_TRACED,
    ) -> None:
        self._tracing = tracing
        self._time_limit = time_limit or TimeLimit(LIMIT_S)
        self._accounts = accounts
        self._read = read
        self._store = store
        self._observer = observer
        self._now_ms = now_ms
        self._chance = chance

    async def accept(self, page: HeldPage, *, by: str, why: str, task: int | None = None) -> None:
        """Register the amount that the notification reports, and apply it. `task` is the task that does it, if any.

        Raises:
            DecisionRefused: it is resolved or changed, cannot be accepted for this reason, or does not verify now.
            VersionConflict, InfrastructureDown: as `Store.settle`.
        """
        row, verdict = page.row, Verdict(by=by, why=why, at_ms=self._now_ms(), task=task)
        _check_unresolved(page)
        if row.reason not in ACCEPTABLE:
            way = WAYS.get(row.reason.value, OTHERWISE)
            raise DecisionRefused(INSTEAD.format(reason=row.reason.value) + way)
        parsed = self._parsed(row)
        if parsed.notification is None:
            detail = "" if parsed.failure is None else parsed.failure.detail
            raise DecisionRefused(f"it cannot be applied, because it cannot be read or does not verify now: {detail}")
        if parsed.notification.amount is None and parsed.notification.capture is not None:
            raise DecisionRefused(
                f"it is a capture that does not fit its payment ({row.detail}): query the payment, then discard it"
            )
        if parsed.notification.amount is None and not parsed.notification.refunds:
            raise DecisionRefused("it names no amount: discard it")
        account = self._accounts[scopes.account_of(parsed.account)]
        accounts = dict.fromkeys((parsed.account, row.account), account)
        now = [parsed, *(await self._others(row) if parsed.notification.amount is not None else [])]
        as_held = [_in_scope(each, row.account) for each in now]

        def decide(snapshot: StoreSnapshot) -> WritePlan:
            known = snapshot.orders.get((row.account, row.order))
            first, *others = now if known is None or known.is_note else as_held
            return verdicts.accept(first, others, snapshot, accounts, verdict, chance=self._chance)

        with self._tracing.batch([row], decision="accept"):
            await self._settle([*now, *as_held] if parsed.account != row.account else now, row, decide)

    async def discard(self, page: HeldPage, *, by: str, why: str, task: int | None = None) -> None:
        """Resolve the row without applying it, and take out of the order the facts that only it has brought.

        Raises:
            DecisionRefused: it is resolved already, or changed.
            VersionConflict, InfrastructureDown: as `Store.settle`.
        """
        await self._end(page, Verdict(by=by, why=why, at_ms=self._now_ms(), task=task))

    async def _end(self, page: HeldPage, verdict: Verdict) -> None:
        """Resolve the row without applying it."""
        _check_unresolved(page)
        row = page.row
        # Unverified: it was verified before it was held, and its key may be gone by now.
        # The row may be held because its bytes cannot be read in time: it is discarded all the same.
        notification, account = self._notification(row.record), self._accounts.get(scopes.account_of(row.account))
        parsed = _in_scope(structs.replace(self._parsed(row), notification=notification), row.account)
        notification = parsed.notification

        def decide(snapshot: StoreSnapshot) -> WritePlan:
            return verdicts.discard(row, notification, snapshot, account, self._notification, verdict)

        with self._tracing.batch([row], decision="discard"):
            await self._settle([parsed], row, decide)

    async def refund_outside(self, page: HeldPage, amount: str, *, by: str, why: str) -> None:
        """Resolve the row of a payment whose money was refunded in Alipay's own portal. `amount` is in whole units.

        Facts that only it has brought leave the order, as by `discard`.

        Raises:
            DecisionRefused: as `discard`; or it reports no payment, or another amount.
            VersionConflict, InfrastructureDown: as `Store.settle`.
        """
        _check_unresolved(page)
        reported = self._notification(page.row.record)
        if reported is None or reported.amount is None:
            raise DecisionRefused("it reports no payment that could be refunded: discard it")
        try:
            refunded = _money(amount, reported.amount.currency)
        except money.BadMoney as error:
            raise DecisionRefused(f"{amount!r} is no amount in {reported.amount.currency}: {error}") from None
        await self._end(page, Verdict(by=by, why=why, at_ms=self._now_ms(), refunded=refunded))

    async def _settle(
        self, parsed_records: list[ParsedRecord], row: HeldRow, decide: Callable[[StoreSnapshot], WritePlan]
    ) -> None:
        needs = loading.load_request(parsed_records)
        orders = needs.orders | ({(row.account, row.order)} if row.order else set())
        needs = structs.replace(needs, orders=orders, with_history=True)

        trace = self._tracing.current

        def limited(snapshot: StoreSnapshot) -> WritePlan:
            plan = self._time_limit.run(lambda: decide(snapshot), "decide")
            if trace is not None:
                plan.events = traces.marked(plan.events, parsed_records, trace)
            return plan

        plan = await retry_conflicts(lambda: self._store.settle(needs, limited))
        self._observer.settled(plan, parsed_records)

    async def _others(self, row: HeldRow) -> list[ParsedRecord]:
        """Return the other rows of the order that are held for their price: with the new one they may fit."""
        if not row.order:
            return []
        pages = await self._store.held_list(HeldQuery(scope=row.account, order=row.order, limit=ROWS_MAX))
        rows = [page.row for page in pages if page.row.reason in PRICES and page.row.position != row.position]
        return [parsed for parsed in map(self._parsed, rows) if parsed.notification is not None]

    def _parsed(self, row: HeldRow) -> ParsedRecord:
        return self._read(LogRecord(row.position, row.record), now_ms=self._now_ms(), held=row)

    def _notification(self, record: Record) -> Notification | None:
        try:
            return self._time_limit.run(lambda: self._interpreted(record), "read")
        except TookTooLong:
            return None

    def _interpreted(self, record: Record) -> Notification | None:
        try:
            contents = record_format.decode(record, now_ms=self._now_ms())
            account = self._accounts.get(contents.account)
            if account is None:
                return None
            return interpret.read(contents.body, account, is_confirmed=True, is_answer=contents.is_answer)
        except (record_format.BadRecord, record_format.NewerRecord, Unreadable):
            return None


def _money(text: str, currency: str) -> Money:
    """Return the amount, in smallest units if the currency's decimals are not known; raise `BadMoney` if it is none."""
    has_decimals = money.text(0, currency) is not None
    return money.parse_major(text, currency) if has_decimals else money.parse_minor(text, currency)


def _in_scope(parsed: ParsedRecord, scope: str) -> ParsedRecord:
    """Return the record with its notification as one of this scope."""
    notification = parsed.notification
    if notification is None:
        return parsed
    return structs.replace(parsed, account=scope, notification=structs.replace(notification, account=scope))


def _check_unresolved(page: HeldPage) -> None:
    if page.resolution:
        by = f", by {page.by}: {page.why}" if page.by else ""
        raise DecisionRefused(f"it is already resolved: {page.resolution}{by}")
