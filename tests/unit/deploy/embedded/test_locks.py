"""Idempotency locks of one process."""

from deploy.embedded.locks import LocalLocks
from workers.settlement.plan import Position

KEYS = [b"shop:N1", b"shop:N2"]


async def test_key_has_one_holder_until_that_token_releases_it() -> None:
    locks = LocalLocks()
    assert (await locks.acquire(KEYS[:1], b"w1:1")).ours == {KEYS[0]}
    assert (await locks.acquire(KEYS, b"w2:1")).ours == {KEYS[1]}
    await locks.release(KEYS, b"w2:1", {})
    assert (await locks.acquire(KEYS, b"w3:1")).ours == {KEYS[1]}
    await locks.release(KEYS, b"w1:1", {})
    assert (await locks.acquire(KEYS, b"w3:1")).ours == set(KEYS)


async def test_released_keys_keep_no_done_marker() -> None:
    locks = LocalLocks()
    await locks.acquire(KEYS, b"w1:1")
    await locks.release(KEYS, b"w1:1", {KEYS[0]: Position(3, 41)})
    assert (await locks.acquire(KEYS, b"w2:1")).done == {}
