"""What people and programs ask the store: an order with all that happened to it, held notifications, the counts.

The shapes, and the ports that the admin API, the sweeper and the gauges call. Reading never locks a batch out.
"""

from collections.abc import Callable, Sequence
from typing import Protocol

from msgspec import Struct

from schemas.dispositions import Disposition, Reason
from schemas.events import Outgoing
from schemas.orders import Order, View
from workers.settlement.plan import Delivery, HeldRow, WritePlan


class Emitted(Struct, frozen=True, kw_only=True):
    """An event of an order; `sent_at_ms` is `None` until its topic has acknowledged it."""

    number: int
    event: Outgoing
    sent_at_ms: int | None


class OrderPage(Struct, frozen=True, kw_only=True):
    """All that is known of one order number; `order` is `None` where there are only held notifications."""

    account: str
    number: str
    order: Order | None
    view: View | None
    deliveries: tuple[Delivery, ...]  # oldest first
    events: tuple[Emitted, ...]  # oldest first


class HeldPage(Struct, frozen=True, kw_only=True):
    """One held notification and what became of it. `resolution` is empty while it is unresolved, else
    `applied`, `duplicate`, `stale` (settled after all) or `discarded`; `by` and `why` are those of a person."""

    row: HeldRow
    resolved_at_ms: int | None
    resolution: str
    by: str
    why: str
    replays: int


class HeldQuery(Struct, frozen=True, kw_only=True):
    """Which held notifications are meant; `None` means any."""

    account: str | None = None
    order: str | None = None
    disposition: Disposition | None = None
    reason: Reason | None = None
    since_ms: int | None = None
    resolved: bool = False
    limit: int = 100


class HeldCount(Struct, frozen=True, kw_only=True):
    """How many unresolved rows of one disposition there are, and since when the oldest waits."""

    disposition: Disposition
    count: int
    oldest_ms: int | None


class ParkedCount(Struct, frozen=True, kw_only=True):
    """How many parked rows have been tried so often. A store may count all from `retries.FIRST_WAITS_S` on as one."""

    attempts: int
    count: int


class Counts(Struct, frozen=True, kw_only=True):
    """The gauges that only the store can give."""

    held: tuple[HeldCount, ...]
    parked: tuple[ParkedCount, ...]
    outbox_pending: int
    outbox_oldest_ms: int | None


class OrdersPort(Protocol):
    """Orders, for the API."""

    async def order_page(self, account: str, number: str) -> OrderPage | None:
        """The page, or `None` where nothing at all is known of the number. At most the 1,000 latest deliveries."""

    async def find(self, number: str) -> Sequence[tuple[str, str]]:
        """(account, order) of every order whose order, trade or notification number is exactly this."""

    async def recent(self, limit: int) -> Sequence[OrderPage]:
        """The orders that changed last, newest first, without deliveries and events."""

    async def register(
        self,
        account: str,
        number: str,
        refunds: Sequence[str],
        decide: Callable[[Order | None], WritePlan],
        *,
        by: str,
        why: str,
    ) -> WritePlan:
        """Load and lock the order, decide; write the plan, the links refund → order and an audit row. One transaction.

        Raises:
            RefundTaken: one of the refunds is linked to another order; nothing is written.
            Fenced, Infrastructure: as `workers.processing.Store.settle`.
        """


class HeldPort(Protocol):
    """Held notifications, for the API, the CLI and the sweeper."""

    async def held_list(self, query: HeldQuery) -> Sequence[HeldPage]:
        """Oldest first."""

    async def held_page(self, id_: str) -> HeldPage | None: ...

    async def due(self, *, now_ms: int, limit: int) -> Sequence[HeldRow]:
        """Parked rows whose time has come, longest due first."""

    async def next_due_ms(self) -> int | None:
        """When the next parked row comes due."""

    async def discard(self, id_: str, *, by: str, why: str, now_ms: int) -> bool:
        """Resolve an unresolved row without applying it, with an audit row; False where it was resolved already."""

    async def note_replay(self, ids: Sequence[str], *, by: str, why: str, now_ms: int) -> None:
        """Count a replay of these rows and leave an audit row, before they are tried again."""

    async def counts(self) -> Counts: ...
