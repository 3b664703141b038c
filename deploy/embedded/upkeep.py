"""The engine's housekeeping beside its work: gauges, lag, the loop's own lateness, pruning, checkpoints when idle.

Each is a small loop of its own, cancelled at the end; none of them is a guarantee, and a failure of one is shown by the
gauge that stands still or by the dependency that went to 0.
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager

from prometheus_client import CollectorRegistry, Gauge

from deploy.embedded import tending
from deploy.embedded.directory import Opened
from deploy.embedded.source import JournalSource
from schemas import envelope, telemetry
from schemas.envelope import BadRecord, NewerRecord
from workers.admin import probes
from workers.admin.probes import Check
from workers.metrics import Metrics
from workers.processing import Infrastructure

LOOK_EVERY_S = 1.0
DEPENDENCIES = frozenset({"journal", "store", "worker"})


@asynccontextmanager
async def kept(
    opened: Opened,
    *,
    source: JournalSource,
    metrics: Metrics,
    registry: CollectorRegistry,
    health: Callable[[], Awaitable[Sequence[Check]]],
    now_ms: Callable[[], int],
) -> AsyncIterator[None]:
    """Keep the engine in order until the block ends."""
    gauges = _Gauges(registry)
    loops = [
        asyncio.create_task(loop)
        for loop in (
            _watch_loop(gauges),
            _watch_health(gauges, health),
            _watch_lag(opened, source, metrics, now_ms),
            metrics.keep_fresh(opened.store),
            tending.probe(opened),
            tending.prune(opened, now_ms),
            tending.truncate(opened),
        )
    ]
    try:
        yield
    finally:
        for loop in loops:
            loop.cancel()
        await asyncio.gather(*loops, return_exceptions=True)


class _Gauges:
    def __init__(self, registry: CollectorRegistry) -> None:
        up, ready, lag = telemetry.DEPENDENCY_UP, telemetry.READY, telemetry.LOOP_LAG
        self.up = Gauge(up.name, up.help, up.labels, registry=registry)
        self.ready = Gauge(ready.name, ready.help, registry=registry)
        self.loop_lag = Gauge(lag.name, lag.help, registry=registry)


async def _watch_loop(gauges: _Gauges) -> None:
    loop = asyncio.get_running_loop()
    while True:
        due = loop.time() + LOOK_EVERY_S
        await asyncio.sleep(LOOK_EVERY_S)
        gauges.loop_lag.set(max(0.0, loop.time() - due))


async def _watch_health(gauges: _Gauges, health: Callable[[], Awaitable[Sequence[Check]]]) -> None:
    while True:
        checks = await health()
        for check in checks:
            if check.name in DEPENDENCIES:
                gauges.up.labels(check.name).set(check.ok)
        gauges.ready.set(probes.is_ready(checks))
        await asyncio.sleep(LOOK_EVERY_S)


async def _watch_lag(opened: Opened, source: JournalSource, metrics: Metrics, now_ms: Callable[[], int]) -> None:
    """Behind by how much: in records, and in the age of the oldest that has no disposition."""
    behind_since_ms: int | None = None
    settled = -1
    while True:
        lag = opened.journal.last - source.committed
        if lag == 0:
            behind_since_ms = None
        elif behind_since_ms is None or source.committed != settled:
            behind_since_ms = await _age(opened, source.committed, now_ms)
        settled = source.committed
        seconds = 0.0 if behind_since_ms is None else max(0, now_ms() - behind_since_ms) / 1000
        metrics.lag(messages=lag, seconds=seconds)
        await asyncio.sleep(LOOK_EVERY_S)


async def _age(opened: Opened, committed: int, now_ms: Callable[[], int]) -> int:
    with contextlib.suppress(Infrastructure, BadRecord, NewerRecord):
        oldest = await opened.journal.read(committed, 1)
        if oldest:
            return envelope.open_(oldest[0].record, received_at_ms=now_ms()).received_at_ms
    return now_ms()
