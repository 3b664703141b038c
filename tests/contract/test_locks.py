"""The contract of the idempotency locks on both engines: a key has one holder until it is released."""

from tests.contract.engines import Engine

KEYS = [b"shop-sg:N1", b"shop-sg:N2", b"shop-sg:N3"]


async def test_free_keys_are_acquired(engine: Engine) -> None:
    assert (await engine.locks().acquire(KEYS, b"w1:1")).ours == set(KEYS)


async def test_keys_held_by_another_token_are_not_acquired_and_the_others_are(engine: Engine) -> None:
    locks = engine.locks()
    await locks.acquire(KEYS[:1], b"w1:1")
    assert (await locks.acquire(KEYS, b"w2:1")).ours == set(KEYS[1:])


async def test_acquire_with_the_same_token_can_be_repeated(engine: Engine) -> None:
    locks = engine.locks()
    await locks.acquire(KEYS, b"w1:1")
    assert (await locks.acquire(KEYS, b"w1:1")).ours == set(KEYS)


async def test_released_keys_can_be_acquired(engine: Engine) -> None:
    locks = engine.locks()
    await locks.acquire(KEYS, b"w1:1")
    await locks.release(KEYS[:2], b"w1:1", {})
    assert (await locks.acquire(KEYS, b"w2:1")).ours == set(KEYS[:2])


async def test_release_does_not_release_keys_of_another_token(engine: Engine) -> None:
    locks = engine.locks()
    await locks.acquire(KEYS, b"w1:1")
    await locks.release(KEYS, b"w1:2", {})
    assert (await locks.acquire(KEYS, b"w2:1")).ours == set()


async def test_acquire_without_keys_acquires_none(engine: Engine) -> None:
    assert (await engine.locks().acquire([], b"w1:1")).ours == set()
