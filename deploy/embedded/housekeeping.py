"""The engine's housekeeping beside its work: gauges, lag, pruning, checkpoints when idle. Each is a small loop.

What the engine's files need from time to time: old rows pruned, the log emptied when idle, trouble found to be over.

None of it is a guarantee, and all of it waits for a moment when it is in nobody's way: each piece is small, since
appends and settlements wait on the same threads meanwhile.
"""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from functools import partial

from deploy.embedded import journal, store
from deploy.embedded.directory import Opened
from deploy.embedded.source import JournalSource
from deploy.embedded.sqlite import SqliteDatabase
from deploy.process import Chore
from schemas import record_format
from schemas.record_format import BadRecord, NewerRecord
from workers.errors import InfrastructureDown
from workers.metrics import WorkerMetrics

LOOK_EVERY_S = 1.0


def housekeeping(
    opened: Opened, *, source: JournalSource, metrics: WorkerMetrics, now_ms: Callable[[], int]
) -> list[Chore]:
    """The small loops, not yet running."""
    return [
        partial(_watch_lag, opened, source, metrics, now_ms),
        partial(metrics.keep_fresh, opened.store),
        partial(probe, opened),
        partial(prune, opened, now_ms),
        partial(truncate, opened),
    ]


async def _watch_lag(opened: Opened, source: JournalSource, metrics: WorkerMetrics, now_ms: Callable[[], int]) -> None:
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


PROBE_EVERY_S = 1.0
PRUNE_EVERY_S = 60.0
BETWEEN_PRUNES_S = 0.2
TRUNCATE_EVERY_S = 15.0
IDLE_S = 5.0  # without an append
LOG_BYTES_WORTH_IT = 4 * 1024 * 1024
JOURNAL_KEPT_MS = 14 * 86_400_000  # outlives Alipay's re-sending and any replay
EVENTS_KEPT_MS = 30 * 86_400_000  # as long as the topic would keep them


async def probe(opened: Opened, *, every_s: float = PROBE_EVERY_S) -> None:
    """Find out when trouble is over: an engine in trouble is not ready, gets no work, and would never learn."""
    while True:
        await asyncio.sleep(every_s)
        for database in databases(opened):
            if database.trouble is not None:
                with contextlib.suppress(InfrastructureDown):
                    await database.probe()


async def prune(opened: Opened, now_ms: Callable[[], int], *, every_s: float = PRUNE_EVERY_S) -> None:
    """Delete settled records and sent events that are old enough."""
    while True:
        with contextlib.suppress(InfrastructureDown):  # the loops that need the files say so
            await _exhaust(
                lambda: opened.journal.prune(older_than_ms=now_ms() - JOURNAL_KEPT_MS), journal.PRUNE_ROWS_MAX
            )
            await _exhaust(
                lambda: opened.store.prune_sent(older_than_ms=now_ms() - EVENTS_KEPT_MS), store.PRUNE_ROWS_MAX
            )
        await asyncio.sleep(every_s)


async def _exhaust(prune_some: Callable[[], Awaitable[int]], rows_max: int) -> None:
    while await prune_some() == rows_max:  # noqa: ASYNC110 - there is more, and others have their turn first
        await asyncio.sleep(BETWEEN_PRUNES_S)


async def truncate(opened: Opened, *, every_s: float = TRUNCATE_EVERY_S, idle_s: float = IDLE_S) -> None:
    """Empty the write-ahead logs while nobody appends: the next start has less to recover, a copy less to miss."""
    loop = asyncio.get_running_loop()
    while True:
        await asyncio.sleep(every_s)
        if loop.time() - opened.journal.appended_at < idle_s:
            continue
        for database in databases(opened):
            if database.log_bytes() >= LOG_BYTES_WORTH_IT:
                with contextlib.suppress(InfrastructureDown):
                    await database.truncate_log()


def databases(opened: Opened) -> tuple[SqliteDatabase, SqliteDatabase]:
    """The engine's two files."""
    return opened.journal.database, opened.store.database
