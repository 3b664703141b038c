"""Faults of Redis: the idempotency locks are right or missing, and no call waits long."""

import asyncio
import time as clock
from collections.abc import AsyncIterator
from functools import partial
from typing import Any

import pytest
from redis.asyncio import Redis as Client

from deploy.local import ports, redis
from deploy.local.redis import Redis
from tests.support.cluster import until
from tests.support.real_servers import Servers
from workers.errors import InfrastructureDown
from workers.redis import clients
from workers.redis.breaker import RedisBreaker
from workers.redis.locks import PREFIX, RedisLocks, spread
from workers.settlement.plan import Position

KEYS = [b"shop-sg:N%d" % number for number in range(700)]
PROMOTED_WITHIN_S = 20.0
SOON_S = 1.5


@pytest.fixture(scope="module")
def server(servers: Servers) -> Redis:
    return servers.start(partial(redis.running, name="faulty-redis"))


@pytest.fixture(scope="module")
def sharded(servers: Servers) -> Redis:
    more = {"cluster-enabled": "yes", "cluster-port": str(ports.free(1)[0])}
    return servers.start(partial(redis.running, name="sharded-redis", more=more))


@pytest.fixture(scope="module")
def sentinel(servers: Servers, server: Redis) -> Redis:
    return servers.start(partial(redis.running_sentinel, masters={"orders": server.port}))


def eager() -> RedisBreaker:
    """Return a breaker that admits every call, so that each reaches the server."""
    return RedisBreaker(failures_max=1_000_000, open_s=0, now_s=clock.monotonic)


@pytest.fixture
async def locks(server: Redis) -> AsyncIterator[RedisLocks]:
    locks = RedisLocks(clients.connect(server.url), breaker=eager())
    yield locks
    await locks.close()


@pytest.fixture
async def shell(server: Redis) -> AsyncIterator[Any]:
    """A connection as an operator has it."""
    shell = Client(port=server.port)
    await shell.flushall()
    yield shell
    await shell.aclose()


async def refused(locks: RedisLocks) -> None:
    begun = clock.monotonic()
    with pytest.raises(InfrastructureDown):
        await locks.acquire(KEYS[:2], b"w1:1")
    assert clock.monotonic() - begun < SOON_S


async def test_lock_expires_and_acquiring_it_again_extends_it(server: Redis, shell: Any) -> None:
    client = clients.connect(server.url)
    locks = RedisLocks(client, ttl_ms=400)
    await locks.acquire(KEYS[:1], b"w1:1")
    await asyncio.sleep(0.25)
    await locks.acquire(KEYS[:1], b"w1:1")
    await asyncio.sleep(0.25)
    assert (await locks.acquire(KEYS[:1], b"w2:1")).ours == set()
    await asyncio.sleep(0.25)
    assert (await locks.acquire(KEYS[:1], b"w2:1")).ours == set(KEYS[:1])
    await locks.close()


async def test_every_lock_has_an_expiry_and_a_release_leaves_no_key(locks: RedisLocks, shell: Any) -> None:
    assert (await locks.acquire(KEYS, b"w1:1")).ours == set(KEYS)
    names: Any = await shell.keys("*")
    assert len(names) == len(KEYS)
    assert all(name.startswith(PREFIX + b"{0}:shop-sg:") for name in names)
    assert all([0 < await shell.pttl(name) <= 30_000 for name in names])
    await locks.release(KEYS, b"w1:1", {})
    assert await shell.dbsize() == 0


async def test_done_marker_replaces_the_lock_for_a_while_and_is_returned_once(locks: RedisLocks, shell: Any) -> None:
    await locks.acquire(KEYS[:2], b"w1:1")
    await locks.release(KEYS[:2], b"w1:1", {KEYS[0]: Position(3, 41)})
    (name,) = await shell.keys("*")
    assert 30_000 < await shell.pttl(name) <= 60_000
    assert await locks.acquire(KEYS[:2], b"w2:1") == (set(KEYS[:2]), {KEYS[0]: Position(3, 41)})
    assert await locks.acquire(KEYS[:2], b"w2:1") == (set(KEYS[:2]), {})
    assert (await locks.acquire(KEYS[:2], b"w3:1")).ours == set()
    assert 0 < await shell.pttl(name) <= 30_000


async def test_late_release_leaves_no_done_marker_on_a_key_of_another_token(locks: RedisLocks, shell: Any) -> None:
    await locks.acquire(KEYS[:1], b"w1:1")
    await shell.flushall()
    await locks.acquire(KEYS[:1], b"w2:1")
    await locks.release(KEYS[:1], b"w1:1", {KEYS[0]: Position(3, 41)})
    assert (await locks.acquire(KEYS[:1], b"w3:1")).ours == set()


async def test_concurrent_calls_give_each_key_one_holder(locks: RedisLocks, shell: Any) -> None:
    answers = await asyncio.gather(*(locks.acquire(KEYS[:40], b"w%d:1" % worker) for worker in range(40)))
    assert sorted(key for ours, _ in answers for key in ours) == sorted(KEYS[:40])


async def test_cancelled_call_does_not_mix_up_answers(locks: RedisLocks, shell: Any) -> None:
    for number in range(200):
        asked = asyncio.create_task(locks.acquire([b"cancelled:%d" % number], b"gone:%d" % number))
        await asyncio.sleep(number % 5 * 0.0001)
        asked.cancel()
        mine = b"kept:%d" % number
        assert (await locks.acquire([mine], b"w1:%d" % number)).ours == {mine}
        await asyncio.gather(asked, return_exceptions=True)
        assert await shell.get(PREFIX + b"{0}:" + mine) == b"w1:%d" % number


async def test_killed_server_fails_calls_at_once_and_locks_return_with_it(server: Redis, locks: RedisLocks) -> None:
    await locks.acquire(KEYS, b"w1:1")
    await server.process.kill()
    await refused(locks)
    await refused(locks)
    await server.process.start()
    assert (await locks.acquire(KEYS, b"w2:1")).ours == set(KEYS)  # the server came back empty, so the store decides


async def test_frozen_server_delays_no_call_beyond_its_limit(server: Redis, locks: RedisLocks, shell: Any) -> None:
    await locks.acquire(KEYS[:1], b"w1:1")
    server.process.freeze()
    try:
        await refused(locks)
    finally:
        server.process.thaw()
    assert (await locks.acquire(KEYS[5:6], b"w1:2")).ours == set(KEYS[5:6])


async def test_full_server_is_infrastructure_down(locks: RedisLocks, shell: Any) -> None:
    await shell.config_set("maxmemory", "1")
    try:
        await refused(locks)
    finally:
        await shell.config_set("maxmemory", "0")
    assert (await locks.acquire(KEYS[:1], b"w1:1")).ours == set(KEYS[:1])


async def test_server_that_became_a_replica_is_infrastructure_down(locks: RedisLocks, shell: Any) -> None:
    await shell.execute_command("REPLICAOF", "127.0.0.1", "1")
    try:
        await refused(locks)
    finally:
        await shell.execute_command("REPLICAOF", "NO", "ONE")
    assert (await locks.acquire(KEYS[:1], b"w1:1")).ours == set(KEYS[:1])


async def test_server_that_wants_a_password_is_infrastructure_down(server: Redis, shell: Any) -> None:
    await shell.config_set("requirepass", "sesame")
    locks = RedisLocks(clients.connect(server.url), breaker=eager())
    knowing = RedisLocks(clients.connect(f"redis://:sesame@127.0.0.1:{server.port}/0"))
    try:
        await refused(locks)
        assert (await knowing.acquire(KEYS[:1], b"w1:1")).ours == set(KEYS[:1])
    finally:
        await shell.config_set("requirepass", "")
        await locks.close()
        await knowing.close()


async def test_server_without_the_scripts_gets_them_again(locks: RedisLocks, shell: Any) -> None:
    await locks.acquire(KEYS[:1], b"w1:1")
    await shell.script_flush()
    assert (await locks.acquire(KEYS[:1], b"w2:1")).ours == set()


async def test_cluster_gets_one_call_for_the_keys_of_each_slot(sharded: Redis) -> None:
    operator: Any = Client(port=sharded.port)
    await operator.execute_command("CLUSTER", "ADDSLOTSRANGE", 0, 16383)
    async with asyncio.timeout(10):
        while b"cluster_state:ok" not in await operator.execute_command("CLUSTER", "INFO"):  # noqa: ASYNC110 - its word
            await asyncio.sleep(0.05)
    url = f"redis+cluster://127.0.0.1:{sharded.port}"
    assert clients.is_cluster(url)
    locks = RedisLocks(clients.connect(url), slot_of=spread)
    try:
        assert (await locks.acquire(KEYS, b"w1:1")).ours == set(KEYS)
        assert (await locks.acquire(KEYS[:9], b"w2:1")).ours == set()
        await locks.release(KEYS, b"w1:1", {})
        assert (await locks.acquire(KEYS, b"w2:1")).ours == set(KEYS)
    finally:
        await locks.close()
        await operator.aclose()


async def test_sentinels_name_the_master(sentinel: Redis) -> None:
    locks = RedisLocks(clients.connect(f"redis+sentinel://127.0.0.1:{sentinel.port}/orders"))
    unknown = RedisLocks(clients.connect(f"redis+sentinel://127.0.0.1:{sentinel.port}/nobody"))
    try:
        assert (await locks.acquire([b"by-sentinel"], b"w1:1")).ours == {b"by-sentinel"}
        with pytest.raises(InfrastructureDown):
            await unknown.acquire([b"by-sentinel"], b"w1:1")
    finally:
        await locks.close()
        await unknown.close()


async def test_locks_work_after_sentinels_have_promoted_a_replica(servers: Servers) -> None:
    first = servers.start(partial(redis.running, name="first-redis"))
    copying = {"replicaof": f"127.0.0.1 {first.port}"}
    second = servers.start(partial(redis.running, name="second-redis", more=copying))
    sentinel = servers.start(partial(redis.running_sentinel, masters={"paid": first.port}, name="promoting-sentinel"))
    operator: Any = Client(port=sentinel.port)
    locks = RedisLocks(clients.connect(f"redis+sentinel://127.0.0.1:{sentinel.port}/paid"))
    try:
        await until(lambda: operator.execute_command("SENTINEL", "REPLICAS", "paid"), PROMOTED_WITHIN_S)
        assert (await locks.acquire(KEYS, b"w1:1")).ours == set(KEYS)
        await first.process.kill()
        await until(lambda: _locks_again(locks), PROMOTED_WITHIN_S)
        promoted: Any = Client(port=second.port)
        assert (await promoted.info("replication"))["role"] == "master"
        await promoted.aclose()
    finally:
        await locks.close()
        await operator.aclose()


async def _locks_again(locks: RedisLocks) -> bool:
    try:
        return b"new" in (await locks.acquire([b"new"], b"w2:1")).ours
    except InfrastructureDown:
        return False
