"""What takes too long is ended in time, and what has ended in time is left alone."""

import asyncio

from ingest.http.deadlines import SWEEP_S, Deadlines
from tests.support.waiting import until


class Work:
    """Records when it expired."""

    def __init__(self) -> None:
        self.expired_s: float | None = None

    def expire(self) -> None:
        self.expired_s = asyncio.get_running_loop().time()


async def test_overdue_work_expires_in_time_and_other_work_does_not() -> None:
    deadlines = Deadlines(limit_s=0.2)
    deadlines.start()
    began_s = asyncio.get_running_loop().time()
    late, quick, later = Work(), Work(), Work()
    deadlines.watch(late, began_s)
    deadlines.watch(quick, began_s)
    deadlines.watch(later, began_s + 60)
    deadlines.release(quick)
    await until(lambda: late.expired_s is not None)
    assert late.expired_s is not None
    assert late.expired_s - began_s >= 0.2 - 2 * SWEEP_S
    assert (quick.expired_s, later.expired_s) == (None, None)
    deadlines.stop()


async def test_expired_work_expires_once() -> None:
    deadlines = Deadlines(limit_s=SWEEP_S)
    deadlines.start()
    work = Work()
    deadlines.watch(work, 0.0)
    await until(lambda: work.expired_s is not None)
    work.expired_s = None
    await asyncio.sleep(3 * SWEEP_S)
    assert work.expired_s is None
    deadlines.release(work)
    deadlines.stop()
