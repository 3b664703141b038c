"""How a loop waits for infrastructure: the same work again, ever more slowly, and no record is to blame.

Damage is not waited for: somebody has to mend it, and until then the worker stands still and says so. A stop that is
asked for ends the waiting at once, since what was not done is delivered again.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Protocol, TypeVar

from tenacity import AsyncRetrying, RetryCallState, retry_if_exception
from tenacity.wait import wait_exponential, wait_random

from workers.errors import InfrastructureDamaged, InfrastructureDown, VersionConflict

FIRST_WAIT_S = 0.1
WAIT_MAX_S = 5.0  # what was away for an hour is used again within ten seconds, of which this is the greater part
JITTER_S = 0.5  # so that several workers do not come back in step
FENCED_MAX = 5  # so often another worker may be quicker before whoever has no loop gives up
SAY_EVERY_S = 1.0  # an outage of an hour is told of often enough that way


T = TypeVar("T")


class BackoffObserver(Protocol):
    """Those who want to know of waits: log and counter. Told at most once a second."""

    def paused(self, error: InfrastructureDown, *, attempts: int, wait_s: float) -> None: ...


class Backoff:
    """Tries work until it is done, or until it is stopped."""

    def __init__(self, observer: BackoffObserver, stopping: asyncio.Event, *, wait_max_s: float = WAIT_MAX_S) -> None:
        self._observer = observer
        self._stopping = stopping
        # The jitter comes on top: cut off together with it, all waits of a long outage would be of one length.
        jitter_s = min(JITTER_S, wait_max_s / 2)
        self._wait = wait_exponential(multiplier=FIRST_WAIT_S, max=wait_max_s - jitter_s) + wait_random(0, jitter_s)
        self._said_at = float("-inf")

    async def until_done(self, work: Callable[[], Awaitable[T]]) -> T:
        """What the work returns, once it has not failed of infrastructure.

        Raises:
            InfrastructureDown: it was still failing when the stop came; or the damage, as it is.
        """

        async def tried() -> T:
            return await work()

        return await AsyncRetrying(
            retry=retry_if_exception(_is_worth_waiting_for),
            wait=self._wait,
            stop=lambda _: self._stopping.is_set(),
            before_sleep=self._before_sleep,
            sleep=self._sleep,
            reraise=True,
        )(tried)

    def _before_sleep(self, state: RetryCallState) -> None:
        error = state.outcome.exception() if state.outcome is not None else None
        now = time.monotonic()
        if isinstance(error, InfrastructureDown) and now - self._said_at >= SAY_EVERY_S:
            self._said_at = now
            self._observer.paused(error, attempts=state.attempt_number, wait_s=state.upcoming_sleep)

    async def _sleep(self, seconds: float) -> None:
        try:
            async with asyncio.timeout(seconds):
                await self._stopping.wait()
        except TimeoutError:
            return


async def retry_conflicts(work: Callable[[], Awaitable[T]]) -> T:
    """Do the work, and again where another worker was quicker: for those who have no loop that would try again.

    Raises:
        VersionConflict: it was quicker each time.
    """
    for _ in range(FENCED_MAX - 1):
        try:
            return await work()
        except VersionConflict:
            continue
    return await work()


def _is_worth_waiting_for(error: BaseException) -> bool:
    return isinstance(error, InfrastructureDown) and not isinstance(error, InfrastructureDamaged)
