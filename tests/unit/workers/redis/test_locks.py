"""How claims are asked for: which calls, and what their answers and failures mean. Real servers are asked elsewhere."""

import asyncio
import time
from typing import Any

import pytest
from redis.asyncio import BlockingConnectionPool, Redis, RedisCluster
from redis.exceptions import OutOfMemoryError, RedisClusterException

from workers.errors import InfrastructureDown
from workers.redis import clients
from workers.redis.clients import MasterOfSentinels
from workers.redis.locks import FAILURES_MAX, KEYS_MAX, RedisLocks
from workers.settlement.plan import Position


class Server:
    """Answers every call with the same places and marks, or fails every call in the same way."""

    def __init__(
        self, *taken: int, done: tuple[int | bytes, ...] = (), fails: Exception | None = None, delay_s: float = 0
    ) -> None:
        self.calls: list[list[bytes]] = []
        self.arguments: list[tuple[bytes, ...]] = []
        self.fails = fails
        self._answer: list[Any] = [list(taken), list(done)]
        self._delay_s = delay_s

    async def eval(self, script: str, numkeys: int, *keys_and_args: Any) -> list[Any]:
        self.calls.append(list(keys_and_args[:numkeys]))
        self.arguments.append(keys_and_args[numkeys:])
        if self._delay_s:
            await asyncio.sleep(self._delay_s)
        if self.fails is not None:
            raise self.fails
        return self._answer

    async def aclose(self) -> None: ...


async def test_a_batch_is_one_call_that_names_token_and_time_to_live() -> None:
    server = Server()
    keys = [b"shop:N1", b"shop:N2"]
    assert (await RedisLocks(server, ttl_ms=1234).acquire(keys, b"w1:1")).ours == set(keys)
    assert [set(call) for call in server.calls] == [{b"alipay-notify:claim:{0}:" + key for key in keys}]
    assert server.arguments == [(b"w1:1", b"1234")]


async def test_the_places_in_the_answer_are_the_keys_that_are_anothers() -> None:
    server = Server(2)
    keys = [b"shop:N1", b"shop:N2", b"shop:N3"]
    ours, _ = await RedisLocks(server, prefix=b"").acquire(keys, b"w1:1")
    assert set(keys) - ours == {server.calls[0][1].removeprefix(b"{0}:")}


async def test_a_mark_says_how_far_an_order_is_settled_and_a_strange_one_nothing() -> None:
    strange = [b"=", b"=3", b"=3:x", b"=-3:41", b"=3:-41", b"=3: 41", "=3:４１".encode(), b"=3:" + b"9" * 5000]
    server = Server(done=(1, b"=3:41", *[each for pair in enumerate(strange, 2) for each in pair]))
    keys = [b"shop:N%d" % number for number in range(1 + len(strange))]
    ours, done = await RedisLocks(server, prefix=b"").acquire(keys, b"w1:1")
    assert ours == set(keys)
    assert done == {server.calls[0][0].removeprefix(b"{0}:"): Position(3, 41)}


async def test_a_mark_is_left_for_each_key_that_is_settled() -> None:
    server = Server()
    locks = RedisLocks(server, prefix=b"", done_ttl_ms=99)
    await locks.release([b"shop:N1", b"shop:N2"], b"w1:1", {b"shop:N2": Position(3, 41)})
    token, ttl_ms, *marks = server.arguments[0]
    assert (token, ttl_ms) == (b"w1:1", b"99")
    assert dict(zip(server.calls[0], marks, strict=True)) == {b"{0}:shop:N1": b"", b"{0}:shop:N2": b"=3:41"}


async def test_keys_of_one_slot_share_a_call_and_nothing_else_does() -> None:
    server = Server()
    keys = [b"a1", b"b1", b"a2"]
    locks = RedisLocks(server, prefix=b"", slot_of=lambda key: key[0] - ord("a"))
    assert (await locks.acquire(keys, b"w1:1")).ours == set(keys)
    assert sorted(map(sorted, server.calls)) == [[b"{0}:a1", b"{0}:a2"], [b"{1}:b1"]]


async def test_no_call_has_more_keys_than_a_server_should_be_kept_busy_with() -> None:
    server = Server()
    keys = [b"%d" % number for number in range(KEYS_MAX + 1)]
    assert (await RedisLocks(server).acquire(keys, b"w1:1")).ours == set(keys)
    assert sorted(map(len, server.calls)) == [1, KEYS_MAX]


async def test_one_call_of_several_that_fails_is_a_failure() -> None:
    locks = RedisLocks(Server(fails=OutOfMemoryError("full")), slot_of=lambda key: key[0])
    with pytest.raises(InfrastructureDown, match="OutOfMemoryError"):
        await locks.acquire([b"a", b"b"], b"w1:1")


async def test_a_cluster_of_which_no_node_answers_is_an_outage_like_any_other() -> None:
    with pytest.raises(InfrastructureDown, match="RedisClusterException"):
        await RedisLocks(Server(fails=RedisClusterException("no node"))).acquire([b"a"], b"w1:1")


async def test_an_answer_that_does_not_come_is_not_waited_for() -> None:
    locks = RedisLocks(Server(delay_s=5), call_s=0.05)
    begun = time.monotonic()
    with pytest.raises(InfrastructureDown, match="TimeoutError"):
        await locks.acquire([b"a"], b"w1:1")
    assert time.monotonic() - begun < 1


async def test_after_some_failures_the_server_is_left_alone_for_a_while() -> None:
    server = Server(fails=ConnectionRefusedError())
    locks = RedisLocks(server)
    for _ in range(FAILURES_MAX + 5):
        with pytest.raises(InfrastructureDown):
            await locks.acquire([b"a"], b"w1:1")
    assert len(server.calls) == FAILURES_MAX


async def test_a_mistake_of_ours_is_not_taken_for_an_outage() -> None:
    locks = RedisLocks(Server(fails=KeyError("ours")))
    with pytest.raises(KeyError):
        await locks.release([b"a"], b"w1:1", {})


def test_the_address_says_what_kind_of_redis_it_is() -> None:
    plain = clients.connect("redis://127.0.0.1:6379/0")
    assert isinstance(plain, Redis)
    assert isinstance(plain.connection_pool, BlockingConnectionPool)
    assert plain.connection_pool.connection_kwargs["socket_timeout"] == clients.SOCKET_S
    behind_sentinels = clients.connect("redis+sentinel://a:1,b/orders")
    assert isinstance(behind_sentinels, MasterOfSentinels)
    assert isinstance(clients.connect("redis+cluster://u:p%40ss@a:1,b:2"), RedisCluster)
    with pytest.raises(ValueError, match="begins with"):
        clients.connect("http://a")
