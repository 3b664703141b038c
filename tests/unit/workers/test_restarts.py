"""Restarts of a worker's loop: which failures there are, how long it waits, what it lets go of, and when it is well."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest

from tests.support.waiting import until
from workers import restarts
from workers.errors import InfrastructureDamaged, TooManyDeadLetters
from workers.restarts import EndedUnasked, FailureKind, LoopName, RestartedLoop

NEVER_S = 1e6


class Observer:
    def __init__(self) -> None:
        self.failures: list[tuple[LoopName, FailureKind, BaseException, float | None]] = []
        self.kept: list[BaseException] = []

    def loop_failed(
        self, loop: LoopName, kind: FailureKind, error: BaseException, *, why: str, wait_s: float | None
    ) -> None:
        self.failures.append((loop, kind, error, wait_s))

    def could_not_let_go(self, loop: LoopName, error: BaseException) -> None:
        self.kept.append(error)


class Loop:
    """Fails with these errors, one a run, and then runs until it is stopped."""

    def __init__(self, *errors: BaseException) -> None:
        self.runs = 0
        self._errors = list(errors)
        self._stopping = asyncio.Event()

    async def run(self) -> None:
        self.runs += 1
        await asyncio.sleep(0)
        if self._errors:
            raise self._errors.pop(0)
        await self._stopping.wait()

    def stop(self) -> None:
        self._stopping.set()


@asynccontextmanager
async def running(loop: Any, observer: Observer, **options: Any) -> AsyncIterator[RestartedLoop]:
    restarted = RestartedLoop(LoopName.SWEEPER, loop, observer=observer, **options)
    task = asyncio.create_task(restarted.run())
    try:
        async with asyncio.timeout(10):
            yield restarted
            restarted.stop()
            await task
    finally:
        task.cancel()


@pytest.mark.parametrize(
    ("error", "kind", "trouble"),
    [
        (KeyError("of a buyer"), FailureKind.BUG, "failed: KeyError"),
        (asyncio.CancelledError(), FailureKind.BUG, "failed: CancelledError"),
        (InfrastructureDamaged("no offset 7"), FailureKind.DAMAGE, "no offset 7"),
        (TooManyDeadLetters("20 in a row"), FailureKind.DEAD_LETTERS, "20 in a row: check `alipay-notify held list`"),
    ],
)
async def test_failed_loop_names_its_failure_and_runs_again(
    error: BaseException, kind: FailureKind, trouble: str
) -> None:
    observer, loop = Observer(), Loop(error)
    async with running(loop, observer, first_wait_s=0.01) as restarted:
        await until(lambda: loop.runs == 2)
        assert restarted.trouble.startswith(trouble)
        assert not restarted.has_ended.is_set()
    assert observer.failures == [(LoopName.SWEEPER, kind, error, 0.01)]


async def test_loop_that_ends_although_nothing_asked_it_to_has_failed() -> None:
    class Ending(Loop):
        async def run(self) -> None:
            self.runs += 1
            if self.runs > 1:
                await self._stopping.wait()

    observer, loop = Observer(), Ending()
    async with running(loop, observer, first_wait_s=0.01):
        await until(lambda: loop.runs == 2)
    assert [type(error) for _, _, error, _ in observer.failures] == [EndedUnasked]


async def test_waits_double_up_to_the_longest() -> None:
    observer, loop = Observer(), Loop(*(KeyError() for _ in range(6)))
    async with running(loop, observer, first_wait_s=0.001, wait_max_s=0.01):
        await until(lambda: loop.runs == 7)
    assert [wait_s for *_, wait_s in observer.failures] == [0.001, 0.002, 0.004, 0.008, 0.01, 0.01]


async def test_loop_that_runs_steadily_is_well_and_its_waits_begin_anew() -> None:
    class FailingLate(Loop):
        async def run(self) -> None:
            self.runs += 1
            if self.runs == 3:
                await asyncio.sleep(0.2)  # steady by then
            if self.runs <= 3:
                raise KeyError
            await self._stopping.wait()

    observer, loop = Observer(), FailingLate()
    async with running(loop, observer, first_wait_s=0.001, steady_s=0.05) as restarted:
        await until(lambda: loop.runs == 4)
        await until(lambda: not restarted.trouble)
    assert [wait_s for *_, wait_s in observer.failures] == [0.001, 0.002, 0.001]


async def test_failed_loop_lets_go_before_it_waits() -> None:
    let_go: list[LoopName] = []

    async def note(loop: LoopName) -> None:
        let_go.append(loop)

    async with running(Loop(KeyError()), Observer(), let_go=note, first_wait_s=NEVER_S):
        await until(lambda: let_go)
    assert let_go == [LoopName.SWEEPER]


async def _fails(_: LoopName) -> None:
    raise ConnectionError("no broker")


async def _hangs(_: LoopName) -> None:
    await asyncio.Event().wait()


@pytest.mark.parametrize("let_go", [_fails, _hangs])
async def test_loop_that_cannot_let_go_is_restarted_all_the_same(
    let_go: Callable[[LoopName], Awaitable[None]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(restarts, "LET_GO_S", 0.05)
    observer, loop = Observer(), Loop(KeyError())
    async with running(loop, observer, let_go=let_go, first_wait_s=0.01):
        await until(lambda: loop.runs == 2)
    assert [type(error) for error in observer.kept] in ([ConnectionError], [TimeoutError])


async def test_loop_that_is_not_restarted_has_ended_when_it_has_let_go() -> None:
    held = asyncio.Event()

    async def wait(_: LoopName) -> None:
        await held.wait()

    observer, loop = Observer(), Loop(KeyError())
    async with running(loop, observer, let_go=wait, is_restarted=False) as restarted:
        await until(lambda: restarted.trouble)
        assert not restarted.has_ended.is_set()
        held.set()
        await restarted.has_ended.wait()
        assert restarted.trouble == "failed: KeyError"
    assert loop.runs == 1
    assert [wait_s for *_, wait_s in observer.failures] == [None]


async def test_stopped_loop_that_waits_for_its_restart_runs_once_more_to_its_end() -> None:
    """The relay's last round, after the stop, sends the events of the last batch."""
    loop = Loop(KeyError())
    async with running(loop, Observer(), first_wait_s=NEVER_S) as restarted:
        await until(lambda: restarted.trouble)
    assert loop.runs == 2


async def test_loop_that_fails_at_the_stop_is_not_restarted() -> None:
    class FailingAtTheStop(Loop):
        async def run(self) -> None:
            self.runs += 1
            await self._stopping.wait()
            raise KeyError

    observer, loop = Observer(), FailingAtTheStop()
    async with running(loop, observer):
        await until(lambda: loop.runs)
    assert (loop.runs, [wait_s for *_, wait_s in observer.failures]) == (1, [None])


async def test_cancelled_loop_is_cancelled() -> None:
    restarted = RestartedLoop(LoopName.RELAY, Loop(), observer=Observer())
    task = asyncio.create_task(restarted.run())
    await asyncio.sleep(0.01)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert not restarted.trouble
