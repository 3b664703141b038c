"""Callbacks of several workers of a cluster: one sends, and another goes on when it is gone. And rows that a shell has
locked: their orders or endpoints wait alone."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import asyncpg
import pytest
from msgspec import structs

from deploy import callbacks
from deploy.cluster import callback_store, settings
from schemas import event_names
from tests.contract.engines import AnyStore, Cluster
from tests.support import callback_receivers, callback_worker, log_records, waiting
from tests.support import cluster as clusters
from tests.support.callback_receivers import Receiver, receiving
from tests.support.fakes import MemoryLogger
from workers.callbacks import addresses, schedule
from workers.callbacks.addresses import Allowed
from workers.callbacks.deliveries import Step
from workers.callbacks.endpoints import Endpoint
from workers.callbacks.http import HttpPoster
from workers.callbacks.schedule import AttemptResult, CallbackAnswer, CallbackOutcome, EndpointState
from workers.callbacks.sender import CallbackSender
from workers.errors import InfrastructureDown, RowsLocked
from workers.postgres.callbacks import PostgresCallbacks
from workers.postgres.store import PostgresOrderStore

STATUSES = ("WAIT_BUYER_PAY", "TRADE_SUCCESS", "TRADE_FINISHED")
SECRET = b"merchant" * 4
ORDERS = 30
WITHIN_S = 120.0


class NoObserver:
    def attempted(self, endpoint: Endpoint, result: AttemptResult) -> None: ...

    def disabled(self, endpoint: Endpoint, state: EndpointState) -> None: ...

    def removed(self, name: str) -> None: ...

    def paused(self, endpoint: Endpoint, error: InfrastructureDown) -> None: ...

    def failed(self, endpoint: Endpoint, error: Exception) -> None:
        raise error


def now_ms() -> int:
    return int(time.time() * 1000)


@pytest.fixture
async def store(cluster: Cluster) -> AsyncIterator[AnyStore]:
    async with cluster.store() as opened:
        yield opened


class Worker:
    """The part of a worker that sends callbacks."""

    def __init__(self, cluster: Cluster, endpoint: Endpoint, name: str) -> None:
        self._cluster = cluster
        self._endpoints = {endpoint.name: endpoint}
        self._name = name
        self._stack = AsyncExitStack()

    async def start(self) -> None:
        configured = settings.load({"ALIPAY_NOTIFY_ACCOUNTS": "a.toml", "ALIPAY_NOTIFY_POSTGRES": self._cluster.url})
        deliveries, candidacy = await callback_store.opened(self._stack, configured, holder=self._name)
        allowed = Allowed(addresses.networks("127.0.0.0/8"))
        poster = await self._stack.enter_async_context(HttpPoster(allowed, now_ms=now_ms))
        self.deliveries, self.candidacy = deliveries, candidacy
        self.sender = CallbackSender(
            endpoints=lambda: self._endpoints,
            store=deliveries,
            post=poster.post,
            names=event_names.LOGICAL,
            observer=NoObserver(),
            now_ms=now_ms,
            leads=candidacy.leads,
            is_clock_trusted=lambda: True,
            look_every_s=0.05,
        )
        self._running = asyncio.create_task(self.sender.run())

    async def stop(self) -> None:
        self._running.cancel()
        await asyncio.wait([self._running])
        await self._stack.aclose()


async def until(condition: Callable[[], object]) -> None:
    await waiting.until(condition, within_s=WITHIN_S)


async def test_another_worker_goes_on_where_the_first_stopped(cluster: Cluster, store: AnyStore) -> None:
    receiver = Receiver("shop")
    url = f"http://127.0.0.1:{receiver.port}/callbacks"
    endpoint = Endpoint(name="shop", url=url, secrets=(SECRET,), timeout_s=5.0)
    first, second = (Worker(cluster, endpoint, name) for name in ("worker-a", "worker-b"))
    async with receiving(receiver):
        await first.start()
        await until(lambda: first.candidacy.is_leading and first.sender.is_sending)
        await second.start()
        records = [log_records.record(f"N{number}", status) for number in range(ORDERS) for status in STATUSES]
        await log_records.processing(store, log_records.Time()).process(log_records.logged(records))
        await until(lambda: len(receiver.arrived) > ORDERS)
        assert [worker.sender.is_sending for worker in (first, second)] == [True, False]
        receiver.may_answer.clear()  # attempts are in flight when it stops, and their answers are lost
        await first.stop()
        receiver.may_answer.set()
        wanted = {f"shop-sg:N{number}": [1, 2, 3] for number in range(ORDERS)}
        await until(lambda: receiver.order_of_versions == wanted)
        assert second.sender.is_sending
        async with asyncio.timeout(60):
            while (await second.deliveries.endpoints())[0].pending:
                await asyncio.sleep(0.05)
        await second.stop()


async def test_worker_without_the_file_notes_endpoints_as_removed_when_no_worker_sends(
    cluster: Cluster, store: AnyStore
) -> None:
    """So it is when the setting is taken away: the events of the endpoint wait, and go on when it is put back."""
    assert isinstance(store, PostgresOrderStore)
    receiver, log = Receiver("shop"), MemoryLogger()
    endpoint = Endpoint(
        name="shop", url=f"http://127.0.0.1:{receiver.port}/callbacks", secrets=(SECRET,), timeout_s=5.0
    )
    sending = Worker(cluster, endpoint, "worker-a")
    async with receiving(receiver), AsyncExitStack() as stack:
        await sending.start()
        await until(lambda: sending.sender.is_sending)
        deliveries, candidacy = callback_store.without_endpoints(stack, store, holder="worker-b")
        is_asked = asyncio.Event()

        async def leads() -> bool:
            is_asked.set()
            return await candidacy.leads()

        noting = asyncio.create_task(
            callbacks.note_none(deliveries, logger=log, now_ms=now_ms, leads=leads, look_every_s=0.05)
        )
        await is_asked.wait()
        await asyncio.sleep(0.2)
        assert [page.is_configured for page in await deliveries.endpoints()] == [True]
        await sending.stop()
        await until(lambda: bool(log.lines))
        assert log.lines[0][0] == "callback_removed"
        assert [page.is_configured for page in await deliveries.endpoints()] == [False]
        noting.cancel()
        await candidacy.resign()
        record = log_records.logged([log_records.record("N1", STATUSES[0])])
        await log_records.processing(store, log_records.Time()).process(record)
        back = Worker(cluster, endpoint, "worker-c")
        await back.start()
        await until(lambda: receiver.order_of_versions == {"shop-sg:N1": [1]})
        await back.stop()


@asynccontextmanager
async def shell(cluster: Cluster, statement: str) -> AsyncIterator[None]:
    """A session that has locked rows and goes on with nothing."""
    connection = await asyncpg.connect(cluster.url)
    try:
        await connection.execute("BEGIN")
        assert await connection.fetch(statement)
        yield
    finally:
        await connection.close()


async def test_orders_whose_deliveries_are_locked_wait_alone(cluster: Cluster, store: AnyStore) -> None:
    endpoint = Endpoint(name="shop", url="https://shop.example/", secrets=(SECRET,))
    async with AsyncExitStack() as stack:
        configured = settings.load({"ALIPAY_NOTIFY_ACCOUNTS": "a.toml", "ALIPAY_NOTIFY_POSTGRES": cluster.url})
        deliveries, _ = await callback_store.opened(stack, configured, holder="worker-a")
        await deliveries.configure([endpoint], now_ms=now_ms())
        records = [log_records.record(number, status) for number in ("N1", "N2") for status in STATUSES]
        await log_records.processing(store, log_records.Time()).process(log_records.logged(records))

        async def step(*results: AttemptResult) -> Step:
            return await deliveries.step(endpoint, results, busy=(), limit=10, now_ms=now_ms())

        def taken(found: Step) -> list[AttemptResult]:
            return [
                schedule.result(
                    CallbackAnswer(outcome=CallbackOutcome.DELIVERED, status=204), number=due.number,
                    event_id=due.event.id, key=due.event.key, attempts=1, first_at_ms=None, began_ms=now_ms(),
                    now_ms=now_ms(), random=lambda: 0.5,
                )
                for due in found.due
            ]  # fmt: skip

        first = await step()
        assert [due.event.id for due in first.due] == ["shop-sg:N1:1", "shop-sg:N2:1"]
        async with shell(cluster, "SELECT 1 FROM callback_deliveries WHERE event_id = 'shop-sg:N1:2' FOR UPDATE"):
            with pytest.raises(RowsLocked):
                await step(*taken(first))
            second = await step(*taken(first))
            assert [due.event.id for due in second.due] == ["shop-sg:N2:2"]
            assert [result.event_id for result in second.unwritten] == ["shop-sg:N1:1"]
            third = await step(*second.unwritten, *taken(second))
            assert [due.event.id for due in third.due] == ["shop-sg:N2:3"]
        last = await step(*third.unwritten, *taken(third))
        assert [due.event.id for due in last.due] == ["shop-sg:N1:2"]
        assert last.unwritten == []


async def test_locked_endpoint_keeps_no_new_one_back(cluster: Cluster, store: AnyStore) -> None:
    old, new = (Endpoint(name=name, url="https://shop.example/", secrets=(SECRET,)) for name in ("old", "new"))
    async with AsyncExitStack() as stack:
        configured = settings.load({"ALIPAY_NOTIFY_ACCOUNTS": "a.toml", "ALIPAY_NOTIFY_POSTGRES": cluster.url})
        deliveries, _ = await callback_store.opened(stack, configured, holder="worker-a")
        await deliveries.configure([old], now_ms=now_ms())
        async with shell(cluster, "SELECT 1 FROM callback_endpoints WHERE name = 'old' FOR UPDATE"):
            await deliveries.configure([old, new], now_ms=now_ms())
            with pytest.raises(RowsLocked):  # its address cannot be changed now
                await deliveries.configure([structs.replace(old, url="https://other.example/"), new], now_ms=now_ms())
            record = log_records.logged([log_records.record("N1", STATUSES[0])])
            await log_records.processing(store, log_records.Time()).process(record)
            with pytest.raises(RowsLocked):
                await deliveries.step(old, (), busy=(), limit=10, now_ms=now_ms())
            found = await deliveries.step(new, (), busy=(), limit=10, now_ms=now_ms())
            assert [due.event.id for due in found.due] == ["shop-sg:N1:1"]


async def test_killed_sender_loses_nothing_and_no_endpoint_delays_another(
    cluster: Cluster, store: AnyStore, tmp_path: Path
) -> None:
    assert isinstance(store, PostgresOrderStore)
    healthy, slow, down = services = [Receiver(name) for name in ("healthy", "slow", "down")]
    slow.may_answer.clear()
    file = callback_receivers.write_file(tmp_path, services)
    deliveries = PostgresCallbacks(store.database, store.reads)
    wanted: dict[str, list[int]] = {}

    async def pay(*numbers: str) -> None:
        first = 1 + sum(map(len, wanted.values()))
        records = [log_records.record(number, status) for number in numbers for status in STATUSES]
        await log_records.processing(store, log_records.Time()).process(log_records.logged(records, first=first))
        wanted.update({f"shop-sg:{number}": [1, 2, 3] for number in numbers})

    async def knows_all() -> bool:
        return len(await deliveries.endpoints()) == len(services)

    async with receiving(healthy, slow), callback_worker.running(cluster.url, file, "worker-a") as first:
        await clusters.until(knows_all, WITHIN_S)
        async with callback_worker.running(cluster.url, file, "worker-b"):
            await pay(*(f"A{number}" for number in range(ORDERS)))
            await clusters.until(lambda: healthy.order_of_versions == wanted, WITHIN_S)
            healthy.may_answer.clear()
            asked = healthy.asked
            await pay(*(f"B{number}" for number in range(ORDERS)))
            await clusters.until(lambda: healthy.asked > asked, WITHIN_S)
            first.kill()  # with attempts in flight
            healthy.may_answer.set()
            await clusters.until(lambda: healthy.order_of_versions == wanted, WITHIN_S)
            assert slow.arrived == down.arrived == []

            slow.may_answer.set()
            await down.start()
            for each in (slow, down):
                assert await deliveries.enable(each.name, by="tests", why="mended", now_ms=now_ms())
                await clusters.until(lambda each=each: each.order_of_versions == wanted, WITHIN_S)  # type: ignore[misc]
            await down.stop()
