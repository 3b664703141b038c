"""One server process: started, found healthy, watched, stopped, and killed or frozen where a test wants to see that.

It is known by its own number only, never by its name: other people's servers run on the same machine. It is not tied to
an event loop, so a test session may start it in one loop and use it from others. Each lives in a session of its own, so
that a Ctrl-C at the terminal reaches us alone, and the servers are stopped in their proper order.
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
TOLD_OF_LOG = 2_000  # characters: enough for the last exception's head, and still one screen


class DidNotStart(Exception):
    """A server ended before it was healthy, or did not become so in time; the message ends with the end of its log."""


class UnixAccount(Struct, frozen=True):
    """Whom a server runs as, where that is not whom we run as."""

    user: int
    group: int


class ProcessSpec(Struct, frozen=True, kw_only=True):
    """How a process is started and asked to stop."""

    name: str
    argv: tuple[str, ...]
    environ: Mapping[str, str]
    account: UnixAccount | None = None
    stop_signal: signal.Signals = signal.SIGTERM
    ready_within_s: float = 60.0
    stop_within_s: float = STOP_WITHIN_S


class Process:
    """A server by its plan. It may be started again after it was stopped or killed: its files are still there."""

    def __init__(self, directory: Directory, plan: ProcessSpec, *, healthy: Callable[[], Awaitable[bool]]) -> None:
        self._directory = directory
        self._plan = plan
        self._healthy = healthy
        self._child: subprocess.Popen[bytes] | None = None
        self._said_from = 0  # where in the log the last start begins

    @property
    def name(self) -> str:
        return self._plan.name

    @property
    def pid(self) -> int:
        assert self._child is not None, f"{self.name} was never started"
        return self._child.pid

    @property
    def code(self) -> int | None:
        """What it ended with; nothing while it runs, or before it was started."""
        return self._child.poll() if self._child is not None else None

    @property
    def runs(self) -> bool:
        return self._child is not None and self._child.poll() is None

    async def start(self) -> None:
        """Returns when it is healthy.

        Raises:
            DidNotStart: it ended, or took too long; it does not run any more.
        """
        self.spawn()
        await self.ready()

    def spawn(self) -> None:
        """Start it without waiting for its health."""
        assert not self.runs, f"{self.name} runs already"
        account = self._plan.account
        with self._directory.log(self.name).open("ab") as log:
            self._said_from = log.tell()
            self._child = subprocess.Popen(
                self._plan.argv,
                env=dict(self._plan.environ),
                cwd="/",
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                user=account.user if account else None,
                group=account.group if account else None,
                extra_groups=[] if account else None,
            )
        leftovers.write(self._directory.mark(self.name), pid=self._child.pid, stop_signal=self._plan.stop_signal)

    async def ready(self) -> None:
        """Returns when it is healthy. Raises DidNotStart as `start` does."""
        await self.until(self._healthy)

    async def until(self, condition: Callable[[], Awaitable[bool]]) -> None:
        """Returns when the condition holds, which is asked again and again while the process runs.

        Raises:
            DidNotStart: as `start` does.
        """
        deadline = time.monotonic() + self._plan.ready_within_s
        while not await condition():
            if not self.runs:
                raise DidNotStart(self.told(f"ended with {self.code} before it was healthy"))
            if time.monotonic() >= deadline:
                await self.kill()
                raise DidNotStart(self.told(f"was not healthy after {self._plan.ready_within_s:.0f} s"))
            await asyncio.sleep(POLL_S)

    async def stop(self) -> None:
        """Ask it to stop, and kill it where it takes too long. It does not run when this returns, or is cancelled."""
        self._send(self._plan.stop_signal)
        self.thaw()  # a frozen process hears nothing but SIGKILL
        try:
            if not await self.ended(self._plan.stop_within_s):
                await self.kill()
        except asyncio.CancelledError:
            # Somebody has lost patience with us. That is no reason to leave a server behind.
            self._kill_at_once()
            raise
        self._directory.mark(self.name).unlink(missing_ok=True)

    async def kill(self) -> None:
        """SIGKILL to it and to its children: whatever they were doing, they stop doing it there."""
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
            self._send(signal.SIGSTOP)  # one that stands still starts no more children
            children = leftovers.descendants(self.pid)
            os.killpg(self.pid, signal.SIGKILL)
            _send_all(children, signal.SIGKILL)

    def freeze(self) -> None:
        """SIGSTOP to it and its children: their connections stay open, and nothing answers on them."""
        self._send(signal.SIGSTOP)
        if self.runs:
            _send_all(leftovers.descendants(self.pid), signal.SIGSTOP)

    def thaw(self) -> None:
        if self.runs:
            _send_all(leftovers.descendants(self.pid), signal.SIGCONT)
        self._send(signal.SIGCONT)

    @asynccontextmanager
    async def running(self) -> AsyncIterator["Process"]:
        """Healthy inside the context, gone after it, also where the start fails half-way or is cancelled."""
        try:
            await self.start()
            yield self
        finally:
            await self.stop()

    def _send(self, number: signal.Signals) -> None:
        # The child is ours and is reaped by nobody else, so its number cannot have become somebody else's.
        if self.runs:
            os.kill(self.pid, number)

    async def ended(self, within_s: float) -> bool:
        """Whether it ended, by whatever cause, within that time."""
        deadline = time.monotonic() + within_s
        while self.runs:
            if time.monotonic() >= deadline:
                return False
            await asyncio.sleep(POLL_S / 2)
        return True

    def said(self) -> str:
        """What it has written since it was started last."""
        return self._directory.log(self.name).read_bytes()[self._said_from :].decode("utf-8", "replace")

    def told(self, what: str) -> str:
        """A message about it that ends with the end of its log."""
        log = self._directory.log(self.name)
        end = self.said()[-TOLD_OF_LOG:].strip()
        return f"{self.name} {what}; {log} ends:\n{end}" if end else f"{self.name} {what}; {log} is empty"


def _send_all(pids: Sequence[int], number: signal.Signals) -> None:
    for pid in pids:
        with suppress(ProcessLookupError):
            os.kill(pid, number)


async def finish(directory: Directory, plan: ProcessSpec) -> None:
    """Carry out a program that ends by itself, such as the one that prepares a server's files.

    Raises:
        DidNotStart: it failed, or took longer than the plan allows.
    """
    process = Process(directory, plan, healthy=_never)
    process.spawn()
    try:
        if not await process.ended(plan.ready_within_s):
            raise DidNotStart(process.told(f"did not end within {plan.ready_within_s:.0f} s"))
    finally:
        await process.kill()
    if process.code:
        raise DidNotStart(process.told(f"failed with {process.code}"))


async def _never() -> bool:
    """A program that ends is never healthy; nobody asks."""
    return False
