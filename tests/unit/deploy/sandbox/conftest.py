"""Keys take a moment to make; these tests share one world's, and write only into copies of it."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from deploy.sandbox.world import World


@pytest.fixture(scope="session")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    """A world nobody may change."""
    return World.create(tmp_path_factory.mktemp("world"), gateway_url="http://127.0.0.1:9", notify_base="http://h")


@pytest.fixture
def own_directory(world: World, tmp_path: Path) -> Path:
    """A copy of its directory, for a test that creates its own world with the same keys."""
    return Path(shutil.copytree(world.directory, tmp_path / "own"))
