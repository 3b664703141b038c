"""The database's clock, as a process follows it by its own monotonic clock."""

from typing import Any

import pytest

from workers.postgres.clock import ASK_EVERY_S, DatabaseClock

DAY_MS = 86_400_000


class Machine:
    """A machine's clocks, and those of the database; a query takes `took_s`."""

    def __init__(self) -> None:
        self.wall_ms = 5_000_000
        self.now_s = 40.0
        self.database_ms = 9_000_000
        self.took_s = 0.0
        self.asked = 0
        self.clock = DatabaseClock(wall_ms=lambda: self.wall_ms, now_s=lambda: self.now_s)

    def pass_(self, seconds: float) -> None:
        self.wall_ms += round(seconds * 1000)
        self.now_s += seconds
        self.database_ms += round(seconds * 1000)

    async def fetchval(self, query: str, *args: Any) -> int:
        self.asked += 1
        self.pass_(self.took_s / 2)
        answer = self.database_ms
        self.pass_(self.took_s / 2)
        return answer


@pytest.fixture
def machine() -> Machine:
    return Machine()


def test_wall_clock_stands_in_until_the_database_was_asked(machine: Machine) -> None:
    assert machine.clock.is_due
    assert machine.clock.epoch_ms() == machine.wall_ms
    assert machine.clock.skew_ms == 0


async def test_time_goes_on_from_the_answer_by_the_monotonic_clock(machine: Machine) -> None:
    await machine.clock.ask(machine)
    assert not machine.clock.is_due
    machine.pass_(0.5)
    assert machine.clock.epoch_ms() == machine.database_ms
    assert machine.clock.skew_ms == machine.wall_ms - machine.database_ms
    machine.pass_(ASK_EVERY_S)
    assert machine.clock.is_due


async def test_slow_answer_is_taken_for_the_middle_of_its_way(machine: Machine) -> None:
    machine.took_s = 3.0
    jumps: list[int] = []
    machine.clock.jumped = jumps.append
    for _ in range(3):
        await machine.clock.ask(machine)
        assert machine.clock.epoch_ms() == machine.database_ms
    assert jumps == []


@pytest.mark.parametrize("moved_ms", [DAY_MS, -DAY_MS])
async def test_jump_of_the_own_wall_clock_moves_nothing_and_has_the_database_asked(
    machine: Machine, moved_ms: int
) -> None:
    await machine.clock.ask(machine)
    machine.wall_ms += moved_ms
    assert machine.clock.epoch_ms() == machine.database_ms
    assert machine.clock.is_due


@pytest.mark.parametrize("moved_ms", [DAY_MS, -DAY_MS])
async def test_jump_of_the_database_clock_is_followed_and_reported(machine: Machine, moved_ms: int) -> None:
    jumps: list[int] = []
    machine.clock.jumped = jumps.append
    await machine.clock.ask(machine)
    machine.pass_(1)
    machine.database_ms += moved_ms
    await machine.clock.ask(machine)
    assert machine.clock.epoch_ms() == machine.database_ms
    assert jumps == [moved_ms]


def test_durations_are_monotonic(machine: Machine) -> None:
    machine.wall_ms += DAY_MS
    assert machine.clock.monotonic_s() == 40.0
