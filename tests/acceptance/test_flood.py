"""A flood of notifications, with everything a bad week brings, through an engine that is killed again and again."""

import asyncio
import random
from pathlib import Path

import pytest

from deploy.sandbox.world import World
from tests.acceptance import dumps, flood, judge, sending
from tests.acceptance.merchant import Registered
from tests.acceptance.sending import History
from tests.support import tally
from tests.support.processes import Engine, eventually

KILLS_AT = ((0.05, 0.25), (0.35, 0.55), (0.65, 0.9))  # which part of the items is behind it, from and to


async def test_flood_with_kills_ends_in_the_state_of_the_model(
    world: World, engine: Engine, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    items = await asyncio.to_thread(flood.items, world)
    engine.start()
    history = History()
    with capfd.disabled():
        async with flood.shown(history, len(items)):
            killing = asyncio.create_task(_kill_now_and_then(engine, history, len(items)))
            await sending.send_all(items, lambda: engine.public, history=history)
            await killing  # so that no kill interrupts the registration of refunds and the settling

    assert len(history.acknowledged) == sum(not item.refused for item in items)
    assert not {status for status in history.statuses if status >= 500} - {503}
    registered = flood.refunds(items)
    await asyncio.to_thread(_register, engine, registered)
    await asyncio.to_thread(_settle, engine)
    assert engine.stop() == 0
    left = dumps.of_files(tmp_path / "engine")
    faults = judge.verdict(left, world, sent=items, acknowledged=history.acknowledged, registered=registered)
    assert faults[:5] == []
    tally.add(history.over)
    met = {row["disposition"] for row in left.deliveries}
    assert {"applied", "duplicate", "stale"} <= met, "a run that met nothing proves nothing"


async def _kill_now_and_then(engine: Engine, history: History, count: int) -> None:
    """Kill and restart the engine at shares of the sent items, so that a short flood has as many kills."""
    chance = random.Random(7)
    for earliest, latest in KILLS_AT:
        behind = count * chance.uniform(earliest, latest)
        while history.over < behind:  # noqa: ASYNC110 - the history is only a count
            await asyncio.sleep(0.005)
        engine.kill()
        await asyncio.to_thread(engine.start)


def _register(engine: Engine, registered: Registered) -> None:
    for account, orders in registered.items():
        for order, entry in orders.items():
            status, answer = engine.put(f"/api/orders/{account}/{order}", entry)
            assert status in (200, 201), answer


def _settle(engine: Engine) -> None:
    """Returns when nothing is behind, parked or unsent."""

    def is_quiet() -> bool:
        samples = engine.metrics()
        behind = next(
            value for name, value in samples.items() if name.startswith("alipay_notify_consumer_lag_messages")
        )
        parked = samples['alipay_notify_held_notifications{disposition="parked"}']
        return behind == 0 and parked == 0 and samples["alipay_notify_outbox_pending_events"] == 0

    eventually(is_quiet, within_s=180)
