"""What can go wrong in a history: processes that die or stand still, calls that fail, answer late, or answer nothing.

Every call of a port goes through `Weather.call`. A fault has a number, by which a shorter history can leave it out.
"""

import asyncio
from collections.abc import Callable
from random import Random
from typing import TypeVar

from workers.errors import InfrastructureDown

T = TypeVar("T")

USUAL_S = 0.004  # the mean of one way of a call
SLOW_S = 12.0


class Killed(BaseException):
    """The process has been killed: none of its code runs any more."""


class Process:
    """One run of a process. When it is killed, each of its tasks ends at its next call of a port."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.is_alive = True
        self._runs = asyncio.Event()
        self._runs.set()

    def kill(self) -> None:
        self.is_alive = False
        self._runs.set()

    def freeze(self) -> None:
        self._runs.clear()

    def thaw(self) -> None:
        self._runs.set()

    async def go_on(self) -> None:
        """Return when the process runs. Raise Killed if it was killed."""
        if not self._runs.is_set():
            await self._runs.wait()
        if not self.is_alive:
            raise Killed(self.name)


class Weather:
    """Faults of one history. `share` of the calls fail while there are faults; `skip` has the numbers of those that do
    not happen."""

    def __init__(self, seed: int, *, share: float, skip: frozenset[int] = frozenset()) -> None:
        self.happened: list[tuple[int, str]] = []
        self._chance = Random(seed)
        self._share = share
        self._skip = skip
        self._numbers = 0
        self._away_until_s: dict[str, float] = {}

    def fault(self, what: str) -> bool:
        """Return whether the next fault happens. Each has a number, whether it happens or not."""
        number, self._numbers = self._numbers, self._numbers + 1
        if number in self._skip:
            return False
        self.happened.append((number, f"{asyncio.get_running_loop().time():8.3f} s  {what}"))
        return True

    def take_away(self, place: str, *, until_s: float) -> None:
        self._away_until_s[place] = max(until_s, self._away_until_s.get(place, 0.0))

    def clear(self) -> None:
        """No more faults."""
        self._share = 0.0
        self._away_until_s.clear()

    def is_away(self, place: str) -> bool:
        return self._away_until_s.get(place, 0.0) > asyncio.get_running_loop().time()

    async def call(self, process: Process, place: str, work: Callable[[], T], *, may_lose: bool = True) -> T:
        """Let the process call the place. `may_lose`: the answer can get lost after the work is done.

        Raises:
            InfrastructureDown: the work is not done, or, if answers may get lost, perhaps done.
        """
        chance = self._chance
        fate, way_s = chance.random(), chance.expovariate(1 / USUAL_S)
        is_on_its_way, is_slow_back = chance.random() < 0.5, chance.random() < 0.3
        fate = fate / self._share if fate < self._share else 1.0
        if fate < 1.0 and not self.fault(f"{process.name} → {place}: {_name(fate, may_lose)}"):
            fate = 1.0
        await process.go_on()
        await asyncio.sleep(way_s + (SLOW_S * chance.random() if 0.8 <= fate < 1.0 else 0.0))
        if not is_on_its_way:
            await process.go_on()
        if fate < 0.4 or (fate < 0.8 and not may_lose) or self.is_away(place):
            await process.go_on()
            raise InfrastructureDown(f"{place} does not answer")
        done = work()
        if is_slow_back:
            await asyncio.sleep(way_s)
        await process.go_on()
        if fate < 0.8:
            raise InfrastructureDown(f"the answer of {place} got lost")
        return done


def _name(fate: float, may_lose: bool) -> str:
    if fate >= 0.8:
        return "slow"
    return "answer lost" if fate >= 0.4 and may_lose else "not done"
