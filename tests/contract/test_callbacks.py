"""Callbacks of several workers of a cluster: one sends, and another goes on when it is gone."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack

import pytest

from deploy.cluster import callback_store, settings
from schemas import event_names
from tests.contract.engines import AnyStore, Cluster
from tests.support import log_records, waiting
from tests.support.callback_receivers import Receiver, receiving
from workers.callbacks import addresses
from workers.callbacks.addresses import Allowed
from workers.callbacks.endpoints import Endpoint
from workers.callbacks.http import HttpPoster
from workers.callbacks.schedule import AttemptResult, EndpointState
from workers.callbacks.sender import CallbackSender
from workers.errors import InfrastructureDown

STATUSES = ("WAIT_BUYER_PAY", "TRADE_SUCCESS", "TRADE_FINISHED")
SECRET = b"merchant" * 4
ORDERS = 30


class NoObserver:
    def attempted(self, endpoint: Endpoint, result: AttemptResult) -> None: ...

    def disabled(self, endpoint: Endpoint, state: EndpointState) -> None: ...

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
            look_every_s=0.05,
        )
        self._running = asyncio.create_task(self.sender.run())

    async def stop(self) -> None:
        self._running.cancel()
        await asyncio.wait([self._running])
        await self._stack.aclose()


async def until(condition: Callable[[], object]) -> None:
    await waiting.until(condition, within_s=120)


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
