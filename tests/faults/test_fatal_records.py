"""A notification that ends the engine whenever it is handled: set aside alone after some restarts.

The test restarts the engine as a service manager does. `test_failing_loops` has the same for workers of a cluster.
"""

import sqlite3
import time
from collections.abc import Mapping, Sequence
from contextlib import closing, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, cast

import aiohttp

from deploy.sandbox.world import World
from tests.acceptance import dumps
from tests.support import flood_corpus
from tests.support.cluster import Note
from tests.support.flood_corpus import Item
from tests.support.processes import Engine, eventually

MODULE = "tests.faults.failing_loops"
ABORTED = -6
# The first one met it in the middle of its work, and left no note. Two ended with its batch, two with it alone.
ENDINGS_MAX = 5
ENDINGS_OF_COPY = 2
SETTLED_WITHIN_S = 180
WELL = {"applied", "duplicate", "stale"}


def items_of(world: World, account: str) -> list[Item]:
    made = flood_corpus.generate(world, seed=23, orders=10, now=datetime.now(UTC), accounts=(account,))
    return [item for item in made if not item.refused]


class Lives:
    """The engine with a fatal order, restarted when it has ended."""

    def __init__(self, engine: Engine, directory: Path, step: str, order: str) -> None:
        self.endings = 0
        self._engine = engine
        self._directory = directory
        self._fault = {"END_AT": step, "END_ORDER": order}

    def start(self) -> None:
        """Start it until it is ready; it may end before."""
        while True:
            with suppress(AssertionError):
                self._engine.start(MODULE, **self._fault)
                return
            self.ended()

    def ended(self) -> None:
        assert self._engine.died(60) == ABORTED
        self.endings += 1
        assert self.endings < 5 * ENDINGS_MAX, "it ends again and again"

    async def send(self, items: Sequence[Item]) -> None:
        """Send each until it is acknowledged."""
        for item in items:
            while not await self._is_taken(item):
                self.ended()
                self.start()

    async def _is_taken(self, item: Item) -> bool:
        url = self._engine.public + item.path
        with suppress(aiohttp.ClientError):
            async with (
                aiohttp.ClientSession() as session,
                session.post(url, data=item.body, headers=dict(item.headers)) as answer,
            ):
                assert answer.status == 200
                return True
        return False

    def register(self, path: str) -> None:
        """Register an order for any amount."""
        while True:
            with suppress(OSError):
                assert self._engine.put(path, {"amounts": []})[0] in (200, 201)
                return
            self.ended()
            self.start()

    def until_settled(self) -> Sequence[Mapping[str, Any]]:
        """Return the deliveries when each record has one and none is parked."""
        began_s = time.monotonic()
        while time.monotonic() < began_s + SETTLED_WITHIN_S:
            with suppress(AssertionError):
                return cast(Sequence[Mapping[str, Any]], eventually(self._settled, within_s=2))
            if not self._engine.runs:
                self.ended()
                self.start()
        raise AssertionError("some records have no disposition, or are parked")

    def _settled(self) -> Sequence[Mapping[str, Any]]:
        found = dumps.of_files(self._directory)
        is_settled = len(found.deliveries) == len(found.bodies)
        return found.deliveries if is_settled and "parked" not in dispositions(found.deliveries) else []


def dispositions(deliveries: Sequence[Mapping[str, Any]]) -> set[str]:
    return {row["disposition"] for row in deliveries}


async def test_notification_that_ends_the_engine_is_set_aside_alone(
    engine: Engine, world: World, tmp_path: Path, measured: Note
) -> None:
    items = items_of(world, "demo-cn")
    order = items[len(items) // 2].order
    first = next(item for item in items if item.order == order)
    items = [item for item in items if item.order != order or item is first]
    lives = Lives(engine, tmp_path / "engine", "read", order)
    lives.start()
    await lives.send(items)
    left = lives.until_settled()
    measured("endings", lives.endings)
    assert engine.stop() == 0
    copies = judge(left, tmp_path, order)
    assert lives.endings <= ENDINGS_MAX + ENDINGS_OF_COPY * (copies - 1)
    engine.start()
    assert engine.post("/api/held/replays", {"reason": "mended"})[0] == 201
    eventually(lambda: dispositions(dumps.of_files(tmp_path / "engine").deliveries) <= WELL, within_s=60)
    assert engine.stop() == 0


async def test_held_notification_that_ends_the_engine_is_set_aside_alone(
    engine: Engine, world: World, tmp_path: Path, measured: Note
) -> None:
    accounts = world.accounts_file.read_text()
    world.accounts_file.write_text(accounts.replace('orders = "any"', 'orders = "registered"'))
    paid = {item.order: item for item in items_of(world, "demo-cn")}
    order = next(item.order for item in paid.values() if b"TRADE_SUCCESS" in item.body)
    lives = Lives(engine, tmp_path / "engine", "retry", order)
    lives.start()
    await lives.send(list(paid.values()))
    for each in paid:
        lives.register(f"/api/orders/demo-cn/{each}")
    left = lives.until_settled()
    measured("endings", lives.endings)
    assert engine.stop() == 0
    assert lives.endings <= ENDINGS_MAX
    assert judge(left, tmp_path, order) == 1


def judge(left: Sequence[Mapping[str, Any]], tmp_path: Path, order: str) -> int:
    """Check that the fatal order's records are dead and the others are well; return the number of the fatal ones."""
    bodies = dumps.of_files(tmp_path / "engine").bodies
    fatal = {place for place, body in bodies.items() if order.encode() in body}
    dead = {(row["log_partition"], row["log_offset"]) for row in left if row["reason"] == "ended_process"}
    assert dead == fatal
    assert {row["disposition"] for row in left if row["reason"] != "ended_process"} <= WELL
    with closing(sqlite3.connect(tmp_path / "engine" / "orders.sqlite3")) as store:
        assert store.execute("SELECT count(*) FROM begun WHERE is_alone").fetchone() == (0,)
    return len(fatal)
