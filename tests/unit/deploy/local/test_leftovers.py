"""Processes that a killed run left behind are ended, and no others."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from deploy.local import leftovers
from deploy.local.leftovers import Mark
from tests.unit.deploy.local import samples


@pytest.fixture
def child() -> Iterator[subprocess.Popen[bytes]]:
    with subprocess.Popen([sys.executable, "-S", "-c", samples.SLEEPS]) as started:
        yield started
        started.kill()


def marked(path: Path, pid: int, name: str = "it") -> Path:
    leftovers.write(path / f"{name}.json", pid=pid, stop_signal=signal.SIGTERM)
    return path / f"{name}.json"


async def test_running_process_is_asked_to_stop(tmp_path: Path, child: subprocess.Popen[bytes]) -> None:
    mark = marked(tmp_path, child.pid)
    assert await leftovers.end_all(tmp_path) == ["it"]
    assert child.wait(5) == -signal.SIGTERM
    assert not mark.exists()


async def test_process_that_does_not_stop_is_killed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(leftovers, "STOP_WITHIN_S", 0.3)
    with subprocess.Popen([sys.executable, "-S", "-c", samples.STUBBORN], stdout=subprocess.PIPE) as stubborn:
        assert stubborn.stdout is not None
        stubborn.stdout.readline()
        marked(tmp_path, stubborn.pid)
        assert await leftovers.end_all(tmp_path) == ["it"]
        assert stubborn.wait(5) == -signal.SIGKILL


async def test_frozen_process_is_ended_too(tmp_path: Path, child: subprocess.Popen[bytes]) -> None:
    marked(tmp_path, child.pid)
    child.send_signal(signal.SIGSTOP)
    await leftovers.end_all(tmp_path)
    assert child.wait(5) == -signal.SIGTERM


async def test_other_process_with_the_same_id_is_left_alone(tmp_path: Path, child: subprocess.Popen[bytes]) -> None:
    mark = Mark(pid=child.pid, born="at another time", stop_signal=signal.SIGKILL)
    (tmp_path / "it.json").write_bytes(msgspec.json.encode(mark))
    assert await leftovers.end_all(tmp_path) == []
    assert child.poll() is None
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("half", [b"", b'{"pid": 1', b"[]", b"\xff"])
async def test_half_written_mark_is_removed(tmp_path: Path, half: bytes) -> None:
    (tmp_path / "it.json").write_bytes(half)
    assert await leftovers.end_all(tmp_path) == []
    assert list(tmp_path.iterdir()) == []


async def test_missing_directory_has_nothing_to_end(tmp_path: Path) -> None:
    assert await leftovers.end_all(tmp_path / "never") == []


def test_process_has_one_start_time_and_a_zombie_none() -> None:
    assert leftovers.born(os.getpid()) == leftovers.born(os.getpid()) is not None
    with subprocess.Popen([sys.executable, "-S", "-c", "pass"]) as ended:
        while leftovers.born(ended.pid) is not None:  # until it is a zombie, because it is not waited for
            pass
        assert leftovers.born(ended.pid) is None


def test_ps_gives_the_start_time_on_systems_without_proc() -> None:
    assert leftovers._born_by_ps(os.getpid())
    assert leftovers._born_by_ps(2**22 + 1) is None


def test_ended_process_gets_no_mark(tmp_path: Path) -> None:
    with subprocess.Popen([sys.executable, "-S", "-c", "pass"]) as ended:
        ended.wait()
    assert not marked(tmp_path, ended.pid).exists()


def test_descendants_include_children_of_children(child: subprocess.Popen[bytes]) -> None:
    assert child.pid in leftovers.descendants(os.getpid())
    assert child.pid in leftovers.descendants(os.getppid())
    assert leftovers.descendants(child.pid) == []
