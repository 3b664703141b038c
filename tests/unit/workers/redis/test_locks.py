"""The calls that the locks make, and how they read answers and failures. `tests/faults` uses real servers."""

import asyncio
import time
from typing import Any

import pytest
from redis.exceptions import OutOfMemoryError, RedisClusterException

from workers.errors import InfrastructureDown
from workers.redis.locks import FAILURES_MAX, KEYS_MAX, RedisLocks
from workers.settlement.plan import Position


class Server:
    """Fake client: answers every call with the same indexes and done-markers, or fails every call alike."""

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


async def test_batch_is_one_call_with_token_and_time_to_live() -> None:
    server = Server()
    keys = [b"shop:N1", b"shop:N2"]
    assert (await RedisLocks(server, ttl_ms=1234).acquire(keys, b"w1:1")).ours == set(keys)
    assert [set(call) for call in server.calls] == [{b"alipay-notify:claim:{0}:" + key for key in keys}]
    assert server.arguments == [(b"w1:1", b"1234")]


async def test_indexes_in_the_answer_are_the_keys_locked_by_another_token() -> None:
    server = Server(2)
    keys = [b"shop:N1", b"shop:N2", b"shop:N3"]
    ours, _ = await RedisLocks(server, prefix=b"").acquire(keys, b"w1:1")
    assert set(keys) - ours == {server.calls[0][1].removeprefix(b"{0}:")}


async def test_done_marker_gives_an_offset_and_a_malformed_one_is_ignored() -> None:
    malformed = [b"=", b"=3", b"=3:x", b"=-3:41", b"=3:-41", b"=3: 41", "=3:４１".encode(), b"=3:" + b"9" * 5000]
    server = Server(done=(1, b"=3:41", *[each for pair in enumerate(malformed, 2) for each in pair]))
    keys = [b"shop:N%d" % number for number in range(1 + len(malformed))]
    ours, done = await RedisLocks(server, prefix=b"").acquire(keys, b"w1:1")
    assert ours == set(keys)
    assert done == {server.calls[0][0].removeprefix(b"{0}:"): Position(3, 41)}


async def test_release_leaves_a_done_marker_for_each_processed_key() -> None:
    server = Server()
    locks = RedisLocks(server, prefix=b"", done_ttl_ms=99)
    await locks.release([b"shop:N1", b"shop:N2"], b"w1:1", {b"shop:N2": Position(3, 41)})
    token, ttl_ms, *done_markers = server.arguments[0]
    assert (token, ttl_ms) == (b"w1:1", b"99")
    assert dict(zip(server.calls[0], done_markers, strict=True)) == {b"{0}:shop:N1": b"", b"{0}:shop:N2": b"=3:41"}


async def test_each_slot_has_one_call_with_all_of_its_keys() -> None:
    server = Server()
    keys = [b"a1", b"b1", b"a2"]
    locks = RedisLocks(server, prefix=b"", slot_of=lambda key: key[0] - ord("a"))
    assert (await locks.acquire(keys, b"w1:1")).ours == set(keys)
    assert sorted(map(sorted, server.calls)) == [[b"{0}:a1", b"{0}:a2"], [b"{1}:b1"]]


async def test_call_has_at_most_keys_max_keys() -> None:
    server = Server()
    keys = [b"%d" % number for number in range(KEYS_MAX + 1)]
    assert (await RedisLocks(server).acquire(keys, b"w1:1")).ours == set(keys)
    assert sorted(map(len, server.calls)) == [1, KEYS_MAX]


async def test_one_failed_call_of_several_raises_infrastructure_down() -> None:
    locks = RedisLocks(Server(fails=OutOfMemoryError("full")), slot_of=lambda key: key[0])
    with pytest.raises(InfrastructureDown, match="OutOfMemoryError"):
        await locks.acquire([b"a", b"b"], b"w1:1")


async def test_redis_cluster_without_an_answering_node_is_infrastructure_down() -> None:
    with pytest.raises(InfrastructureDown, match="RedisClusterException"):
        await RedisLocks(Server(fails=RedisClusterException("no node"))).acquire([b"a"], b"w1:1")


async def test_missing_answer_raises_infrastructure_down_after_the_call_limit() -> None:
    locks = RedisLocks(Server(delay_s=5), call_s=0.05)
    begun = time.monotonic()
    with pytest.raises(InfrastructureDown, match="TimeoutError"):
        await locks.acquire([b"a"], b"w1:1")
    assert time.monotonic() - begun < 1


async def test_breaker_stops_calls_after_failures_in_a_row() -> None:
    server = Server(fails=ConnectionRefusedError())
    locks = RedisLocks(server)
    for _ in range(FAILURES_MAX + 5):
        with pytest.raises(InfrastructureDown):
            await locks.acquire([b"a"], b"w1:1")
    assert len(server.calls) == FAILURES_MAX


async def test_programming_error_is_not_reported_as_an_outage() -> None:
    locks = RedisLocks(Server(fails=KeyError("ours")))
    with pytest.raises(KeyError):
        await locks.release([b"a"], b"w1:1", {})
