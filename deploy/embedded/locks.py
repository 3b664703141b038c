"""Idempotency locks within one process: a dictionary, without done-markers.

The locks end with the process and so do their holders, so no later worker could use a done-marker.
"""

from collections.abc import Mapping, Sequence

from workers.locks import LockResult
from workers.settlement.plan import Position


class LocalLocks:
    """`workers.locks.IdempotencyLocks` for workers that share this object."""

    def __init__(self) -> None:
        self._holders: dict[bytes, bytes] = {}

    async def acquire(self, keys: Sequence[bytes], token: bytes) -> LockResult:
        return LockResult({key for key in keys if self._holders.setdefault(key, token) == token}, {})

    async def release(self, keys: Sequence[bytes], token: bytes, done: Mapping[bytes, Position]) -> None:
        for key in keys:
            if self._holders.get(key) == token:
                del self._holders[key]
