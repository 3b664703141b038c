"""Full disk at the start (F-E05): the error names directory and bytes, no partial file stays, and a retry starts."""

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from deploy.embedded import directory as engine
from tests.faults import disks
from tests.support import log_records
from workers.errors import InfrastructureDown

DISK_BYTES = 2 << 20
PAGE_BYTES = 4096


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of two megabytes."""
    with disks.small(tmp_path / "disk", size=DISK_BYTES) as disk:
        yield disk


async def start_and_append(place: Path) -> int:
    async with engine.open_files(place, now_ms=log_records.Time()) as files:
        await files.journal.append(log_records.record(f"N{files.journal.last}"))
        return files.journal.last


@pytest.mark.parametrize("but", [0, 16 << 10, 256 << 10, engine.START_BYTES_MIN - PAGE_BYTES])
async def test_first_start_on_a_full_disk_names_directory_and_missing_bytes(disk: Path, but: int) -> None:
    place = disk / "engine"
    place.mkdir()
    ballast = disks.fill(disk, but=but)
    missing = engine.START_BYTES_MIN - but
    with pytest.raises(
        InfrastructureDown, match=f"{place}: the disk is full: {but} bytes .* {missing} bytes are missing"
    ):
        await start_and_append(place)
    assert list(place.iterdir()) == []
    ballast.unlink()
    assert await start_and_append(place) == 1


@pytest.mark.parametrize("but", range(16 << 10, 257 << 10, 16 << 10))
async def test_disk_filling_up_during_the_first_start_leaves_no_partial_file(
    disk: Path, but: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engine, "START_BYTES_MIN", 0)
    place = disk / "engine"
    place.mkdir()
    ballast = disks.fill(disk, but=but)
    with pytest.raises(InfrastructureDown, match=r"sqlite3: (disk I/O error|database or disk is full)"):
        await start_and_append(place)
    assert [file.name for file in place.glob("*.sqlite3") if not has_tables(file)] == []
    ballast.unlink()
    assert await start_and_append(place) == 1


async def test_start_on_a_full_disk_changes_no_file(disk: Path) -> None:
    """At the growth of a log's index, too: SQLite calls it an input/output error."""
    place = disk / "engine"
    assert await start_and_append(place) == 1
    before = {file.name: file.read_bytes() for file in place.iterdir() if file.name != "lock"}
    ballast = disks.fill(disk)
    with pytest.raises(InfrastructureDown, match="bytes are missing"):
        await start_and_append(place)
    assert {file.name: file.read_bytes() for file in place.iterdir() if file.name != "lock"} == before
    ballast.unlink()
    assert await start_and_append(place) == 2


def has_tables(file: Path) -> bool:
    with closing(sqlite3.connect(file)) as connection:
        found: int = connection.execute("SELECT count(*) FROM sqlite_schema").fetchone()[0]
    return found > 0
