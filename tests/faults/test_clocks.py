"""Receivers, workers and consoles whose clocks are a day wrong, or jump: nothing is lost, given up or kept back.

One broker, Redis and PostgreSQL with right clocks, which other tests use too.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path

import msgspec
import pytest
from aiohttp import ClientSession

from deploy.local import ports, roles
from deploy.local.engine import EngineSpec
from deploy.local.machine import Missing
from deploy.local.roles import Role
from tests.support import wrong_clocks
from tests.support.cluster import Cluster, Note, metrics, summed, until
from tests.support.wrong_clocks import HOUR_S, WrongClock

WISHED = EngineSpec(receivers=1, workers=1, console=True, sandbox=True)

PER_S = 10
AHEAD_H, BEHIND_H = 26.0, -26.0
SENT_S = 30.0  # for events that another process left behind: its leader's lease, and the first sight of them
FIRST_RETRY_S = 33.0


@pytest.fixture
async def library(started: Cluster) -> Path:
    try:
        return await wrong_clocks.library(started.machine)
    except Missing as missing:
        pytest.skip(f"NOT TESTED: {missing}")


@pytest.fixture
async def cluster(started: Cluster) -> AsyncIterator[Cluster]:
    """The engine without its own worker: those of the tests take its place."""
    await asyncio.gather(*(role.process.stop() for role in started.engine.workers))
    yield started
    await started.whole()


async def park(cluster: Cluster, *names: str) -> None:
    """Payments of orders that are not registered."""
    world = ("--to", cluster.engine.public_url, "--dir", str(cluster.engine.world.directory))
    for name in names:
        await cluster.command("trigger", "paid", "--account", "demo-web", "--order", name, "--amount", "12.80", *world)


async def register(console: Role, name: str) -> None:
    async with ClientSession() as http:
        url = f"{console.admin_url}/api/orders/demo-web/{name}"
        async with http.put(url, json={"amount": "12.80"}) as answer:
            assert answer.status in (200, 201), await answer.text()


async def dispositions(cluster: Cluster, names: tuple[str, ...]) -> dict[str, tuple[str, int]]:
    """The disposition and the attempts of the held rows of these orders, if they are unresolved."""
    rows = await cluster.sql(
        "SELECT order_number, disposition, attempts FROM held WHERE order_number = ANY($1) AND resolved_at IS NULL",
        names,
    )
    return {row["order_number"]: (row["disposition"], row["attempts"]) for row in rows}


async def clock_trouble(role: Role) -> str:
    checks = msgspec.json.decode(await ports.body(role.admin_port, "/readyz?verbose"))["checks"]
    return str(next(check["detail"] for check in checks if check["name"] == "clock"))


async def measured_s(receiver: Role) -> float:
    """All that the receiver says that its answers and its appends took."""
    samples = await metrics(receiver)
    families = ("http_server_request_duration_seconds_sum", "alipay_notify_append_duration_seconds_sum")
    return sum(summed(samples, family) for family in families)


async def outbox_is_empty(cluster: Cluster) -> bool:
    return bool(await cluster.one("SELECT count(*) = 0 FROM outbox WHERE sent_at IS NULL"))


async def is_released(cluster: Cluster, name: str) -> bool:
    """Whether the order is paid, and its events have been sent."""
    rows = await cluster.sql("SELECT sent_at FROM outbox WHERE id LIKE $1", f"demo-web:{name}:%")
    return bool(rows) and all(row["sent_at"] is not None for row in rows)


async def test_processes_with_wrong_clocks_work_as_those_with_right_ones(
    cluster: Cluster, library: Path, tmp_path: Path, measured: Note
) -> None:
    ahead, behind = WrongClock(library, tmp_path, AHEAD_H), WrongClock(library, tmp_path, BEHIND_H)
    hour = WrongClock(library, tmp_path, 1.0)
    wrong = {"ahead": ahead.on(cluster), "behind": behind.on(cluster)}
    receivers = [there.another("ingest", f"ingest-{name}") for name, there in wrong.items()]
    workers = [there.another("worker", f"worker-{name}") for name, there in wrong.items()]
    console = hour.on(cluster).another("console", "console-ahead")
    waiting = ("CLOCK-1", "CLOCK-2", "CLOCK-3", "CLOCK-4")

    async def all_parked() -> bool:
        return len(await dispositions(cluster, waiting)) == len(waiting)

    async with AsyncExitStack() as stack:
        await stack.enter_async_context(roles.together([*receivers, *workers, console]))
        loads = [
            await stack.enter_async_context(cluster.sending(rate=PER_S, seconds=240, to=receiver.url))
            for receiver in receivers
        ]
        await park(cluster, *waiting)
        await until(all_parked, 30, every_s=0.2)
        assert all(["PostgreSQL" in await clock_trouble(worker) for worker in workers])
        # The event of a registration by the console whose clock is ahead is left to the workers.
        await register(console, waiting[0])
        released_s = await until(lambda: is_released(cluster, waiting[0]), SENT_S, every_s=0.1)
        await asyncio.sleep(FIRST_RETRY_S)
        held = await dispositions(cluster, waiting)
        assert held == dict.fromkeys(waiting[1:], ("parked", 1)), "retried once, and not given up"
        # The workers' clocks are set right, and jump a day back and ahead.
        for hours in (0.0, BEHIND_H, AHEAD_H):
            ahead.set(hours)
            behind.set(-hours)
            await asyncio.sleep(4)
        assert {each for each, _ in (await dispositions(cluster, waiting)).values()} == {"parked"}
        for worker in workers:
            assert summed(await metrics(worker), "alipay_notify_clock_jumps_total") >= 3
            assert "jumped" in await clock_trouble(worker)
        for receiver in receivers:
            assert 0 < await measured_s(receiver) < HOUR_S, "no duration is of a clock that jumps by a day"
        for name in waiting[1:]:
            await register(console, name)
        for name in waiting[1:]:
            await until(lambda name=name: is_released(cluster, name), SENT_S, every_s=0.1)  # type: ignore[misc]
    measured("released by a console an hour ahead", released_s)
    for load in loads:
        assert len(load.succeeded()) > 10 * PER_S
        assert {each.status for each in load.failed()} <= {503}, "no notification is refused for its age"
    async with roles.together([cluster.another("worker", "worker-right")]):
        await until(lambda: outbox_is_empty(cluster), 60, every_s=0.2)
        for load in loads:
            await load.judged()
