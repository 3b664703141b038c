"""Retries of infrastructure: what is retried, how long the waits are, and what ends them."""

import asyncio
from typing import Any

import pytest

from workers import backoff
from workers.backoff import Backoff
from workers.errors import InfrastructureDamaged, InfrastructureDown, VersionConflict


class Observer:
    """Keeps the waits that it observes."""

    def __init__(self) -> None:
        self.pauses: list[tuple[str, int]] = []

    def paused(self, error: InfrastructureDown, *, attempts: int, wait_s: float) -> None:
        assert 0 <= wait_s <= backoff.WAIT_MAX_S
        self.pauses.append((str(error), attempts))


class Failing:
    """Work that raises these errors, one an attempt, and then succeeds."""

    def __init__(self, *errors: Exception) -> None:
        self._errors = list(errors)
        self.attempts = 0

    async def __call__(self) -> str:
        self.attempts += 1
        if self._errors:
            raise self._errors.pop(0)
        return "done"


@pytest.fixture
def observer() -> Observer:
    return Observer()


@pytest.fixture
def stopping() -> asyncio.Event:
    return asyncio.Event()


@pytest.fixture
def quick(observer: Observer, stopping: asyncio.Event) -> Backoff:
    return Backoff(observer, stopping, wait_max_s=0.01)


async def test_work_that_succeeds_is_done_once_and_without_tenacity(
    quick: Backoff, observer: Observer, monkeypatch: pytest.MonkeyPatch
) -> None:
    def unused(**options: Any) -> None:
        raise AssertionError("tenacity costs many times what the work does")

    monkeypatch.setattr(backoff, "AsyncRetrying", unused)
    work = Failing()
    assert await quick.until_done(work) == "done"
    assert (work.attempts, observer.pauses) == (1, [])


async def test_infrastructure_that_is_down_is_retried(quick: Backoff, observer: Observer) -> None:
    work = Failing(InfrastructureDown("locked"), VersionConflict("late"), InfrastructureDown("locked"))
    assert await quick.until_done(work) == "done"
    assert work.attempts == 4
    assert observer.pauses == [("locked", 1)], "once a second is often enough"


async def test_attempts_are_counted_from_the_first_failure(
    quick: Backoff, observer: Observer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(backoff, "REPORT_EVERY_S", 0.0)
    work = Failing(InfrastructureDown("away"), VersionConflict("late"), InfrastructureDown("locked"))
    await quick.until_done(lambda: work())
    assert observer.pauses == [("away", 1), ("late", 2), ("locked", 3)]
    assert work.attempts == 4


async def test_waits_begin_short_and_double(
    observer: Observer, stopping: asyncio.Event, monkeypatch: pytest.MonkeyPatch
) -> None:
    long, waits = Backoff(observer, stopping), list[float]()

    async def sleep(seconds: float) -> None:
        waits.append(seconds)

    monkeypatch.setattr(long, "_sleep", sleep)
    await long.until_done(Failing(*[InfrastructureDown("gone")] * 3))
    assert [0.1 <= waits[0] <= 0.6, 0.2 <= waits[1] <= 0.7, 0.4 <= waits[2] <= 0.9] == [True] * 3


@pytest.mark.parametrize("before", [[], [InfrastructureDown("away")]], ids=["at first", "during retries"])
async def test_damage_is_not_retried(quick: Backoff, before: list[Exception]) -> None:
    work = Failing(*before, InfrastructureDamaged("page 7"))
    with pytest.raises(InfrastructureDamaged):
        await quick.until_done(work)
    assert work.attempts == len(before) + 1


@pytest.mark.parametrize("before", [[], [InfrastructureDown("away")]], ids=["at first", "during retries"])
async def test_our_own_mistakes_are_not_retried(quick: Backoff, before: list[Exception]) -> None:
    with pytest.raises(KeyError):
        await quick.until_done(Failing(*before, KeyError("x")))


async def test_stop_ends_the_waiting_at_once(observer: Observer, stopping: asyncio.Event) -> None:
    work = Failing(*[InfrastructureDown("gone")] * 1000)
    waiting = asyncio.create_task(Backoff(observer, stopping, wait_max_s=60).until_done(work))
    while not observer.pauses:  # noqa: ASYNC110 - a plain value is watched
        await asyncio.sleep(0)
    stopping.set()
    with pytest.raises(InfrastructureDown):
        await asyncio.wait_for(waiting, 1)
    assert work.attempts == 2


async def test_after_a_stop_a_failure_is_not_retried(
    quick: Backoff, observer: Observer, stopping: asyncio.Event
) -> None:
    stopping.set()
    work = Failing(InfrastructureDown("gone"))
    with pytest.raises(InfrastructureDown):
        await quick.until_done(work)
    assert (work.attempts, observer.pauses) == (1, [])


async def test_in_a_long_outage_waits_stay_short_and_differ(
    observer: Observer, stopping: asyncio.Event, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Work resumes within ten seconds after the end of an outage, and the work itself may take some of them."""
    long, waits = Backoff(observer, stopping), list[float]()

    async def sleep(seconds: float) -> None:
        waits.append(seconds)

    monkeypatch.setattr(long, "_sleep", sleep)
    await long.until_done(Failing(*[InfrastructureDown("gone")] * 60))
    late = waits[20:]
    assert max(waits) <= 5.0
    assert min(late) > 2.0
    assert len(set(late)) == len(late), "several workers would retry in step"


async def test_version_conflicts_are_retried_a_few_times() -> None:
    late = Failing(VersionConflict("quicker"), VersionConflict("quicker"))
    await backoff.retry_conflicts(late)
    assert late.attempts == 3
    with pytest.raises(VersionConflict):
        await backoff.retry_conflicts(Failing(*[VersionConflict("quicker")] * backoff.CONFLICT_ATTEMPTS_MAX))


async def test_other_trouble_is_raised_by_retry_conflicts_at_once() -> None:
    away = Failing(InfrastructureDown("away"))
    with pytest.raises(InfrastructureDown):
        await backoff.retry_conflicts(away)
    assert away.attempts == 1
