"""The lock of a directory: one process has it, and its end frees it."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from deploy import directory_lock
from deploy.directory_lock import AlreadyRunning
from tests.support.paths import ROOT

HOLDS = """
import sys
from pathlib import Path
from deploy import directory_lock
with directory_lock.held(Path(sys.argv[1])):
    print("held", flush=True)
    sys.stdin.read()
"""


def test_directory_is_held_by_one_context_at_a_time(tmp_path: Path) -> None:
    assert directory_lock.holder(tmp_path) is None
    with directory_lock.held(tmp_path):
        assert directory_lock.holder(tmp_path) == os.getpid()
        with pytest.raises(AlreadyRunning, match=f"in use by process {os.getpid()}$"), directory_lock.held(tmp_path):
            pytest.fail("held twice")
        assert directory_lock.holder(tmp_path) == os.getpid()
    assert directory_lock.holder(tmp_path) is None


def test_exception_releases_the_directory(tmp_path: Path) -> None:
    with pytest.raises(ZeroDivisionError), directory_lock.held(tmp_path):
        raise ZeroDivisionError
    assert directory_lock.holder(tmp_path) is None


def test_killed_process_leaves_its_number_and_no_lock(tmp_path: Path) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", HOLDS, str(tmp_path)], cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"held\n"
        assert directory_lock.holder(tmp_path) == process.pid
        process.kill()
    assert (tmp_path / directory_lock.NAME).read_text().strip() == str(process.pid)
    assert directory_lock.holder(tmp_path) is None
    with directory_lock.held(tmp_path):
        assert directory_lock.holder(tmp_path) == os.getpid()
