"""A receiver that is away for minutes or for days, while a simulated Alipay goes on by its own schedule.

    Sender (the sandbox's) ─► Reception ─► Publisher ─► log, and at the end ─► Processing ─► order store

All but the log, the store and the sockets is the product's own. One payment a minute is notified until nobody waits any
more. Time is virtual, so that two days take seconds.
"""

import asyncio
import math
import random
from collections import Counter
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from random import Random
from typing import Any, NamedTuple
from unittest import mock

import aiohttp

from deploy import accounts_reload
from deploy.sandbox import field_sets, serials
from deploy.sandbox.delivery import Attempt, DeliveryJob, Sender
from deploy.sandbox.issued import IssuedIds
from deploy.sandbox.notifications import MessageKind, Trade, TradeEvent
from deploy.sandbox.world import World
from ingest.accounts_in_use import AccountsInUse
from ingest.errors import Refused, Throttled
from ingest.http.request import Request
from ingest.kafka.publisher import Publisher
from ingest.kafka.supervisor import SupervisorTiming
from ingest.quota import Quota
from ingest.receive import Reception
from schemas.dispositions import Disposition
from schemas.orders import Status
from schemas.retry_profiles import Profile
from tests.simulation.loop import VirtualLoop
from tests.simulation.ports import Log, SimulatedProducer
from tests.simulation.weather import Process, Weather
from tests.support import log_records
from tests.support.fakes import MemoryLogger, ProducerObserver
from tests.support.stores import MemoryStore
from workers.settlement.plan import LogRecord

MINUTE_S = 60.0
ACCOUNT = "demo-md5"  # its signatures cost next to nothing
BEGAN_AT = datetime(2026, 3, 1, tzinfo=UTC)
BATCH = 500
TURNS_MAX = 20_000_000
TICK_S = 60.0  # of the producer's supervisor: two days of seconds would take long


class Outage(NamedTuple):
    """How long the receiver is away. `is_up`: it runs and answers 503, because its log is away."""

    minutes: int
    is_up: bool = False

    @property
    def seconds(self) -> float:
        return self.minutes * MINUTE_S


class Outcome(NamedTuple):
    """What an outage cost. Each notification that met it has its delay, or is counted as lost.

    `last_s` is how long after the outage the last of them came; `peak` how many attempts there were afterwards in one
    minute at most, beside one new notification. `wrong` has what no outage may cause.
    """

    delays_s: list[float]
    lost: int
    last_s: float
    peak: int
    wrong: list[str]

    @property
    def worst_min(self) -> int:
        return round(max(self.delays_s) / MINUTE_S)

    @property
    def mean_min(self) -> int:
        return round(sum(self.delays_s) / len(self.delays_s) / MINUTE_S)

    @property
    def last_min(self) -> int:
        return math.ceil(self.last_s / MINUTE_S)


def cost(outage: Outage, profile: Profile, world: World) -> Outcome:
    """Return what this outage costs with this schedule."""
    random.seed(1)  # the publisher's jitter
    loop = VirtualLoop(turns_max=TURNS_MAX)
    try:
        return loop.run_until_complete(_Run(outage, profile, world).run())
    finally:
        loop.close()


class _Run:
    """One outage, from its first second to the last delivery after it."""

    def __init__(self, outage: Outage, profile: Profile, world: World) -> None:
        self._outage = outage
        self._world = world
        self._chance = Random(1)
        self._numbers = serials.Serials(self._chance)
        self._weather = Weather(1, share=0.0)
        self._log = Log()
        loaded = accounts_reload.read_files(world.accounts_file)
        self._accounts = AccountsInUse(loaded.keyed)
        self._ended_s: list[tuple[float, Attempt]] = []
        self._sender = Sender(
            http=self,  # type: ignore[arg-type]
            profile=profile,
            issued=IssuedIds(),
            concurrency=10_000,
            observer=lambda attempt, _: self._ended_s.append((self._now_s(), attempt)),
        )

    async def run(self) -> Outcome:
        publisher = self._publisher()
        await publisher.start()
        self._reception = Reception(
            accounts=self._accounts,
            quota=Quota(count_max=512, bytes_max=1 << 24, exceeded=Throttled),
            confirm=self,
            log=publisher,
            clock=self,
            observer=self,
        )
        began_s = self._now_s()
        if self._outage.is_up:
            self._weather.take_away("log", until_s=began_s + self._outage.seconds)
        self._back_s = began_s + self._outage.seconds
        away = [asyncio.create_task(self._notify(began_s, number)) for number in range(self._outage.minutes)]
        later = asyncio.create_task(self._go_on(began_s, away))
        await asyncio.wait(away)
        await later
        await publisher.stop()
        return await self._judged(began_s, [sent.result() for sent in away])

    def _publisher(self) -> Publisher:
        process = Process("receiver")
        return Publisher(
            build=lambda: SimulatedProducer(self._log, process, self._weather, self._chance),
            observer=ProducerObserver(),
            logger=MemoryLogger(),
            timing=SupervisorTiming(tick_s=TICK_S),
        )

    async def _notify(self, began_s: float, number: int) -> tuple[Attempt, ...]:
        """Notify of one payment, in the middle of its minute."""
        due_s = began_s + (number + 0.5) * MINUTE_S
        await asyncio.sleep(due_s - self._now_s())
        account, paid = self._world.account(ACCOUNT), BEGAN_AT + timedelta(seconds=due_s)
        trade = Trade(
            account=account,
            order=f"A{number}",
            trade_no=self._numbers.trade_no(paid),
            amount_minor=_price(number),
            currency=account.identity.currency,
            subject="Night boat",
            created=paid,
            paid=paid,
        )
        event = TradeEvent(kind=MessageKind.PAID, at=paid)
        notification = field_sets.compose(trade, event, numbers=self._numbers, chance=self._chance)
        return await self._sender.deliver(DeliveryJob(notification=notification, url=f"/notify/{ACCOUNT}", at=paid))

    async def _go_on(self, began_s: float, away: list[asyncio.Task[tuple[Attempt, ...]]]) -> None:
        """Notify of one payment a minute after the outage, until nothing of it is on its way."""
        number = self._outage.minutes
        while not all(sent.done() for sent in away):
            attempts = await self._notify(began_s, number)
            assert len(attempts) == 1, "after the outage the first attempt is accepted"
            number += 1

    # the sender's HTTP session

    @asynccontextmanager
    async def post(self, target: str, *, data: bytes, headers: Any, **_: object) -> AsyncIterator["_Answer"]:
        if not self._outage.is_up and self._now_s() < self._back_s:
            raise aiohttp.ClientConnectionError("nobody listens")
        try:
            await self._reception.receive(_arrived(target, data, dict(headers)))
        except Refused as refused:
            yield _Answer(refused.status, b"fail")
        else:
            yield _Answer(200, b"success")

    # what a reception needs

    async def confirm(self, account: object, notify_id: bytes) -> None: ...
    def appended(self, seconds: float, /, *, durable: bool) -> None: ...

    def epoch_ms(self) -> int:
        return int((BEGAN_AT.timestamp() + self._now_s()) * 1000)

    def monotonic_s(self) -> float:
        return self._now_s()

    def _now_s(self) -> float:
        return asyncio.get_running_loop().time()

    # the end

    async def _judged(self, began_s: float, sent: list[tuple[Attempt, ...]]) -> Outcome:
        ends_s = {attempt.notify_id: ended_s for ended_s, attempt in self._ended_s if attempt.outcome == "ok"}
        first_s = [began_s + (number + 0.5) * MINUTE_S for number in range(len(sent))]
        ids = [attempts[0].notify_id for attempts in sent]
        delivered = [(id_, due_s) for id_, due_s in zip(ids, first_s, strict=True) if id_ in ends_s]
        minutes = Counter(int((ended_s - self._back_s) // MINUTE_S) for ended_s, _ in self._ended_s)
        return Outcome(
            delays_s=[ends_s[id_] - due_s for id_, due_s in delivered],
            lost=len(sent) - len(delivered),
            last_s=max(ends_s[id_] for id_, _ in delivered) - self._back_s,
            peak=max(count for minute, count in minutes.items() if minute >= 0),
            wrong=await self._wrong(ends_s),
        )

    async def _wrong(self, acknowledged: Mapping[str, float]) -> list[str]:
        """Work through the whole log, twice, and return what is wrong with the orders."""
        store = MemoryStore()
        work = log_records.processing(store, log_records.Time(self.epoch_ms()), accounts=self._accounts)
        records = [LogRecord(position, record) for position, record in self._log.positions().items()]
        for _ in range(2):
            for start in range(0, len(records), BATCH):
                await work.process(records[start : start + BATCH])
        ends = Counter(delivery.disposition for delivery in store.deliveries.values())
        checks = {
            "a record for each acknowledgement": self._outage.is_up or len(records) == len(acknowledged),
            "each notification applied once": ends[Disposition.APPLIED] == len(acknowledged),
            "nothing held": set(ends) <= {Disposition.APPLIED, Disposition.DUPLICATE},
            "one order for each": len(store.views) == len(acknowledged),
            "one version of each": {order.version for order in store.orders.values()} == {1},
            "each as it was paid": all(
                (view.status, view.amount_minor) == (Status.PAID, _price(int(number.removeprefix("A"))))
                for (_, number), view in store.views.items()
            ),
        }
        return [f"not {what}" for what, is_so in checks.items() if not is_so]


def _price(number: int) -> int:
    return 1000 + number


class _Answer:
    """The answer of a reception, as the sender's HTTP client has it. It is its own body."""

    def __init__(self, status: int, body: bytes) -> None:
        self.status = status
        self._left = body

    @property
    def content(self) -> "_Answer":
        return self

    async def readany(self) -> bytes:
        body, self._left = self._left, b""
        return body


def _arrived(target: str, body: bytes, headers: Mapping[str, str]) -> Request:
    """Return a request of which all has arrived."""
    fields = {name.lower().encode(): [value.encode()] for name, value in headers.items()}
    request = Request(
        mock.Mock(), method="POST", target=target.encode(), version="1.1", headers=fields, keeps_alive=True
    )
    request.add(body)
    request.is_complete = True
    return request
