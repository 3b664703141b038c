"""Operators' decisions on held notifications: accept, discard, refund outside. Pure, as `decision` is.

accept    the notification is right. Its amount becomes the registered one, its trade is the payment that counts, and
          claims that contradict it are set aside. Of refunds beyond the payment it accepts the sum.
discard   the notification is wrong. Its row is resolved. Facts that it has brought to the order leave, with later
          notifications of the same payment that were not held, unless an earlier one had brought them.
refund    its payment was refunded outside, in Alipay's own portal. As discard, with the amount on record.

All remove a flag for which no other row is held, and a changed order gets its next version and an event. Only these may
let an order fall in rank. A payment that left is in `Order.set_aside`: if it is reported once more under
another id, the notification is held again, and its refund or its end is only noted.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence

from msgspec import Struct, structs

from schemas.accounts import Account
from schemas.dispositions import HELD, Disposition, Flag, Reason
from schemas.money import Money
from schemas.notification import Notification
from schemas.orders import PAYMENT_STATES, Claim, Movement, Order, State
from schemas.record_format import Record
from workers.settlement import drafting, identity, movements, order_view, refusals, second_numbers, transitions
from workers.settlement.decision import BatchDecision
from workers.settlement.drafting import Draft
from workers.settlement.movements import BatchMovements
from workers.settlement.plan import (
    AccountKey,
    DecisionRow,
    HeldRow,
    MovementRow,
    ParsedRecord,
    PriorNotification,
    StoreSnapshot,
    WritePlan,
)

ACCEPTABLE = frozenset({Reason.AMOUNT_MISMATCH, Reason.CURRENCY_MISMATCH, Reason.SECOND_TRADE, Reason.OVER_REFUNDED})
PRICES = frozenset({Reason.AMOUNT_MISMATCH, Reason.CURRENCY_MISMATCH})
ACCEPTED, DISCARDED, REFUNDED_OUTSIDE = "accepted", "discarded", "refunded_outside"

Read = Callable[[Record], Notification | None]


class DecisionRefused(Exception):
    """The decision is not possible, or the row has changed since it was read. The text says what to do."""


class Verdict(Struct, frozen=True, kw_only=True):
    """The operator's name and reason, the time of the decision, and the number of the task that it belongs to.

    `refunded` is the amount of a refund outside; the verdict is that, and no other.
    """

    by: str
    why: str
    at_ms: int
    task: int | None = None
    refunded: Money | None = None


def accept(
    parsed: ParsedRecord,
    others: Sequence[ParsedRecord],
    snapshot: StoreSnapshot,
    accounts: Mapping[str, Account],
    verdict: Verdict,
    *,
    chance: Callable[[], float],
) -> WritePlan:
    """Return the plan that applies the held notification as it is. `others` are rows of the order that are held for
    their price: they are tried again with the new one.

    Raises:
        DecisionRefused: the row has changed since it was read, or the notification cannot be applied like this.
    """
    held = _held(parsed)
    _check_open(held, snapshot)
    assert parsed.notification is not None
    notification = identity.as_held(parsed.notification, held)
    draft = Draft(now_ms=verdict.at_ms, chance=chance)
    batch = BatchDecision(snapshot, accounts, draft)
    changes: list[tuple[Order, Order, list[MovementRow]]]
    if notification.amount is not None:
        _check_sole(notification, snapshot)
        before = _order_of(notification, snapshot) or Order(account=notification.account, number=notification.order)
        tried = {other.position for other in others}
        left = {prior for prior in _others(before, held, snapshot) if prior.position not in tried}
        changes = [(before, batch.movements.recounted(_with_payment(before, notification, left)), [])]
    else:
        orders = _orders_of_refunds(notification, snapshot)
        changes = [
            (before, *_with_all_refunds(before, notification, _others(before, held, snapshot), batch.movements))
            for before in orders
        ]
    if not changes:
        raise DecisionRefused("no order of it is known: register the order or its refund, then replay it")
    versions = [batch.write(parsed, notification, before, after, rows) for before, after, rows in changes]
    number, version = (changes[0][0].number, versions[0]) if len(changes) == 1 else ("", None)
    draft.finish(parsed, notification, Disposition.APPLIED, Reason.CHANGED, order=number, version=version)
    for other in others:
        batch.settle(other)
    plan = batch.plan()
    plan.decisions += _rows(held, plan, [before for before, _, _ in changes], snapshot, verdict, "accept", ACCEPTED)
    return plan


def discard(
    held: HeldRow, notification: Notification | None, snapshot: StoreSnapshot, account: Account | None, read: Read,
    verdict: Verdict,
) -> WritePlan:  # fmt: skip
    """Return the plan that resolves the row without applying it. `notification` is `None` if it cannot be read.

    If its payment was refunded outside, by the verdict, the row is resolved as that.

    Raises:
        DecisionRefused: the row has changed since it was read, or the refund is not that of its payment.
    """
    _check_open(held, snapshot)
    if verdict.refunded is not None:
        _check_refund(notification, verdict.refunded)
    plan = drafting.empty()
    before_all: list[Order] = []
    if held.disposition is Disposition.QUARANTINED and held.reason in refusals.DETAILS:
        before_all = _orders_of(held, notification, snapshot)
    for before in before_all:
        known, others = _movements(before, snapshot), _others(before, held, snapshot)
        after = _without(before, held, notification, others, known, account, read)
        if before.movement_sums is not None and account is not None:
            gone = _of(notification)
            plan.movements_gone += [movements.row(before, each) for each in known if each in gone]
        if after != before:
            drafting.rewrite(plan, before, after, expected_version=before.version, now_ms=verdict.at_ms)
    name = ("discard", DISCARDED) if verdict.refunded is None else ("refund_outside", REFUNDED_OUTSIDE)
    plan.decisions += _rows(held, plan, before_all, snapshot, verdict, *name)
    return plan


def _check_refund(notification: Notification | None, refunded: Money) -> None:
    """Refuse a refund that is not of all the money which the notification reports as paid."""
    if notification is None or notification.amount is None:
        raise DecisionRefused("it reports no payment that could be refunded: discard it")
    if _side(notification) is not State.PAID:
        raise DecisionRefused("the payment that it reports was not made, or has ended: discard it")
    known = 0 if notification.refunded_total is None else notification.refunded_total.minor
    left = Money(notification.amount.minor - known, notification.amount.currency)
    if refunded != left or not left.minor:
        already = f", of which {Money(known, left.currency)} is refunded" if known else ""
        raise DecisionRefused(
            f"it reports {notification.amount}{already}, so not {refunded}: refund {left}, or discard it"
        )


def _with_payment(before: Order, notification: Notification, left: Iterable[PriorNotification]) -> Order:
    amount = notification.amount
    assert amount is not None
    key = (notification.trade, amount.minor, amount.currency)
    known = next((claim for claim in before.claims if claim.key == key), None)
    fresh = Claim(trade=notification.trade, amount_minor=amount.minor, currency=amount.currency)
    joined, _ = transitions.join(known or fresh, notification)
    states = {claim.key: claim.state for claim in order_view.claims_with_refunds(before)}
    is_paid = joined.state in PAYMENT_STATES
    aside = {
        claim.key
        for claim in before.claims
        if claim.key != key
        and (claim.key[1:] != key[1:] or (is_paid and states[claim.key] in PAYMENT_STATES and claim.trade != key[0]))
    }
    paid = sorted(each for each in aside if states[each] in PAYMENT_STATES)
    if paid and not is_paid:
        raise DecisionRefused(
            f"it reports no payment, and trade {paid[0][0]} has paid for this order: discard it, or accept the "
            "notification of the payment that counts"
        )
    total = 0 if notification.refunded_total is None else notification.refunded_total.minor
    after = structs.replace(
        before,
        claims=tuple(claim for claim in before.claims if claim.key not in aside),
        expected=amount,
        alternatives=(),
        registered=True,
        refused=_flags_of(left),
        set_aside=tuple(sorted(({*before.set_aside} | aside) - {key})),
        refund_limit_minor=max(before.refund_limit_minor, total if total > amount.minor else 0),
    )
    return order_view.with_claim(after, joined)


def _with_all_refunds(
    before: Order, notification: Notification, left: Iterable[PriorNotification], known: BatchMovements
) -> tuple[Order, list[MovementRow]]:
    after, rows = known.with_movements(before, notification.refunds)
    if Flag.CURRENCY_MISMATCH in order_view.misfits(after, notification.refunds):
        raise DecisionRefused("its refund is in another currency than the payment, so it cannot be counted: discard it")
    reported = order_view.largest_refund_minor(after, known.all_of(after, rows))
    limit = max(before.refund_limit_minor, reported)
    after = structs.replace(after, refund_limit_minor=limit, refused=before.refused & _flags_of(left))
    return known.recounted(after, rows), rows


def _without(
    before: Order,
    held: HeldRow,
    notification: Notification | None,
    others: Sequence[PriorNotification],
    known: Sequence[Movement],
    account: Account | None,
    read: Read,
) -> Order:
    """Return the order without the facts that only this notification has brought."""
    flag = Flag(held.reason)
    refused = before.refused if flag in _flags_of(others) else before.refused - {flag}
    after = structs.replace(before, refused=refused)
    if notification is None or account is None:
        return after
    if notification.amount is None:
        gone = _of(notification)
        left = [movement for movement in known if movement not in gone]
        # An accepted sum may have had the discarded refund in it. Without it, a later refund is a new decision.
        limit = min(before.refund_limit_minor, order_view.largest_refund_minor(after, left))
        return movements.with_only(structs.replace(after, refund_limit_minor=limit), left)
    key = (notification.trade, notification.amount.minor, notification.amount.currency)
    claim = next((claim for claim in before.claims if claim.key == key), None)
    if claim is None or notification.order != before.number:
        return after
    remaining = Claim(trade=claim.trade, amount_minor=claim.amount_minor, currency=claim.currency)
    evidence = [other for other in others if _counts(other, notification, held, before, account, read)]
    for other in evidence:
        earlier = read(other.record)
        if earlier is not None:
            remaining, _ = transitions.join(remaining, earlier)
    rest = tuple(each for each in before.claims if each.key != key)
    after = structs.replace(after, claims=rest)
    if evidence:
        after = order_view.with_claim(after, remaining)
    is_struck = claim.state in PAYMENT_STATES and not (evidence and remaining.state in PAYMENT_STATES)
    if is_struck and held.reason is not Reason.PAID_AND_EXPIRED:
        after = structs.replace(after, set_aside=tuple(sorted({*after.set_aside, key})))
    return movements.with_only(after, known)


def _movements(order: Order, snapshot: StoreSnapshot) -> tuple[Movement, ...]:
    """Return all movements of an order, wherever they are stored."""
    if order.movement_sums is None:
        return (*order.refunds, *order.captures)
    return snapshot.movements[order.account, order.number].found


def _of(notification: Notification | None) -> set[Movement]:
    """Return the movements that leave the order with the notification."""
    if notification is None or notification.amount is not None:
        return set()
    return {*notification.refunds, *([] if notification.capture is None else [notification.capture])}


def _counts(
    other: PriorNotification,
    notification: Notification,
    held: HeldRow,
    order: Order,
    account: Account,
    read: Read,
) -> bool:
    """Return whether another notification has brought the same claim, and still does without the discarded one.

    A later one of the same side does not: it was not held only because the claim was there already.
    """
    earlier = read(other.record)
    if (
        earlier is None
        or earlier.amount is None
        or (earlier.trade, earlier.amount) != (notification.trade, notification.amount)
    ):
        return False
    if other.disposition in HELD:
        if not other.is_open or other.reason not in refusals.DETAILS:
            return False
        return other.reason not in (*PRICES, Reason.OVER_REFUNDED) or refusals.refusal(order, earlier, account) is None
    return other.position < held.position or _side(earlier) is not _side(notification)


def _side(notification: Notification) -> State:
    """Return the end that the notification reports of a new trade: paid, lapsed, or none yet."""
    state = transitions.MOVES[State.WAITING, notification.news].to
    return State.PAID if state in PAYMENT_STATES else state


def _rows(
    held: HeldRow,
    plan: WritePlan,
    orders: Sequence[Order],
    snapshot: StoreSnapshot,
    verdict: Verdict,
    action: str,
    resolution: str,
) -> list[DecisionRow]:
    versions = {each.order.number: each.order.version for each in plan.orders}
    numbers = {order.number: order.version for order in orders} or {held.order: 0}
    scope = orders[0].account if orders else held.account
    return [
        DecisionRow(
            position=held.position,
            account=scope,
            order=number,
            notification_id=held.notification_id,
            version=versions[number] if versions.get(number, 0) > before else None,
            action=action,
            resolution=resolution,
            by=verdict.by,
            why=verdict.why,
            at_ms=verdict.at_ms,
            task=verdict.task,
            amount=verdict.refunded,
        )
        for number, before in numbers.items()
    ]


def _held(parsed: ParsedRecord) -> HeldRow:
    assert parsed.held is not None
    return parsed.held


def _check_open(held: HeldRow, snapshot: StoreSnapshot) -> None:
    if held.position not in snapshot.open_held:
        raise DecisionRefused("it is already resolved")
    if snapshot.held_attempts.get(held.position, held.attempts) != held.attempts:
        raise DecisionRefused("it was retried meanwhile: look at it again, then decide")


def _check_sole(notification: Notification, snapshot: StoreSnapshot) -> None:
    """Refuse to apply a payment to an order of its own if another order has it: consumers would count it twice."""
    if not notification.joins_by_trade:
        return
    shared = second_numbers.order_of_trade(notification, snapshot.orders, snapshot.order_by_trade)
    named = snapshot.orders.get((notification.account, notification.order))
    if shared is not None and named is not None and not named.is_note:
        raise DecisionRefused(
            f"order {shared.number} has this payment: deliver order {named.number} for it, then discard this one"
        )


def _orders_of(held: HeldRow, notification: Notification | None, snapshot: StoreSnapshot) -> list[Order]:
    if notification is not None and notification.refunds and notification.amount is None:
        return _orders_of_refunds(notification, snapshot)
    if notification is not None and notification.capture is not None and notification.amount is None:
        number = snapshot.order_by_trade.get((held.account, notification.capture.trade), held.order)
        return [order for key, order in snapshot.orders.items() if key == (held.account, number)]
    order = snapshot.orders.get((held.account, held.order))
    if notification is not None:
        order = _order_of(notification, snapshot) or order
    return [] if order is None else [order]


def _order_of(notification: Notification, snapshot: StoreSnapshot) -> Order | None:
    """Return the order that a notification with an amount is about, also if it has the payment by another number."""
    order = snapshot.orders.get((notification.account, notification.order))
    if notification.joins_by_trade and (order is None or order.is_note):
        return second_numbers.order_of_trade(notification, snapshot.orders, snapshot.order_by_trade) or order
    return order


def _orders_of_refunds(notification: Notification, snapshot: StoreSnapshot) -> list[Order]:
    found: dict[AccountKey, Order] = {}
    for refund in notification.refunds:
        names, name = (snapshot.order_by_trade, refund.trade) if refund.trade else (snapshot.order_by_refund, refund.id)
        key = (notification.account, names.get((notification.account, name), ""))
        if key in snapshot.orders:
            found[key] = snapshot.orders[key]
    return list(found.values())


def _others(order: Order, held: HeldRow, snapshot: StoreSnapshot) -> list[PriorNotification]:
    history = snapshot.histories.get((order.account, order.number), ())
    return [prior for prior in history if prior.position != held.position]


def _flags_of(others: Iterable[PriorNotification]) -> frozenset[Flag]:
    """Return the flags for which other rows of the order are held."""
    return frozenset(Flag(each.reason) for each in others if each.is_open and each.reason in refusals.DETAILS)
