"""The engine's write-ahead logs under a long steady load: their length stays bounded, and rest empties them.

make soak MINUTES=30     by default half a minute, which shows that it runs
"""

import os
import time
from collections.abc import Callable
from pathlib import Path

from deploy.embedded import housekeeping
from tests.faults import steady_writes
from tests.faults.test_checkpoints import MIB, kept, opened
from tests.support.fakes import MemoryLogger
from tests.support.waiting import until

MINUTES = float(os.environ.get("MINUTES") or "0.5")
REST_MAX = 64 * MIB


async def test_minutes_of_load_leave_the_logs_bounded(tmp_path: Path, measured: Callable[[str, float], None]) -> None:
    until_s = time.monotonic() + MINUTES * 60
    async with opened(tmp_path) as files:
        async with kept(files, MemoryLogger(), idle_s=housekeeping.IDLE_S):
            met = await steady_writes.load(files, lambda _: time.monotonic() < until_s)
            assert max(each.log_bytes() for each in housekeeping.databases(files)) <= REST_MAX
            await until(
                lambda: max(each.log_bytes() for each in housekeeping.databases(files)) < housekeeping.LOG_BYTES_MIN,
                within_s=120,
            )
        assert files.journal.last == met.acknowledged
    measured("appends", met.acknowledged)
    measured("longest write-ahead log, MiB", met.longest / MIB)
    measured("p99 of an append, s", met.p99_s)
