"""A disk that takes its time (F-E19): answers in time, one way or the other, and a loop that never waits for it."""

import asyncio
import time
from pathlib import Path

import aiohttp
import pytest

from deploy.sandbox.world import World
from tests.acceptance import dumps
from tests.faults import steady
from tests.faults.steady import ANSWER_WITHIN_S, Answer
from tests.support.flood_corpus import Item
from tests.support.processes import Engine

LOOP_WITHIN_S = 0.5


@pytest.fixture
def items(world: World) -> list[Item]:
    return steady.genuine(world, orders=60)


async def _slowest_probe(session: aiohttp.ClientSession, engine: Engine, over: asyncio.Event) -> float:
    """How long `/livez` took at worst until it was over."""
    slowest = 0.0
    while not over.is_set():
        began = time.monotonic()
        async with session.get(engine.admin + "/livez") as answer:
            assert answer.status == 200
        slowest = max(slowest, time.monotonic() - began)
        await asyncio.sleep(0.02)
    return slowest


async def _under(engine: Engine, items: list[Item], *, spread_s: float) -> tuple[list[Answer], float]:
    """The answers to the notifications, sent evenly over that long; and the slowest probe meanwhile."""
    over = asyncio.Event()
    async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=15)) as session:
        probe = asyncio.create_task(_slowest_probe(session, engine, over))
        answers = await steady.send(engine, items, spread_s=spread_s)
        over.set()
        return answers, await probe


async def test_slow_commits_are_shared_and_all_are_answered_in_time(
    engine: Engine, items: list[Item], tmp_path: Path
) -> None:
    engine.start("tests.faults.breaking", BREAK_AT="slow", BREAK_S="0.5")
    answers, slowest_probe = await _under(engine, items, spread_s=1.0)
    assert {answer.status for answer in answers} == {200}
    assert max(answer.took_s for answer in answers) < ANSWER_WITHIN_S
    assert slowest_probe < LOOP_WITHIN_S
    assert engine.stop() == 0
    left = dumps.of_files(tmp_path / "engine")
    assert sorted(left.bodies.values()) == sorted(item.body for item in items)
    assert len(items) * 0.5 > 10 * ANSWER_WITHIN_S, "so the batches grew: one by one it would have taken that long"


async def test_too_slow_disk_refuses_in_time_and_loses_no_acknowledged_record(
    engine: Engine, items: list[Item], tmp_path: Path
) -> None:
    engine.start("tests.faults.breaking", BREAK_AT="slow", BREAK_S="2.0")
    answers, slowest_probe = await _under(engine, items, spread_s=2.0)
    assert {answer.status for answer in answers} == {200, 503}
    assert max(answer.took_s for answer in answers) < ANSWER_WITHIN_S
    assert slowest_probe < LOOP_WITHIN_S
    await asyncio.to_thread(steady.until_settled, engine)
    assert engine.stop() == 0
    left = dumps.of_files(tmp_path / "engine")
    promised = {answer.item.body for answer in answers if answer.status == 200}
    assert promised <= set(left.bodies.values())
    assert {row["disposition"] for row in left.deliveries} <= {"applied", "duplicate", "stale"}, "nothing is held"
