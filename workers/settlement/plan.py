"""The shapes between deciding and storing, which both engines' stores share. Pure.

A store loads a `StoreSnapshot`, `decision` turns it into a `WritePlan`, and the store writes that in the same
transaction.
"""

from collections.abc import Callable, Mapping
from enum import StrEnum

from msgspec import Struct

from schemas.dispositions import Disposition, Reason
from schemas.events import Outgoing
from schemas.money import Money
from schemas.notification import NamedNumber, Notification
from schemas.orders import ClaimKey, Movement, Order, View
from schemas.record_format import Record

PARTITION_DIGITS_MAX = 9  # fits a column of 32 bits
OFFSET_DIGITS_MAX = 18  # fits a column of 64 bits


class Position(Struct, frozen=True, order=True, gc=False):
    """Where a record is in the log: partition and offset. The embedded journal has only partition 0."""

    partition: int
    offset: int

    def __str__(self) -> str:
        return f"{self.partition}-{self.offset}"


def position_of(id_: str) -> Position | None:
    """Return the position that a held notification's id names; `None` if the text is no such id."""
    partition, dash, offset = id_.partition("-")
    is_id = dash and all(part.isascii() and part.isdigit() for part in (partition, offset))
    fits = len(partition) <= PARTITION_DIGITS_MAX and len(offset) <= OFFSET_DIGITS_MAX
    return Position(int(partition), int(offset)) if is_id and fits else None


class LogRecord(Struct, frozen=True, gc=False):
    """A record as the log delivers it, with its position."""

    position: Position
    record: Record


class HeldRow(Struct, frozen=True, kw_only=True):
    """A held notification, with its bytes; `settlement.parking` has its life. `id` is the record's position.

    `waits_for` is what a parked one waits for: `order:NO`, `trade:NO`, `refund:ID` or `account:FAMILY`
    (`parking.order_key` …); otherwise empty. `due_at_ms` is the time of its next retry; `None` if only an operator can
    end it. `attempts` counts retries, and `replays` those by hand, of which a row knows only when it is retried.
    """

    position: Position
    account: str
    order: str
    notification_id: str
    disposition: Disposition
    reason: Reason
    detail: str
    record: Record
    first_at_ms: int
    attempts: int = 0
    due_at_ms: int | None = None
    waits_for: str = ""
    replays: int = 0

    @property
    def id(self) -> str:
        return str(self.position)


class Disposed(Struct, frozen=True, kw_only=True, gc=False):
    """The disposition of one record, with the order and notification ids to look it up by."""

    disposition: Disposition
    reason: Reason
    detail: str = ""
    order: str = ""
    notification_id: str = ""


class ParseFailure(Disposed, frozen=True, kw_only=True, gc=False):
    """Why a record has no notification, with as much of its identity as could be read.

    `digest` identifies the content of an authentic message, so that its copies are recognised; empty if there is none.
    `waits_for` is what a parked one waits for, as in `HeldRow`; empty if only an upgrade can help.
    `numbers` are those by which the record is found, in its own scope if `scopes` names no other. `error_class` is the
    name of the exception that ended the `step`, `read` or `decide`. Both are empty if unknown.
    """

    digest: bytes = b""
    waits_for: str = ""
    numbers: tuple[NamedNumber, ...] = ()
    scopes: tuple[str, ...] = ()
    error_class: str = ""
    step: str = "read"


class ParsedRecord(Struct, frozen=True, kw_only=True, gc=False):
    """One record with its notification, or with the failure to read one. `held` is its row if it is being retried."""

    position: Position
    record: Record
    account: str
    received_at_ms: int
    notification: Notification | None
    failure: ParseFailure | None = None
    held: HeldRow | None = None


AccountKey = tuple[str, str]  # a scope (`schemas.scopes`), and a number that is unique within it


class MovementKind(StrEnum):
    """What a movement does: return money to the buyer, or take an authorised amount."""

    REFUND = "refund"
    CAPTURE = "capture"


MovementName = tuple[MovementKind, str]  # kind and number


class ReportedMovement(Struct, frozen=True, kw_only=True, gc=False):
    """A movement that a record of the batch reports, with the numbers by which its order is found."""

    account: str
    name: MovementName
    trade: str
    order: str


class KnownMovements(Struct, frozen=True, kw_only=True):
    """The movements of one order that were loaded: those that have one of `names`, or all if that is `None`."""

    found: tuple[Movement, ...]
    names: frozenset[MovementName] | None


class MovementRow(Struct, frozen=True, kw_only=True, gc=False):
    """A movement of an order that has many, as a row of its own."""

    account: str
    order: str
    movement: Movement


class LoadRequest(Struct, frozen=True, kw_only=True):
    """The rows that the store has to load, and to lock, before a batch can be decided.

    `movements` and `claims` (scope, order, claim) say which movements of orders that have many are needed
    (`settlement.movements`). `with_history`: also the earlier notifications of the orders, and all their movements,
    which only an operator's decision needs.
    `retried`: the positions whose held rows are being retried. `around_locks`: do not wait for an order that another
    session has locked, but name it in the snapshot.
    """

    positions: frozenset[Position]
    ids: frozenset[AccountKey]
    orders: frozenset[AccountKey]
    trades: frozenset[AccountKey]
    refunds: frozenset[AccountKey]
    movements: frozenset[ReportedMovement] = frozenset()
    claims: frozenset[tuple[str, str, ClaimKey]] = frozenset()
    with_history: bool = False
    retried: frozenset[Position] = frozenset()
    around_locks: bool = False


class PriorNotification(Struct, frozen=True, kw_only=True, gc=False):
    """One notification of an order with its present disposition. `is_open`: its held row is unresolved."""

    position: Position
    disposition: Disposition
    reason: Reason
    is_open: bool
    record: Record


class PriorDelivery(Struct, frozen=True, kw_only=True, gc=False):
    """The record that was processed at a position before: its notification id, if any, and its receive time."""

    notification_id: str
    received_at_ms: int


class LedgerEntry(Struct, frozen=True, gc=False):
    """The content that a unique id has, and the position of the record that brought it first."""

    digest: bytes
    position: Position


class StoreSnapshot(Struct, frozen=True, kw_only=True):
    """The rows that a `LoadRequest` found. Orders found by a trade or a refund number are in `orders` too.

    `settled`: the positions that have a disposition already; `prior_deliveries`: of which record, for stores that may
    belong to another log. `open_held`: the positions whose held row is unresolved; `held_attempts`: their retries.
    `locked`: orders that are not in `orders`, because another session has locked them.
    """

    settled: frozenset[Position]
    prior_deliveries: dict[Position, PriorDelivery] = {}
    open_held: frozenset[Position]
    held_attempts: dict[Position, int] = {}
    ledger: dict[AccountKey, LedgerEntry]
    orders: dict[AccountKey, Order]
    order_by_trade: dict[AccountKey, str]
    order_by_refund: dict[AccountKey, str]
    histories: dict[AccountKey, tuple[PriorNotification, ...]] = {}
    movements: dict[AccountKey, KnownMovements] = {}
    locked: frozenset[AccountKey] = frozenset()

    def is_locked(self, notification: Notification, by_trade: Mapping[AccountKey, str]) -> bool:
        """Return whether the notification is about a locked order, or may be: by its order, its trade or a refund."""
        if not self.locked:
            return False
        account, capture = notification.account, notification.capture
        trades = [notification.trade, *(refund.trade for refund in notification.refunds)]
        trades += [] if capture is None else [capture.trade]
        numbers = {notification.order, *trades, *(by_trade.get((account, trade), "") for trade in trades)}
        numbers.update(self.order_by_refund.get((account, refund.id), "") for refund in notification.refunds)
        return any((account, number) in self.locked for number in numbers)


class Delivery(Struct, frozen=True, kw_only=True, gc=False):
    """The disposition of one record, a row of the order's timeline. `version` is the one that it gave the order."""

    position: Position
    account: str
    order: str
    notification_id: str
    type: str
    status: str
    news: str
    disposition: Disposition
    reason: Reason
    detail: str
    version: int | None
    received_at_ms: int
    decided_at_ms: int


class LedgerRow(Struct, frozen=True, kw_only=True, gc=False):
    """One notification by its unique id, with the signed bytes of its first record; kept for years."""

    account: str
    notification_id: str
    order: str
    digest: bytes
    position: Position
    record: Record


class NumberRow(Struct, frozen=True, kw_only=True, gc=False):
    """A number that a notification names, to find the notification by. `position` is that of its first record.

    A copy that is filed under no order has rows of the kinds `ON_PAGES` too, so that it stands on the order's page.
    `account` is the scope of the order that is meant, which is not the record's own if the merchant is not certain.
    """

    account: str
    named: NamedNumber
    position: Position


class OrderWrite(Struct, frozen=True, kw_only=True, gc=False):
    """An order to write if it still has `expected_version`, or, if that is `None`, if it does not exist yet."""

    order: Order
    view: View
    expected_version: int | None


class DecisionRow(Struct, frozen=True, kw_only=True, gc=False):
    """An operator's decision on a held notification, for one order that it is about.

    `version` is the one that it gave the order, if any. `resolution` resolves the held row; it is empty if the row
    stays held, for another reason. `task` is the number of the task that it belongs to, if any. `amount` was refunded
    outside, in Alipay's own portal.
    """

    position: Position
    account: str
    order: str
    notification_id: str
    version: int | None
    action: str
    resolution: str
    by: str
    why: str
    at_ms: int
    task: int | None = None
    amount: Money | None = None

    @property
    def audited(self) -> str:
        """The reason as the audit row has it: after the amount, if there is one."""
        return self.why if self.amount is None else f"{self.amount}: {self.why}"


class WritePlan(Struct, kw_only=True):
    """Everything that one transaction writes.

    The delivery of a retried row replaces that record's earlier delivery. `held` has new rows, and rows that are held
    again; `released` has those that are resolved. A row of `numbers` may exist already. `wakes` are (account,
    `waits_for`) of parked rows to make due at once. `paid` is for metrics and not stored: account and amount of each
    order that this plan makes a paid one. `sole_trades` are (trade, account, order) of payments that another worker may
    be giving to an order of another number: if one has, the plan is too late. `movements` has new rows, none of which
    exists, and `movements_gone` those to delete. A status falls in rank only if one of
    `decisions` gives the order that version.
    """

    deliveries: list[Delivery]
    ledger: list[LedgerRow]
    orders: list[OrderWrite]
    held: list[HeldRow]
    released: list[Position]
    events: list[Outgoing]
    wakes: set[tuple[str, str]]
    paid: list[tuple[str, Money]]
    numbers: list[NumberRow] = []
    sole_trades: set[tuple[str, str, str]] = set()
    decisions: list[DecisionRow] = []
    movements: list[MovementRow] = []
    movements_gone: list[MovementRow] = []


class Registration(Struct, frozen=True, kw_only=True):
    """The merchant's registration of an order, before or after payment: its amounts, and the refunds requested.

    `amounts` has one amount per currency, and is empty if any amount is accepted. `None` leaves the order's amounts as
    they are.
    """

    amounts: tuple[Money, ...] | None = None
    refunds: tuple[str, ...] = ()


Decide = Callable[[StoreSnapshot], WritePlan]
