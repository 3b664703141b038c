"""Idempotency locks in Redis, for workers in any number of processes. An optimisation; see `workers.locks`.

A lock is a key with an expiry whose value is the holder's token. When the order's records are processed, a done-marker
replaces the token, and the next lock replaces the done-marker. So an order has one key, and done-markers need no calls
of their own.
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
KEYS_MAX = 500  # per call: the script takes some milliseconds, and Redis serves no other client meanwhile
TTL_MS = 30_000  # longer than a batch takes, so that a lock seldom expires before its batch ends
DONE_TTL_MS = 60_000  # longer than a rebalance, after which an uncommitted batch is redelivered
# Fits a partition of 32 bits and an offset of 64. Python raises an error when it converts thousands of digits.
DONE_MARKER_BYTES_MAX = 32
CALL_S = 1.0  # two tries of half a second
SLOTS = 16  # at most as many calls per batch; enough to use all nodes of a cluster
FAILURES_MAX = 3
OPEN_S = 2.0

_Call = tuple[Sequence[bytes], Sequence[bytes]]  # keys of one slot, and the script's arguments

# RedisClusterException, raised when no node of a cluster answers, is not a RedisError.
_CLIENT_ERRORS = (RedisError, RedisClusterException, OSError, TimeoutError)

# The scripts compare tokens, so that repeating a call does no harm. The client repeats a call itself when an answer is
# lost; a plain `SET NX` would then find our own key and report it as locked by another worker.
# The answer lists only the keys that another token holds and the done-markers; usually both lists are empty.
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
        local done_marker = ARGV[2 + place]
        if done_marker and done_marker ~= '' then
            redis.call('SET', key, done_marker, 'PX', ttl_ms)
        else
            redis.call('DEL', key)
        end
    end
end
return 0
"""


def spread(key: bytes) -> int:
    """Return one of `SLOTS` for a key, the same in every process.

    Over the nodes of a cluster this shares out the load. On a single server one slot is best, because a batch is then
    one call.
    """
    return crc32(key) % SLOTS


class RedisLocks:
    """`workers.locks.IdempotencyLocks`, with one script call per slot for all keys of a batch.

    In a Redis Cluster all keys of a script must be in one slot. The part of a key between braces decides the slot; it
    is `slot_of` the record's key. All workers must use the same `slot_of`.
    """

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
        """Lock the keys that no other token holds, for `ttl_ms`.

        Raises:
            InfrastructureDown: some keys may be locked by the token; they expire.
        """
        ours = set(keys)
        done: dict[bytes, Position] = {}
        calls = self._calls(ours)
        arguments = (token, b"%d" % self._ttl_ms)
        answers = await self._all(_ACQUIRE, [(call, arguments) for call in calls])
        for call, (taken, done_markers) in zip(calls, answers, strict=True):
            ours.difference_update([call[place - 1] for place in taken])
            for place, done_marker in zip(done_markers[::2], done_markers[1::2], strict=True):
                if (position := _decode(done_marker)) is not None:
                    done[call[place - 1]] = position
        return LockResult(ours, done)

    async def release(self, keys: Sequence[bytes], token: bytes, done: Mapping[bytes, Position]) -> None:
        """Release the keys that the token holds. Those in `done` keep a done-marker for `done_ttl_ms`.

        Raises:
            InfrastructureDown: some keys may not be released; they expire.
        """
        first = (token, b"%d" % self._done_ttl_ms)
        calls = self._calls(set(keys))
        await self._all(_RELEASE, [(call, (*first, *[_encode(done.get(key)) for key in call])) for call in calls])

    async def close(self) -> None:
        await self._client.aclose()

    def _calls(self, keys: Iterable[bytes]) -> list[list[bytes]]:
        """Group the keys by slot, with at most `KEYS_MAX` in a call."""
        by_slot: dict[int, list[bytes]] = {}
        for key in keys:
            by_slot.setdefault(self._slot_of(key), []).append(key)
        return [call for of_slot in by_slot.values() for call in _chunks(of_slot)]

    async def _all(self, script: str, calls: Sequence[_Call]) -> list[Any]:
        """Make all calls at once and return all answers.

        Raises:
            InfrastructureDown: Redis is unreachable, slow, full, read-only after a failover, or wants a password. This
                is raised within `call_s`; after some failures in a row, without a call.
        """
        if not calls:
            return []
        if not self._breaker.admits():
            raise InfrastructureDown("Redis: not called, because recent calls failed")
        try:
            async with asyncio.timeout(self._call_s):
                answers = await self._answers(script, calls)
        except _CLIENT_ERRORS as error:
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


def _encode(position: Position | None) -> bytes:
    return b"" if position is None else b"=%d:%d" % (position.partition, position.offset)


def _decode(done_marker: bytes) -> Position | None:
    """Return the last processed offset in a done-marker; `None` for a value that no release of ours writes."""
    partition, _, offset = done_marker[1:].partition(b":")
    if len(done_marker) > DONE_MARKER_BYTES_MAX or not (partition.isdigit() and offset.isdigit()):
        return None
    return Position(int(partition), int(offset))


def _chunks(keys: Sequence[bytes]) -> Iterator[list[bytes]]:
    rest = iter(keys)
    while chunk := list(islice(rest, KEYS_MAX)):
        yield chunk
