"""Redis clients with short time-outs, for calls that are safe to repeat.

By default redis-py tries ten times and waits five seconds each, so a frozen Redis would hold one call for a minute.
Here a call waits half a second and is tried twice.
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
POOL_S = 1.0  # longest wait for a free connection
CONNECTIONS_MAX = 16
PORTS = {"redis+sentinel": 26379, "redis+cluster": 6379}


class RedisClient(Protocol):
    """Client of a single server, of a master behind sentinels, or of a cluster."""

    def eval(self, script: str, numkeys: int, *keys_and_args: Any) -> Awaitable[Any]: ...

    async def aclose(self) -> None: ...


def connect(url: str) -> RedisClient:
    """Return a client that connects when it is first used.

        redis://[user:password@]host:port/0                         one server; rediss:// for TLS
        redis+sentinel://[user:password@]host:port,host:port/NAME   the master NAME, as the sentinels report it
        redis+cluster://[user:password@]host:port,host:port         a cluster, found through any of these nodes

    Raises:
        ValueError: the address has none of these forms.
    """
    parts = urlsplit(url)
    match parts.scheme:
        case "redis" | "rediss":
            pool = BlockingConnectionPool.from_url(
                url, max_connections=CONNECTIONS_MAX, timeout=POOL_S, health_check_interval=15, **_settings()
            )
            return Redis.from_pool(pool)  # closing this client closes the pool
        case "redis+sentinel":
            return MasterOfSentinels(_addresses(parts), parts.path.strip("/"), **_settings(), **_identity(parts))
        case "redis+cluster":
            nodes = [ClusterNode(host, port) for host, port in _addresses(parts)]
            return RedisCluster(startup_nodes=nodes, **_settings(), **_identity(parts))
        case _:
            raise ValueError(
                "the address of Redis (ALIPAY_NOTIFY_REDIS) must begin with redis://, rediss://, redis+sentinel:// or "
                "redis+cluster://"
            )


def is_cluster(url: str) -> bool:
    """Return whether the address names a Redis Cluster, which spreads keys over nodes by slot."""
    return urlsplit(url).scheme == "redis+cluster"


class MasterOfSentinels:
    """Client of the current master, which the sentinels name for each new connection.

    redis-py's own client leaves its connections to the sentinels open when it is closed.
    """

    def __init__(self, addresses: list[tuple[str, int]], name: str, **settings: Any) -> None:
        sentinel: Any = Sentinel  # untyped
        discovery = sentinel(addresses, sentinel_kwargs=_settings(), **settings)
        self._sentinels: list[Redis] = discovery.sentinels
        self._master: Redis = discovery.master_for(name)

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
    """Return the user and the password, if the address has them."""
    identity = {"username": parts.username, "password": parts.password}
    return {name: unquote(value) for name, value in identity.items() if value}


def _addresses(parts: SplitResult) -> list[tuple[str, int]]:
    default = PORTS[parts.scheme]
    pairs = [address.rpartition(":") for address in parts.netloc.rpartition("@")[2].split(",")]
    return [(host, int(port)) if colon else (port, default) for host, colon, port in pairs]
