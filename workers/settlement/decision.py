"""The decision on each record of a batch, and on the orders it is about. Pure: no I/O, no clock, no random numbers.

    applied      the order changes: its version rises by one and one event goes out; or the notification moves no order
    duplicate    the id is known with the same content, or another id brings a fact that is known
    stale        older than the facts that are known
    parked       its order, trade or refund is not known yet
    quarantined  authentic, but it contradicts the merchant's registration or other notifications
    dead         no notification at all; decided before, while parsing (`workers.processing`)

A batch is decided in its order, and each record sees the changes of the records before it. `loading` lists the rows
that the store has to load; the result is a `WritePlan`.

A notification that brings a contradiction is quarantined, but its facts join the order: the order gets a flag, and the
higher rank stands. A notification that contradicts the *registration*, or itself, does not join at all. `parking` has
the life of held notifications.
"""

from collections.abc import Callable, Mapping, Sequence

from msgspec import structs

from schemas.accounts import Account, Orders
from schemas.dispositions import Disposition, Flag, Reason
from schemas.money import Money
from schemas.notification import Kind, NamedNumber, Notification, NumberKind
from schemas.orders import Capture, Claim, News, Order, Refund, View
from workers.settlement import drafting, identity, order_view, parking, refusals, second_numbers, transitions
from workers.settlement.drafting import Draft
from workers.settlement.movements import BatchMovements
from workers.settlement.plan import (
    AccountKey,
    HeldRow,
    LedgerEntry,
    MovementRow,
    OrderWrite,
    ParsedRecord,
    ParseFailure,
    Position,
    Registration,
    StoreSnapshot,
    WritePlan,
)
from workers.settlement.transitions import MoveVerdict

# Read once here, because each record asks for them: Python 3.11 finds a member of an enum as slowly as it calls code.
_OTHER, _REGISTERED = News.OTHER, Orders.REGISTERED
_APPLIED, _CHANGED = Disposition.APPLIED, Reason.CHANGED


def decide(
    parsed_records: Sequence[ParsedRecord],
    snapshot: StoreSnapshot,
    accounts: Mapping[str, Account],
    *,
    now_ms: int,
    chance: Callable[[], float],
) -> WritePlan:
    """Return the plan for these records. `chance` gives numbers in [0, 1) for the jitter of retries."""
    batch = BatchDecision(snapshot, accounts, Draft(now_ms=now_ms, chance=chance))
    for parsed in parsed_records:
        batch.settle(parsed)
    return batch.plan()


def register(order: Order | None, account: str, number: str, registration: Registration, *, now_ms: int) -> WritePlan:
    """Return the plan that records the merchant's registration of an order.

    Other amounts remove the flags of notifications that contradicted the old ones: those are held, and can be
    replayed. A refund above its own payment's amount was wrong by itself, so its flag stays.

    A refund number alone only links the refund to the order. If it counted as a registration, a payment of any amount
    would be accepted.
    """
    before = order or Order(account=account, number=number)
    after = before if registration.amounts is None else _with_amounts(before, registration.amounts)
    plan = drafting.empty()
    drafting.rewrite(plan, before, after, expected_version=None if order is None else order.version, now_ms=now_ms)
    if after.registered:
        plan.wakes.add((account, parking.order_key(number)))
    plan.wakes.update((account, parking.refund_key(refund)) for refund in registration.refunds)
    return plan


def _with_amounts(order: Order, amounts: tuple[Money, ...]) -> Order:
    is_same = set(amounts) == set(order.amounts)
    return structs.replace(
        order,
        expected=amounts[0] if amounts else None,
        alternatives=amounts[1:],
        registered=True,
        refused=order.refused if is_same else order.refused & {Flag.OVER_REFUNDED},
    )


class BatchDecision:
    """One batch under decision: the store's snapshot, updated by each record, and the plan so far."""

    def __init__(self, snapshot: StoreSnapshot, accounts: Mapping[str, Account], draft: Draft) -> None:
        self._snapshot = snapshot
        self._accounts = accounts
        self._draft = draft
        self._ledger = dict(snapshot.ledger)
        self._orders = dict(snapshot.orders)
        self._by_trade = dict(snapshot.order_by_trade)
        self.movements = BatchMovements(snapshot)
        self._views: dict[AccountKey, View] = {}  # of the orders that this batch changed

    def plan(self) -> WritePlan:
        plan = self._draft.plan
        plan.movements += self.movements.added
        for key, view in self._views.items():
            expected = self._snapshot.orders[key].version if key in self._snapshot.orders else None
            plan.orders.append(OrderWrite(order=self._orders[key], view=view, expected_version=expected))
        return plan

    def settle(self, parsed: ParsedRecord) -> None:
        if parsed.held is None and parsed.position in self._snapshot.settled:
            return  # redelivered: it has its disposition already
        if parsed.held is not None and not self._is_unchanged(parsed.position, parsed.held):
            return  # resolved or retried since the row was read
        notification = parsed.notification
        if notification is not None:
            self._settle_notification(parsed, notification)
        elif parsed.failure is not None:
            self._settle_failure(parsed, parsed.failure)

    def _is_unchanged(self, position: Position, held: HeldRow) -> bool:
        """Return whether the held row is as it was read.

        The sweeper and an operator may both have read a parked row. The first retry may find that the notification
        contradicts the order, join it and quarantine it. The second would then find its fact known and resolve, as a
        duplicate, a row that no operator has seen.
        """
        attempts = self._snapshot.held_attempts.get(position, held.attempts)
        return position in self._snapshot.open_held and attempts == held.attempts

    def _settle_notification(self, parsed: ParsedRecord, notification: Notification) -> None:
        notification = identity.identified(notification, parsed.held, self._ledger)
        known_id = self._ledger.get((parsed.account, notification.id))
        if known_id is None:
            self._ledger[parsed.account, notification.id] = LedgerEntry(notification.digest, parsed.position)
            self._draft.add_to_ledger(parsed, notification.id, notification.digest, order=notification.order)
        elif known_id.digest != notification.digest:
            self._draft.add_numbers(parsed, notification.numbers)
            self._draft.hold_conflict(parsed, notification, self._filed_under(notification))
            return
        elif not identity.is_first_record(parsed, known_id):
            order = self._filed_under(notification)
            known = self._orders.get((parsed.account, order or notification.order))
            if known is None or not known.claims:  # the payment may yet come, with the number of another order
                self._draft.add_page_numbers(parsed, notification)
            self._draft.finish(parsed, notification, Disposition.DUPLICATE, Reason.SAME_ID, order=order)
            return
        self._draft.add_numbers(parsed, notification.numbers)  # also of a retry: an earlier release had fewer
        self._apply(parsed, notification)

    def _filed_under(self, notification: Notification) -> str:
        return second_numbers.filed_under(notification, self._orders, self._by_trade, self._snapshot.order_by_refund)

    def _settle_failure(self, parsed: ParsedRecord, failure: ParseFailure) -> None:
        """Hold an unreadable record. An authentic message is held once; its copies are duplicates."""
        key = (parsed.account, failure.notification_id)
        if failure.digest:
            known_id = self._ledger.get(key)
            if known_id is None:
                self._ledger[key] = LedgerEntry(failure.digest, parsed.position)
                self._draft.add_to_ledger(parsed, failure.notification_id, failure.digest, order=failure.order)
            elif known_id.digest == failure.digest and not identity.is_first_record(parsed, known_id):
                self._draft.finish_copy(parsed, failure)
                return
        self._draft.hold_failure(parsed, failure)

    def _apply(self, parsed: ParsedRecord, notification: Notification) -> None:
        if self._snapshot.is_locked(notification, self._by_trade):
            self._draft.park_until_unlocked(parsed, notification)
        elif notification.news is _OTHER:
            order = self._filed_under(notification)
            self._draft.finish(parsed, notification, Disposition.APPLIED, Reason.NOTED, order=order)
        elif notification.amount is not None or notification.kind is Kind.PAYMENT:
            self._apply_to_order(parsed, notification)
        elif notification.capture is not None:
            self._apply_capture(parsed, notification, notification.capture)
        else:
            self._apply_refunds(parsed, notification)

    def _apply_to_order(self, parsed: ParsedRecord, notification: Notification) -> None:
        """Apply a notification that names its order, its trade and its amount, as nearly all do."""
        assert notification.amount is not None
        order = self._orders.get((parsed.account, notification.order))
        shared = None
        if notification.joins_by_trade:
            shared = second_numbers.order_of_trade(notification, self._orders, self._by_trade)
        if shared is not None:
            if order is not None and not order.is_note:
                self._refuse(parsed, notification, order, Flag.SECOND_TRADE, f"order {shared.number} has this payment")
                return
            self._draft.add_numbers(parsed, [NamedNumber(NumberKind.ORDER, notification.order)])
            order = shared
        must_be_registered = self._accounts[parsed.account].orders is _REGISTERED
        if must_be_registered and not (notification.is_periodic or refusals.is_known(order, notification)):
            waits_for = parking.order_key(notification.order)
            self._draft.park(parsed, notification, Reason.UNKNOWN_ORDER, waits_for=waits_for)
            return
        if order is None:
            order = Order(account=parsed.account, number=notification.order)
        refusal = refusals.refusal(order, notification, self._accounts[parsed.account])
        if refusal is not None:
            self._refuse(parsed, notification, order, refusal)
            return
        key = (notification.trade, notification.amount.minor, notification.amount.currency)
        claim = next((claim for claim in order.claims if claim.key == key), None)
        if claim is None:
            claim = Claim(
                trade=notification.trade, amount_minor=notification.amount.minor, currency=notification.amount.currency
            )
            if notification.joins_by_trade:
                self._draft.plan.sole_trades.add((notification.trade, parsed.account, order.number))
        joined, verdict = transitions.join(claim, notification)
        after = self.movements.with_claim(order, joined)
        flag = refusals.aside(order, after, joined) if key in order.set_aside else None
        if flag is None:
            self._write_claim(parsed, notification, order, after, joined, verdict)
        elif transitions.is_payment(notification.news):
            self._refuse(parsed, notification, order, flag)
        else:  # it ends a payment that does not count
            self._draft.finish(parsed, notification, Disposition.APPLIED, Reason.NOTED, order=order.number)

    def _write_claim(
        self,
        parsed: ParsedRecord,
        notification: Notification,
        before: Order,
        after: Order,
        joined: Claim,
        verdict: MoveVerdict,
    ) -> None:
        if after == before:
            is_older = verdict is MoveVerdict.BEHIND
            self._finish_unchanged(parsed, notification, is_older=is_older, order=before.number)
            return
        version, order, reason = self.write(parsed, notification, before, after), before.number, None
        if self._views[after.account, after.number].flags:  # which are all contradictions, and more
            reason = refusals.first_contradiction(order_view.flags_from_claim(before, after, joined))
        if reason is not None:
            detail = refusals.detail(reason, notification, after)
            self._draft.quarantine(parsed, notification, reason, detail, order=order, version=version)
        elif version is not None:
            self._draft.finish(parsed, notification, _APPLIED, _CHANGED, order=order, version=version)
        else:
            self._finish_unchanged(parsed, notification, is_older=True, order=order)

    def _apply_capture(self, parsed: ParsedRecord, notification: Notification, capture: Capture) -> None:
        """Apply a capture. It names Alipay's trade number, or else the order, and waits until its payment is known."""
        number = self._by_trade.get((parsed.account, capture.trade)) if capture.trade else notification.order
        before = self._orders.get((parsed.account, number)) if number else None
        if before is None or not before.claims:
            waits_for = parking.trade_key(capture.trade) if capture.trade else parking.order_key(notification.order)
            self._draft.park(parsed, notification, Reason.UNKNOWN_TRADE, waits_for=waits_for)
            return
        after, rows = self.movements.with_movements(before, [capture])
        if after == before:
            self._finish_unchanged(parsed, notification, is_older=False, order=before.number)
            return
        if identity.shares_number(notification):
            self._draft.hold_conflict(parsed, notification, before.number)
            return
        version, order = self.write(parsed, notification, before, after, rows), before.number
        reason = refusals.first_contradiction(order_view.flags_from_capture(before, after, capture))
        if reason is not None:
            detail = refusals.detail(reason, notification, after)
            self._draft.quarantine(parsed, notification, reason, detail, order=order, version=version)
            return
        done = Reason.NOTED if version is None else Reason.CHANGED
        self._draft.finish(parsed, notification, Disposition.APPLIED, done, order=order, version=version)

    def _refuse(
        self, parsed: ParsedRecord, notification: Notification, order: Order, flag: Flag, detail: str = ""
    ) -> None:
        """Quarantine a notification without joining it; the order keeps only the flag."""
        after = structs.replace(order, refused=order.refused | {flag})
        version = self.write(parsed, notification, order, after)
        reason = order_view.CONTRADICTIONS[flag]
        detail = detail or refusals.detail(reason, notification, order)
        self._draft.quarantine(parsed, notification, reason, detail, order=order.number, version=version)

    def _apply_refunds(self, parsed: ParsedRecord, notification: Notification) -> None:
        """Apply refunds that name no order, but Alipay's trade number or a refund number that the merchant registered.

        One notification may have refunds of several orders. It waits as a whole until all of them are known.
        """
        by_order: dict[AccountKey, list[Refund]] = {}
        for refund in notification.refunds:
            number = second_numbers.order_of_refund(
                notification, refund, self._by_trade, self._snapshot.order_by_refund
            )
            order = self._orders.get((parsed.account, number)) if number else None
            if order is None or not order.claims:
                reason, waits_for = refusals.missing(refund, order)
                filed = self._filed_under(notification)
                self._draft.park(parsed, notification, reason, waits_for=waits_for, order=filed)
                return
            by_order.setdefault((order.account, order.number), []).append(refund)
        if not by_order:
            self._draft.finish(parsed, notification, Disposition.APPLIED, Reason.NOTED)
            return
        self._write_refunds(parsed, notification, {key: tuple(refunds) for key, refunds in by_order.items()})

    def _write_refunds(
        self, parsed: ParsedRecord, notification: Notification, by_order: Mapping[AccountKey, tuple[Refund, ...]]
    ) -> None:
        flags: set[Flag] = set()
        versions: list[int] = []
        has_new_facts = False
        for key, refunds in by_order.items():
            before = self._orders[key]
            after, rows = self.movements.with_movements(before, refunds)
            if after == before:
                continue
            if identity.shares_number(notification):
                self._draft.hold_conflict(parsed, notification, before.number)
                return
            has_new_facts = True
            version = self.write(parsed, notification, before, after, rows)
            flags |= order_view.flags_from_refunds(before, after, refunds)
            versions += [] if version is None else [version]
        # A delivery names one order. If the refunds are of several orders, only the events have the versions.
        order = next(iter(by_order))[1] if len(by_order) == 1 else ""
        version = versions[0] if order and versions else None
        reason = refusals.first_contradiction(flags)
        if reason is not None:
            detail = refusals.detail(reason, notification, self._orders[next(iter(by_order))])
            self._draft.quarantine(parsed, notification, reason, detail, order=order, version=version)
        elif versions:
            self._draft.finish(parsed, notification, Disposition.APPLIED, Reason.CHANGED, order=order, version=version)
        else:
            self._finish_unchanged(parsed, notification, is_older=has_new_facts, order=order)

    def _finish_unchanged(
        self, parsed: ParsedRecord, notification: Notification, *, is_older: bool, order: str = ""
    ) -> None:
        """End a record that changes nothing for consumers: its fact is known, or newer facts have overtaken it.

        One that mentions a refund may be about another refund than the known ones, so it is never called a duplicate. A
        row that is retried while its contradiction is still there stays held, because that is a person's decision.
        """
        held, number = parsed.held, order or notification.order
        if held is not None and refusals.persists(held, self._orders.get((parsed.account, number))):
            self._draft.quarantine(parsed, notification, held.reason, held.detail, order=order)
        elif is_older:
            self._draft.finish(parsed, notification, Disposition.STALE, Reason.OLD_NEWS, order=order)
        elif notification.mentions_refund:
            self._draft.finish(parsed, notification, Disposition.APPLIED, Reason.NOTED, order=order)
        else:
            self._draft.finish(parsed, notification, Disposition.DUPLICATE, Reason.SAME_FACT, order=order)

    def write(
        self,
        parsed: ParsedRecord,
        notification: Notification,
        before: Order,
        after: Order,
        rows: Sequence[MovementRow] = (),
    ) -> int | None:
        """Keep the changed order; return its new version if consumers see the change."""
        if after == before:
            return None
        key, after = (after.account, after.number), self.movements.written(after, rows)
        written, view = self._draft.change_order(
            parsed, notification, before=before, view_before=self._views.get(key), after=after
        )
        self._orders[key] = written
        self._views[key] = view
        self._wake(before, after)
        return written.version if written.version != before.version else None

    def _wake(self, before: Order, after: Order) -> None:
        """Wake the notifications parked for this trade, or for the order's first payment."""
        if len(after.claims) == len(before.claims):
            return
        for claim in after.claims:
            self._by_trade[after.account, claim.trade] = after.number
            self._draft.plan.wakes.add((after.account, parking.trade_key(claim.trade)))
        if not before.claims:
            self._draft.plan.wakes.add((after.account, parking.order_key(after.number)))
