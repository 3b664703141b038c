"""What becomes of each record of a batch, and of the orders they are about. Pure: no I/O, no clock, no chance.

    Duplicate    the id is known with the same content, or another id brings a fact that is known
    Stale        older than what is known
    Apply        the order changes: its version rises by one and one event goes out
    Park         its order, trade or refund is not known yet
    Quarantine   authentic, and wrong: by what the merchant registered, or by what other notifications say
    dead         no notification at all; decided before, while reading

A batch is decided in its order, each record seeing what the ones before it did. What the store has to know for it is
`needs`; what it is to write is the `Plan`. The notification that brings a contradiction is quarantined, the order is
flagged, the higher rank stands. A notification that is wrong by the *registered* amount is not joined at all.
"""

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime

from msgspec import structs

from schemas import clock, events
from schemas.accounts import Account, Orders
from schemas.dispositions import Disposition, Flag, Reason
from schemas.events import Cause, HeldNotice, OrderEvent
from schemas.notification import Kind, Notification
from schemas.orders import Claim, News, Order, View
from workers import retries, transitions, views
from workers.plan import (
    Delivery,
    HeldRow,
    Known,
    LedgerRow,
    Named,
    Needs,
    OrderWrite,
    Plan,
    Reading,
    Registration,
)
from workers.transitions import Verdict


def needs(readings: Sequence[Reading]) -> Needs:
    """What has to be loaded before these readings can be decided."""
    ids, orders, trades, refunds = set(), set(), set(), set()
    for reading in readings:
        heard = reading.notification
        if heard is None:
            continue
        ids.add((reading.account, heard.id))
        if heard.order:
            orders.add((reading.account, heard.order))
        for refund in heard.refunds:
            refunds.add((reading.account, refund.id))
            if refund.trade:
                trades.add((reading.account, refund.trade))
    return Needs(
        positions=frozenset(reading.position for reading in readings),
        ids=frozenset(ids),
        orders=frozenset(orders),
        trades=frozenset(trades),
        refunds=frozenset(refunds),
    )


def decide(
    readings: Sequence[Reading],
    known: Known,
    accounts: Mapping[str, Account],
    *,
    now_ms: int,
    chance: Callable[[], float],
) -> Plan:
    """The plan for these readings. `chance` gives numbers in [0, 1) for the jitter of what has to wait."""
    batch = _Batch(known, accounts, now_ms=now_ms, chance=chance)
    for reading in readings:
        batch.settle(reading)
    return batch.plan()


def register(order: Order | None, account: str, number: str, registration: Registration, *, now_ms: int) -> Plan:
    """The plan that records what the merchant expects of an order.

    What had been refused by an older expectation is forgotten: the held notifications can be replayed against the new.
    """
    before = order or Order(account=account, number=number)
    expected = registration.expected or before.expected
    refused = before.refused if expected == before.expected else frozenset()
    after = structs.replace(before, expected=expected, registered=True, refused=refused)
    plan = _empty_plan()
    seen, seen_now = views.view(before), views.view(after)
    if before.version and seen != seen_now:
        after = structs.replace(after, version=before.version + 1)
        plan.events.append(_event(after, seen, seen_now, cause=None, now=clock.from_epoch_ms(now_ms)))
    expected_version = None if order is None else order.version
    plan.orders.append(OrderWrite(order=after, view=seen_now, expected_version=expected_version))
    plan.wakes.add((account, f"order:{number}"))
    plan.wakes.update((account, f"refund:{refund}") for refund in registration.refunds)
    return plan


def _empty_plan() -> Plan:
    return Plan(deliveries=[], ledger=[], orders=[], held=[], released=[], events=[], wakes=set())


def _event(order: Order, before: View | None, after: View, *, cause: Cause | None, now: datetime) -> events.Outgoing:
    return events.outgoing_event(
        OrderEvent(
            id=events.event_id(order.account, order.number, order.version),
            type=events.event_type(before, after),
            account=order.account,
            order=order.number,
            version=order.version,
            changed=events.changed(before, after),
            cause=cause,
            occurred_at=now,
            status=after.status,
            closed_because=after.closed_because,
            trade=after.trade,
            amount_minor=after.amount_minor,
            currency=after.currency,
            refunded_minor=after.refunded_minor,
            flags=after.flags,
        )
    )


class _Batch:
    """One batch being decided: what is known, growing with each record, and the plan as far as it got."""

    def __init__(
        self, known: Known, accounts: Mapping[str, Account], *, now_ms: int, chance: Callable[[], float]
    ) -> None:
        self._known = known
        self._accounts = accounts
        self._now_ms = now_ms
        self._chance = chance
        self._digests = dict(known.digests)
        self._orders = dict(known.orders)
        self._by_trade = dict(known.order_by_trade)
        self._views: dict[Named, View] = {}  # of the orders that this batch wrote
        self._plan = _empty_plan()

    def plan(self) -> Plan:
        for named, seen in self._views.items():
            before = self._known.orders.get(named)
            expected = None if before is None else before.version
            self._plan.orders.append(OrderWrite(order=self._orders[named], view=seen, expected_version=expected))
        return self._plan

    def settle(self, reading: Reading) -> None:
        if reading.held is None and reading.position in self._known.settled:
            return  # delivered again after a crash: its disposition is known
        if reading.held is not None and reading.position not in self._known.open_held:
            return  # somebody resolved it meanwhile
        heard = reading.notification
        if heard is None:
            self._hold_fault(reading)
            return
        self._settle_heard(reading, heard)

    def _settle_heard(self, reading: Reading, heard: Notification) -> None:
        digest = self._digests.get((reading.account, heard.id))
        waiting = reading.held is not None and reading.held.notification_id == heard.id
        if digest is not None and digest != heard.digest:
            self._hold(reading, heard, Disposition.QUARANTINED, Reason.ID_CONFLICT, "the same id with other content")
        elif digest is not None and not waiting:
            self._end(reading, heard, Disposition.DUPLICATE, Reason.SAME_ID)
        else:
            if digest is None:
                self._enter(reading, heard)
            self._apply(reading, heard)

    def _enter(self, reading: Reading, heard: Notification) -> None:
        self._digests[reading.account, heard.id] = heard.digest
        self._plan.ledger.append(
            LedgerRow(
                account=reading.account,
                notification_id=heard.id,
                order=heard.order,
                digest=heard.digest,
                position=reading.position,
                record=reading.record,
            )
        )

    def _apply(self, reading: Reading, heard: Notification) -> None:
        if heard.news is News.OTHER:
            self._end(reading, heard, Disposition.APPLIED, Reason.NOTED)
        elif heard.kind is Kind.PAYMENT or heard.amount is not None:
            self._apply_to_order(reading, heard)
        else:
            self._apply_refunds(reading, heard)

    def _apply_to_order(self, reading: Reading, heard: Notification) -> None:
        """The usual case: the notification names its order, its trade and its amount."""
        assert heard.amount is not None
        named = (reading.account, heard.order)
        order = self._orders.get(named)
        if order is None:
            if self._accounts[reading.account].orders is Orders.REGISTERED:
                self._park(reading, heard, Reason.UNKNOWN_ORDER, f"order:{heard.order}")
                return
            order = Order(account=reading.account, number=heard.order)
        elif not order.registered and self._accounts[reading.account].orders is Orders.REGISTERED:
            self._park(reading, heard, Reason.UNKNOWN_ORDER, f"order:{heard.order}")
            return
        refusal = _refusal(order, heard)
        if refusal is not None:
            self._refuse(reading, heard, order, refusal)
            return
        key = (heard.trade, heard.amount.minor, heard.amount.currency)
        claim = next((claim for claim in order.claims if claim.key == key), None)
        fresh = claim or Claim(trade=heard.trade, amount_minor=heard.amount.minor, currency=heard.amount.currency)
        joined, verdict = transitions.join(fresh, heard)
        after = structs.replace(order, claims=views.with_claim(order.claims, joined))
        self._conclude(reading, heard, order, after, verdict, is_new_claim=claim is None)

    def _apply_refunds(self, reading: Reading, heard: Notification) -> None:
        """Refunds that name no order: by Alipay's trade number, or by the refund number that the merchant registered.

        All of a batch's orders have to be known before any of them changes; until then the whole notification waits.
        """
        targets: dict[Named, Order] = {}
        for refund in heard.refunds:
            number = self._known.order_by_refund.get((reading.account, refund.id)) or self._by_trade.get(
                (reading.account, refund.trade)
            )
            order = self._orders.get((reading.account, number)) if number else None
            if order is None or not order.claims:
                waits_for, reason = f"refund:{refund.id}", Reason.UNKNOWN_REFUND
                if refund.trade:
                    waits_for, reason = f"trade:{refund.trade}", Reason.UNKNOWN_TRADE
                elif order is not None:
                    waits_for, reason = f"order:{order.number}", Reason.UNKNOWN_TRADE
                self._park(reading, heard, reason, waits_for)
                return
            targets[reading.account, order.number] = order
        if not targets:
            self._end(reading, heard, Disposition.APPLIED, Reason.NOTED)
            return
        self._conclude_refunds(reading, heard, list(targets.values()))

    def _conclude_refunds(self, reading: Reading, heard: Notification, targets: list[Order]) -> None:
        afters, flags, verdicts = [], set(), set()
        for order in targets:
            after, verdict = _refunded(order, heard)
            flags |= set(views.view(after).flags) - set(self._seen(order).flags)
            afters.append((order, after))
            verdicts.add(verdict)
        contradiction = next((views.CONTRADICTIONS[flag] for flag in views.CONTRADICTIONS if flag in flags), None)
        versions = [self._write(reading, heard, order, after) for order, after in afters]
        version = versions[0] if len(targets) == 1 else None
        if contradiction is not None:
            self._hold(reading, heard, Disposition.QUARANTINED, contradiction, _WHY[contradiction], version)
        elif any(made is not None for made in versions):
            self._end(reading, heard, Disposition.APPLIED, Reason.CHANGED, version)
        elif Verdict.BEHIND in verdicts:
            self._end(reading, heard, Disposition.STALE, Reason.OLD_NEWS)
        else:
            self._end(reading, heard, Disposition.DUPLICATE, Reason.SAME_FACT)

    def _conclude(
        self,
        reading: Reading,
        heard: Notification,
        before: Order,
        after: Order,
        verdict: Verdict,
        *,
        is_new_claim: bool,
    ) -> None:
        changed_facts = after != before
        flags_before = self._seen(before).flags
        version = self._write(reading, heard, before, after)
        flags = self._seen(after).flags
        brought = [
            flag for flag in flags if flag in views.CONTRADICTIONS and (is_new_claim or flag not in flags_before)
        ]
        if changed_facts and brought:
            reason = min((views.CONTRADICTIONS[flag] for flag in brought), key=list(_WHY).index)
            self._hold(reading, heard, Disposition.QUARANTINED, reason, _WHY[reason], version)
        elif version is not None:
            self._end(reading, heard, Disposition.APPLIED, Reason.CHANGED, version)
        elif changed_facts or verdict is Verdict.BEHIND:
            self._end(reading, heard, Disposition.STALE, Reason.OLD_NEWS)
        else:
            self._end(reading, heard, Disposition.DUPLICATE, Reason.SAME_FACT)

    def _refuse(self, reading: Reading, heard: Notification, order: Order, flag: Flag) -> None:
        after = structs.replace(order, refused=order.refused | {flag})
        version = self._write(reading, heard, order, after) if order.registered or order.claims else None
        self._hold(
            reading,
            heard,
            Disposition.QUARANTINED,
            views.CONTRADICTIONS[flag],
            _WHY[views.CONTRADICTIONS[flag]],
            version,
        )

    def _write(self, reading: Reading, heard: Notification, before: Order, after: Order) -> int | None:
        """Keep the order as it is now; the version it got, if anything visible changed."""
        if after == before:
            return None
        named = (after.account, after.number)
        seen = self._seen(before) if before.version else None
        seen_now = views.view(after)
        version = None
        if seen != seen_now:
            version = before.version + 1
            after = structs.replace(after, version=version)
            cause = Cause(
                notification_id=heard.id,
                type=heard.type,
                status=heard.status,
                news=heard.news.value,
                happened_at=heard.happened_at,
                received_at=clock.from_epoch_ms(reading.received_at_ms),
            )
            self._plan.events.append(_event(after, seen, seen_now, cause=cause, now=clock.from_epoch_ms(self._now_ms)))
        self._orders[named] = after
        self._views[named] = seen_now
        self._wake(before, after)
        return version

    def _seen(self, order: Order) -> View:
        """The order's view, which this batch has at hand if it wrote the order."""
        return self._views.get((order.account, order.number)) or views.view(order)

    def _wake(self, before: Order, after: Order) -> None:
        """What is parked for a trade, or for an order's first payment, can go on once that has become known."""
        if len(after.claims) == len(before.claims):
            return
        for claim in after.claims:
            self._by_trade[after.account, claim.trade] = after.number
            self._plan.wakes.add((after.account, f"trade:{claim.trade}"))
        if not before.claims:
            self._plan.wakes.add((after.account, f"order:{after.number}"))

    def _end(
        self,
        reading: Reading,
        heard: Notification,
        disposition: Disposition,
        reason: Reason,
        version: int | None = None,
    ) -> None:
        self._deliver(reading, heard, disposition, reason, "", version)
        if reading.held is not None:
            self._plan.released.append(reading.position)

    def _park(self, reading: Reading, heard: Notification, reason: Reason, waits_for: str) -> None:
        held = reading.held
        first_at_ms, attempts = (self._now_ms, 0) if held is None else (held.first_at_ms, held.attempts + 1)
        due_at_ms = retries.due_at_ms(attempts, first_at_ms=first_at_ms, now_ms=self._now_ms, chance=self._chance())
        if due_at_ms is None:
            detail = f"waited 25 hours for {waits_for}"
            self._hold(reading, heard, Disposition.QUARANTINED, Reason.WAITED_TOO_LONG, detail)
            return
        row = self._held_row(reading, heard.order, heard.id, Disposition.PARKED, reason, f"waits for {waits_for}")
        row = structs.replace(row, due_at_ms=due_at_ms, waits_for=waits_for, attempts=attempts)
        self._keep(reading, row)
        self._deliver(reading, heard, Disposition.PARKED, reason, row.detail, None)

    def _hold(
        self,
        reading: Reading,
        heard: Notification,
        disposition: Disposition,
        reason: Reason,
        detail: str,
        version: int | None = None,
    ) -> None:
        self._keep(reading, self._held_row(reading, heard.order, heard.id, disposition, reason, detail))
        self._deliver(reading, heard, disposition, reason, detail, version)

    def _hold_fault(self, reading: Reading) -> None:
        fault = reading.fault
        assert fault is not None
        row = self._held_row(reading, fault.order, fault.notification_id, fault.disposition, fault.reason, fault.detail)
        if fault.disposition is Disposition.PARKED:
            due = retries.due_at_ms(0, first_at_ms=self._now_ms, now_ms=self._now_ms, chance=self._chance())
            row = structs.replace(row, due_at_ms=due)
        self._keep(reading, row)
        self._plan.deliveries.append(
            Delivery(
                position=reading.position,
                account=reading.account,
                order=fault.order,
                notification_id=fault.notification_id,
                type="",
                status="",
                news="",
                disposition=fault.disposition,
                reason=fault.reason,
                detail=fault.detail,
                version=None,
                received_at_ms=reading.received_at_ms,
                decided_at_ms=self._now_ms,
            )
        )

    def _held_row(
        self, reading: Reading, order: str, notification_id: str, disposition: Disposition, reason: Reason, detail: str
    ) -> HeldRow:
        held = reading.held
        return HeldRow(
            position=reading.position,
            account=reading.account,
            order=order,
            notification_id=notification_id,
            disposition=disposition,
            reason=reason,
            detail=detail,
            record=reading.record,
            first_at_ms=self._now_ms if held is None else held.first_at_ms,
            attempts=0 if held is None else held.attempts + 1,
        )

    def _keep(self, reading: Reading, row: HeldRow) -> None:
        """Write the held row, and a notice where its disposition is news: a row that goes on waiting says nothing."""
        self._plan.held.append(row)
        if reading.held is not None and reading.held.disposition is row.disposition:
            return
        notice = HeldNotice(
            id=f"held:{row.id}:{row.disposition.value}",
            held_id=row.id,
            account=row.account,
            order=row.order,
            notification_id=row.notification_id,
            disposition=row.disposition,
            reason=row.reason,
            detail=row.detail,
            at=clock.from_epoch_ms(self._now_ms),
        )
        self._plan.events.append(events.outgoing_notice(notice))

    def _deliver(
        self,
        reading: Reading,
        heard: Notification,
        disposition: Disposition,
        reason: Reason,
        detail: str,
        version: int | None,
    ) -> None:
        self._plan.deliveries.append(
            Delivery(
                position=reading.position,
                account=reading.account,
                order=heard.order,
                notification_id=heard.id,
                type=heard.type,
                status=heard.status,
                news=heard.news.value,
                disposition=disposition,
                reason=reason,
                detail=detail,
                version=version,
                received_at_ms=reading.received_at_ms,
                decided_at_ms=self._now_ms,
            )
        )


def _refusal(order: Order, heard: Notification) -> Flag | None:
    """Why the notification may not touch the order: it is wrong by the registration, or by itself."""
    assert heard.amount is not None
    expected = order.expected
    if expected is not None and heard.amount.currency != expected.currency:
        return Flag.CURRENCY_MISMATCH
    if expected is not None and heard.amount.minor != expected.minor:
        return Flag.AMOUNT_MISMATCH
    if heard.refunded_total is not None and heard.refunded_total.minor > heard.amount.minor:
        return Flag.OVER_REFUNDED
    return None


def _refunded(order: Order, heard: Notification) -> tuple[Order, Verdict]:
    """The order with the refunds that concern it joined to the claim they are of."""
    trades = {refund.trade for refund in heard.refunds if refund.trade}
    concerned = [claim for claim in order.claims if not trades or claim.trade in trades]
    standing = views.standing(tuple(concerned))
    if standing is None:
        return order, Verdict.SAME
    fitting = tuple(refund for refund in heard.refunds if refund.amount.minor <= standing.amount_minor)
    if not fitting:
        return structs.replace(order, refused=order.refused | {Flag.OVER_REFUNDED}), Verdict.CONTRADICTION
    joined, verdict = transitions.join(standing, structs.replace(heard, refunds=fitting))
    return structs.replace(order, claims=views.with_claim(order.claims, joined)), verdict


_WHY = {
    Reason.CURRENCY_MISMATCH: "another currency than the order's",
    Reason.AMOUNT_MISMATCH: "another amount than the order's",
    Reason.SECOND_TRADE: "a second trade was paid for this order",
    Reason.PAID_AND_EXPIRED: "the trade was paid, and is also said to have ended unpaid",
    Reason.OVER_REFUNDED: "more was refunded than was paid",
}
