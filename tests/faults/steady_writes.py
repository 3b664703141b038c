"""A steady load on the engine's two files, for the tests of their write-ahead logs."""

import asyncio
import time
from collections.abc import Callable
from statistics import quantiles

from msgspec import Struct

from deploy.embedded.directory import EngineFiles
from tests.support import log_records
from tests.support.log_records import Time

SENDERS = 8
BATCH = 100


class Load(Struct, frozen=True):
    """What a load met: the offsets acknowledged, the longest logs in bytes, and the 99th percentile of an append."""

    acknowledged: int
    longest: int
    p99_s: float


async def load(files: EngineFiles, goes_on: Callable[[int], bool]) -> Load:
    """Append and settle records while `goes_on` is true of the number appended; every append has to succeed."""
    took_s: list[float] = []
    longest = 0

    async def send(sender: int) -> None:
        nonlocal longest
        while goes_on(len(took_s)):
            began_s = time.perf_counter()
            await files.journal.append(log_records.record(f"{sender}-{len(took_s)}"))
            took_s.append(time.perf_counter() - began_s)
            longest = max(longest, files.journal.database.log_bytes(), files.store.database.log_bytes())

    async def settle() -> None:
        work, settled = log_records.processing(files.store, Time()), files.journal.last
        while not sending.done() or settled < files.journal.last:
            if records := await files.journal.read(settled, BATCH):
                await work.process(records)
                settled = records[-1].position.offset
            else:
                await asyncio.sleep(0.01)

    sending = asyncio.gather(*(send(number) for number in range(SENDERS)))
    await asyncio.gather(sending, settle())
    return Load(len(took_s), longest, quantiles(took_s, n=100)[-1])
