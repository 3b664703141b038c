"""The data directory: its lock, its room, and whether its files belong together. Lost files: tests/faults."""

import os
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from deploy.directory_lock import AlreadyRunning
from deploy.embedded import directory
from deploy.embedded.migrations import FileNotUsable
from tests.support.log_records import Time
from workers.errors import InfrastructureDown


async def test_new_directory_is_created_with_both_files_and_private(tmp_path: Path) -> None:
    place = tmp_path / "a" / "b"
    async with directory.open_files(place, now_ms=Time()) as files:
        assert (files.journal.last, files.cursor) == (0, 0)
    assert place.stat().st_mode & 0o777 == 0o700
    assert {path.name for path in place.iterdir()} >= {directory.JOURNAL, directory.STORE, "lock"}


async def test_directory_in_use_is_refused_and_free_again_afterwards(tmp_path: Path) -> None:
    async with directory.open_files(tmp_path, now_ms=Time()):
        with pytest.raises(AlreadyRunning):
            async with directory.open_files(tmp_path, now_ms=Time()):
                pytest.fail("two engines in one directory")
    async with directory.open_files(tmp_path, now_ms=Time()):
        pass


async def test_full_disk_is_reported_with_the_missing_bytes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def statvfs(path: object) -> Any:
        return SimpleNamespace(f_bavail=3, f_frsize=4096)

    monkeypatch.setattr(os, "statvfs", statvfs)
    with pytest.raises(InfrastructureDown, match=f"so {directory.START_BYTES_MIN - 3 * 4096} bytes are missing"):
        async with directory.open_files(tmp_path, now_ms=Time()):
            pytest.fail("no room")


@pytest.mark.parametrize(("first", "last", "cursor"), [(0, 0, 0), (1, 5, 0), (1, 5, 5), (4, 9, 3), (4, 9, 7)])
def test_journal_that_has_every_record_after_the_cursor_is_accepted(first: int, last: int, cursor: int) -> None:
    journal: Any = SimpleNamespace(first=first, last=last)
    directory.check_agreement(Path("data"), journal, cursor)


@pytest.mark.parametrize(
    ("first", "last", "cursor", "message"),
    [
        (1, 3, 7, r"journal\.sqlite3 ends at record 3, .* has lost records 4 to 7"),
        (0, 0, 1, "has lost records 1 to 1"),
        (7, 9, 3, "records 4 to 6 were pruned and have no disposition"),
    ],
)
def test_journal_that_lacks_records_after_the_cursor_is_refused(
    first: int, last: int, cursor: int, message: str
) -> None:
    journal: Any = SimpleNamespace(first=first, last=last)
    with pytest.raises(FileNotUsable, match=message):
        directory.check_agreement(Path("data"), journal, cursor)
