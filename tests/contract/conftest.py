"""Every contract test runs on every engine: the embedded one, and the cluster's real servers."""

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path

import pytest

from tests.contract.engines import AnyStore, Cluster, Embedded, Engine
from tests.contract.held_counts import check_held_counts
from tests.contract.several_workers import Opener
from tests.support import log_records
from tests.support.fakes import MemoryTopics, PlanObserver
from tests.support.log_records import Time
from workers.postgres.store import PostgresOrderStore
from workers.processing import Processing


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
        await check_held_counts(opened)


@pytest.fixture
def observer() -> PlanObserver:
    return PlanObserver()


@pytest.fixture
def topics_() -> MemoryTopics:
    return MemoryTopics()


@pytest.fixture
def work(store: AnyStore, time: Time, topics_: MemoryTopics, observer: PlanObserver) -> Processing:
    return log_records.processing(store, time, topics_, observer)


@pytest.fixture
async def workers(cluster: Cluster) -> AsyncIterator[Opener]:
    """A function that opens the stores of so many workers."""
    async with AsyncExitStack() as stack:

        async def opened(number: int) -> list[PostgresOrderStore]:
            return [await stack.enter_async_context(cluster.store()) for _ in range(number)]

        yield opened
        await cluster.close()
