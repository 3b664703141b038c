"""The watch of the wall clock: jumps, distance from the clock that decides, and whether it may delete something."""

import asyncio
from collections.abc import Callable

import pytest
from prometheus_client import CollectorRegistry

from deploy import clock_watch
from deploy.clock_watch import SHOWN_S, TRUSTED_AFTER_S, ClockWatch
from tests.support.fakes import MemoryLogger
from tests.support.waiting import until


class Clocks:
    def __init__(self) -> None:
        self.wall_s = 1_760_000_000.0
        self.now_s = 12.0
        self.watch = ClockWatch(wall_s=lambda: self.wall_s, now_s=lambda: self.now_s)

    def pass_(self, seconds: float) -> None:
        self.wall_s += seconds
        self.now_s += seconds


class Reference:
    """The clock that decides."""

    def __init__(self) -> None:
        self.skew_ms = 0
        self.jumped: Callable[[int], None] = lambda ms: None


@pytest.fixture
def clocks() -> Clocks:
    return Clocks()


def test_time_that_passes_is_no_jump(clocks: Clocks) -> None:
    clocks.pass_(86_400)
    assert clocks.watch.look() == ""
    assert clocks.watch.is_trusted
    assert clocks.watch.trouble == ""


@pytest.mark.parametrize(("seconds", "text"), [(93_600, "+93600 s"), (-93_600, "-93600 s")])
def test_jump_is_seen_once(clocks: Clocks, seconds: float, text: str) -> None:
    clocks.pass_(1)
    clocks.wall_s += seconds
    assert text in clocks.watch.look()
    assert clocks.watch.look() == ""


def test_small_corrections_are_no_jumps(clocks: Clocks) -> None:
    for _ in range(10):
        clocks.pass_(1)
        clocks.wall_s += 0.5
        assert clocks.watch.look() == ""


async def test_jump_is_logged_counted_shown_and_trusted_only_a_day_later(
    clocks: Clocks, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(clock_watch, "LOOK_EVERY_S", 0.001)
    registry, logger = CollectorRegistry(), MemoryLogger()
    running = asyncio.create_task(clocks.watch.run(registry, logger))
    await asyncio.sleep(0.01)
    assert registry.get_sample_value("alipay_notify_clock_jumps_total") == 0
    clocks.wall_s += 93_600
    await until(lambda: registry.get_sample_value("alipay_notify_clock_jumps_total") == 1)
    running.cancel()
    assert logger.of("clock jumped") == [{"error": "this machine's clock jumped by +93600 s"}]
    assert clocks.watch.trouble == "this machine's clock jumped by +93600 s 0 min ago"
    assert not clocks.watch.is_trusted
    clocks.pass_(SHOWN_S)
    assert clocks.watch.trouble == ""
    assert not clocks.watch.is_trusted
    clocks.pass_(TRUSTED_AFTER_S)
    assert clocks.watch.is_trusted


def test_jump_that_was_not_looked_at_yet_is_not_trusted_either(clocks: Clocks) -> None:
    clocks.wall_s += 93_600
    assert not clocks.watch.is_trusted
    clocks.wall_s -= 93_600
    assert clocks.watch.is_trusted


async def test_distance_and_jumps_of_the_clock_that_decides_are_reported(
    clocks: Clocks, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(clock_watch, "LOOK_EVERY_S", 0.001)
    registry, logger, reference = CollectorRegistry(), MemoryLogger(), Reference()
    running = asyncio.create_task(clocks.watch.run(registry, logger, reference))
    reference.skew_ms = 3_600_000
    await until(lambda: registry.get_sample_value("alipay_notify_clock_skew_seconds") == 3600)
    assert clocks.watch.trouble == "this machine's clock is +3600 s from PostgreSQL's"
    assert clocks.watch.is_trusted, "it is the other clock that decides"
    reference.jumped(-5000)
    running.cancel()
    assert "PostgreSQL's clock jumped by -5 s" in clocks.watch.trouble
    assert not clocks.watch.is_trusted
