"""The real servers that tests share: started when the first test asks for them, for all of the run."""

import shutil
import signal
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests import servers
from tests.servers import Postgres, Server

pytest_plugins = ("tests.stack",)


@pytest.fixture(scope="session")
def server_directory() -> Iterator[Path]:
    """A place that another user may walk through, which pytest's own directories are not."""
    directory = Path(tempfile.mkdtemp(prefix="alipay-notify-servers-"))
    directory.chmod(0o755)
    yield directory
    shutil.rmtree(directory, ignore_errors=True)


@pytest.fixture(scope="session")
def postgres(server_directory: Path) -> Iterator[Postgres]:
    server = Postgres(server_directory / "postgres")
    server.start()
    yield server
    server.stop(signal.SIGINT)


@pytest.fixture(scope="session")
def redis(server_directory: Path) -> Iterator[Server]:
    server = servers.redis(server_directory / "redis")
    server.start()
    yield server
    server.stop(signal.SIGTERM)
