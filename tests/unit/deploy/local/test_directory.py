"""A stack's directory: one holder at a time, and nothing left running in it."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from deploy import directory_lock
from deploy.directory_lock import AlreadyRunning
from deploy.local import directory, leftovers
from tests.unit.deploy.local import samples


async def test_directory_has_one_holder_at_a_time(tmp_path: Path) -> None:
    async with directory.held(tmp_path / "stack"):
        with pytest.raises(AlreadyRunning, match=str(os.getpid())):
            async with directory.held(tmp_path / "stack"):
                pass
    async with directory.held(tmp_path / "stack"):
        pass


async def test_holder_is_known_while_the_lock_is_held(tmp_path: Path) -> None:
    path = tmp_path / "stack"
    assert directory_lock.holder(path) is None
    async with directory.held(path):
        assert directory_lock.holder(path) == os.getpid()
    assert (path / "lock").exists()
    assert directory_lock.holder(path) is None


async def test_process_left_by_an_earlier_run_is_stopped_first(tmp_path: Path) -> None:
    with subprocess.Popen([sys.executable, "-S", "-c", samples.SLEEPS]) as left:
        made = samples.directory(tmp_path)
        leftovers.write(made.mark("it"), pid=left.pid, stop_signal=signal.SIGTERM)
        async with directory.held(tmp_path):
            assert left.wait(5) == -signal.SIGTERM


async def test_files_are_kept_between_runs(tmp_path: Path) -> None:
    async with directory.held(tmp_path) as held:
        (held.home("redis") / "kept").touch()
    async with directory.held(tmp_path) as held:
        assert (held.home("redis") / "kept").exists()


async def test_fresh_directory_is_empty_at_the_start_and_at_the_end(tmp_path: Path) -> None:
    (tmp_path / "redis").mkdir()
    (tmp_path / "redis" / "old").touch()
    (tmp_path / "elsewhere").symlink_to(tmp_path / "redis")
    async with directory.held(tmp_path, fresh=True) as held:
        assert sorted(entry.name for entry in tmp_path.iterdir()) == ["lock", "log", "run"]
        (held.home("redis") / "new").touch()
        held.log("redis").touch()
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == [tmp_path / "lock"]


async def test_wiping_does_not_follow_a_link(tmp_path: Path) -> None:
    beyond = tmp_path / "beyond"
    beyond.mkdir()
    (beyond / "precious").touch()
    (tmp_path / "stack").mkdir()
    made = samples.directory(tmp_path / "stack")
    (made.path / "postgres").symlink_to(beyond)
    made.wipe()
    assert (beyond / "precious").exists()
    assert not (made.path / "postgres").exists()
