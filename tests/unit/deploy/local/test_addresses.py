"""The published addresses of a stack, as other processes read them."""

import subprocess
import sys
from pathlib import Path

from deploy.cluster import servers
from deploy.local import addresses, directory
from tests.support.paths import ROOT

SOME = {"redis": "redis://127.0.0.1:1/0"}


async def test_addresses_are_published_only_while_the_stack_is_ready(tmp_path: Path) -> None:
    async with directory.held(tmp_path):
        assert servers.of_stack(tmp_path) is None
        with addresses.published(tmp_path, SOME):
            assert servers.of_stack(tmp_path) == SOME
            assert (tmp_path / servers.STACK_FILE).stat().st_mode & 0o077 == 0
        assert servers.of_stack(tmp_path) is None


async def test_addresses_left_by_a_killed_stack_are_ignored(tmp_path: Path) -> None:
    assert servers.of_stack(tmp_path / "never") is None
    with addresses.published(tmp_path, SOME):
        assert servers.of_stack(tmp_path) is None


async def test_half_written_file_counts_as_not_ready(tmp_path: Path) -> None:
    async with directory.held(tmp_path):
        (tmp_path / servers.STACK_FILE).write_bytes(b'{"redis"')
        assert servers.of_stack(tmp_path) is None


def test_reading_the_addresses_needs_no_client_library() -> None:
    code = "import sys, deploy.cluster.servers; assert not {'aiokafka', 'asyncpg', 'redis'} & {*sys.modules}"
    subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT)
