"""How loops wait for infrastructure."""

import asyncio

import pytest

from workers import backoff
from workers.backoff import Backoff
from workers.errors import InfrastructureDamaged, InfrastructureDown, VersionConflict


class Heard:
    """Those who want to know of waits."""

    def __init__(self) -> None:
        self.pauses: list[tuple[str, int]] = []

    def paused(self, error: InfrastructureDown, *, attempts: int, wait_s: float) -> None:
        assert 0 <= wait_s <= backoff.WAIT_MAX_S
        self.pauses.append((str(error), attempts))


class Failing:
    """Work that fails so often, then gives its answer."""

    def __init__(self, *errors: Exception) -> None:
        self._errors = list(errors)
        self.tries = 0

    async def __call__(self) -> str:
        self.tries += 1
        if self._errors:
            raise self._errors.pop(0)
        return "done"


@pytest.fixture
def observer() -> Heard:
    return Heard()


@pytest.fixture
def stopping() -> asyncio.Event:
    return asyncio.Event()


@pytest.fixture
def patience(observer: Heard, stopping: asyncio.Event) -> Backoff:
    return Backoff(observer, stopping, wait_max_s=0.01)


async def test_what_works_is_done_once(patience: Backoff, observer: Heard) -> None:
    work = Failing()
    assert await patience.until_done(work) == "done"
    assert (work.tries, observer.pauses) == (1, [])


async def test_infrastructure_is_waited_for(patience: Backoff, observer: Heard) -> None:
    work = Failing(InfrastructureDown("locked"), VersionConflict("late"), InfrastructureDown("locked"))
    assert await patience.until_done(work) == "done"
    assert work.tries == 4
    assert observer.pauses == [("locked", 1)], "once a second is often enough"


async def test_damage_is_not_waited_for(patience: Backoff) -> None:
    work = Failing(InfrastructureDamaged("page 7"))
    with pytest.raises(InfrastructureDamaged):
        await patience.until_done(work)
    assert work.tries == 1


async def test_our_own_mistakes_are_not_waited_for(patience: Backoff) -> None:
    with pytest.raises(KeyError):
        await patience.until_done(Failing(KeyError("x")))


async def test_a_stop_ends_the_waiting_at_once(observer: Heard, stopping: asyncio.Event) -> None:
    work = Failing(*[InfrastructureDown("gone")] * 1000)
    waiting = asyncio.create_task(Backoff(observer, stopping, wait_max_s=60).until_done(work))
    while not observer.pauses:  # noqa: ASYNC110 - what is watched is a plain value
        await asyncio.sleep(0)
    stopping.set()
    with pytest.raises(InfrastructureDown):
        await asyncio.wait_for(waiting, 1)
    assert work.tries == 2


async def test_in_a_long_outage_waits_stay_short_enough_and_no_two_are_alike(
    observer: Heard, stopping: asyncio.Event, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Work goes on within ten seconds after what was away is back, of which the work itself may take some."""
    patience, waits = Backoff(observer, stopping), list[float]()

    async def sleep(seconds: float) -> None:
        waits.append(seconds)

    monkeypatch.setattr(patience, "_sleep", sleep)
    await patience.until_done(Failing(*[InfrastructureDown("gone")] * 60))
    late = waits[20:]
    assert max(waits) <= 5.0
    assert min(late) > 2.0
    assert len(set(late)) == len(late), "several workers would come back in step"


async def test_who_was_overtaken_decides_again_and_tells_of_it_only_when_it_goes_on() -> None:
    overtaken = Failing(VersionConflict("quicker"), VersionConflict("quicker"))
    await backoff.retry_conflicts(overtaken)
    assert overtaken.tries == 3
    with pytest.raises(VersionConflict):
        await backoff.retry_conflicts(Failing(*[VersionConflict("quicker")] * backoff.FENCED_MAX))


async def test_trouble_that_is_no_overtaking_is_told_at_once() -> None:
    away = Failing(InfrastructureDown("away"))
    with pytest.raises(InfrastructureDown):
        await backoff.retry_conflicts(away)
    assert away.tries == 1
