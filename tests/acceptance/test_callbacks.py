"""Callbacks of a running engine to services of which one is slow, one fails and one is down, over SIGKILL."""

import asyncio
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from deploy.sandbox.world import World
from tests.acceptance import sending
from tests.acceptance.sending import History
from tests.support import callback_receivers, flood_corpus
from tests.support.callback_receivers import Receiver, receiving
from tests.support.cluster import until
from tests.support.processes import Engine, eventually

ORDERS = 40
ACCOUNTS = ("demo-cn", "demo-md5", "demo-app")


class Services:
    """The merchant's four services."""

    def __init__(self) -> None:
        self.healthy, self.slow, self.failing, self.down = map(Receiver, ("healthy", "slow", "failing", "down"))
        self.all = [self.healthy, self.slow, self.failing, self.down]


@pytest.fixture
def engine(tmp_path: Path, world: World) -> Iterator[Engine]:
    engine = Engine(world.accounts_file, tmp_path / "engine", **callback_receivers.NETWORKS)
    yield engine
    engine.end()


async def test_every_event_arrives_everywhere_in_order_over_sigkill(
    world: World, engine: Engine, tmp_path: Path
) -> None:
    await every_event_arrives(world, engine, tmp_path, Services(), orders=ORDERS)
    assert await asyncio.to_thread(engine.stop) == 0


async def every_event_arrives(world: World, engine: Engine, directory: Path, services: Services, *, orders: int) -> int:
    """Send so many orders' notifications to an engine that is killed once; return the number of their events.

    On a cluster the process is killed that sends, and another one takes over.
    """
    within_s = 120 + orders / 2
    services.slow.may_answer.clear()
    services.failing.status = 500
    file = callback_receivers.write_file(directory, services.all)
    async with receiving(services.healthy, services.slow, services.failing):
        await asyncio.to_thread(engine.start, ALIPAY_NOTIFY_CALLBACKS=str(file))
        items = list(flood_corpus.generate(world, seed=7, orders=orders, now=datetime.now(UTC), accounts=ACCOUNTS))
        sent = asyncio.create_task(sending.send_all(items, lambda: engine.public, history=History()))
        await until(lambda: len(services.healthy.arrived) >= orders // 2, within_s)
        await asyncio.to_thread(engine.kill)
        await asyncio.to_thread(engine.start, ALIPAY_NOTIFY_CALLBACKS=str(file))
        await sent
        await asyncio.to_thread(_settle, engine, within_s)
        wanted = await asyncio.to_thread(_versions, engine)
        count = sum(map(len, wanted.values()))
        assert count > orders

        # The slow one has answered nothing, the failing one accepted nothing, one is away: none delays the healthy one.
        await until(lambda: services.healthy.order_of_versions == wanted, within_s)
        assert (services.slow.arrived, services.failing.arrived) == ([], [])
        assert services.failing.asked > 0

        services.slow.may_answer.set()
        services.failing.status = 200
        await services.down.start()
        for each in (services.failing, services.down):
            answer = await asyncio.to_thread(engine.post, f"/api/callbacks/{each.name}/enable", {"reason": "mended"})
            assert answer[0] == 200
        for each in (services.slow, services.failing, services.down):
            await until(lambda each=each: each.order_of_versions == wanted, within_s)  # type: ignore[misc]
        await asyncio.to_thread(_drained, engine, within_s)
        await _resend(engine, services.healthy)
        await services.down.stop()
    return count


async def _resend(engine: Engine, service: Receiver) -> None:
    order, version = service.arrived[0]
    before = len(service.arrived)
    body = {"order": order.partition(":")[2], "account": order.partition(":")[0], "version": version, "reason": "lost"}
    assert await asyncio.to_thread(engine.post, "/api/callbacks/healthy/resend", body) == (200, {"resent": 1})
    await until(lambda: len(service.arrived) > before, 60)
    assert service.arrived[-1] == (order, version)
    name = 'alipay_notify_callback_attempts_total{endpoint="healthy",outcome="delivered"}'
    assert (await asyncio.to_thread(engine.metrics))[name] > 0


def _settle(engine: Engine, within_s: float) -> None:
    """Return when no record is behind."""

    def is_quiet() -> bool:
        name = "alipay_notify_consumer_lag_messages"
        return sum(value for sample, value in engine.metrics().items() if sample.startswith(name)) == 0

    eventually(is_quiet, within_s=within_s)


def _drained(engine: Engine, within_s: float) -> None:
    def is_drained() -> bool:
        _, answer = engine.get("/api/callbacks")
        return all(each["pending"] == 0 and each["state"] == "active" for each in answer["endpoints"])

    eventually(is_drained, within_s=within_s)


def _versions(engine: Engine) -> dict[str, list[int]]:
    found: dict[str, list[int]] = {}
    after = 0
    while True:
        _, page = engine.get(f"/api/events?after={after}&limit=1000")
        if not page["events"]:
            return found
        for event in page["events"]:
            order, _, version = event["id"].rpartition(":")
            found.setdefault(order, []).append(int(version))
        after = page["next"]
