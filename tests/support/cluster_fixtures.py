"""A cluster engine for the tests of a module, on servers that other tests use too. `WISHED` of the module says which.

A module that needs other servers, or more to be mended between its tests, has fixtures of its own by these names.
"""

from collections.abc import AsyncIterator, Iterator

import pytest

from deploy.local.kafka.cluster import Kafka
from deploy.local.postgres import Postgres
from deploy.local.redis import Redis
from tests.support import cluster as clusters
from tests.support.cluster import Cluster


@pytest.fixture(scope="module")
def started(
    request: pytest.FixtureRequest, local_kafka: Kafka, local_postgres: Postgres, local_redis: Redis
) -> Iterator[Cluster]:
    """The engine that the module wishes, for all its tests."""
    wished = request.module.WISHED
    with clusters.of_a_module(wished, kafka=local_kafka, postgres=local_postgres, redis=local_redis) as started:
        yield started


@pytest.fixture
async def cluster(started: Cluster) -> AsyncIterator[Cluster]:
    """The same engine; all its processes run again after the test."""
    yield started
    await started.whole()
