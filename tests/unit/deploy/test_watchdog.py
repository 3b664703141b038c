"""A process whose event loop stands still ends; one that works, or is stopped in good order, does not."""

import asyncio
import subprocess
import sys
import threading
import time

import pytest

from deploy import exits, watchdog
from tests.support.fakes import MemoryLogger
from workers.time_limit import TimeLimit


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watchdog, "LOOK_EVERY_S", 0.05)
    monkeypatch.setattr(watchdog, "WRITE_S", 0.1)
    monkeypatch.setattr(watchdog, "WITHOUT_GIL_S", 3600.0)


async def test_loop_that_stands_still_ends_the_process(capfd: pytest.CaptureFixture[str]) -> None:
    log, codes, ended = MemoryLogger(), list[int](), threading.Event()

    def end(code: int) -> None:
        codes.append(code)
        ended.set()

    async with watchdog.watching(0.3, log, end=end):
        assert ended.wait(60), "the loop stands here"
    assert codes == [exits.STOPPED_ITSELF]
    assert [event for event, _ in log.lines] == ["process stands still"]
    assert "test_watchdog.py" in capfd.readouterr().err, "it says where each thread stands"


PROGRAM = """
import asyncio, re
from deploy import watchdog
from tests.support.fakes import MemoryLogger

async def stand():
    async with watchdog.watching(0.5, MemoryLogger()):
        await asyncio.sleep(0.5)
        re.match("(a+)+$", "a" * 100 + "b")

watchdog.WITHOUT_GIL_S = 2
watchdog.LOOK_EVERY_S = 0.1
asyncio.run(stand())
"""


def test_call_that_keeps_every_thread_from_running_ends_the_process() -> None:
    ended = subprocess.run([sys.executable, "-c", PROGRAM], check=False, capture_output=True, text=True, timeout=120)
    assert ended.returncode == exits.FAILED
    assert "in stand" in ended.stderr, "it says where each thread stands"


async def test_loop_that_works_is_left_alone() -> None:
    codes: list[int] = []
    async with watchdog.watching(0.5, MemoryLogger(), end=codes.append):
        for _ in range(20):
            time.sleep(0.02)  # noqa: ASYNC251 - the loop stands for a moment
            await asyncio.sleep(0.03)
    assert codes == []


async def test_limit_of_zero_watches_nothing() -> None:
    before = threading.active_count()
    async with watchdog.watching(0, MemoryLogger()):
        assert threading.active_count() == before


async def test_code_that_cannot_be_interrupted_ends_the_process() -> None:
    limit, codes, may_end = TimeLimit(0.1), list[int](), asyncio.Event()

    def end(code: int) -> None:
        codes.append(code)
        may_end.set()

    stuck = threading.Event()
    thread = threading.Thread(target=lambda: limit.run(stuck.wait, "decide"), daemon=True)
    with limit.watching():
        thread.start()
        watch = asyncio.create_task(watchdog.end_when_overdue(limit, 0.3, MemoryLogger(), end=end))
        async with asyncio.timeout(60):
            await may_end.wait()
        watch.cancel()
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(threading, "excepthook", lambda _: None)
            stuck.set()
            thread.join(60)
    assert set(codes) == {exits.STOPPED_ITSELF}
