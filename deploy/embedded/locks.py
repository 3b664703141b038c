"""Claims within one process: a dictionary. They end with the process, and so do those who held them, and their marks:
none is kept, since nobody comes after whom they could save work."""

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
