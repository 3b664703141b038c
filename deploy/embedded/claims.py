"""Claims within one process: a dictionary. They end with the process, and so do those who held them."""

from collections.abc import Sequence


class LocalClaims:
    """`workers.claims.Claims` for workers that share this object."""

    def __init__(self) -> None:
        self._holders: dict[bytes, bytes] = {}

    async def claim(self, keys: Sequence[bytes], token: bytes) -> set[bytes]:
        return {key for key in keys if self._holders.setdefault(key, token) == token}

    async def release(self, keys: Sequence[bytes], token: bytes) -> None:
        for key in keys:
            if self._holders.get(key) == token:
                del self._holders[key]
