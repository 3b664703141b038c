"""Every contract test runs on every engine: the embedded one, and the cluster's real servers."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.contract.engines import AnyStore, Cluster, Embedded, Engine
from tests.support.log_records import Time


@pytest.fixture
def time() -> Time:
    return Time()


@pytest.fixture
def cluster(request: pytest.FixtureRequest, time: Time) -> Cluster:
    return Cluster(request.getfixturevalue("local_postgres"), request.getfixturevalue("local_redis"), time)


@pytest.fixture(params=["embedded", "cluster"])
async def engine(request: pytest.FixtureRequest, tmp_path: Path, time: Time) -> AsyncIterator[Engine]:
    engine: Engine = request.getfixturevalue("cluster") if request.param == "cluster" else Embedded(tmp_path, time)
    yield engine
    await engine.close()


@pytest.fixture
async def store(engine: Engine) -> AsyncIterator[AnyStore]:
    async with engine.store() as opened:
        yield opened
