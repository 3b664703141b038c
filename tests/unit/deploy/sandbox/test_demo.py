"""The demonstration plays every scenario once, and then continues at random."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextlib import suppress
from random import Random

from deploy.sandbox import demo, scenario_files
from deploy.sandbox.world import World


class Stage:
    """Records the plays, and ends the demonstration after a number of them."""

    def __init__(self, world: World, *, plays_max: int) -> None:
        self.world = world
        self.scenarios = scenario_files.load_all()
        self.plays_max = plays_max
        self.played: list[tuple[str, str]] = []

    def suitable(self, name: str) -> Sequence[str]:
        return [known for known, account in self.world.accounts.items() if self.scenarios[name].suits(account)]

    def start_play(self, name: str, account: str) -> bool:
        self.played.append((name, account))
        if len(self.played) == self.plays_max:
            raise asyncio.CancelledError
        return True


async def test_first_round_plays_every_scenario_once(world: World) -> None:
    stage = Stage(world, plays_max=len(demo.WEIGHTS) + 5)
    with suppress(asyncio.CancelledError):
        await demo.keep_busy(stage, chance=Random(1), pause_s=0.0)
    assert [name for name, _ in stage.played[: len(demo.WEIGHTS)]] == list(demo.WEIGHTS)
    assert all(stage.scenarios[name].suits(world.account(account)) for name, account in stage.played)


def test_every_scenario_of_the_demo_exists() -> None:
    assert set(demo.WEIGHTS) <= set(scenario_files.load_all())
