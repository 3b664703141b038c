"""What becomes of each record of a batch, and of the orders they are about. Pure: no I/O, no clock, no chance.

    Duplicate    the id is known with the same content, or another id brings a fact that is known
    Stale        older than what is known
    Apply        the order changes: its version rises by one and one event goes out
    Park         its order, trade or refund is not known yet
    Quarantine   authentic, and wrong: by what the merchant registered, or by what other notifications say
    dead         no notification at all; decided before, while parsed

A batch is decided in its order, each record seeing what the ones before it did. What the store has to know for it is
`needs`; what it is to write is the `WritePlan`. The notification that brings a contradiction is quarantined, the order
is flagged, the higher rank stands. A notification that is wrong by the *registered* amount is not joined at all.
"""

from collections.abc import Callable, Mapping, Sequence

from msgspec import structs

from schemas.accounts import Account, Orders
from schemas.dispositions import Disposition, Flag, Reason
from schemas.notification import Kind, Notification
from schemas.orders import Claim, News, Order, Refund, View
from workers.settlement import drafting, order_view, transitions
from workers.settlement.drafting import Draft
from workers.settlement.plan import (
    AccountKey,
    HeldRow,
    LoadRequest,
    OrderWrite,
    ParsedRecord,
    ParseFailure,
    Position,
    Registration,
    StoreSnapshot,
    WritePlan,
)
from workers.settlement.transitions import MoveVerdict


def load_request(parsed_records: Sequence[ParsedRecord]) -> LoadRequest:
    """What has to be loaded before these parsed_records can be decided."""
    ids, orders, trades, refunds = set(), set(), set(), set()
    for parsed in parsed_records:
        notification = parsed.notification
        if notification is None:
            if parsed.failure is not None and parsed.failure.digest:
                ids.add((parsed.account, parsed.failure.notification_id))
            continue
        ids.add((parsed.account, notification.id))
        if notification.order:
            orders.add((parsed.account, notification.order))
        for refund in notification.refunds:
            if refund.trade:
                trades.add((parsed.account, refund.trade))
            else:
                refunds.add((parsed.account, refund.id))
    return LoadRequest(
        positions=frozenset(parsed.position for parsed in parsed_records),
        ids=frozenset(ids),
        orders=frozenset(orders),
        trades=frozenset(trades),
        refunds=frozenset(refunds),
    )


def decide(
    parsed_records: Sequence[ParsedRecord],
    known: StoreSnapshot,
    accounts: Mapping[str, Account],
    *,
    now_ms: int,
    chance: Callable[[], float],
) -> WritePlan:
    """The plan for these parsed_records. `chance` gives numbers in [0, 1) for the jitter of what has to wait."""
    batch = _Batch(known, accounts, Draft(now_ms=now_ms, chance=chance))
    for parsed in parsed_records:
        batch.settle(parsed)
    return batch.plan()


def register(order: Order | None, account: str, number: str, registration: Registration, *, now_ms: int) -> WritePlan:
    """The plan that records what the merchant expects of an order.

    What had been refused by an older expectation is forgotten: the held notifications can be replayed against the new.
    A refund above its own payment's amount was wrong by itself, and stays on the order's record.

    An order is registered once its amount is known. A refund's number alone says only where the refund belongs: taken
    for a registration, it would let a payment of any amount through.
    """
    before = order or Order(account=account, number=number)
    expected = registration.expected or before.expected
    refused = before.refused if expected == before.expected else before.refused & {Flag.OVER_REFUNDED}
    after = structs.replace(before, expected=expected, registered=expected is not None, refused=refused)
    plan = drafting.empty()
    seen, seen_now = order_view.view(before), order_view.view(after)
    if before.version and seen != seen_now:
        after = structs.replace(after, version=before.version + 1)
        plan.events.append(drafting.event(after, seen, seen_now, cause=None, now_ms=now_ms))
    expected_version = None if order is None else order.version
    plan.orders.append(OrderWrite(order=after, view=seen_now, expected_version=expected_version))
    if after.registered:
        plan.wakes.add((account, f"order:{number}"))
    plan.wakes.update((account, f"refund:{refund}") for refund in registration.refunds)
    return plan


class _Batch:
    """One batch being decided: what is known, growing with each record, and the plan as far as it got."""

    def __init__(self, known: StoreSnapshot, accounts: Mapping[str, Account], draft: Draft) -> None:
        self._known = known
        self._accounts = accounts
        self._draft = draft
        self._digests = dict(known.digests)
        self._orders = dict(known.orders)
        self._by_trade = dict(known.order_by_trade)
        self._views: dict[AccountKey, View] = {}  # of the orders that this batch wrote

    def plan(self) -> WritePlan:
        plan = self._draft.plan
        for named, seen in self._views.items():
            before = self._known.orders.get(named)
            expected = None if before is None else before.version
            plan.orders.append(OrderWrite(order=self._orders[named], view=seen, expected_version=expected))
        return plan

    def settle(self, parsed: ParsedRecord) -> None:
        if parsed.held is None and parsed.position in self._known.settled:
            return  # delivered again after a crash: its disposition is known
        if parsed.held is not None and not self._is_still(parsed.position, parsed.held):
            return  # somebody resolved it meanwhile, or tried it
        notification = parsed.notification
        if notification is not None:
            self._settle_heard(parsed, notification)
        elif parsed.failure is not None:
            self._settle_fault(parsed, parsed.failure)

    def _is_still(self, position: Position, held: HeldRow) -> bool:
        """Whether the row is as it was read.

        The sweeper and a person may both have read a parked row. The first try finds that it contradicts what is known,
        joins it and holds it for a person; the second would find its fact known, and resolve what nobody has seen.
        """
        known = self._known
        return position in known.open_held and known.held_attempts.get(position, held.attempts) == held.attempts

    def _settle_heard(self, parsed: ParsedRecord, notification: Notification) -> None:
        digest = self._digests.get((parsed.account, notification.id))
        if digest is None:
            self._digests[parsed.account, notification.id] = notification.digest
            self._draft.enter(parsed, notification.id, notification.digest, order=notification.order)
        elif digest != notification.digest:
            self._draft.quarantine(parsed, notification, Reason.ID_CONFLICT, "the same id with other content")
            return
        elif not _is_held_as(parsed, notification.id):
            self._draft.end(parsed, notification, Disposition.DUPLICATE, Reason.SAME_ID)
            return
        self._apply(parsed, notification)

    def _settle_fault(self, parsed: ParsedRecord, fault: ParseFailure) -> None:
        """An authentic message is held once, also where it could not be read: its repetitions are duplicates."""
        named = (parsed.account, fault.notification_id)
        if fault.digest:
            if self._digests.get(named) == fault.digest and not _is_held_as(parsed, fault.notification_id):
                self._draft.repeat(parsed, fault)
                return
            if named not in self._digests:
                self._digests[named] = fault.digest
                self._draft.enter(parsed, fault.notification_id, fault.digest, order=fault.order)
        self._draft.hold(parsed, fault)

    def _apply(self, parsed: ParsedRecord, notification: Notification) -> None:
        if notification.news is News.OTHER:
            self._draft.end(parsed, notification, Disposition.APPLIED, Reason.NOTED)
        elif notification.kind is Kind.PAYMENT or notification.amount is not None:
            self._apply_to_order(parsed, notification)
        else:
            self._apply_refunds(parsed, notification)

    def _apply_to_order(self, parsed: ParsedRecord, notification: Notification) -> None:
        """The usual case: the notification names its order, its trade and its amount."""
        assert notification.amount is not None
        order = self._orders.get((parsed.account, notification.order))
        must_be_registered = self._accounts[parsed.account].orders is Orders.REGISTERED
        if must_be_registered and (order is None or not order.registered):
            self._draft.park(parsed, notification, Reason.UNKNOWN_ORDER, waits_for=f"order:{notification.order}")
            return
        if order is None:
            order = Order(account=parsed.account, number=notification.order)
        refusal = _refusal(order, notification)
        if refusal is not None:
            self._refuse(parsed, notification, order, refusal)
            return
        key = (notification.trade, notification.amount.minor, notification.amount.currency)
        claim = next((claim for claim in order.claims if claim.key == key), None)
        if claim is None:
            claim = Claim(
                trade=notification.trade, amount_minor=notification.amount.minor, currency=notification.amount.currency
            )
        joined, verdict = transitions.join(claim, notification)
        self._conclude(parsed, notification, order, joined, verdict)

    def _conclude(
        self, parsed: ParsedRecord, notification: Notification, before: Order, joined: Claim, verdict: MoveVerdict
    ) -> None:
        after = order_view.with_claim(before, joined)
        if after == before:
            self._end_unchanged(parsed, notification, is_older=verdict is MoveVerdict.BEHIND)
            return
        version = self._write(parsed, notification, before, after)
        reason = _weightiest(order_view.brought_by_claim(before, after, joined))
        if reason is not None:
            self._draft.quarantine(parsed, notification, reason, _WHY[reason], version=version)
        elif version is not None:
            self._draft.end(parsed, notification, Disposition.APPLIED, Reason.CHANGED, version=version)
        else:
            self._end_unchanged(parsed, notification, is_older=True)

    def _refuse(self, parsed: ParsedRecord, notification: Notification, order: Order, flag: Flag) -> None:
        after = structs.replace(order, refused=order.refused | {flag})
        version = self._write(parsed, notification, order, after)
        reason = order_view.CONTRADICTIONS[flag]
        self._draft.quarantine(parsed, notification, reason, _WHY[reason], version=version)

    def _apply_refunds(self, parsed: ParsedRecord, notification: Notification) -> None:
        """Refunds that name no order: by Alipay's trade number, or by the refund number that the merchant registered.

        All of a batch's orders have to be known before any of them changes; until then the whole notification waits.
        """
        told: dict[AccountKey, list[Refund]] = {}
        for refund in notification.refunds:
            number = self._order_of(parsed, refund)
            order = self._orders.get((parsed.account, number)) if number else None
            if order is None or not order.claims:
                reason, waits_for = _missing(refund, order)
                self._draft.park(parsed, notification, reason, waits_for=waits_for)
                return
            told.setdefault((order.account, order.number), []).append(refund)
        if not told:
            self._draft.end(parsed, notification, Disposition.APPLIED, Reason.NOTED)
            return
        self._conclude_refunds(parsed, notification, {named: tuple(refunds) for named, refunds in told.items()})

    def _order_of(self, parsed: ParsedRecord, refund: Refund) -> str | None:
        if refund.trade:
            return self._by_trade.get((parsed.account, refund.trade))
        return self._known.order_by_refund.get((parsed.account, refund.id))

    def _conclude_refunds(
        self, parsed: ParsedRecord, notification: Notification, told: Mapping[AccountKey, tuple[Refund, ...]]
    ) -> None:
        brought: set[Flag] = set()
        versions: list[int] = []
        is_news = False
        for named, refunds in told.items():
            before = self._orders[named]
            after = order_view.with_refunds(before, refunds)
            if after == before:
                continue
            is_news = True
            version = self._write(parsed, notification, before, after)
            brought |= order_view.brought_by_refunds(before, after, refunds)
            versions += [] if version is None else [version]
        # A record's delivery has room for one order; of a batch over several the events alone tell the versions.
        order = next(iter(told))[1] if len(told) == 1 else ""
        version = versions[0] if order and versions else None
        reason = _weightiest(brought)
        if reason is not None:
            self._draft.quarantine(parsed, notification, reason, _WHY[reason], order=order, version=version)
        elif versions:
            self._draft.end(parsed, notification, Disposition.APPLIED, Reason.CHANGED, order=order, version=version)
        else:
            self._end_unchanged(parsed, notification, is_older=is_news, order=order)

    def _end_unchanged(
        self, parsed: ParsedRecord, notification: Notification, *, is_older: bool, order: str = ""
    ) -> None:
        """Nothing that consumers see has changed: a fact that is known, or one that newer ones have overtaken."""
        if is_older:
            self._draft.end(parsed, notification, Disposition.STALE, Reason.OLD_NEWS, order=order)
        else:
            self._draft.end(parsed, notification, Disposition.DUPLICATE, Reason.SAME_FACT, order=order)

    def _write(self, parsed: ParsedRecord, notification: Notification, before: Order, after: Order) -> int | None:
        """Keep the order as it is now; the version it got, if anything visible changed."""
        if after == before:
            return None
        named = (after.account, after.number)
        seen = self._views.get(named)
        written, seen_now = self._draft.renew(parsed, notification, before=before, seen=seen, after=after)
        self._orders[named] = written
        self._views[named] = seen_now
        self._wake(before, after)
        return written.version if written.version != before.version else None

    def _wake(self, before: Order, after: Order) -> None:
        """What is parked for a trade, or for an order's first payment, can go on once that has become known."""
        if len(after.claims) == len(before.claims):
            return
        for claim in after.claims:
            self._by_trade[after.account, claim.trade] = after.number
            self._draft.plan.wakes.add((after.account, f"trade:{claim.trade}"))
        if not before.claims:
            self._draft.plan.wakes.add((after.account, f"order:{after.number}"))


def _is_held_as(parsed: ParsedRecord, notification_id: str) -> bool:
    """Whether this is the very record that waits under this id, come again for another try."""
    return parsed.held is not None and parsed.held.notification_id == notification_id


def _refusal(order: Order, notification: Notification) -> Flag | None:
    """Why the notification may not touch the order: it is wrong by the registration, or by itself."""
    assert notification.amount is not None
    expected = order.expected
    if expected is not None and notification.amount.currency != expected.currency:
        return Flag.CURRENCY_MISMATCH
    if expected is not None and notification.amount.minor != expected.minor:
        return Flag.AMOUNT_MISMATCH
    if notification.refunded_total is not None and notification.refunded_total.minor > notification.amount.minor:
        return Flag.OVER_REFUNDED
    return None


def _missing(refund: Refund, order: Order | None) -> tuple[Reason, str]:
    """What a refund waits for whose order is not known, or has not been paid as far as we know."""
    if refund.trade:
        return Reason.UNKNOWN_TRADE, f"trade:{refund.trade}"
    if order is not None:
        return Reason.UNKNOWN_TRADE, f"order:{order.number}"
    return Reason.UNKNOWN_REFUND, f"refund:{refund.id}"


def _weightiest(flags: set[Flag]) -> Reason | None:
    if not flags:
        return None
    return next((reason for flag, reason in order_view.CONTRADICTIONS.items() if flag in flags), None)


_WHY = {
    Reason.CURRENCY_MISMATCH: "another currency than the order's",
    Reason.AMOUNT_MISMATCH: "another amount than the order's",
    Reason.SECOND_TRADE: "a second trade was paid for this order",
    Reason.PAID_AND_EXPIRED: "the trade was paid, and is also said to have ended unpaid",
    Reason.OVER_REFUNDED: "more was refunded than was paid",
}
