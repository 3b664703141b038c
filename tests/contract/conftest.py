"""Every contract test runs on every engine."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.contract.engines import ENGINES, AnyStore, Engine
from tests.journey import Time


@pytest.fixture
def time() -> Time:
    return Time()


@pytest.fixture(params=ENGINES)
def engine(request: pytest.FixtureRequest, tmp_path: Path, time: Time) -> Engine:
    return ENGINES[request.param](tmp_path, time)


@pytest.fixture
async def store(engine: Engine) -> AsyncIterator[AnyStore]:
    async with engine.store() as opened:
        yield opened
