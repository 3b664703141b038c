"""Real processes, started and stopped as their users would."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from deploy.sandbox.world import World
from tests.support.processes import Engine

NOTIFY_BASE = "http://127.0.0.1:1"  # replaced by the engine's own address once it is known


@pytest.fixture
def world(tmp_path: Path) -> World:
    """A simulated Alipay's keys, and the merchant's configuration made for them."""
    return World.create(tmp_path / "world", gateway_url="http://127.0.0.1:1", notify_base=NOTIFY_BASE)


@pytest.fixture
def engine(tmp_path: Path, world: World) -> Iterator[Engine]:
    """An engine over an empty data directory, not yet started."""
    engine = Engine(world.accounts_file, tmp_path / "engine")
    yield engine
    engine.end()
