"""Run one loop of the worker, and restart it with growing waits when it fails.

The loops retry outages themselves (`workers.backoff`). A failure here is of one of these kinds:

    bug           an unforeseen exception; also a cancellation or an end of the loop that nothing asked for
    damage        the log or the store needs an operator
    dead_letters  too many dead letters in a row by our own fault

A failed loop first lets go of all that it holds, so that another worker can do its work: partitions, leases. Then it
waits, 1 s at first and a minute at most, and runs again. A record that makes it fail each time is thus met once a
minute, and not as often as the processor allows. The trouble ends, and the waits begin anew, when the loop has run for
half a minute.

A restart is safe for each of the four loops, because none has effects outside the store: batches are redelivered and
recognised, retries apply only to rows that are as they were, events are sent again with the same ids.
"""

import asyncio
from collections.abc import Awaitable, Callable
from enum import StrEnum
from typing import Protocol

from workers.backoff import pause
from workers.errors import InfrastructureDamaged, TooManyDeadLetters

FIRST_WAIT_S = 1.0
WAIT_MAX_S = 60.0
STEADY_S = 30.0
LET_GO_S = 12.0  # longer than leaving the consumer group, or a transaction, takes at most


class LoopName(StrEnum):
    """The loops of a worker; values of a metric label."""

    CONSUMER = "consumer"
    SWEEPER = "sweeper"
    REPLAYER = "replayer"
    RELAY = "relay"


class FailureKind(StrEnum):
    """Why a loop failed; values of a metric label."""

    BUG = "bug"
    DAMAGE = "damage"
    DEAD_LETTERS = "dead_letters"


class Loop(Protocol):
    """A loop of the worker."""

    async def run(self) -> None:
        """Work until stopped."""

    def stop(self) -> None:
        """Ask the loop to end."""


class RestartObserver(Protocol):
    """Observes failures of loops: metric and log. `wait_s` is `None` if the loop is not restarted."""

    def loop_failed(
        self, loop: LoopName, kind: FailureKind, error: BaseException, *, why: str, wait_s: float | None
    ) -> None: ...

    def could_not_let_go(self, loop: LoopName, error: BaseException) -> None: ...


class EndedUnasked(Exception):
    """A loop returned although nothing had asked it to stop."""


async def nothing_to_let_go(loop: LoopName) -> None:
    """Do nothing: for loops that hold nothing beyond their process."""


class RestartedLoop:
    """One loop. `trouble` is why it failed last; empty while it is well.

    With `is_restarted` false it runs once: `has_ended` is set when it has failed and has let go of all that it held.
    """

    def __init__(
        self,
        name: LoopName,
        loop: Loop,
        *,
        observer: RestartObserver,
        let_go: Callable[[LoopName], Awaitable[None]] = nothing_to_let_go,
        is_restarted: bool = True,
        first_wait_s: float = FIRST_WAIT_S,
        wait_max_s: float = WAIT_MAX_S,
        steady_s: float = STEADY_S,
    ) -> None:
        self.name = name
        self.trouble = ""
        self.has_ended = asyncio.Event()
        self._loop = loop
        self._observer = observer
        self._let_go = let_go
        self._is_restarted = is_restarted
        self._first_wait_s = first_wait_s
        self._wait_max_s = wait_max_s
        self._steady_s = steady_s
        self._wait_s = first_wait_s
        self._stopping = asyncio.Event()

    def stop(self) -> None:
        """Ask the loop to end after the work in hand; one that waits for its restart runs once more, to its end."""
        self._stopping.set()
        self._loop.stop()

    @property
    def is_stopping(self) -> bool:
        return self._stopping.is_set()

    async def run(self, error: BaseException | None = None) -> None:
        """Run the loop until it is stopped, or has failed and is not restarted. `error`: it has just failed so."""
        while True:
            error = error or await self._steady_failure()
            if error is None:
                return
            is_last = not self._is_restarted or self._stopping.is_set()
            kind = kind_of(error)
            self.trouble = _why(kind, error)
            wait_s = None if is_last else self._wait_s
            self._observer.loop_failed(self.name, kind, error, why=self.trouble, wait_s=wait_s)
            await self._release()
            if is_last:
                self.has_ended.set()
                return
            await pause(self._stopping, self._wait_s)
            self._wait_s = min(2 * self._wait_s, self._wait_max_s)
            error = None

    async def _steady_failure(self) -> BaseException | None:
        steady = asyncio.get_running_loop().call_later(self._steady_s, self._recover)
        try:
            return await self._failure()
        finally:
            steady.cancel()

    async def _failure(self) -> BaseException | None:
        """Run the loop; return why it failed, or `None` after a stop."""
        try:
            await self._loop.run()
        except asyncio.CancelledError as error:
            # A library may raise this without a request to cancel us. The task would end, and nothing would notice.
            task = asyncio.current_task()
            if task is None or task.cancelling():
                raise
            return error
        except Exception as error:
            return error
        return None if self._stopping.is_set() else EndedUnasked()

    async def _release(self) -> None:
        try:
            async with asyncio.timeout(LET_GO_S):
                await self._let_go(self.name)
        except Exception as error:
            self._observer.could_not_let_go(self.name, error)

    def _recover(self) -> None:
        self.trouble = ""
        self._wait_s = self._first_wait_s


def kind_of(error: BaseException) -> FailureKind:
    """Return the kind of a failure."""
    if isinstance(error, TooManyDeadLetters):
        return FailureKind.DEAD_LETTERS
    return FailureKind.DAMAGE if isinstance(error, InfrastructureDamaged) else FailureKind.BUG


def _why(kind: FailureKind, error: BaseException) -> str:
    match kind:
        case FailureKind.DEAD_LETTERS:
            return f"{error}: check `alipay-notify held list` and fix the cause"
        case FailureKind.DAMAGE:
            return str(error)
        case FailureKind.BUG:  # its text may hold a value of a record, and this is shown without a token
            return f"failed: {type(error).__name__}"
