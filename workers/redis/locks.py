"""Claims in Redis: one script for all keys of a batch that lie in one slot. An optimisation; see `workers.locks`.

A claim is a key that holds its holder's token and expires by itself. The scripts compare tokens, so that repeating a
call does no harm: the client repeats one itself when an answer was lost, and a plain `SET NX` would then find the key
taken, by ourselves, and report it as another's.

Redis may be away, slow, full, read-only after a failover, or asking for a password. All of it is `InfrastructureDown`,
and
soon: a call ends within its deadline, and after some failures calls are not even tried for a while. The worker goes on
without claims, and takes them up again when Redis answers.

A mark of how far an order is settled takes the place of the claim that is given back, and the next claim takes the
place of the mark: so there is one key to an order, and marks cost no call of their own.

In a Redis Cluster all keys of a script have to lie in one slot, so the part of a key that decides the slot, between
braces, is `slot_of` the record's key. All workers have to agree on it. On one server one slot is best, one call to a
batch; over a cluster's nodes `spread` shares the work out.
"""

import asyncio
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import islice
from typing import Any
from zlib import crc32

from redis.exceptions import RedisClusterException, RedisError

from workers.errors import InfrastructureDown
from workers.locks import LockResult
from workers.redis.breaker import RedisBreaker
from workers.redis.clients import RedisClient
from workers.settlement.plan import Position

PREFIX = b"alipay-notify:claim:"
KEYS_MAX = 500  # per call: while a script of some milliseconds runs, Redis serves nobody else
TTL_MS = 30_000  # longer than a batch takes, so that a claim seldom ends before its work
DONE_TTL_MS = 60_000  # longer than a session: what a dead worker had not committed is delivered again by then
MARK_BYTES_MAX = 32  # a partition of 32 bits and an offset of 64; the conversion of thousands of digits is an error
CALL_S = 1.0  # two tries of half a second
SLOTS = 16  # a call each to a batch: enough for the nodes of a cluster, and no more
FAILURES_MAX = 3
OPEN_S = 2.0

_Call = tuple[Sequence[bytes], Sequence[bytes]]  # keys of one slot, and the script's arguments

# What the client raises of a Redis Cluster of which no node answers is no RedisError.
_CLIENTS = (RedisError, RedisClusterException, OSError, TimeoutError)

# Both answer with as little as says it: usually no key is another's, and how many were given back interests nobody.
_ACQUIRE = """
local token, ttl_ms, taken, done = ARGV[1], ARGV[2], {}, {}
for place, key in ipairs(KEYS) do
    local holder = redis.call('SET', key, token, 'NX', 'GET', 'PX', ttl_ms)
    if holder == token then
        redis.call('PEXPIRE', key, ttl_ms)
    elseif holder and string.sub(holder, 1, 1) == '=' then
        redis.call('SET', key, token, 'PX', ttl_ms)
        done[#done + 1] = place
        done[#done + 1] = holder
    elseif holder then
        taken[#taken + 1] = place
    end
end
return {taken, done}
"""
_RELEASE = """
local token, ttl_ms = ARGV[1], ARGV[2]
for place, key in ipairs(KEYS) do
    if redis.call('GET', key) == token then
        local mark = ARGV[2 + place]
        if mark and mark ~= '' then
            redis.call('SET', key, mark, 'PX', ttl_ms)
        else
            redis.call('DEL', key)
        end
    end
end
return 0
"""


def spread(key: bytes) -> int:
    """One of `SLOTS`, the same in every process."""
    return crc32(key) % SLOTS


class RedisLocks:
    """`workers.locks.IdempotencyLocks` for workers in any number of processes."""

    def __init__(
        self,
        client: RedisClient,
        *,
        slot_of: Callable[[bytes], int] = lambda key: 0,
        prefix: bytes = PREFIX,
        ttl_ms: int = TTL_MS,
        done_ttl_ms: int = DONE_TTL_MS,
        call_s: float = CALL_S,
        breaker: RedisBreaker | None = None,
    ) -> None:
        self._client = client
        self._slot_of = slot_of
        self._prefix = prefix
        self._ttl_ms = ttl_ms
        self._done_ttl_ms = done_ttl_ms
        self._call_s = call_s
        self._breaker = breaker or RedisBreaker(failures_max=FAILURES_MAX, open_s=OPEN_S, now_s=time.monotonic)

    async def acquire(self, keys: Sequence[bytes], token: bytes) -> LockResult:
        """Those of the keys that are ours now, for `ttl_ms`.

        Raises:
            InfrastructureDown: some may be ours, and expire.
        """
        ours = set(keys)
        done: dict[bytes, Position] = {}
        calls = self._calls(ours)
        arguments = (token, b"%d" % self._ttl_ms)
        answers = await self._all(_ACQUIRE, [(call, arguments) for call in calls])
        for call, (taken, marks) in zip(calls, answers, strict=True):
            ours.difference_update([call[place - 1] for place in taken])
            for place, mark in zip(marks[::2], marks[1::2], strict=True):
                if (position := _read(mark)) is not None:
                    done[call[place - 1]] = position
        return LockResult(ours, done)

    async def release(self, keys: Sequence[bytes], token: bytes, done: Mapping[bytes, Position]) -> None:
        """Give back what the token holds of these; of those in `done` a mark stays for `done_ttl_ms`.

        Raises:
            InfrastructureDown: some may not be given back, and expire.
        """
        first = (token, b"%d" % self._done_ttl_ms)
        calls = self._calls(set(keys))
        await self._all(_RELEASE, [(call, (*first, *[_mark(done.get(key)) for key in call])) for call in calls])

    async def close(self) -> None:
        await self._client.aclose()

    def _calls(self, keys: Iterable[bytes]) -> list[list[bytes]]:
        """The keys by slot, and no more of them together than one call may have."""
        by_slot: dict[int, list[bytes]] = {}
        for key in keys:
            by_slot.setdefault(self._slot_of(key), []).append(key)
        return [call for of_slot in by_slot.values() for call in _chunks(of_slot)]

    async def _all(self, script: str, calls: Sequence[_Call]) -> list[Any]:
        """The answers of all calls, which are made at once; or none of them."""
        if not calls:
            return []
        if not self._breaker.admits():
            raise InfrastructureDown("Redis: not asked, since it failed lately")
        try:
            async with asyncio.timeout(self._call_s):
                answers = await self._answers(script, calls)
        except _CLIENTS as error:
            self._breaker.failed()
            raise InfrastructureDown(f"Redis: {type(error).__name__}: {error}".rstrip(": ")) from error
        self._breaker.succeeded()
        return answers

    async def _answers(self, script: str, calls: Sequence[_Call]) -> list[Any]:
        if len(calls) == 1:
            return [await self._run(script, *calls[0])]
        answers = await asyncio.gather(*(self._run(script, *call) for call in calls), return_exceptions=True)
        for answer in answers:
            if isinstance(answer, BaseException):
                raise answer
        return answers

    async def _run(self, script: str, keys: Sequence[bytes], arguments: Sequence[bytes]) -> Any:
        start = b"%s{%d}:" % (self._prefix, self._slot_of(keys[0]))
        return await self._client.eval(script, len(keys), *[start + key for key in keys], *arguments)


def _mark(position: Position | None) -> bytes:
    return b"" if position is None else b"=%d:%d" % (position.partition, position.offset)


def _read(mark: bytes) -> Position | None:
    """Where a mark says that an order is settled to; `None` for one that no program of ours wrote."""
    partition, _, offset = mark[1:].partition(b":")
    if len(mark) > MARK_BYTES_MAX or not (partition.isdigit() and offset.isdigit()):
        return None
    return Position(int(partition), int(offset))


def _chunks(keys: Sequence[bytes]) -> Iterator[list[bytes]]:
    rest = iter(keys)
    while chunk := list(islice(rest, KEYS_MAX)):
        yield chunk
