"""What several tests of faults need: an embedded engine in a process of its own, and a publisher with its broker."""

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from deploy.sandbox.world import World
from tests.faults import publisher_kit
from tests.faults.publisher_kit import Kit, Place, connected
from tests.support.processes import Engine


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World.create(tmp_path / "world", gateway_url="http://127.0.0.1:1", notify_base="http://127.0.0.1:1")


@pytest.fixture
def engine(world: World, tmp_path: Path) -> Iterator[Engine]:
    """An engine that is not started; it ends with the test."""
    engine = Engine(world.accounts_file, tmp_path / "engine")
    yield engine
    engine.end()


@pytest.fixture(scope="module")
def place() -> Iterator[Place]:
    yield from publisher_kit.of_a_module()


@pytest.fixture
async def kit(place: Place) -> AsyncIterator[Kit]:
    async with connected(place) as kit:
        yield kit
