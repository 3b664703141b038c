"""The engine's housekeeping beside its work: gauges, lag, pruning, checkpoints when idle. Each is a small loop."""

import asyncio
import contextlib
from collections.abc import Callable
from functools import partial

from deploy.embedded import tending
from deploy.embedded.directory import Opened
from deploy.embedded.source import JournalSource
from deploy.life import Chore
from schemas import record_format
from schemas.record_format import BadRecord, NewerRecord
from workers.errors import InfrastructureDown
from workers.metrics import Metrics

LOOK_EVERY_S = 1.0


def housekeeping(opened: Opened, *, source: JournalSource, metrics: Metrics, now_ms: Callable[[], int]) -> list[Chore]:
    """The small loops, not yet running."""
    return [
        partial(_watch_lag, opened, source, metrics, now_ms),
        partial(metrics.keep_fresh, opened.store),
        partial(tending.probe, opened),
        partial(tending.prune, opened, now_ms),
        partial(tending.truncate, opened),
    ]


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
    with contextlib.suppress(InfrastructureDown, BadRecord, NewerRecord):
        oldest = await opened.journal.read(committed, 1)
        if oldest:
            return record_format.decode(oldest[0].record, received_at_ms=now_ms()).received_at_ms
    return now_ms()
