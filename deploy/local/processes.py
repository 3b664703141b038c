"""Start one server process, wait until it is healthy, and stop it; for tests also kill, freeze and thaw it.

Processes are addressed by id, never by name, because other servers may run on the machine. A `Process` is not tied to
an event loop, so a test session can start it in one loop and use it in others. Each process has its own session, so a
Ctrl-C at the terminal reaches only us, and we stop the servers in order.
"""

import asyncio
import os
import signal
import subprocess
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager, suppress

from msgspec import Struct

from deploy.local import leftovers
from deploy.local.directory import Directory

POLL_S = 0.05
STOP_WITHIN_S = 10.0
LOG_END_CHARS = 2_000  # enough for the head of the last exception, and still one screen


class DidNotStart(Exception):
    """A process ended before it was healthy, or was not healthy in time. The message ends with the end of its log."""


class UnixAccount(Struct, frozen=True):
    """The account that a server runs as, if it is not our own."""

    user: int
    group: int


class ProcessSpec(Struct, frozen=True, kw_only=True):
    """A process's name, command, environment, stop signal and time limits."""

    name: str
    argv: tuple[str, ...]
    environ: Mapping[str, str]
    account: UnixAccount | None = None
    stop_signal: signal.Signals = signal.SIGTERM
    ready_within_s: float = 60.0
    stop_within_s: float = STOP_WITHIN_S


class Process:
    """One server process. It can be started again after it was stopped or killed, with its files."""

    def __init__(self, directory: Directory, spec: ProcessSpec, *, healthy: Callable[[], Awaitable[bool]]) -> None:
        self._directory = directory
        self._spec = spec
        self._healthy = healthy
        self._child: subprocess.Popen[bytes] | None = None
        self._output_from = 0  # the log's size at the last start

    @property
    def name(self) -> str:
        return self._spec.name

    @property
    def pid(self) -> int:
        assert self._child is not None, f"{self.name} was never started"
        return self._child.pid

    @property
    def code(self) -> int | None:
        """The exit code, or `None` while the process runs or before it was started."""
        return self._child.poll() if self._child is not None else None

    @property
    def runs(self) -> bool:
        return self._child is not None and self._child.poll() is None

    async def start(self) -> None:
        """Start the process and wait until it is healthy.

        Raises:
            DidNotStart: it ended or was not healthy in time. It does not run any more.
        """
        self.spawn()
        await self.ready()

    def spawn(self) -> None:
        """Start the process without waiting until it is healthy."""
        assert not self.runs, f"{self.name} runs already"
        account = self._spec.account
        with self._directory.log(self.name).open("ab") as log:
            self._output_from = log.tell()
            self._child = subprocess.Popen(
                self._spec.argv,
                env=dict(self._spec.environ),
                cwd="/",
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                user=account.user if account else None,
                group=account.group if account else None,
                extra_groups=[] if account else None,
            )
        leftovers.write(self._directory.mark(self.name), pid=self._child.pid, stop_signal=self._spec.stop_signal)

    async def ready(self) -> None:
        """Wait until the process is healthy. Raises DidNotStart as `start` does."""
        await self.until(self._healthy)

    async def until(self, condition: Callable[[], Awaitable[bool]]) -> None:
        """Wait until the condition holds. It is checked repeatedly while the process runs.

        Raises:
            DidNotStart: as `start` does.
        """
        deadline = time.monotonic() + self._spec.ready_within_s
        while not await condition():
            if not self.runs:
                raise DidNotStart(self.with_log(f"ended with {self.code} before it was healthy"))
            if time.monotonic() >= deadline:
                await self.kill()
                raise DidNotStart(self.with_log(f"was not healthy after {self._spec.ready_within_s:.0f} s"))
            await asyncio.sleep(POLL_S)

    async def stop(self) -> None:
        """Ask the process to stop, and kill it after the time limit. It has ended when this returns or is cancelled."""
        self._send(self._spec.stop_signal)
        self.thaw()  # a frozen process handles no signal except SIGKILL
        try:
            if not await self.ended(self._spec.stop_within_s):
                await self.kill()
        except asyncio.CancelledError:
            # Our caller does not wait any longer. The server must not stay behind.
            self._kill_at_once()
            raise
        self._directory.mark(self.name).unlink(missing_ok=True)

    async def kill(self) -> None:
        """Send SIGKILL to the process and its descendants, and wait for its end."""
        self._kill_all()
        while self.runs:
            await asyncio.sleep(POLL_S / 10)
        self._directory.mark(self.name).unlink(missing_ok=True)

    def _kill_at_once(self) -> None:
        self._kill_all()
        if self._child is not None:
            self._child.wait()

    def _kill_all(self) -> None:
        if self.runs:
            self._send(signal.SIGSTOP)  # a stopped process starts no more children
            children = leftovers.descendants(self.pid)
            os.killpg(self.pid, signal.SIGKILL)
            _send_all(children, signal.SIGKILL)

    def freeze(self) -> None:
        """Send SIGSTOP to the process and its descendants: their connections stay open, but nothing answers."""
        self._send(signal.SIGSTOP)
        if self.runs:
            _send_all(leftovers.descendants(self.pid), signal.SIGSTOP)

    def thaw(self) -> None:
        if self.runs:
            _send_all(leftovers.descendants(self.pid), signal.SIGCONT)
        self._send(signal.SIGCONT)

    @asynccontextmanager
    async def running(self) -> AsyncIterator["Process"]:
        """Run the process, healthy, inside the context. It has ended afterwards, even if its start fails."""
        try:
            await self.start()
            yield self
        finally:
            await self.stop()

    def _send(self, number: signal.Signals) -> None:
        # Only we reap this child, so its id cannot belong to another process yet.
        if self.runs:
            os.kill(self.pid, number)

    async def ended(self, within_s: float) -> bool:
        """Wait for the end of the process. Return whether it came in time."""
        deadline = time.monotonic() + within_s
        while self.runs:
            if time.monotonic() >= deadline:
                return False
            await asyncio.sleep(POLL_S / 2)
        return True

    def output(self) -> str:
        """Return the log since the last start."""
        return self._directory.log(self.name).read_bytes()[self._output_from :].decode("utf-8", "replace")

    def with_log(self, what: str) -> str:
        """Return a message about the process that ends with the end of its log."""
        log = self._directory.log(self.name)
        end = self.output()[-LOG_END_CHARS:].strip()
        return f"{self.name} {what}; {log} ends:\n{end}" if end else f"{self.name} {what}; {log} is empty"


def _send_all(pids: Sequence[int], number: signal.Signals) -> None:
    for pid in pids:
        with suppress(ProcessLookupError):
            os.kill(pid, number)


async def finish(directory: Directory, spec: ProcessSpec) -> None:
    """Run a program that ends by itself, such as one that prepares a server's files.

    Raises:
        DidNotStart: it failed, or took longer than its spec allows.
    """
    process = Process(directory, spec, healthy=_never)
    process.spawn()
    try:
        if not await process.ended(spec.ready_within_s):
            raise DidNotStart(process.with_log(f"did not end within {spec.ready_within_s:.0f} s"))
    finally:
        await process.kill()
    if process.code:
        raise DidNotStart(process.with_log(f"failed with {process.code}"))


async def _never() -> bool:
    """A program that ends by itself is never healthy."""
    return False
