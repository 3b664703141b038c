"""Stand-ins for what the workers' story calls, in memory and strict: what a real store would refuse, these refuse.

`MemoryStore` keeps the promises of `workers.processing.Store` and checks, at every write, what must be true of any
store: versions without gaps, ranks that do not fall, one disposition per record, one ledger row per id.
"""

from collections.abc import Callable, Sequence

from msgspec import structs

from schemas.dispositions import Disposition
from schemas.events import Outgoing
from schemas.orders import RANK, Order
from workers.errors import RecordRefused, VersionConflict
from workers.settlement import decision, order_view
from workers.settlement.plan import (
    AccountKey,
    Decide,
    Delivery,
    HeldRow,
    LedgerRow,
    LoadRequest,
    OrderWrite,
    Position,
    Registration,
    StoreSnapshot,
    WritePlan,
)


class MemoryStore:
    """Orders, ledger, dispositions, held rows and outbox, in dictionaries. `refuses` is asked of each plan."""

    def __init__(self, refuses: Callable[[WritePlan], bool] = lambda plan: False) -> None:
        self.deliveries: dict[Position, Delivery] = {}
        self.ledger: dict[AccountKey, LedgerRow] = {}
        self.orders: dict[AccountKey, Order] = {}
        self.held: dict[Position, HeldRow] = {}
        self.outbox: list[Outgoing] = []
        self.sent: set[int] = set()
        self.trouble: list[BaseException] = []  # raised by the next transactions, one each
        self.settled_batches: list[WritePlan] = []
        self._trades: dict[AccountKey, str] = {}
        self._refunds: dict[AccountKey, str] = {}
        self._refuses = refuses

    async def settle(self, needs: LoadRequest, decide: Decide) -> WritePlan:
        return self.settle_now(needs, decide)

    def settle_now(self, needs: LoadRequest, decide: Decide) -> WritePlan:
        if self.trouble:
            raise self.trouble.pop(0)
        plan = decide(self.known(needs))
        if self._refuses(plan):
            raise RecordRefused("cannot hold it")
        self._write(plan)
        self.settled_batches.append(plan)
        return plan

    def register(self, account: str, number: str, registration: Registration, *, now_ms: int) -> None:
        order = self.orders.get((account, number))
        self._refunds.update({(account, refund): number for refund in registration.refunds})
        self._write(decision.register(order, account, number, registration, now_ms=now_ms))

    def due(self, *, now_ms: int) -> list[HeldRow]:
        rows = [row for row in self.held.values() if row.due_at_ms is not None and row.due_at_ms <= now_ms]
        return sorted(rows, key=lambda row: row.due_at_ms or 0)

    async def unsent(self, limit: int) -> Sequence[tuple[int, Outgoing]]:
        return [(number, event) for number, event in enumerate(self.outbox) if number not in self.sent][:limit]

    async def mark_sent(self, numbers: Sequence[int]) -> None:
        self.sent.update(numbers)

    def known(self, needs: LoadRequest) -> StoreSnapshot:
        by_trade = {trade: self._trades[trade] for trade in needs.trades if trade in self._trades}
        by_refund = {refund: self._refunds[refund] for refund in needs.refunds if refund in self._refunds}
        found = {(account, number) for (account, _), number in (*by_trade.items(), *by_refund.items())}
        return StoreSnapshot(
            settled=frozenset(position for position in needs.positions if position in self.deliveries),
            open_held=frozenset(position for position in needs.positions if position in self.held),
            held_attempts={
                position: self.held[position].attempts for position in needs.positions if position in self.held
            },
            digests={id_: self.ledger[id_].digest for id_ in needs.ids if id_ in self.ledger},
            orders={named: self.orders[named] for named in needs.orders | found if named in self.orders},
            order_by_trade=by_trade,
            order_by_refund=by_refund,
        )

    def _write(self, plan: WritePlan) -> None:
        for order in plan.orders:
            self._check_version(order)
        for write in plan.orders:
            order_after = write.order
            self.orders[order_after.account, order_after.number] = order_after
            for claim in order_after.claims:
                self._trades[order_after.account, claim.trade] = order_after.number
        for row in plan.ledger:
            assert (row.account, row.notification_id) not in self.ledger, "one row per notification id"
            self.ledger[row.account, row.notification_id] = row
        for delivery in plan.deliveries:
            is_retry = delivery.position in self.held
            assert delivery.position not in self.deliveries or is_retry, "one disposition per record"
            self.deliveries[delivery.position] = delivery
        for held in plan.held:
            self.held[held.position] = held
        for position in plan.released:
            del self.held[position]
        self.outbox += plan.events
        self._wake(plan)

    def _check_version(self, write: OrderWrite) -> None:
        before = self.orders.get((write.order.account, write.order.number))
        if write.expected_version != (None if before is None else before.version):
            raise VersionConflict(write.order.number)
        if before is not None:
            assert write.order.version >= before.version
            assert _rank(write.order) >= _rank(before), "a rank never falls"

    def _wake(self, plan: WritePlan) -> None:
        """After the held rows: what is parked in this very transaction may be what another of its records brings."""
        for position, row in self.held.items():
            is_parked = row.disposition is Disposition.PARKED
            if is_parked and (row.account, row.waits_for) in plan.wakes:
                self.held[position] = structs.replace(row, due_at_ms=0)


def _rank(order: Order) -> int:
    standing = order_view.standing(order_view.claims_with_refunds(order))
    return -1 if standing is None else RANK[standing.state]
