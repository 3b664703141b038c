"""Real servers for tests, as plain processes on loopback: PostgreSQL and Redis, each on a free port, in a directory.

Where a server's program is missing, the tests that need it are skipped, and fail under CI: a gate that skips proves
nothing. PostgreSQL refuses to run as root, so as root it runs as somebody else.
"""

import contextlib
import os
import pwd
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path

import psutil
import pytest

READY_WITHIN_S = 30.0
UNPRIVILEGED = ("postgres", "nobody")


def program(name: str, package: str) -> str:
    """Where the program is; skips the test, or fails it under CI, where it is not installed."""
    versions = sorted(Path("/usr/lib/postgresql").glob(f"*/bin/{name}"), reverse=True)
    found = str(versions[0]) if versions else shutil.which(name)
    if found is None:
        missing = f"{name} is not installed: `apt-get install {package}` provides it"
        if os.environ.get("CI") == "true":
            pytest.fail(missing)
        pytest.skip(missing)
    return found


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


class Server:
    """One process. It is started again on the same port and directory, as after a crash."""

    def __init__(self, directory: Path, command: Sequence[str], port: int, user: str | None = None) -> None:
        self.port = port
        self._directory = directory
        self._command = command
        self._user = user
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Returns when it takes connections."""
        with (self._directory / "log").open("ab") as log:
            self._process = subprocess.Popen(
                self._command, stdout=log, stderr=log, cwd=self._directory, user=self._user
            )
        deadline = time.monotonic() + READY_WITHIN_S
        while not self._is_ready():
            assert self._process.poll() is None, self._end_of_log()
            assert time.monotonic() < deadline, self._end_of_log()
            time.sleep(0.02)

    def signal(self, number: int) -> None:
        """To the process and all its children: they are the server too."""
        assert self._process is not None
        process = psutil.Process(self._process.pid)
        for each in (process, *process.children(recursive=True)):
            with contextlib.suppress(psutil.NoSuchProcess):
                each.send_signal(number)

    def stop(self, number: int) -> None:
        """Send the signal and wait for the end."""
        if self._process is None or self._process.poll() is not None:
            return
        self._process.send_signal(number)
        try:
            self._process.wait(10)
        except subprocess.TimeoutExpired:
            self.kill()

    def kill(self) -> None:
        """SIGKILL, to all of it."""
        assert self._process is not None
        self.signal(signal.SIGKILL)
        self._process.wait()

    def _is_ready(self) -> bool:
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", self.port)) == 0

    def _end_of_log(self) -> str:
        return (self._directory / "log").read_text(errors="replace")[-2000:]


def redis(directory: Path, *options: str) -> Server:
    """A Redis that keeps nothing on the disk."""
    directory.mkdir(parents=True, exist_ok=True)
    port = free_port()
    command = [
        *(program("redis-server", "redis-server"), "--port", str(port), "--bind", "127.0.0.1", "--save", ""),
        *("--appendonly", "no", "--enable-debug-command", "local", *options),
    ]
    return Server(directory, command, port)


class Postgres(Server):
    """A PostgreSQL with durable commits, as production has them."""

    def __init__(self, directory: Path) -> None:
        directory.mkdir(parents=True, exist_ok=True)
        user = _somebody_else() if os.geteuid() == 0 else None
        if user is not None:
            shutil.chown(directory, user)
        self._prepare(directory, user)
        port = free_port()
        command = [
            *(program("postgres", "postgresql"), "-D", str(directory / "files"), "-p", str(port)),
            *("-c", "listen_addresses=127.0.0.1", "-c", f"unix_socket_directories={directory}"),
            *("-c", "shared_buffers=64MB", "-c", "max_connections=60"),
        ]
        super().__init__(directory, command, port, user)
        self._asks_whether_ready = [program("pg_isready", "postgresql"), "-q", "-h", "127.0.0.1", "-p", str(port)]

    def _is_ready(self) -> bool:
        return subprocess.run(self._asks_whether_ready, check=False).returncode == 0

    def url(self, database: str = "postgres") -> str:
        return f"postgresql://tests@127.0.0.1:{self.port}/{database}"

    @staticmethod
    def _prepare(directory: Path, user: str | None) -> None:
        subprocess.run(
            [
                *(program("initdb", "postgresql"), "-D", str(directory / "files"), "-U", "tests", "-A", "trust"),
                *("-E", "UTF8", "--locale", "C.UTF-8", "--no-sync"),
            ],
            check=True,
            capture_output=True,
            cwd=directory,
            user=user,
        )


def _somebody_else() -> str:
    names = {entry.pw_name for entry in pwd.getpwall()}
    return next(name for name in UNPRIVILEGED if name in names)
