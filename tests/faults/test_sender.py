"""The sender's side: Alipay goes on by its schedule while we are away, sends a herd at once, sends too much, and
strangers send forgeries.

What is refused or unanswered comes again by the schedule, with its gaps in milliseconds for seconds; so nothing is
lost, and the engine has to come to rest by itself.
"""

import asyncio
from collections import Counter
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from random import Random

import aiohttp
import pytest

from deploy.local import ports
from deploy.sandbox import planning, scenario_files
from deploy.sandbox.delivery import PROFILES, Attempt, DeliveryJob, Sender
from deploy.sandbox.issued import IssuedIds
from deploy.sandbox.world import World
from tests.acceptance import dumps, sending
from tests.faults import herd, steady
from tests.faults.steady import ANSWER_WITHIN_S, Answer
from tests.support import flood_corpus, tally
from tests.support.flood_corpus import Item
from tests.support.processes import Engine

CHINESE = PROFILES["cn-4m"]
SCALE = 1000.0  # so a day takes less than a minute and a half

AWAY_S = 7200 / SCALE
PAYMENTS = 150

HERD, HERD_IN_FLIGHT, HERD_SLOW_S = 1000, 256, 0.3  # each time no fewer are accepted than may be in flight
MEMORY_MAX = 256 << 20

SLOW_S, IN_FLIGHT = 0.25, 10
MOST_PER_S = IN_FLIGHT / SLOW_S  # no commit takes more than are in flight
NOMINAL_PER_S = 12
OVERLOAD_S = 3.0
NORMAL_WITHIN = 15  # rounds of two seconds
AGAIN = 50  # of the refused

GOOD, FORGED = 100, 200  # orders


async def test_two_hours_away_cost_time_and_no_notification(
    world: World, tmp_path: Path, measured: Callable[[str, float], None]
) -> None:
    (port,) = ports.free(1)
    engine = Engine(world.accounts_file, tmp_path / "engine", ALIPAY_NOTIFY_PORT=str(port))
    planner, now = planning.Planner(Random(1)), datetime.now(UTC)
    scenario, account = scenario_files.load_all()["paid"], world.account("demo-cn")
    courses = [
        planner.plan(scenario, account, now=now, base_url=f"http://127.0.0.1:{port}")[0] for _ in range(PAYMENTS)
    ]
    with engine:
        sent = asyncio.create_task(_by_the_schedule([course.steps[0].job for course in courses], spread_s=1.5 * AWAY_S))
        await asyncio.sleep(AWAY_S / 4)
        engine.kill()
        await asyncio.sleep(AWAY_S)
        await asyncio.to_thread(engine.start)
        attempts = await sent
        assert [each[-1].outcome for each in attempts] == ["ok"] * PAYMENTS
        measured("attempts of the one that took most", max(len(each) for each in attempts))
        assert max(len(each) for each in attempts) > 3, "some met the outage again and again"
        await asyncio.to_thread(steady.until_settled, engine)
        assert engine.stop() == 0
    left = dumps.of_files(tmp_path / "engine")
    tally.add(PAYMENTS)
    assert Counter(row["disposition"] for row in left.deliveries)["applied"] == PAYMENTS
    assert {row["disposition"] for row in left.deliveries} <= {"applied", "duplicate"}
    assert {row["order_number"] for row in left.orders} == {course.order for course in courses}


async def _by_the_schedule(jobs: Sequence[DeliveryJob], *, spread_s: float) -> list[tuple[Attempt, ...]]:
    async with aiohttp.ClientSession() as session:
        sender = Sender(http=session, profile=CHINESE, issued=IssuedIds(), time_scale=SCALE)
        deliveries = []
        for job in jobs:
            deliveries.append(asyncio.create_task(sender.deliver(job)))
            await asyncio.sleep(spread_s / len(jobs))
        return await asyncio.gather(*deliveries)


async def test_herd_that_comes_at_once_and_again_is_all_delivered(
    world: World, tmp_path: Path, measured: Callable[[str, float], None]
) -> None:
    items = await asyncio.to_thread(lambda: steady.genuine(world, orders=HERD // 2)[:HERD])
    engine = Engine(world.accounts_file, tmp_path / "engine", ALIPAY_NOTIFY_IN_FLIGHT_MAX=str(HERD_IN_FLIGHT))
    engine.start("tests.faults.breaking", BREAK_AT="slow", BREAK_S=str(HERD_SLOW_S))
    try:
        attempts = await herd.send(engine, items, connections=4 * HERD_IN_FLIGHT, scale=SCALE)
        measured("refused in between", sum(each.status == 503 for each in attempts))
        measured("attempts of the one that took most", max(each.number for each in attempts))
        measured("peak, MiB", steady.peak_bytes(engine.pid) / (1 << 20))
        assert {each.status for each in attempts} == {200, 503}
        assert Counter(each.status for each in attempts)[200] == len(items)
        assert steady.peak_bytes(engine.pid) < MEMORY_MAX
        assert steady.is_kept(engine, tmp_path, herd.answers(items, attempts))
    finally:
        engine.end()


async def test_load_beyond_capacity_is_shed_and_leaves_nothing_behind(
    world: World, tmp_path: Path, measured: Callable[[str, float], None]
) -> None:
    engine = Engine(world.accounts_file, tmp_path / "engine", ALIPAY_NOTIFY_IN_FLIGHT_MAX=str(IN_FLIGHT))
    engine.start("tests.faults.breaking", BREAK_AT="slow", BREAK_S=str(SLOW_S))
    everything: list[Answer] = []
    try:
        everything += await _until_all_are_accepted(engine, world, seed=1)
        goodput = []
        for times in (3, 10):
            answers = await _at(engine, world, MOST_PER_S * times, for_s=OVERLOAD_S, seed=times)
            accepted = [answer for answer in answers if answer.status == 200]
            assert {answer.status for answer in answers} == {200, 503}
            assert max(answer.took_s for answer in accepted) < ANSWER_WITHIN_S
            measured(f"accepted at {times} times as much", len(accepted))
            goodput.append(len(accepted))
            everything += answers
            everything += await _until_all_are_accepted(engine, world, seed=10 * times)
        # How much is accepted also depends on what else the machine does, so the two are measured and not compared.
        assert min(goodput) > IN_FLIGHT, "refusals leave room for more than one commit"
        refused = [answer.item for answer in everything if answer.status == 503][:AGAIN]
        again = await sending.send_all(refused, lambda: engine.public, at_once=IN_FLIGHT // 2)
        assert len(again.acknowledged) == len(refused)
        everything += [Answer(item, 200, 0.0) for item in refused]
        await asyncio.to_thread(steady.until_settled, engine)
        assert steady.is_kept(engine, tmp_path, everything)
    finally:
        engine.end()


async def _at(engine: Engine, world: World, per_s: float, *, for_s: float, seed: int) -> list[Answer]:
    count = int(per_s * for_s)
    items = await asyncio.to_thread(lambda: steady.genuine(world, orders=count // 2 + 20, seed=seed)[:count])
    return await steady.send(engine, items, spread_s=for_s)


async def _until_all_are_accepted(engine: Engine, world: World, *, seed: int) -> list[Answer]:
    """Send at the nominal rate until two seconds of it are all accepted, and return the answers."""
    everything: list[Answer] = []
    for round_ in range(NORMAL_WITHIN):
        answers = await _at(engine, world, NOMINAL_PER_S, for_s=2.0, seed=1000 * seed + round_)
        everything += answers
        if {answer.status for answer in answers} == {200}:
            return everything
    pytest.fail(f"still {Counter(answer.status for answer in answers)} after {NORMAL_WITHIN} rounds")


async def test_flood_of_forgeries_keeps_no_good_notification_out(
    world: World, engine: Engine, tmp_path: Path, measured: Callable[[str, float], None]
) -> None:
    good = steady.genuine(world, orders=GOOD)
    forged = await asyncio.to_thread(_forged, world)
    engine.start()
    history, is_over = sending.History(), asyncio.Event()
    flooding = asyncio.create_task(_flood(engine, forged, is_over))
    await sending.send_all(good, lambda: engine.public, at_once=8, history=history)
    is_over.set()
    flood = await flooding
    measured("forgeries to a good one", flood.total() / len(good))
    assert {statuses[0] for statuses in history.attempts.values()} == {200}, "accepted at the first attempt"
    assert set(flood) == {401}
    await asyncio.to_thread(steady.until_settled, engine)
    assert engine.stop() == 0
    left = dumps.of_files(tmp_path / "engine")
    tally.add(len(good) + flood.total())
    assert sorted(left.bodies.values()) == sorted(item.body for item in good)
    assert {row["order_number"] for row in left.orders} == {item.order for item in good}


def _forged(world: World) -> list[Item]:
    return list(flood_corpus.forgeries(world, seed=20, orders=FORGED, now=datetime.now(UTC), account="demo-cn"))


async def _flood(engine: Engine, forged: Sequence[Item], is_over: asyncio.Event) -> Counter[int]:
    """Send the forgeries again and again, as fast as they are refused, and return the answers' statuses."""
    statuses: Counter[int] = Counter()
    while not is_over.is_set():
        history = await sending.send_all(forged, lambda: engine.public, at_once=64, give_up_after=1)
        statuses.update(status for tried in history.attempts.values() for status in tried)
    return statuses
