"""Clients of Redis for calls that may be repeated: quick to give up, patient with nothing.

The library would by itself try ten times and wait five seconds for each, so that a Redis that stands still holds a
single call for a minute. Here a call waits half a second, and is tried twice.
"""

from collections.abc import Awaitable
from typing import Any, Protocol
from urllib.parse import SplitResult, unquote, urlsplit

from redis.asyncio import BlockingConnectionPool, Redis, RedisCluster
from redis.asyncio.cluster import ClusterNode
from redis.asyncio.retry import Retry
from redis.asyncio.sentinel import Sentinel
from redis.backoff import ExponentialWithJitterBackoff

SOCKET_S = 0.5
POOL_S = 1.0  # for a connection to become free
CONNECTIONS_MAX = 16
PORTS = {"redis+sentinel": 26379, "redis+cluster": 6379}


class RedisClient(Protocol):
    """A Redis client, whatever stands behind it."""

    def eval(self, script: str, numkeys: int, *keys_and_args: Any) -> Awaitable[Any]: ...

    async def aclose(self) -> None: ...


def connect(url: str) -> RedisClient:
    """A client, which connects when it is first used.

        redis://[user:password@]host:port/0                         one server; rediss:// over TLS
        redis+sentinel://[user:password@]host:port,host:port/NAME   whom the sentinels call the master of NAME
        redis+cluster://[user:password@]host:port,host:port         a cluster, found through any of these

    Raises:
        ValueError: it is none of these.
    """
    parts = urlsplit(url)
    match parts.scheme:
        case "redis" | "rediss":
            pool = BlockingConnectionPool.from_url(
                url, max_connections=CONNECTIONS_MAX, timeout=POOL_S, health_check_interval=15, **_settings()
            )
            return Redis.from_pool(pool)  # which it closes when it is closed itself
        case "redis+sentinel":
            return MasterOfSentinels(_addresses(parts), parts.path.strip("/"), **_settings(), **_identity(parts))
        case "redis+cluster":
            nodes = [ClusterNode(host, port) for host, port in _addresses(parts)]
            return RedisCluster(startup_nodes=nodes, **_settings(), **_identity(parts))
        case _:
            raise ValueError(
                "the address of Redis begins with redis://, rediss://, redis+sentinel:// or redis+cluster://"
            )


def is_cluster(url: str) -> bool:
    """Whether keys lie on many nodes there."""
    return urlsplit(url).scheme == "redis+cluster"


class MasterOfSentinels:
    """Whom the sentinels call the master when a connection is made. The library's own leaves theirs open at the end."""

    def __init__(self, addresses: list[tuple[str, int]], name: str, **settings: Any) -> None:
        sentinel: Any = Sentinel  # it has no types
        asked = sentinel(addresses, sentinel_kwargs=_settings(), **settings)
        self._sentinels: list[Redis] = asked.sentinels
        self._master: Redis = asked.master_for(name)

    def eval(self, script: str, numkeys: int, *keys_and_args: Any) -> Awaitable[Any]:
        return self._master.eval(script, numkeys, *keys_and_args)

    async def aclose(self) -> None:
        for client in (self._master, *self._sentinels):
            await client.aclose()


def _settings() -> dict[str, Any]:
    return {
        "socket_timeout": SOCKET_S,
        "socket_connect_timeout": SOCKET_S,
        "retry": Retry(ExponentialWithJitterBackoff(cap=0.1, base=0.01), 1),
        "protocol": 3,
    }


def _identity(parts: SplitResult) -> dict[str, Any]:
    """User and password, where the address has them."""
    told = {"username": parts.username, "password": parts.password}
    return {name: unquote(value) for name, value in told.items() if value}


def _addresses(parts: SplitResult) -> list[tuple[str, int]]:
    default = PORTS[parts.scheme]
    pairs = [address.rpartition(":") for address in parts.netloc.rpartition("@")[2].split(",")]
    return [(host, int(port)) if colon else (port, default) for host, colon, port in pairs]
