"""Ten thousand events to a healthy, a slow, a failing and a dead endpoint, over SIGKILL."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from deploy.sandbox.world import World
from tests.acceptance import test_callbacks
from tests.support import callback_receivers
from tests.support.processes import Engine

ORDERS = 7_400  # with about 1.4 events each
EVENTS_MIN = 10_000


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World.create(tmp_path / "world", gateway_url="http://127.0.0.1:1", notify_base="http://127.0.0.1:1")


@pytest.fixture
def engine(tmp_path: Path, world: World) -> Iterator[Engine]:
    engine = Engine(world.accounts_file, tmp_path / "engine", **callback_receivers.NETWORKS)
    yield engine
    engine.end()


@pytest.mark.timeout(7200)
async def test_ten_thousand_events_arrive_everywhere_in_order(world: World, engine: Engine, tmp_path: Path) -> None:
    assert await test_callbacks.every_event_arrives(world, engine, tmp_path, orders=ORDERS) >= EVENTS_MIN
