"""Write-ahead logs of the engine's files: on a full disk, behind a reader, and under steady load."""

import asyncio
import contextlib
import sqlite3
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry

from deploy.embedded import directory as engine
from deploy.embedded import housekeeping, sqlite
from deploy.embedded.directory import EngineFiles
from deploy.embedded.journal import JournalLimits
from tests.faults import disks, steady_writes
from tests.support import log_records
from tests.support.fakes import MemoryLogger
from tests.support.log_records import Time
from tests.support.waiting import until
from workers.errors import InfrastructureDown

MIB = 1 << 20
PATIENT = JournalLimits(append_deadline_s=60)  # no append may fail because this machine is busy


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    with disks.small(tmp_path / "small", size=24 * MIB) as place:
        yield place


@asynccontextmanager
async def opened(place: Path) -> AsyncIterator[EngineFiles]:
    async with engine.open_files(place, now_ms=Time(), limits=PATIENT) as files:
        yield files


@asynccontextmanager
async def kept(files: EngineFiles, logger: MemoryLogger, *, idle_s: float) -> AsyncIterator[CollectorRegistry]:
    """Keep the logs as the engine does, but look more often."""
    registry = CollectorRegistry()
    loops = (
        housekeeping.truncate(files, every_s=0.05, idle_s=idle_s),
        housekeeping.watch_logs(files, registry, logger, every_s=0.05),
    )
    tasks = [asyncio.create_task(loop) for loop in loops]
    try:
        yield registry
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def append(files: EngineFiles, count: int) -> None:
    before = files.journal.last
    await asyncio.gather(*(files.journal.append(log_records.record(f"L{before + each}")) for each in range(count)))


async def test_checkpoint_on_a_full_disk_fails_alone_and_the_log_is_cut_when_there_is_room(
    small_disk: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(housekeeping, "LOG_BYTES_MAX", 6 * MIB)
    logger = MemoryLogger()
    async with opened(small_disk) as files:
        journal = files.journal.database
        while journal.log_bytes() < 5 * MIB:
            await append(files, 50)
        ballast = disks.fill(small_disk)
        with pytest.raises(InfrastructureDown, match="full"):
            await journal.truncate_log()
        assert journal.trouble is None, "commits are well"
        with ballast.open("r+b") as shrinking:
            shrinking.truncate(ballast.stat().st_size - 3 * MIB)
        # Commits go on while the log can grow; the file itself would need more.
        while journal.log_bytes() < 6 * MIB:
            await append(files, 50)
        assert "journal.sqlite3" in housekeeping.long_logs(files)
        last = files.journal.last
        ballast.unlink()
        async with kept(files, logger, idle_s=0) as registry:
            await until(lambda: journal.log_bytes() == 0, within_s=60)
            await until(lambda: registry.get_sample_value(*sample("journal")) == 0, within_s=60)
        assert housekeeping.long_logs(files) == ""
        assert len(await files.journal.read(0, last + 1)) == last
        assert await journal.check() == "ok"


def sample(database: str) -> tuple[str, dict[str, str]]:
    return "alipay_notify_write_ahead_log_bytes", {"database": database}


async def test_log_that_a_reader_keeps_long_is_told_and_cut_under_load_when_it_leaves(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(housekeeping, "LOG_BYTES_BUSY", MIB)
    monkeypatch.setattr(housekeeping, "LOG_BYTES_MAX", 2 * MIB)
    logger = MemoryLogger()
    async with opened(tmp_path) as files:
        journal = files.journal.database
        with contextlib.closing(sqlite3.connect(journal.path, isolation_level=None)) as reader:
            reader.execute("BEGIN")
            reader.execute("SELECT count(*) FROM records").fetchone()
            while journal.log_bytes() < 2 * MIB:
                await append(files, 50)
            async with kept(files, logger, idle_s=3600):
                await until(lambda: bool(logger.lines), within_s=60)
                assert journal.log_bytes() >= 2 * MIB
        assert [event for event, _ in logger.lines] == ["write-ahead log is long"]
        async with kept(files, logger, idle_s=3600):  # never idle
            await until(lambda: journal.log_bytes() < MIB, within_s=60)


async def test_steady_load_keeps_the_logs_short_and_rest_empties_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pages = 100
    monkeypatch.setitem(sqlite.SETTINGS, "wal_autocheckpoint", pages)
    monkeypatch.setattr(housekeeping, "LOG_BYTES_MIN", 1)
    async with opened(tmp_path) as files:
        async with kept(files, MemoryLogger(), idle_s=3600):
            met = await steady_writes.load(files, below(3000))
            assert files.journal.database.path.stat().st_size > 2 * pages * 4096, "the log was moved more than once"
            assert met.longest < 20 * pages * 4096
        async with kept(files, MemoryLogger(), idle_s=0):
            await until(
                lambda: files.journal.database.log_bytes() == files.store.database.log_bytes() == 0, within_s=60
            )
        assert files.journal.last == met.acknowledged


def below(count: int) -> Callable[[int], bool]:
    return lambda appended: appended < count
