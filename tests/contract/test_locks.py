"""What every kind of claims promises: of two who ask for one key, one gets it, until it is given back."""

from tests.contract.engines import Engine

KEYS = [b"shop-sg:N1", b"shop-sg:N2", b"shop-sg:N3"]


async def test_what_nobody_holds_is_ours(engine: Engine) -> None:
    assert (await engine.locks().acquire(KEYS, b"w1:1")).ours == set(KEYS)


async def test_what_another_holds_is_not_ours_and_the_rest_is(engine: Engine) -> None:
    locks = engine.locks()
    await locks.acquire(KEYS[:1], b"w1:1")
    assert (await locks.acquire(KEYS, b"w2:1")).ours == set(KEYS[1:])


async def test_claiming_again_with_the_same_token_changes_nothing(engine: Engine) -> None:
    locks = engine.locks()
    await locks.acquire(KEYS, b"w1:1")
    assert (await locks.acquire(KEYS, b"w1:1")).ours == set(KEYS)


async def test_what_was_given_back_can_be_claimed(engine: Engine) -> None:
    locks = engine.locks()
    await locks.acquire(KEYS, b"w1:1")
    await locks.release(KEYS[:2], b"w1:1", {})
    assert (await locks.acquire(KEYS, b"w2:1")).ours == set(KEYS[:2])


async def test_nobody_gives_back_what_another_holds(engine: Engine) -> None:
    locks = engine.locks()
    await locks.acquire(KEYS, b"w1:1")
    await locks.release(KEYS, b"w1:2", {})
    assert (await locks.acquire(KEYS, b"w2:1")).ours == set()


async def test_nothing_is_claimed_by_claiming_nothing(engine: Engine) -> None:
    assert (await engine.locks().acquire([], b"w1:1")).ours == set()
