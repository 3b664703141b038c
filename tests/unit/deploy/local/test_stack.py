"""The composition of a stack: its spec, its addresses, and the servers that its engine gets."""

from pathlib import Path

import pytest
from msgspec import structs

from deploy.local import stack
from deploy.local.engine import EngineServers, EngineSpec
from deploy.local.kafka import cluster
from deploy.local.kafka.cluster import Broker, Kafka
from deploy.local.postgres import Postgres
from deploy.local.processes import Process
from deploy.local.redis import Redis
from deploy.local.stack import Stack, StackSpec
from tests.unit.deploy.local import samples


async def healthy() -> bool:
    return True


@pytest.fixture
def whole(tmp_path: Path) -> Stack:
    directory = samples.directory(tmp_path)

    def process(name: str) -> Process:
        return Process(directory, samples.spec("", name=name), healthy=healthy)

    brokers = tuple(Broker(node=node, process=process(f"kafka-{node.number}")) for node in cluster.nodes_for(3))
    return Stack(
        directory=directory,
        kafka=Kafka(bootstrap=",".join(broker.address for broker in brokers), brokers=brokers),
        redis=Redis(port=1, process=process("redis")),
        postgres=Postgres(port=2, password="hunter2", process=process("postgres")),
    )


def test_spec_without_servers_and_processes_is_nothing() -> None:
    assert StackSpec().is_nothing
    assert not StackSpec(redis=True).is_nothing
    assert not StackSpec(ours=EngineSpec(receivers=1)).is_nothing
    assert not stack.ALL.is_nothing


def test_whole_stack_has_three_brokers_and_two_of_our_processes_of_each_kind() -> None:
    assert (stack.ALL.brokers, stack.ALL.ours.receivers, stack.ALL.ours.workers) == (3, 2, 2)


def test_addresses_name_each_server_of_the_stack(whole: Stack) -> None:
    addresses = whole.addresses()
    assert set(addresses) == {"kafka", "redis", "postgres"}
    assert addresses["redis"] == "redis://127.0.0.1:1/0"
    assert addresses["postgres"] == "postgresql://alipay_notify:hunter2@127.0.0.1:2/alipay_notify"
    assert structs.replace(whole, redis=None).addresses().keys() == {"kafka", "postgres"}


def test_processes_include_every_broker(whole: Stack) -> None:
    assert [process.name for process in whole.processes()] == ["redis", "postgres", "kafka-1", "kafka-2", "kafka-3"]


def test_engine_gets_the_servers_of_its_stack(whole: Stack) -> None:
    assert whole.postgres is not None
    assert whole.kafka is not None
    assert stack._servers(whole, StackSpec(brokers=3)) == EngineServers(
        kafka=whole.kafka.bootstrap, brokers=3, redis="redis://127.0.0.1:1/0", postgres=whole.postgres.dsn
    )
    alone = Stack(directory=whole.directory, redis=whole.redis)
    assert stack._servers(alone, StackSpec(redis=True)).kafka == ""
