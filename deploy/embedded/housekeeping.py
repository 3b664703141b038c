"""The engine's small loops beside its work: lag, gauges, probes after trouble, pruning, checkpoints when idle.

None of them is part of a guarantee. Each piece of their work is short, because appends and settlements wait for the
same threads.
"""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from functools import partial

from prometheus_client import CollectorRegistry

from deploy.embedded import journal, store
from deploy.embedded.directory import EngineFiles
from deploy.embedded.source import JournalSource
from deploy.embedded.sqlite import SqliteDatabase
from deploy.process import Chore
from ingest.log_port import Logger
from schemas import record_format, telemetry
from schemas.record_format import BadRecord, NewerRecord
from schemas.telemetry import Field
from workers.errors import InfrastructureDown
from workers.metrics import WorkerMetrics, gauge

LOOK_EVERY_S = 1.0


def housekeeping(
    files: EngineFiles,
    *,
    source: JournalSource,
    metrics: WorkerMetrics,
    registry: CollectorRegistry,
    logger: Logger,
    now_ms: Callable[[], int],
    is_clock_trusted: Callable[[], bool],
) -> list[Chore]:
    """Return the loops, not yet running."""
    return [
        partial(_watch_lag, files, source, metrics, now_ms),
        partial(metrics.keep_fresh, files.store),
        partial(probe, files),
        partial(prune, files, now_ms, is_clock_trusted),
        partial(truncate, files),
        partial(watch_logs, files, registry, logger),
    ]


async def _watch_lag(
    files: EngineFiles, source: JournalSource, metrics: WorkerMetrics, now_ms: Callable[[], int]
) -> None:
    """Report the lag: in records, and as the age of the oldest record without a disposition."""
    behind_since_ms: int | None = None
    last_committed = -1
    while True:
        lag = files.journal.last - source.committed
        if lag == 0:
            behind_since_ms = None
        elif behind_since_ms is None or source.committed != last_committed:
            behind_since_ms = await _received_at_ms(files, source.committed, now_ms)
        last_committed = source.committed
        seconds = 0.0 if behind_since_ms is None else max(0, now_ms() - behind_since_ms) / 1000
        metrics.lag(messages=lag, seconds=seconds)
        await asyncio.sleep(LOOK_EVERY_S)


async def _received_at_ms(files: EngineFiles, committed: int, now_ms: Callable[[], int]) -> int:
    """When the first record after this offset was received; now, if that cannot be read."""
    with contextlib.suppress(InfrastructureDown, BadRecord, NewerRecord):
        oldest = await files.journal.read(committed, 1)
        if oldest:
            return record_format.decode(oldest[0].record, now_ms=now_ms()).received_at_ms
    return now_ms()


PROBE_EVERY_S = 1.0
PRUNE_EVERY_S = 60.0
BETWEEN_PRUNES_S = 0.2
TRUNCATE_EVERY_S = 15.0
IDLE_S = 5.0  # without an append
LOG_BYTES_MIN = 4 * 1024 * 1024
LOG_BYTES_BUSY = 64 * 1024 * 1024  # a log this long is emptied beside appends too: it kept growing behind a reader
LOG_BYTES_MAX = 256 * 1024 * 1024  # beyond it an operator has to know; recovering 215 MB took 0.2 s
JOURNAL_KEPT_MS = 14 * 86_400_000  # longer than Alipay sends again, and than any replay reaches back
EVENTS_KEPT_MS = 30 * 86_400_000  # as long as an event topic would keep them


async def probe(files: EngineFiles, *, every_s: float = PROBE_EVERY_S) -> None:
    """Write to a file in trouble, to find out when the trouble is over. An engine in trouble is not ready and gets no
    requests, so without the probe it would never find out."""
    while True:
        await asyncio.sleep(every_s)
        for database in databases(files):
            if database.trouble is not None:
                with contextlib.suppress(InfrastructureDown):
                    await database.probe()


async def prune(
    files: EngineFiles,
    now_ms: Callable[[], int],
    is_clock_trusted: Callable[[], bool],
    *,
    every_s: float = PRUNE_EVERY_S,
) -> None:
    """Delete old records that have a disposition, and old events that are sent; nothing for a day after the clock has
    jumped."""

    async def prune_records() -> int:
        if not is_clock_trusted():
            return 0
        return await files.journal.prune(older_than_ms=now_ms() - JOURNAL_KEPT_MS)

    async def prune_events() -> int:
        return await files.store.prune_sent(older_than_ms=now_ms() - EVENTS_KEPT_MS) if is_clock_trusted() else 0

    while True:
        with contextlib.suppress(InfrastructureDown):  # reported by the loops that need the files
            await _exhaust(prune_records, journal.PRUNE_ROWS_MAX)
            await _exhaust(prune_events, store.PRUNE_ROWS_MAX)
        await asyncio.sleep(every_s)


async def _exhaust(prune_some: Callable[[], Awaitable[int]], rows_max: int) -> None:
    while await prune_some() == rows_max:  # noqa: ASYNC110 - pauses between pieces, so that appends get their turn
        await asyncio.sleep(BETWEEN_PRUNES_S)


async def truncate(files: EngineFiles, *, every_s: float = TRUNCATE_EVERY_S, idle_s: float = IDLE_S) -> None:
    """Empty large write-ahead logs while there are no appends: the next start has less to recover, and a copy of the
    database file alone lacks less. During appends, SQLite itself moves the logs into the files (`wal_autocheckpoint`)
    and writes them from the beginning again; only a very long log is emptied then."""
    loop = asyncio.get_running_loop()
    while True:
        await asyncio.sleep(every_s)
        is_idle = loop.time() - files.journal.appended_at >= idle_s
        for database in databases(files):
            if database.log_bytes() >= (LOG_BYTES_MIN if is_idle else LOG_BYTES_BUSY):
                with contextlib.suppress(InfrastructureDown):
                    await database.truncate_log()


async def watch_logs(
    files: EngineFiles, registry: CollectorRegistry, logger: Logger, *, every_s: float = LOOK_EVERY_S
) -> None:
    """Export the lengths of the write-ahead logs, and log once when one becomes too long."""
    lengths = gauge(telemetry.WRITE_AHEAD_LOG_BYTES, registry)
    long_before = ""
    while True:
        for database in databases(files):
            lengths.labels(database.path.stem).set(database.log_bytes())
        long = long_logs(files)
        if long and not long_before:
            logger.warning("write-ahead log is long", **{Field.ERROR: long})
        long_before = long
        await asyncio.sleep(every_s)


def long_logs(files: EngineFiles) -> str:
    """Return which write-ahead logs are too long, and the likely reason; empty if none is."""
    long = [each.path.name for each in databases(files) if each.log_bytes() >= LOG_BYTES_MAX]
    why = "it cannot be moved into its file: a program keeps a read transaction open, or the disk is full"
    return f"the -wal file of {' and '.join(long)} is longer than {LOG_BYTES_MAX >> 20} MiB; {why}" if long else ""


def databases(files: EngineFiles) -> tuple[SqliteDatabase, SqliteDatabase]:
    """Return the engine's two files."""
    return files.journal.database, files.store.database
