"""The files of the shadow's folder: their owner's alone."""

import os
from pathlib import Path

import pytest

from deploy.embedded.migrations import FileNotUsable
from deploy.shadow import private_files


def mode(path: Path) -> int:
    return path.stat().st_mode & 0o777


def test_new_file_is_its_owners_alone_whatever_the_umask(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        private_files.make(tmp_path / "book")
    finally:
        os.umask(before)
    assert mode(tmp_path / "book") == 0o600


def test_file_and_logs_of_before_are_taken_from_others_and_keep_their_content(tmp_path: Path) -> None:
    names = ("book", "book-wal", "book-shm")
    for name in names:
        (tmp_path / name).write_text(name)
        (tmp_path / name).chmod(0o644)
    private_files.make(tmp_path / "book")
    assert [mode(tmp_path / name) for name in names] == [0o600] * 3
    assert [(tmp_path / name).read_text() for name in names] == list(names)


def test_folder_that_is_missing_is_named(tmp_path: Path) -> None:
    with pytest.raises(FileNotUsable, match="nowhere/book cannot be made private"):
        private_files.make(tmp_path / "nowhere" / "book")
