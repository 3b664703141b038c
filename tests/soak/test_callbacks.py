"""Ten thousand events to a healthy, a slow, a failing and a dead endpoint, over SIGKILL."""

import asyncio
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from deploy.local.engine import EngineSpec
from deploy.local.kafka.cluster import Kafka
from deploy.local.postgres import Postgres
from deploy.local.redis import Redis
from deploy.sandbox.world import World
from tests.acceptance import test_callbacks
from tests.acceptance.test_callbacks import Services
from tests.support import callback_receivers
from tests.support import cluster as clusters
from tests.support.callback_clusters import CallbackCluster
from tests.support.cluster import Cluster
from tests.support.processes import Engine

ORDERS = int(os.environ.get("CALLBACK_ORDERS", "7400"))  # with about 1.4 events each
EVENTS_MIN = 10_000 * ORDERS // 7400


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
    services = Services()
    assert await test_callbacks.every_event_arrives(world, engine, tmp_path, services, orders=ORDERS) >= EVENTS_MIN
    assert await asyncio.to_thread(engine.stop) == 0


@pytest.fixture
def services() -> Services:
    return Services()


@pytest.fixture
def cluster(
    tmp_path: Path, services: Services, local_kafka: Kafka, local_postgres: Postgres, local_redis: Redis
) -> Iterator[Cluster]:
    """Two workers that send callbacks to the services."""
    file = callback_receivers.write_file(tmp_path, services.all)
    with clusters.of_a_module(
        EngineSpec(receivers=1, workers=2, console=True, balancer=False, sandbox=True),
        kafka=local_kafka,
        postgres=local_postgres,
        redis=local_redis,
        callbacks=str(file),
        callback_networks="127.0.0.0/8",
    ) as started:
        yield started


@pytest.mark.timeout(7200)
async def test_ten_thousand_events_of_a_cluster_arrive_everywhere_in_order(
    cluster: Cluster, services: Services, tmp_path: Path
) -> None:
    engine = CallbackCluster(cluster)
    world = cluster.engine.world
    assert await test_callbacks.every_event_arrives(world, engine, tmp_path, services, orders=ORDERS) >= EVENTS_MIN
