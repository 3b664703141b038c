"""The client that each form of Redis address gives. No connection is made."""

from typing import Any

import pytest
from redis.asyncio import BlockingConnectionPool, Redis, RedisCluster
from redis.asyncio.sentinel import SentinelConnectionPool

from workers.redis import clients
from workers.redis.clients import MasterOfSentinels


def addresses_of_sentinels(client: MasterOfSentinels) -> list[tuple[str, int]]:
    settings = [sentinel.connection_pool.connection_kwargs for sentinel in client._sentinels]
    return [(each["host"], each["port"]) for each in settings]


@pytest.mark.parametrize("scheme", ["redis", "rediss"])
def test_plain_address_gives_a_client_with_bounded_pool_and_short_time_outs(scheme: str) -> None:
    client = clients.connect(f"{scheme}://127.0.0.1:6379/0")
    assert isinstance(client, Redis)
    assert isinstance(client.connection_pool, BlockingConnectionPool)
    assert client.connection_pool.max_connections == clients.CONNECTIONS_MAX
    assert client.connection_pool.connection_kwargs["socket_timeout"] == clients.SOCKET_S


def test_sentinel_address_gives_a_client_of_the_named_master() -> None:
    client = clients.connect("redis+sentinel://u:p%40ss@a:1,b/orders")
    assert isinstance(client, MasterOfSentinels)
    assert addresses_of_sentinels(client) == [("a", 1), ("b", 26379)]
    pool: Any = client._master.connection_pool
    assert isinstance(pool, SentinelConnectionPool)
    assert pool.service_name == "orders"
    assert (pool.connection_kwargs["username"], pool.connection_kwargs["password"]) == ("u", "p@ss")


def test_cluster_address_gives_a_cluster_client_with_all_named_nodes() -> None:
    client = clients.connect("redis+cluster://u:p%40ss@a:1,b")
    assert isinstance(client, RedisCluster)
    assert {(node.host, node.port) for node in client.nodes_manager.startup_nodes.values()} == {("a", 1), ("b", 6379)}


def test_other_schemes_are_refused() -> None:
    with pytest.raises(ValueError, match="must begin with redis://"):
        clients.connect("http://a")


def test_only_the_cluster_scheme_spreads_keys_over_slots() -> None:
    assert clients.is_cluster("redis+cluster://a:1")
    assert not clients.is_cluster("redis://a:1")
    assert not clients.is_cluster("redis+sentinel://a:1/orders")


async def test_closing_a_sentinel_client_closes_master_and_sentinels() -> None:
    client = clients.connect("redis+sentinel://a:1,b/orders")
    assert isinstance(client, MasterOfSentinels)
    closed: list[str] = []

    class Closing:
        def __init__(self, name: str) -> None:
            self._name = name

        async def aclose(self) -> None:
            closed.append(self._name)

    parts: Any = client
    parts._master, parts._sentinels = Closing("master"), [Closing("sentinel 1"), Closing("sentinel 2")]
    await client.aclose()
    assert closed == ["master", "sentinel 1", "sentinel 2"]
