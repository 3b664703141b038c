"""Reads from the store: the shapes of orders, held notifications and counts, and the ports that provide them.

The admin API, the sweeper and the gauges use these ports. A read never blocks a batch.
"""

import sys
from collections.abc import Callable, Iterable, Sequence
from typing import Protocol

from msgspec import Struct, structs

from schemas.dispositions import Disposition, Reason
from schemas.events import Outgoing
from schemas.money import Money
from schemas.notification import NamedNumber, NumberKind
from schemas.orders import Movement, Order, Refund, Status, View
from schemas.record_format import Record
from workers.settlement.plan import Delivery, HeldRow, Position, WritePlan

FOUND_MAX = 100  # orders, and notifications, with one number: an agreement may have thousands of payments
EXAMINED_MAX = 20_000  # orders that one page of a list looks at
TIMELINE_MAX = 1000  # deliveries and events of one order: Alipay sends each notification some eight times

# The actions of audit rows that an order's timeline shows: on held rows, on the order, on its events. Decisions have
# rows of their own.
HELD_ACTS = ("replay", "snooze", "unsnooze")
EVENT_ACTS = ("resend",)
ACTS = (*HELD_ACTS, *EVENT_ACTS, "callback_resend", "erase", "register")


class Emitted(Struct, frozen=True, kw_only=True):
    """An event with its number in the outbox; `sent_at_ms` is `None` until its topic has acknowledged it."""

    number: int
    event: Outgoing
    sent_at_ms: int | None


class OperatorDecision(Struct, frozen=True, kw_only=True):
    """An operator's decision on a held notification of an order; `version` is the one that it gave the order.

    `amount` was refunded outside.
    """

    held_id: str
    notification_id: str
    version: int | None
    action: str
    by: str
    why: str
    at_ms: int
    amount: Money | None = None


class Hold(Struct, frozen=True, kw_only=True):
    """A notification's time as a held row; `attempts` are its retries, `resolution` is as in `HeldPage`."""

    position: Position
    disposition: Disposition
    reason: Reason
    detail: str
    first_at_ms: int
    attempts: int
    due_at_ms: int | None
    resolution: str
    erased_at_ms: int | None = None


class OperatorAct(Struct, frozen=True, kw_only=True):
    """An audit row of an order: on a held row of it, by its position, on an event, by its id, or on `scope:order`."""

    action: str
    subject: str
    by: str
    why: str
    at_ms: int


class OrderClaim(Struct, frozen=True, kw_only=True):
    """A held message that may name the order, or may not. `resolution` is that of its row, as in `HeldPage`."""

    delivery: Delivery
    resolution: str


class OrderPage(Struct, frozen=True, kw_only=True):
    """Everything about one number in the scope `account`; `order` is `None` if only held ones name it."""

    account: str
    number: str
    order: Order | None
    view: View | None
    deliveries: tuple[Delivery, ...]  # by position: `timeline`
    events: tuple[Emitted, ...]  # oldest first
    decisions: tuple[OperatorDecision, ...] = ()  # oldest first
    claims: tuple[OrderClaim, ...] = ()  # by position
    holds: tuple[Hold, ...] = ()  # of the deliveries that are held, or were
    acts: tuple[OperatorAct, ...] = ()  # oldest first
    changed_at_ms: int = 0  # in a list of orders
    erased_at_ms: dict[str, int] = {}  # by the notification's id, of the deliveries whose bytes were erased


class NotificationPage(Struct, frozen=True, kw_only=True):
    """One record's disposition; `record` has the signed bytes of its notification, `None` if that has no id.

    Of a quarantined one they are its own: another notification with the same id has other content.
    """

    delivery: Delivery
    record: Record | None
    erased_at_ms: int | None = None  # personal data was erased from them


class OrderPlace(Struct, frozen=True, kw_only=True):
    """An order's place in the list of orders that changed last: a page begins after the place where one ended."""

    changed_at_ms: int
    number: str
    account: str


class AmountRange(Struct, frozen=True, kw_only=True):
    """Amounts of one currency, in its smallest unit; both ends belong to it, and `None` is open."""

    currency: str
    from_minor: int | None = None
    to_minor: int | None = None


class OrderQuery(Struct, frozen=True, kw_only=True):
    """A filter of orders, and the page of them; `None` means any. `before_ms` is exclusive.

    With a `prefix` of the order number, the list is by number, the highest first; else by the last change, the newest
    first. `account` includes its merchants; `scope` is one of them, or the account without them.
    """

    account: str | None = None
    scope: str | None = None
    status: Status | None = None
    is_flagged: bool = False
    since_ms: int | None = None
    before_ms: int | None = None
    amounts: AmountRange | None = None
    prefix: str = ""
    after: OrderPlace | None = None
    limit: int = 50


class OrderList(Struct, frozen=True, kw_only=True):
    """A page of orders without their timelines; `next_` is where the next page begins, `None` if there is none.

    A page may have less than its limit, or nothing, and a next page all the same: one page looks at no more than
    `EXAMINED_MAX` orders, so that a filter that few orders match takes the same time however many there are.
    """

    pages: tuple[OrderPage, ...]
    next_: OrderPlace | None


class Snooze(Struct, frozen=True, kw_only=True):
    """Until when a held row is out of the first list and of the gauges, with the operator's name and reason."""

    until_ms: int
    by: str
    why: str


class HeldPage(Struct, frozen=True, kw_only=True):
    """One held notification and its outcome.

    `resolution` is empty while it is unresolved, then `applied`, `duplicate`, `stale`, `accepted`, `discarded` or
    `refunded_outside`. `by`, `why` and `replays` are of operators: name and reason of the last decision, and the number
    of replays. A `snooze` may be past.
    """

    row: HeldRow
    resolved_at_ms: int | None
    resolution: str
    by: str
    why: str
    replays: int
    erased_at_ms: int | None = None
    snooze: Snooze | None = None


class HeldPlace(Struct, frozen=True, kw_only=True):
    """A held row's place in the list, oldest first: a page begins after the place where one ended."""

    first_at_ms: int
    position: Position


class HeldQuery(Struct, frozen=True, kw_only=True):
    """A filter of held notifications, and the page of them; `None` means any. `before_ms` is exclusive.

    `account` includes its merchants; `scope` is one of them, or the account without them. `ids` are a selection; none
    means any. `awake_at_ms` leaves out those that are snoozed at that moment, `snoozed_at_ms` leaves out the others.
    The page has the oldest rows, oldest first; if `newest_first`, the newest, and then there is no `after`.
    """

    account: str | None = None
    scope: str | None = None
    ids: tuple[str, ...] = ()
    order: str | None = None
    disposition: Disposition | None = None
    reason: Reason | None = None
    since_ms: int | None = None
    before_ms: int | None = None
    resolved: bool = False
    awake_at_ms: int | None = None
    snoozed_at_ms: int | None = None
    after: HeldPlace | None = None
    newest_first: bool = False
    limit: int = 100


class HeldGroup(Struct, frozen=True, kw_only=True):
    """The number of held rows of one disposition, reason and account, and the time of the oldest."""

    disposition: Disposition
    reason: Reason
    account: str
    count: int
    oldest_ms: int


class HeldCount(Struct, frozen=True, kw_only=True):
    """The number of unresolved rows of one disposition that are not snoozed, and the time of the oldest."""

    disposition: Disposition
    count: int
    oldest_ms: int | None


class ParkedCount(Struct, frozen=True, kw_only=True):
    """The number of parked rows with this many retries. A store may join all counts beyond `parking.FIRST_WAITS_S`."""

    attempts: int
    count: int


PENDING_COUNTED_MAX = 100_000  # while a topic is away for days, millions of events wait in the outbox


class Counts(Struct, frozen=True, kw_only=True):
    """The gauges that only the store knows. `outbox_pending` is counted up to `PENDING_COUNTED_MAX`."""

    held: tuple[HeldCount, ...]
    parked: tuple[ParkedCount, ...]
    outbox_pending: int
    outbox_oldest_ms: int | None
    received_newest_ms: int | None = None  # of the notifications that have a disposition


def page_numbers(order: Order | None, movements: Iterable[Movement] = ()) -> tuple[NamedNumber, ...]:
    """Return the numbers by which notifications of no order, or of another, stand on the order's page.

    A refund that names its trade is found by that. `movements` are those of an order that has them as rows.
    """
    if order is None:
        return ()
    trades = {NamedNumber(NumberKind.TRADE, claim.trade) for claim in order.claims if claim.trade}
    reported = (*order.refunds, *(each for each in movements if isinstance(each, Refund)))
    refunds = {NamedNumber(NumberKind.REFUND, refund.id) for refund in reported if not refund.trade}
    return (*trades, *refunds)


def audited(scope: str, number: str, holds: Iterable[Hold], events: Iterable[Emitted]) -> list[str]:
    """Return the subjects of an order's audit rows: itself, its held rows and its events."""
    return [f"{scope}:{number}", *(str(hold.position) for hold in holds), *(each.event.id for each in events)]


def claimed_numbers(number: str, order: Order | None) -> tuple[NamedNumber, ...]:
    """Return the numbers by which a message that proves none is mentioned on the page of this number."""
    trades = () if order is None else {claim.trade for claim in order.claims if claim.trade}
    own = NamedNumber(NumberKind.CLAIMED_ORDER, number)
    return (own, *(NamedNumber(NumberKind.CLAIMED_NUMBER, trade) for trade in trades))


def timeline(order: str, own: Iterable[Delivery], by_number: Iterable[Delivery]) -> tuple[Delivery, ...]:
    """Return the deliveries of an order, by position: its own, and those that only name one of its numbers.

    A delivery of another order has a version of that order, which would be wrong here.
    """
    others = (each if each.order == order else structs.replace(each, version=None) for each in by_number)
    by_position = {delivery.position: delivery for delivery in (*others, *own)}
    return tuple(by_position[position] for position in sorted(by_position))


def order_list(query: OrderQuery, found: Sequence[OrderPage], examined_to: OrderPlace | None) -> OrderList:
    """Return the page from one match more than it has; `examined_to` is the last order, if not all were examined.

    Consumers see no status of a note, so no status matches it.
    """
    next_ = examined_to if len(found) <= query.limit else _order_place(found[query.limit - 1]) if query.limit else None
    shown = found[: query.limit]
    if query.status is not None:
        shown = [page for page in shown if page.order is not None and not page.order.is_note]
    return OrderList(pages=tuple(shown), next_=next_)


def _order_place(page: OrderPage) -> OrderPlace:
    return OrderPlace(changed_at_ms=page.changed_at_ms, number=page.number, account=page.account)


def prefix_end(prefix: str) -> str | None:
    """Return the first text after all that begin with the prefix, by the code points; `None` if there is none."""
    kept = prefix.rstrip(chr(sys.maxunicode))
    if not kept:
        return None
    following = ord(kept[-1]) + 1
    return kept[:-1] + chr(0xE000 if following == 0xD800 else following)  # surrogates are no characters


def kept_movements(order: Order, after: int, limit: int) -> list[tuple[int, Movement]]:
    """Return a page of the movements that an order keeps in its own row, as `OrdersPort.movements` does."""
    kept: tuple[Movement, ...] = (*order.refunds, *order.captures)
    return list(enumerate(kept, 1))[after : after + limit]


class OrdersPort(Protocol):
    """Orders, for the API."""

    async def order_page(self, scope: str, number: str) -> OrderPage | None:
        """Return the page with the 1,000 latest deliveries; `None` if nothing of an order has the number.

        A claim alone makes no page, because it proves no order.

        If the number is none of an order, but a trade's or an order's second one, it is the page of that order.
        """

    async def find(self, number: str) -> Sequence[tuple[str, str]]:
        """Return (scope, order) of every order with exactly this number, of whatever kind; at most 100."""

    async def notifications(self, number: str) -> Sequence[Delivery]:
        """Return the first delivery of every notification with exactly this id, or that names exactly this number.

        Of each account, the newest come first. At most 100 are returned.
        """

    async def notification(self, id_: str) -> NotificationPage | None:
        """Return the notification of the record at this position; `None` if there is none."""

    async def movements(
        self, scope: str, number: str, *, after: int, limit: int
    ) -> Sequence[tuple[int, Movement]] | None:
        """Return a page of an order's refunds and captures; `None` if there is no order with this number.

        Each has a place; the page begins after the place `after`, which is 0 for the first.
        """

    async def order_list(self, query: OrderQuery) -> OrderList:
        """Return a page of the orders that match, without deliveries and events."""

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
        """In one transaction: load and lock the order, decide, write the plan, the refunds' links and an audit row.

        Raises:
            RefundTaken: one of the refunds is linked to another order; nothing is written.
            VersionConflict, InfrastructureDown: as `workers.processing.Store.settle`.
        """


class HeldPort(Protocol):
    """Held notifications, for the API, the CLI and the sweeper; `settlement.parking` has their life."""

    async def held_list(self, query: HeldQuery) -> Sequence[HeldPage]:
        """Return a page of the held notifications that match, in the order of the query."""

    async def held_groups(self, query: HeldQuery) -> Sequence[HeldGroup]:
        """Count all held notifications that match, whatever the page."""

    async def held_page(self, id_: str) -> HeldPage | None: ...

    async def wake_more(self) -> bool:
        """Make due some rows whose wake was noted and not finished. Return whether there was such a wake."""

    async def due(self, *, now_ms: int, limit: int) -> Sequence[HeldRow]:
        """Return parked rows that are due and not locked, the longest due first."""

    async def next_due_ms(self) -> int | None:
        """Return when the next parked row comes due; `None` if none is parked."""

    async def note_replay(
        self, ids: Sequence[str], *, by: str, why: str, now_ms: int, replay: int | None = None
    ) -> None:
        """Count a replay of these rows and write audit rows, before they are retried; `replay` is its task, if any."""

    async def counts(self) -> Counts: ...
