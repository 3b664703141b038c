"""A merchant that asks the simulated Alipay about its orders, over any store: without processes and without a log."""

import os
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Protocol

from aiohttp import ClientSession
from prometheus_client import CollectorRegistry

from deploy import accounts_file
from deploy.asking import Asker
from deploy.authentication import Authenticator
from deploy.sandbox import server
from deploy.sandbox.identities import IDENTITIES
from deploy.sandbox.planning import Wishes
from deploy.sandbox.server import SandboxServer
from deploy.sandbox.world import World
from ingest import accounts_in_use
from ingest.accounts_in_use import AccountsInUse
from ingest.checkout import requests
from schemas import record_format, telemetry
from schemas.money import Money
from schemas.record_format import Record, RecordContents
from tests.support import log_records
from tests.support.fakes import MemoryLogger
from tests.support.log_records import Time
from workers import metrics
from workers.processing import Processing, Store
from workers.queries import HeldPort, OrderPage, OrdersPort
from workers.reconciliation import Ask, Reconciliation
from workers.settlement import decision
from workers.settlement.plan import LogRecord, Registration

AFTER_S = 900.0
ASKING = tuple(one for one in IDENTITIES if one.name in ("demo-cn", "demo-app", "demo-md5", "demo-web", "demo-antom"))


class ReadStore(Store, OrdersPort, HeldPort, Protocol):
    """The ports of an order store that are needed here."""


class Merchant:
    """The merchant's side: its store, its accounts, and the records that its questions have brought."""

    def __init__(
        self, store: ReadStore, work: Processing, accounts: AccountsInUse, sandbox: SandboxServer, time: Time, ask: Ask
    ) -> None:
        self.store, self.accounts, self.sandbox, self.time, self.work = store, accounts, sandbox, time, work
        self.appended: list[Record] = []
        self.registry = CollectorRegistry()
        self.log = MemoryLogger()
        self._offset = 0
        self.leads = True
        self._ask = ask
        self.restart()

    def restart(self) -> None:
        """Have the loop of a process that has just started."""
        self.registry = CollectorRegistry()
        self.loop = Reconciliation(
            accounts=self.accounts,
            orders=self.store,
            ask=self._ask,
            append=self._append,
            leads=lambda: self.leads,
            now_ms=self.time,
            after_s=AFTER_S,
            per_s=1000,
            questions=metrics.by_account(telemetry.QUESTIONS, self.registry),
            log=self.log,
            chance=lambda: 0.0,
        )

    async def _append(self, record: Record) -> None:
        self.appended.append(record)

    async def register(self, account: str, order: str, minor: int = 1280) -> None:
        amounts = (Money(minor, self.sandbox.world.account(account).identity.currency),)
        registration = Registration(amounts=amounts)
        await self.store.register(
            account,
            order,
            (),
            lambda known: decision.register(known, account, order, registration, now_ms=self.time()),
            by="tests",
            why="sold",
        )

    async def pays(self, account: str, order: str, amount: str = "12.80", scenario: str = "paid") -> None:
        """Have the buyer pay; the notification is lost if the sandbox loses it, and else goes nowhere."""
        await self.sandbox.play(scenario, account, wishes=Wishes(order=order, amount=amount))

    async def notified(self, account: str, order: str) -> None:
        """The last notification arrives after all."""
        told = self.sandbox.trades.of(account, order)
        assert told is not None
        delivery = told.delivery(told.facts.happened)
        headers = dict(delivery.headers)
        contents = RecordContents(
            account=account,
            family=self.accounts[account].family.value,
            received_at_ms=self.time(),
            path=delivery.path.encode(),
            content_type=headers["Content-Type"].encode(),
            key_id="",
            confirmed=True,
            body=delivery.body,
            client_id=headers.get("client-id", "").encode(),
            request_time=headers.get("request-time", "").encode(),
            signature=headers.get("signature", "").encode(),
        )
        await self.settle([record_format.encode(contents, order)])

    async def reconcile(self, after_s: float = AFTER_S) -> None:
        """Let that time pass, ask about what is due, and settle the answers that bring news."""
        self.time.now_ms += round(after_s * 1000) + 1
        await self.loop.look()
        await self.loop.ask_until(time.monotonic() + 60)
        appended, self.appended = self.appended, []
        await self.settle(appended)

    async def settle(self, records: Sequence[Record]) -> None:
        batch: list[LogRecord] = log_records.logged(records, first=self._offset + 1)
        self._offset += len(records)
        await self.work.process(batch)

    async def page(self, account: str, order: str) -> OrderPage:
        page = await self.store.order_page(account, order)
        assert page is not None
        return page

    async def status(self, account: str, order: str) -> str:
        page = await self.page(account, order)
        assert page.view is not None
        return page.view.status.value

    def asked(self, account: str) -> dict[str, float]:
        """How the questions about an account's orders ended, and how often."""
        return {
            sample.labels["outcome"]: sample.value
            for family in self.registry.collect()
            for sample in family.samples
            if sample.name == "alipay_notify_questions_total" and sample.labels["account"] == account and sample.value
        }


def world_in(directory: Path) -> World:
    """Make the keys of a world, once for many tests."""
    return World.create(
        directory, gateway_url="http://127.0.0.1:1", notify_base="http://127.0.0.1:1", identities=ASKING, queries=True
    )


@asynccontextmanager
async def asking(directory: Path, store: ReadStore, time_: Time) -> AsyncIterator[Merchant]:
    """A merchant over this store, and an Alipay that loses all its notifications. `directory` has a world."""
    time_.now_ms = round(time.time() * 1000)
    sock = server.listening("127.0.0.1", 0)
    url = server.url_of(sock)
    world = World.create(directory, gateway_url=url, notify_base="http://127.0.0.1:1", identities=ASKING, queries=True)
    read = accounts_file.read(world.accounts_file)
    accounts = AccountsInUse(accounts_in_use.load(read, world.accounts_file.parent))
    authenticator = Authenticator(accounts, [os.urandom(32)], is_log_private=True)
    work = log_records.processing(store, time_, authenticate=authenticator.authenticate, accounts=accounts)
    sandbox = SandboxServer(
        world, sock=sock, admin_url="http://127.0.0.1:1", request_url=requests.redirect_url, drop=1.0
    )
    async with sandbox, ClientSession() as session:
        ask = Asker(
            session, accounts, world.accounts_file.parent, receipts=authenticator.receipt, now_ms=time_, total_s=20
        )
        yield Merchant(store, work, accounts, sandbox, time_, ask)
