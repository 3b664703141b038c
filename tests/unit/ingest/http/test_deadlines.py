"""Overdue tasks are cancelled in time, and other cancellations are not mistaken for an expiry."""

import asyncio

import pytest

from ingest.http.deadlines import SWEEP_S, Deadlines


async def test_overdue_task_is_cancelled_in_time_and_others_continue() -> None:
    deadlines = Deadlines(limit_s=0.2)
    deadlines.start()
    loop = asyncio.get_running_loop()
    began = loop.time()
    late, quick = loop.create_task(asyncio.sleep(5)), loop.create_task(asyncio.sleep(0.05))
    deadlines.watch(late, began)
    deadlines.watch(quick, began)
    await quick
    deadlines.release(quick)
    with pytest.raises(asyncio.CancelledError):
        await late
    assert 0.2 - 2 * SWEEP_S <= loop.time() - began <= 0.25
    assert deadlines.has_expired(late)
    assert not deadlines.has_expired(quick)
    deadlines.stop()


async def test_cancellation_from_elsewhere_is_not_an_expiry() -> None:
    deadlines = Deadlines(limit_s=10)
    task = asyncio.get_running_loop().create_task(asyncio.sleep(5))
    deadlines.watch(task, 0.0)
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert not deadlines.has_expired(task)


async def test_released_task_is_not_cancelled() -> None:
    deadlines = Deadlines(limit_s=SWEEP_S)
    deadlines.start()
    task = asyncio.get_running_loop().create_task(asyncio.sleep(3 * SWEEP_S))
    deadlines.watch(task, asyncio.get_running_loop().time())
    deadlines.release(task)
    await task
    deadlines.stop()
