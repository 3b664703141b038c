"""The shapes between deciding and storing: what a decision needs to know, and what it wants written.

`settlement` turns `StoreSnapshot` into a `WritePlan` without any I/O; a store loads the one and writes the other in one
transaction. Both engines' stores speak exactly these shapes, so the rules exist once.
"""

from collections.abc import Callable

from msgspec import Struct

from schemas.dispositions import Disposition, Reason
from schemas.events import Outgoing
from schemas.money import Money
from schemas.notification import Notification
from schemas.orders import Order, View
from schemas.record_format import Record

PARTITION_DIGITS_MAX = 9  # what a column of 32 bits surely holds
OFFSET_DIGITS_MAX = 18  # and one of 64


class Position(Struct, frozen=True, order=True, gc=False):
    """Where a record lies in the log. The embedded journal has the one partition 0."""

    partition: int
    offset: int

    def __str__(self) -> str:
        return f"{self.partition}-{self.offset}"


def position_of(id_: str) -> Position | None:
    """The position that a held notification's id stands for; `None` where the text is no id, of any engine."""
    partition, dash, offset = id_.partition("-")
    is_id = dash and all(part.isascii() and part.isdigit() for part in (partition, offset))
    fits = len(partition) <= PARTITION_DIGITS_MAX and len(offset) <= OFFSET_DIGITS_MAX
    return Position(int(partition), int(offset)) if is_id and fits else None


class LogRecord(Struct, frozen=True, gc=False):
    """A record as the log delivers it."""

    position: Position
    record: Record


class HeldRow(Struct, frozen=True, kw_only=True):
    """A notification that was not simply applied, with its bytes. `id` is its position, so each record has at most one.

    `waits_for` is what a parked one needs to come true: `order:NO`, `trade:NO` or `refund:ID`; empty otherwise.
    `due_at_ms` is when it is tried next, `None` where only a person decides.
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

    @property
    def id(self) -> str:
        return str(self.position)


class Disposed(Struct, frozen=True, kw_only=True, gc=False):
    """What a record comes to, and by which numbers a person would look for it."""

    disposition: Disposition
    reason: Reason
    detail: str = ""
    order: str = ""
    notification_id: str = ""


class ParseFailure(Disposed, frozen=True, kw_only=True, gc=False):
    """Why a record has no notification: the record's own fault, with as much of its identity as could be read.

    `digest` is that of an authentic message whose id could be read, so that its repetitions are known as such; empty
    otherwise.
    """

    digest: bytes = b""


class ParsedRecord(Struct, frozen=True, kw_only=True, gc=False):
    """One record, read: its notification, or the fault that it has none. `held` is set where a held row is retried."""

    position: Position
    record: Record
    account: str
    received_at_ms: int
    notification: Notification | None
    failure: ParseFailure | None = None
    held: HeldRow | None = None


AccountKey = tuple[str, str]  # an account's name, and a number that is unique within the account


class LoadRequest(Struct, frozen=True, kw_only=True):
    """What the store has to load, and lock, before a batch can be decided."""

    positions: frozenset[Position]
    ids: frozenset[AccountKey]
    orders: frozenset[AccountKey]
    trades: frozenset[AccountKey]
    refunds: frozenset[AccountKey]


class PriorDelivery(Struct, frozen=True, kw_only=True, gc=False):
    """Which record got the disposition of its position: the notification's id, where it had one, and when it came."""

    notification_id: str
    received_at_ms: int


class StoreSnapshot(Struct, frozen=True, kw_only=True):
    """What the store knows of a batch's needs. Orders found by a trade or a refund number are in `orders` too.

    `settled`: the positions that have a disposition already; `prior_deliveries`: of which record, for stores that may
    belong to another log. `open_held`: the positions whose held row is unresolved; `held_attempts`: their retries.
    """

    settled: frozenset[Position]
    prior_deliveries: dict[Position, PriorDelivery] = {}
    open_held: frozenset[Position]
    held_attempts: dict[Position, int] = {}
    digests: dict[AccountKey, bytes]
    orders: dict[AccountKey, Order]
    order_by_trade: dict[AccountKey, str]
    order_by_refund: dict[AccountKey, str]


class Delivery(Struct, frozen=True, kw_only=True, gc=False):
    """What became of one record; a row of the order's timeline. `version` is that which it gave the order, if any."""

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
    """One notification by its unique id, with the signed bytes: written at its first record, kept for years."""

    account: str
    notification_id: str
    order: str
    digest: bytes
    position: Position
    record: Record


class OrderWrite(Struct, frozen=True, kw_only=True, gc=False):
    """An order to be written if it still has `expected_version`; `None`: if it does not exist yet."""

    order: Order
    view: View
    expected_version: int | None


class WritePlan(Struct, kw_only=True):
    """All that one transaction writes. `wakes` are the `waits_for` of parked rows that have come true: due at once.

    A delivery whose parsed came from a held row replaces that record's earlier delivery; `released` are the held rows
    that are resolved by it, and `held` may hold a newer version of the same row. `paid` is told to whoever counts, and
    not stored: the account and the money of each order that was not paid before this plan and is paid after it.
    """

    deliveries: list[Delivery]
    ledger: list[LedgerRow]
    orders: list[OrderWrite]
    held: list[HeldRow]
    released: list[Position]
    events: list[Outgoing]
    wakes: set[tuple[str, str]]
    paid: list[tuple[str, Money]]


class Registration(Struct, frozen=True, kw_only=True):
    """What the merchant says of an order before (or after) it is paid: what it costs, and the refunds it asked for."""

    expected: Money | None
    refunds: tuple[str, ...] = ()


Decide = Callable[[StoreSnapshot], WritePlan]
