"""The embedded engine end to end: durable acknowledgements per second on one core, latencies below that, memory.

The whole engine (receiver, journal, worker, order store, admin port) is one process on one core; the sender sits on
another. First the maximum is found with every connection sending as fast as answers come; then an open loop sends at
70 % of it, and latencies count from the moment each request was due. Notifications are the Open Platform's (RSA2, about
1 kB), each new: nothing is answered from memory of a duplicate.

Before that, single notifications go through the idle engine, each after a pause of another length: how soon a program
that waits at the API of events has the event.
"""

import asyncio
import os
import shutil
import tempfile
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from random import Random
from urllib.parse import urlsplit

import aiohttp
import psutil
from msgspec import Struct

from deploy.load import figures, wire
from deploy.load.figures import Figures as Sent
from deploy.load.figures import Percentiles
from deploy.sandbox import field_sets, serials
from deploy.sandbox.notifications import MessageKind, Trade, TradeEvent
from deploy.sandbox.world import World
from tests.benchmarks import sending
from tests.support.processes import Engine, eventually

ACCOUNT = "demo-cn"
CONNECTIONS = 64
SHARE = 0.7
LONE = 100
PAUSE_S = (0.02, 0.3)  # before each lone notification


class Figures(Struct, kw_only=True):
    """One run. Rates are notifications per second of wall time, latencies milliseconds, memory MiB."""

    durable_acks_per_s: float
    engine_cpu_us_per_ack: float
    p50_at_70_percent_ms: float
    p99_at_70_percent_ms: float
    p999_at_70_percent_ms: float
    sent_at_70_percent: int
    other_answers: int
    settled_within_s: float
    rss_mib: float
    lone_ack_p50_ms: float
    lone_event_p50_ms: float
    lone_event_p99_ms: float


def requests(world: World, host: str, *, count: int, seed: int) -> list[bytes]:
    """Signed requests, one payment each."""
    chance = Random(seed)
    numbers = serials.Serials(chance)
    account = world.account(ACCOUNT)
    now = datetime.now(UTC)
    made = []
    for index in range(count):
        trade = Trade(
            account=account, order=f"B{seed}-{index:07d}", trade_no=numbers.trade_no(now), amount_minor=1280,
            currency=account.identity.currency, subject="港式奶茶 x2 + 礼盒", created=now, paid=now,
        )  # fmt: skip
        one = field_sets.compose(trade, TradeEvent(kind=MessageKind.PAID, at=now), numbers=numbers, chance=chance)
        delivery = one.delivery(now)
        made.append(wire.request_bytes(host, delivery.path, delivery.headers, delivery.body))
    return made


def measure(*, count: int = 20_000, cores: Sequence[int] | None = None) -> Figures:
    """One run with `count` notifications at the maximum, and as many at 70 % of it."""
    cores = cores or sorted(os.sched_getaffinity(0))
    directory = Path(tempfile.mkdtemp(prefix="alipay-notify-bench-"))
    os.sched_setaffinity(0, {cores[-1]})
    try:
        world = World.create(directory / "world", gateway_url="http://127.0.0.1:1", notify_base="http://127.0.0.1:1")
        engine = Engine(world.accounts_file, directory / "engine", ALIPAY_NOTIFY_LOG_SAMPLE="1")
        engine.start()
        psutil.Process(engine.pid).cpu_affinity([cores[0]])
        try:
            return asyncio.run(_measure(engine, world, count))
        finally:
            engine.end()
    finally:
        os.sched_setaffinity(0, set(cores))
        shutil.rmtree(directory, ignore_errors=True)


async def _measure(engine: Engine, world: World, count: int) -> Figures:
    address = urlsplit(engine.public)
    host, port = str(address.hostname), int(address.port or 0)
    process = psutil.Process(engine.pid)
    warming = requests(world, host, count=1000, seed=1)
    await sending.run(warming, host=host, port=port, connections=CONNECTIONS)
    _settle(engine)
    acks, events = await _lone(requests(world, host, count=LONE, seed=4), host, port, engine.admin)

    before = process.cpu_times()
    fastest = await sending.run(
        requests(world, host, count=count, seed=2), host=host, port=port, connections=CONNECTIONS
    )
    behind = time.perf_counter()
    _settle(engine)
    settled_s = time.perf_counter() - behind
    used = process.cpu_times()
    cpu_s = used.user + used.system - before.user - before.system

    steady = await sending.run(
        requests(world, host, count=count, seed=3),
        host=host,
        port=port,
        connections=256,
        rate=fastest.acknowledged_rate * SHARE,
    )
    _settle(engine)
    return Figures(
        durable_acks_per_s=fastest.acknowledged_rate,
        engine_cpu_us_per_ack=cpu_s / count * 1e6,
        p50_at_70_percent_ms=steady.latency_ms.p50,
        p99_at_70_percent_ms=steady.latency_ms.p99,
        p999_at_70_percent_ms=steady.latency_ms.p99_9,
        sent_at_70_percent=steady.calls,
        other_answers=_others(fastest) + _others(steady),
        settled_within_s=settled_s,
        rss_mib=process.memory_info().rss / 2**20,
        lone_ack_p50_ms=acks.p50,
        lone_event_p50_ms=events.p50,
        lone_event_p99_ms=events.p99,
    )


async def _lone(requests: Sequence[bytes], host: str, port: int, admin: str) -> tuple[Percentiles, Percentiles]:
    """The time to `success`, and to the event, of notifications that are alone."""
    acks: list[float] = []
    events: list[float] = []
    chance = Random(1)
    reader, writer = await asyncio.open_connection(host, port)
    async with aiohttp.ClientSession(admin) as session:

        async def after(number: int, wait: str) -> int:
            async with session.get("/api/events", params={"after": number, "limit": 500, "wait": wait}) as answer:
                return int((await answer.json())["next"])

        number, behind = 0, -1
        while number != behind:
            number, behind = await after(number, "0"), number
        for request in requests:
            waiting = asyncio.create_task(after(number, "60s"))
            await asyncio.sleep(chance.uniform(*PAUSE_S))
            sent_s = time.monotonic()
            writer.write(request)
            await reader.readuntil(b"success")
            acks.append(time.monotonic() - sent_s)
            number = await waiting
            events.append(time.monotonic() - sent_s)
    writer.close()
    return figures.percentiles(acks), figures.percentiles(events)


def _others(sent: Sent) -> int:
    return sum(sent.refused.values()) + sum(sent.silent.values()) + sent.unsent


def _settle(engine: Engine) -> None:
    def is_quiet() -> bool:
        lag = [
            value for name, value in engine.metrics().items() if name.startswith("alipay_notify_consumer_lag_messages")
        ]
        return bool(lag) and lag[0] == 0

    eventually(is_quiet, within_s=120)


if __name__ == "__main__":
    measured = measure()
    for field in Figures.__struct_fields__:
        print(f"{field:26} {getattr(measured, field):12.2f}")
