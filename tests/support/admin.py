"""An admin port over an order store in memory: the real decisions, the real application, and nothing on disk.

Instead of signatures there is a flag, `is_authentic`, that a test can turn.
"""

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from urllib.parse import urlencode

from aiohttp import web
from aiohttp.test_utils import TestClient, TestServer
from prometheus_client import CollectorRegistry

from schemas.accounts import Account, Family, Orders, SignType
from schemas.payment_request import PaymentRequest, SignedPayment
from schemas.record_format import RecordContents
from tests.support import log_records
from tests.support.audit import MemoryAudit
from tests.support.bills import MemoryBills
from tests.support.callbacks import MemoryCallbacks
from tests.support.erasure import MemoryErasure
from tests.support.fakes import MemoryLogger, MemoryTopics
from tests.support.keys import MemoryKeys, MemoryKeyUses
from tests.support.resends import MemoryResends
from tests.support.stores import MemoryStore
from workers.admin import app
from workers.admin.app import LiveParts
from workers.admin.guard import LOOPBACK_ONLY, Access
from workers.admin.links import OutsideLinks
from workers.admin.operators import Operator
from workers.admin.probes import Check
from workers.admin.process_state import OwnProcess, ProcessIdentity, ProcessRole
from workers.admin.processes import OnlyThisProcess, Processes
from workers.admin.returns import Returned
from workers.bills import BillsPort
from workers.erasure import ErasurePort
from workers.held_decisions import HeldDecisions
from workers.log_lines import WorkerLog
from workers.long_poll import OrderChanges
from workers.metrics import WorkerMetrics
from workers.observers import Observers
from workers.processing import LIMIT_S, Processing
from workers.queries import Emitted
from workers.replays import Decisions, Replayer
from workers.settlement.plan import Delivery, LogRecord, Position
from workers.snoozes import SnoozesPort
from workers.tail import RecentPort, Tail
from workers.time_limit import TimeLimit

NOW_MS = log_records.NOW_MS
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
ISV = Account(
    name="isv",
    family=Family.OPENAPI,
    sign_type=SignType.RSA2,
    keys={"k": "k"},
    app_id="2021000000000001",
    auth_app_ids=("2021000000000008", "2021000000000009"),
    first_auth_app_id="2021000000000008",
    orders=Orders.REGISTERED,
)
ACCOUNTS = {each.name: each for each in (account("shop"), account("strict", Orders.REGISTERED), ANTOM, ISV)}


def form(order: str, status: str = "TRADE_SUCCESS", **more: str) -> dict[str, str]:
    """The fields of a payment's notification."""
    paid_at = {} if status == "WAIT_BUYER_PAY" else {"gmt_payment": "2025-10-09 16:53:18"}
    fields = {"buyer_email": "somebody@example.com", "subject": "Two tickets", "sign": "c2lnbmVk", **paid_at, **more}
    return log_records.payment(order, status, trade=f"20251009{order}", **fields)


@dataclass
class Refused:
    """A refused request."""

    account: str
    order: str
    reason: str
    received_at_ms: int = NOW_MS
    notification_id: str = ""
    scope: str = ""

    @property
    def outcome(self) -> str:
        return self.reason


class Refusals:
    """Requests that the receiver refused lately."""

    def __init__(self) -> None:
        self.requests: list[Refused] = []

    def of_order(self, account: str, order: str) -> Sequence[Refused]:
        return [each for each in self.requests if (each.account, each.order) == (account, order)]

    def newest(self, limit: int) -> Sequence[Refused]:
        return self.requests[-limit:]

    @property
    def added(self) -> int:
        return len(self.requests)

    def after(self, number: int) -> Sequence[Refused]:
        return self.requests[number:]


class NewestRows:
    """The newest rows of the store in memory."""

    def __init__(self, store: MemoryStore) -> None:
        self._store = store

    async def settled(self, limit: int) -> Sequence[Delivery]:
        return list(self._store.deliveries.values())[-limit:]

    async def events(self, limit: int) -> Sequence[Emitted]:
        return (await self._store.events_after(0, 10**6))[-limit:]


@dataclass
class World:
    """The application, and the fakes behind it."""

    store: MemoryStore = field(default_factory=lambda: MemoryStore(now_ms=lambda: NOW_MS))
    changes: OrderChanges = field(default_factory=OrderChanges)
    log: MemoryLogger = field(default_factory=MemoryLogger)
    refusals: Refusals = field(default_factory=Refusals)
    registry: CollectorRegistry = field(default_factory=CollectorRegistry)
    key_uses: MemoryKeyUses = field(default_factory=MemoryKeyUses)
    checks: list[Check] = field(default_factory=lambda: [Check(name="store", ok=True)])
    is_authentic: bool = True
    returned: Returned = field(
        default_factory=lambda: Returned(
            authentic=True, reason="", result_status="9000", meaning="paid", claims={"out_trade_no": "A1"}
        )
    )
    signed: SignedPayment | Exception = field(
        default_factory=lambda: SignedPayment(url="https://gateway.example/?sign=x")
    )
    asked: list[PaymentRequest] = field(default_factory=list)
    accounts_faults: list[str] = field(default_factory=list)
    woken: int = 0
    offset: int = 0
    time_limit: TimeLimit = field(default_factory=lambda: TimeLimit(LIMIT_S))
    accounts: dict[str, Account] = field(default_factory=lambda: dict(ACCOUNTS))

    def __post_init__(self) -> None:
        self.keys = MemoryKeys(self.accounts)
        self.audit = MemoryAudit(self.store)
        self.erasure: ErasurePort = MemoryErasure(self.store)
        self.snoozes: SnoozesPort = self.store
        self.links = OutsideLinks()
        self.recent: RecentPort = NewestRows(self.store)
        self.callbacks = MemoryCallbacks(NOW_MS)
        self.bills: BillsPort = MemoryBills(self.store)
        self.metrics = WorkerMetrics(self.registry, self.accounts, now_ms=lambda: NOW_MS)
        self.tail = Tail(now_ms=lambda: NOW_MS)
        self.own = OwnProcess(
            identity=ProcessIdentity(role=ProcessRole.ENGINE, instance="here-1", version="1.2.3", started_at_ms=NOW_MS),
            readiness=self._ready,
            registry=self.registry,
            tail=self.tail,
            refused=self.refusals,
        )
        self.processes: Processes = OnlyThisProcess(self.own, now_ms=lambda: NOW_MS)
        observer = Observers(metrics=self.metrics, log=WorkerLog(self.log), changes=self.changes, tail=self.tail)
        self.processing = Processing(
            accounts=self.accounts,
            authenticate=self.authenticate,
            store=self.store,
            events=MemoryTopics(),
            observer=observer,
            now_ms=lambda: NOW_MS,
            chance=lambda: 0.5,
            time_limit=self.time_limit,
        )
        self.decisions = HeldDecisions(
            accounts=self.accounts,
            read=self.processing.read,
            store=self.store,
            observer=observer,
            now_ms=lambda: NOW_MS,
            time_limit=self.time_limit,
        )

    def authenticate(self, sealed: RecordContents, account: Account, *, anew: bool = False) -> bool:
        if not self.is_authentic:
            raise ValueError(f"no key of {account.name} signed {len(sealed.body)} bytes")
        return sealed.confirmed

    def verify(self, contents: RecordContents, account: Account) -> str:
        self.authenticate(contents, account)
        return "k"

    def application(self, access: Access = LOOPBACK_ONLY) -> web.Application:
        return app.application(
            accounts=self.accounts,
            own=self.own,
            live=LiveParts(processes=self.processes, recent=self.recent),
            time_limit=self.time_limit,
            orders=self.store,
            held=self.store,
            replays=self.store,
            snoozes=self.snoozes,
            events=self.store,
            audit=self.audit,
            erasure=self.erasure,
            resends=MemoryResends(self.store),
            callbacks=self.callbacks,
            bills=self.bills,
            keys=self.keys,
            key_uses=self.key_uses,
            retry=self.processing.retry,
            decisions=self.decisions,
            verify=self.verify,
            check_return=lambda text, account: self.returned,
            sign_request=self._sign,
            refusals=self.refusals,
            retries=self.metrics,
            readiness=self._ready,
            registry=self.registry,
            changes=self.changes,
            wake=self._wake,
            now_ms=lambda: NOW_MS,
            log=self.log,
            access=access,
            accounts_faults=lambda: self.accounts_faults,
            links=self.links,
        )

    async def deliver(self, fields: dict[str, str], account_name: str = "shop") -> Position:
        """One notification, processed."""
        return await self.deliver_raw(urlencode(fields).encode(), fields.get("out_trade_no", ""), account_name)

    async def deliver_raw(self, body: bytes, number: str, account_name: str = "shop") -> Position:
        """Any body, processed."""
        self.offset += 1
        position = Position(0, self.offset)
        await self.processing.process(
            [LogRecord(position, log_records.sealed(body, number, account=self.accounts[account_name]))]
        )
        return position

    def replayer(self, decisions: Decisions | None = None) -> Replayer:
        """The loop that does tasks, of which a test runs single rounds."""
        return Replayer(
            store=self.store,
            retry=self.processing.retry,
            decisions=decisions or self.decisions,
            wake_relay=self._wake,
            observer=Observers(metrics=self.metrics, log=WorkerLog(self.log), changes=self.changes),
            now_ms=lambda: NOW_MS,
        )

    async def _ready(self) -> Sequence[Check]:
        return self.checks

    def _sign(self, request: PaymentRequest, account: Account) -> SignedPayment:
        self.asked.append(request)
        if isinstance(self.signed, Exception):
            raise self.signed
        return self.signed

    def _wake(self) -> None:
        self.woken += 1


Client = TestClient[web.Request, web.Application]


@asynccontextmanager
async def serving(
    world: World,
    *,
    token: str | None = TOKEN,
    operators: tuple[Operator, ...] = (),
    carried: str | None = TOKEN,
    names: frozenset[str] = frozenset(),
    reads_need_token: bool = False,
) -> AsyncIterator[Client]:
    """A client of the world's admin port; `carried` is the token that it sends along.

    `operators` are its operators, instead of one `token` without a name.
    """
    known = operators or ((Operator("", token.encode()),) if token else ())
    access = Access(operators=known, names=names, reads_need_token=reads_need_token)
    headers = {"Authorization": f"Bearer {carried}"} if carried else {}
    async with TestClient(TestServer(world.application(access)), headers=headers) as client:
        yield client
