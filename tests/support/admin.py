"""An admin port over an order store in memory: the real decisions, the real application, and nothing on disk.

The store keeps what the plans say and no more, so what the API shows of it is what a real store would hold. Signatures
are replaced by a flag that a test can turn.
"""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from urllib.parse import urlencode

from aiohttp import web
from aiohttp.test_utils import TestClient, TestServer
from msgspec import structs
from prometheus_client import CollectorRegistry

from schemas import record_format
from schemas.accounts import Account, Family, Orders, SignType
from schemas.dispositions import HELD, Disposition
from schemas.events import Outgoing
from schemas.orders import Order, View
from schemas.record_format import Record, RecordContents
from tests.support.fakes import MemoryLogger, MemoryTopics
from workers.admin import app
from workers.admin.probes import Check
from workers.admin.returns import Returned
from workers.errors import InfrastructureDown, RefundTaken
from workers.log_lines import WorkerLog
from workers.long_poll import OrderChanges
from workers.metrics import WorkerMetrics
from workers.observers import Observers
from workers.processing import Processing
from workers.queries import Counts, Emitted, HeldCount, HeldPage, HeldQuery, OrderPage, ParkedCount
from workers.settlement.plan import (
    AccountKey,
    Decide,
    Delivery,
    HeldRow,
    LedgerRow,
    LoadRequest,
    LogRecord,
    Position,
    StoreSnapshot,
    WritePlan,
)

NOW_MS = 1_760_000_000_000
TOKEN = "the-token-of-these-tests"


def account(name: str, orders: Orders = Orders.ANY) -> Account:
    return Account(
        name=name,
        family=Family.MAPI,
        sign_type=SignType.RSA,
        keys={"k": "k"},
        seller_id="2088001",
        currency="USD",
        orders=orders,
    )


ANTOM = Account(name="antom-us", family=Family.ANTOM, sign_type=SignType.RSA256, keys={"1": "k"}, client_id="C")
ACCOUNTS = {each.name: each for each in (account("shop"), account("strict", Orders.REGISTERED), ANTOM)}


def form(order: str, status: str = "TRADE_SUCCESS", **more: str) -> dict[str, str]:
    """The fields of a payment's notification."""
    fields = {
        "notify_type": "trade_status_sync",
        "notify_id": f"{order}-{status}",
        "notify_time": "2025-10-09 16:53:20",
        "out_trade_no": order,
        "trade_no": f"20251009{order}",
        "trade_status": status,
        "total_fee": "12.80",
        "seller_id": "2088001",
        "buyer_email": "somebody@example.com",
        "subject": "Two tickets",
        "gmt_payment": "2025-10-09 16:53:18",
        "sign": "c2lnbmVk",
    }
    if status == "WAIT_BUYER_PAY":
        del fields["gmt_payment"]
    return fields | more


def record(body: bytes, number: str, account_name: str = "shop") -> Record:
    """The body, wrapped for the log."""
    sealed = RecordContents(
        account=account_name,
        family=ACCOUNTS[account_name].family.value,
        received_at_ms=NOW_MS,
        path=f"/notify/{account_name}".encode(),
        content_type=b"application/x-www-form-urlencoded",
        key_id="k",
        confirmed=False,
        body=body,
    )
    return record_format.encode(sealed, number)


class MemoryStore:
    """Orders, deliveries, held rows and the outbox, in dictionaries. `is_down` has it fail as infrastructure does."""

    def __init__(self) -> None:
        self.is_down = False
        self.orders: dict[AccountKey, tuple[Order, View]] = {}
        self.deliveries: dict[Position, Delivery] = {}
        self.ledger: dict[AccountKey, LedgerRow] = {}
        self.held: dict[Position, HeldPage] = {}
        self.outbox: list[Emitted] = []
        self.refunds: dict[AccountKey, str] = {}
        self.audit: list[tuple[str, str, str, str]] = []

    async def settle(self, needs: LoadRequest, decide: Decide) -> WritePlan:
        self._check()
        open_held = {position for position, page in self.held.items() if not page.resolution}
        by_trade = {
            (account_name, claim.trade): number
            for (account_name, number), (order, _) in self.orders.items()
            for claim in order.claims
        }
        plan = decide(
            StoreSnapshot(
                settled=frozenset(needs.positions & self.deliveries.keys()),
                open_held=frozenset(needs.positions & open_held),
                digests={named: row.digest for named, row in self.ledger.items()},
                orders={named: order for named, (order, _) in self.orders.items()},
                order_by_trade=by_trade,
                order_by_refund=self.refunds,
            )
        )
        self._write(plan)
        return plan

    def _write(self, plan: WritePlan) -> None:
        for write in plan.orders:
            self.orders[write.order.account, write.order.number] = (write.order, write.view)
        for delivery in plan.deliveries:
            self.deliveries[delivery.position] = delivery
        for row in plan.ledger:
            self.ledger[row.account, row.notification_id] = row
        for held in plan.held:
            before = self.held.get(held.position)
            replays = 0 if before is None else before.replays
            self.held[held.position] = _page(held, replays=replays)
        for position in plan.released:
            resolution = self.deliveries[position].disposition.value
            self.held[position] = structs.replace(self.held[position], resolution=resolution, resolved_at_ms=NOW_MS)
        for event in plan.events:
            self.outbox.append(Emitted(number=len(self.outbox) + 1, event=event, sent_at_ms=None))
        for position, page in self.held.items():
            if (page.row.account, page.row.waits_for) in plan.wakes and not page.resolution:
                self.held[position] = structs.replace(page, row=structs.replace(page.row, due_at_ms=NOW_MS))

    async def unsent(self, limit: int) -> Sequence[tuple[int, Outgoing]]:
        return [(row.number, row.event) for row in self.outbox if row.sent_at_ms is None][:limit]

    async def mark_sent(self, numbers: Sequence[int]) -> None:
        for number in numbers:
            self.outbox[number - 1] = structs.replace(self.outbox[number - 1], sent_at_ms=NOW_MS)

    async def events_after(self, number: int, limit: int) -> Sequence[Emitted]:
        return self.outbox[number : number + limit]

    async def order_page(self, account: str, number: str) -> OrderPage | None:
        self._check()
        deliveries = tuple(d for d in self.deliveries.values() if (d.account, d.order) == (account, number))
        order, view = self.orders.get((account, number), (None, None))
        if order is None and not deliveries:
            return None
        prefix = f"{account}:{number}"
        events = tuple(row for row in self.outbox if row.event.key == prefix.encode())
        return OrderPage(account=account, number=number, order=order, view=view, deliveries=deliveries, events=events)

    async def find(self, number: str) -> Sequence[tuple[str, str]]:
        found = {named for named, (order, _) in self.orders.items() if number in (named[1], *_trades(order))}
        found |= {(row.account, row.order) for row in self.ledger.values() if number == row.notification_id}
        return sorted(found)

    async def recent(self, limit: int) -> Sequence[OrderPage]:
        self._check()
        newest = list(self.orders.items())[::-1][:limit]
        return [
            OrderPage(account=named[0], number=named[1], order=order, view=view, deliveries=(), events=())
            for named, (order, view) in newest
        ]

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
        self._check()
        for refund in refunds:
            if self.refunds.get((account, refund), number) != number:
                raise RefundTaken(refund, self.refunds[account, refund])
        order, _ = self.orders.get((account, number), (None, None))
        plan = decide(order)
        self.refunds.update({(account, refund): number for refund in refunds})
        self._write(plan)
        self.audit.append(("register", f"{account}:{number}", by, why))
        return plan

    async def held_list(self, query: HeldQuery) -> Sequence[HeldPage]:
        wanted = [page for _, page in sorted(self.held.items()) if _is_meant(page, query)]
        return wanted[: query.limit]

    async def held_page(self, id_: str) -> HeldPage | None:
        return next((page for position, page in self.held.items() if str(position) == id_), None)

    async def due(self, *, now_ms: int, limit: int) -> Sequence[HeldRow]:
        rows = [page.row for page in self.held.values() if not page.resolution]
        return [row for row in rows if row.due_at_ms is not None and row.due_at_ms <= now_ms][:limit]

    async def next_due_ms(self) -> int | None:
        return min((page.row.due_at_ms for page in self.held.values() if page.row.due_at_ms), default=None)

    async def discard(self, id_: str, *, by: str, why: str, now_ms: int) -> bool:
        page = await self.held_page(id_)
        if page is None or page.resolution:
            return False
        done = structs.replace(page, resolution="discarded", resolved_at_ms=now_ms, by=by, why=why)
        self.held[page.row.position] = done
        self.audit.append(("discard", id_, by, why))
        return True

    async def note_replay(self, ids: Sequence[str], *, by: str, why: str, now_ms: int) -> None:
        for id_ in ids:
            page = await self.held_page(id_)
            assert page is not None
            self.held[page.row.position] = structs.replace(page, replays=page.replays + 1)
            self.audit.append(("replay", id_, by, why))

    async def counts(self) -> Counts:
        waiting = [page.row for page in self.held.values() if not page.resolution]
        counts = []
        for disposition in HELD:
            since = [row.first_at_ms for row in waiting if row.disposition is disposition]
            counts.append(HeldCount(disposition=disposition, count=len(since), oldest_ms=min(since, default=None)))
        tried = Counter(row.attempts for row in waiting if row.disposition is Disposition.PARKED)
        unsent = [row for row in self.outbox if row.sent_at_ms is None]
        return Counts(
            held=tuple(counts),
            parked=tuple(ParkedCount(attempts=attempts, count=count) for attempts, count in tried.items()),
            outbox_pending=len(unsent),
            outbox_oldest_ms=NOW_MS if unsent else None,
        )

    @property
    def decided(self) -> list[tuple[str, str, str, str]]:
        """The audit rows of what a person decided about held notifications."""
        return [row for row in self.audit if row[0] != "register"]

    def _check(self) -> None:
        if self.is_down:
            raise InfrastructureDown("the disk is gone")


@dataclass
class Refused:
    """A request that was turned away."""

    account: str
    order: str
    reason: str
    received_at_ms: int = NOW_MS


class Refusals:
    """What the receiver turned away lately."""

    def __init__(self) -> None:
        self.requests: list[Refused] = []

    def of_order(self, account: str, order: str) -> Sequence[Refused]:
        return [each for each in self.requests if (each.account, each.order) == (account, order)]


@dataclass
class World:
    """The application, what is behind it, and a client that carries the token."""

    store: MemoryStore = field(default_factory=MemoryStore)
    changes: OrderChanges = field(default_factory=OrderChanges)
    log: MemoryLogger = field(default_factory=MemoryLogger)
    refusals: Refusals = field(default_factory=Refusals)
    registry: CollectorRegistry = field(default_factory=CollectorRegistry)
    checks: list[Check] = field(default_factory=lambda: [Check(name="store", ok=True)])
    is_authentic: bool = True
    returned: Returned = field(
        default_factory=lambda: Returned(
            authentic=True, reason="", result_status="9000", meaning="paid", claims={"out_trade_no": "A1"}
        )
    )
    woken: int = 0
    offset: int = 0

    def __post_init__(self) -> None:
        self.metrics = WorkerMetrics(self.registry, ACCOUNTS, now_ms=lambda: NOW_MS)
        self.processing = Processing(
            accounts=ACCOUNTS,
            authenticate=self.authenticate,
            store=self.store,
            events=MemoryTopics(),
            observer=Observers(metrics=self.metrics, log=WorkerLog(self.log), changes=self.changes),
            now_ms=lambda: NOW_MS,
            chance=lambda: 0.5,
        )

    def authenticate(self, sealed: RecordContents, account: Account, *, anew: bool = False) -> None:
        if not self.is_authentic:
            raise ValueError(f"no key of {account.name} signed {len(sealed.body)} bytes")

    def application(self, *, token: str | None = TOKEN) -> web.Application:
        return app.application(
            accounts=ACCOUNTS,
            orders=self.store,
            held=self.store,
            events=self.store,
            retry=self.processing.retry,
            authenticate=self.authenticate,
            check_return=lambda text, account: self.returned,
            refusals=self.refusals,
            replays=self.metrics,
            readiness=self._ready,
            registry=self.registry,
            changes=self.changes,
            wake=self._wake,
            now_ms=lambda: NOW_MS,
            log=self.log,
            token=token,
        )

    async def deliver(self, fields: dict[str, str], account_name: str = "shop") -> Position:
        """One notification, processed."""
        return await self.deliver_raw(urlencode(fields).encode(), fields.get("out_trade_no", ""), account_name)

    async def deliver_raw(self, body: bytes, number: str, account_name: str = "shop") -> Position:
        """Any body, processed."""
        self.offset += 1
        position = Position(0, self.offset)
        await self.processing.process([LogRecord(position, record(body, number, account_name))])
        return position

    async def _ready(self) -> Sequence[Check]:
        return self.checks

    def _wake(self) -> None:
        self.woken += 1


Client = TestClient[web.Request, web.Application]


@asynccontextmanager
async def serving(world: World, *, token: str | None = TOKEN, carried: str | None = TOKEN) -> AsyncIterator[Client]:
    """A client of the world's admin port; `carried` is the token that it sends along."""
    headers = {"Authorization": f"Bearer {carried}"} if carried else {}
    async with TestClient(TestServer(world.application(token=token)), headers=headers) as client:
        yield client


async def until(condition: Callable[[], bool]) -> None:
    """Returns once the condition holds."""
    async with asyncio.timeout(5):
        while not condition():  # noqa: ASYNC110  the condition is an application's inner state, which tells nobody
            await asyncio.sleep(0)


def _page(row: HeldRow, *, replays: int) -> HeldPage:
    return HeldPage(row=row, resolved_at_ms=None, resolution="", by="", why="", replays=replays)


def _trades(order: Order) -> list[str]:
    return [claim.trade for claim in order.claims]


def _is_meant(page: HeldPage, query: HeldQuery) -> bool:
    row = page.row
    given: list[tuple[str | Disposition | None, str]] = [
        (query.account, row.account),
        (query.order, row.order),
        (query.disposition, row.disposition),
        (query.reason, row.reason),
    ]
    return bool(page.resolution) == query.resolved and all(asked in (None, has) for asked, has in given)
