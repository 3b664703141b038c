"""Retry with exponential backoff, for the loops: an outage of infrastructure is waited out, and no record is to
blame for it.

Damage is not retried, because it needs an operator. A stop ends the waiting at once: the batch is redelivered.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Protocol, TypeVar

from tenacity import AsyncRetrying, RetryCallState, retry_if_exception
from tenacity.wait import wait_exponential, wait_random

from workers.errors import InfrastructureDamaged, InfrastructureDown, VersionConflict

FIRST_WAIT_S = 0.1
WAIT_MAX_S = 5.0  # half of the ten seconds within which work resumes after an outage, however long it was
JITTER_S = 0.5  # keeps several workers from retrying in step
CONFLICT_ATTEMPTS_MAX = 5  # attempts before the caller gives up because another worker always wrote first
REPORT_EVERY_S = 1.0


T = TypeVar("T")


class BackoffObserver(Protocol):
    """Observes waits, at most one a second: log and counter."""

    def paused(self, error: InfrastructureDown, *, attempts: int, wait_s: float) -> None: ...


class Backoff:
    """Retries work until it succeeds, or until the loop is stopped."""

    def __init__(self, observer: BackoffObserver, stopping: asyncio.Event, *, wait_max_s: float = WAIT_MAX_S) -> None:
        self._observer = observer
        self._stopping = stopping
        # Add the jitter after the maximum. A maximum over both would make all waits of a long outage equal.
        jitter_s = min(JITTER_S, wait_max_s / 2)
        self._wait = wait_exponential(multiplier=FIRST_WAIT_S, max=wait_max_s - jitter_s) + wait_random(0, jitter_s)
        self._reported_s = float("-inf")

    async def until_done(self, work: Callable[[], Awaitable[T]]) -> T:
        """Return the result of the work, after as many attempts as infrastructure needs.

        Raises:
            InfrastructureDown: the work was still failing when the stop came.
            InfrastructureDamaged: at the first attempt that meets damage.
        """
        try:
            return await work()
        except InfrastructureDown as error:
            if not _is_retryable(error) or self._stopping.is_set():
                raise
            failures = [error]
        return await self._retry(work, failures)

    async def _retry(self, work: Callable[[], Awaitable[T]], failures: list[InfrastructureDown]) -> T:
        """Retry with tenacity after one failure. Work that succeeds at once is spared the 50 µs that tenacity costs."""

        # Tenacity's first attempt repeats the failure, so that its count and its first wait include it. Tenacity awaits
        # only a coroutine function, and `work` is often a lambda.
        async def attempt() -> T:
            if failures:
                raise failures.pop()
            return await work()

        return await AsyncRetrying(
            retry=retry_if_exception(_is_retryable),
            wait=self._wait,
            stop=lambda _: self._stopping.is_set(),
            before_sleep=self._before_sleep,
            sleep=self._sleep,
            reraise=True,
        )(attempt)

    def _before_sleep(self, state: RetryCallState) -> None:
        error = state.outcome.exception() if state.outcome is not None else None
        now_s = time.monotonic()
        if isinstance(error, InfrastructureDown) and now_s - self._reported_s >= REPORT_EVERY_S:
            self._reported_s = now_s
            self._observer.paused(error, attempts=state.attempt_number, wait_s=state.upcoming_sleep)

    async def _sleep(self, seconds: float) -> None:
        await pause(self._stopping, seconds)


async def pause(woken: asyncio.Event, seconds: float) -> None:
    """Return after so many seconds, or as soon as the event is set."""
    try:
        async with asyncio.timeout(seconds):
            await woken.wait()
    except TimeoutError:
        return


async def retry_conflicts(work: Callable[[], Awaitable[T]]) -> T:
    """Do the work; repeat it when another worker wrote the order first. For callers without a loop of their own.

    Raises:
        VersionConflict: another worker was first at each of `CONFLICT_ATTEMPTS_MAX` attempts.
    """
    for _ in range(CONFLICT_ATTEMPTS_MAX - 1):
        try:
            return await work()
        except VersionConflict:
            continue
    return await work()


def _is_retryable(error: BaseException) -> bool:
    return isinstance(error, InfrastructureDown) and not isinstance(error, InfrastructureDamaged)
