"""A request goes on within `end`; tasks wait as for a future."""

import asyncio
from typing import Any

import pytest

from ingest.pending import NEXT_STAGE, Pending


def driven(waiting: Pending) -> list[str]:
    """Drive a coroutine that awaits it, without a task. Return the list in which it notes its end."""
    notes: list[str] = []

    async def story() -> None:
        try:
            await waiting
            notes.append("well")
        except ValueError as error:
            notes.append(str(error))

    running = story()
    assert running.send(None) is waiting

    def go_on(ended: Any) -> None:
        with pytest.raises(StopIteration):
            running.send(None)

    waiting.add_done_callback(go_on)
    return notes


async def test_who_waits_without_a_task_goes_on_within_the_end() -> None:
    well, failed = Pending(), Pending()
    notes = driven(well), driven(failed)
    well.end()
    failed.end(ValueError("no"))
    assert notes == (["well"], ["no"])
    well.end(ValueError("late"))
    assert notes[0] == ["well"]


async def test_task_goes_on_in_a_later_turn() -> None:
    pending = Pending()

    async def wait() -> str:
        await pending
        return "well"

    task = asyncio.create_task(wait())
    await asyncio.sleep(0)
    pending.end()
    assert not task.done()
    assert await task == "well"


async def test_task_that_is_cancelled_ends_its_wait_alone() -> None:
    pending = Pending()

    async def wait() -> None:
        await pending

    task = asyncio.create_task(wait())
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    pending.end(ValueError("nobody hears it"))
    assert pending.cancelled()


async def test_task_that_is_cancelled_right_after_the_end_is_cancelled() -> None:
    pending = Pending()

    async def wait() -> None:
        await pending

    task = asyncio.create_task(wait())
    await asyncio.sleep(0)
    pending.end()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert not pending.cancelled()


async def test_ended_one_is_not_waited_for() -> None:
    well, failed = Pending(), Pending()
    well.end()
    failed.end(ValueError("no"))
    await well
    with pytest.raises(ValueError, match="no"):
        await failed
    assert isinstance(failed.exception(), ValueError)


async def test_gather_takes_it_for_a_future() -> None:
    pendings = [Pending() for _ in range(3)]
    for pending in pendings:
        asyncio.get_running_loop().call_soon(pending.end)
    await asyncio.gather(*pendings)
    assert all(pending.done() for pending in pendings)


async def test_task_takes_its_next_stage_in_the_next_turn() -> None:
    notes: list[str] = []

    async def story() -> None:
        notes.append("first")
        await NEXT_STAGE
        notes.append("second")

    task = asyncio.create_task(story())
    await asyncio.sleep(0)
    assert notes == ["first"]
    await task
    assert notes == ["first", "second"]


async def test_what_a_request_raises_at_its_end_reaches_the_loop_and_not_who_ends_it() -> None:
    told: list[BaseException] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: told.append(context["exception"]))
    failing, next_one = Pending(), Pending()
    error = BaseException("a panic of a library in C")

    def fail(_: Any) -> None:
        raise error

    failing.add_done_callback(fail)
    notes = driven(next_one)
    for each in (failing, next_one):
        each.end()
    assert (notes, told) == (["well"], [error])
