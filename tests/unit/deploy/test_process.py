"""The life of a process: what happens to a small loop that fails."""

import asyncio

import pytest
from prometheus_client import CollectorRegistry

from deploy import process
from tests.support.fakes import MemoryLogger
from workers.admin.probes import Check


async def test_a_small_loop_that_fails_is_told_of_and_begins_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(process, "AGAIN_S", 0.0)
    log = MemoryLogger()
    begun = 0
    goes_on = asyncio.Event()

    async def chore() -> None:
        nonlocal begun
        begun += 1
        if begun < 3:
            raise KeyError("a fault of ours")
        goes_on.set()
        await asyncio.Event().wait()

    async def nothing() -> list[Check]:
        return []

    async with asyncio.timeout(5), process.background_tasks(CollectorRegistry(), nothing, log, chore):
        await goes_on.wait()
    assert [event for event, _ in log.lines].count("a housekeeping loop failed") == 2
