"""Key files are reloaded periodically; faults are logged once, and metrics follow the keys in use."""

import asyncio
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager, suppress
from datetime import UTC, datetime
from typing import cast

import pytest

from ingest.app import reload_keys, unnamed_batches
from ingest.keys import Key, KeyRing, Rings
from schemas.accounts import SignType
from tests.support import alipay
from tests.support.fakes import MemoryLogger
from tests.support.waiting import until

EXPIRES_AT = datetime(2030, 1, 2, tzinfo=UTC)
MATERIAL = alipay.rsa_key().public_key()


class FakeRings:
    """Rings whose faults and keys a test sets. `reloads` counts the calls."""

    def __init__(self) -> None:
        self.keys: tuple[Key, ...] = (Key("k1", MATERIAL), Key("k2", MATERIAL, EXPIRES_AT, "sn"))
        self.faults: list[str] = []
        self.reloads = 0

    def reload(self) -> list[str]:
        self.reloads += 1
        return list(self.faults)

    def current(self, name: str) -> KeyRing:
        return KeyRing(name, SignType.RSA2, self.keys)


class KeysSeen:
    def __init__(self) -> None:
        self.keys: list[tuple[str, str]] = []
        self.expiries: dict[tuple[str, str], float] = {}

    def keys_in_use(self, keys: Iterable[tuple[str, str]], /) -> None:
        self.keys = list(keys)

    def keys_expire(self, expiries: dict[tuple[str, str], float], /) -> None:
        self.expiries = expiries


@pytest.fixture
def rings() -> FakeRings:
    return FakeRings()


@asynccontextmanager
async def reloading(rings: FakeRings, logger: MemoryLogger) -> AsyncIterator[KeysSeen]:
    seen = KeysSeen()
    task = asyncio.create_task(
        reload_keys(cast(Rings, rings), ["shop"], observer=seen, logger=logger, interval_s=0.001)
    )
    yield seen
    task.cancel()
    with suppress(asyncio.CancelledError):
        await task


async def reloaded(rings: FakeRings) -> None:
    """Return after two further reloads, so that the second began after this call."""
    before = rings.reloads
    await until(lambda: rings.reloads >= before + 2)


async def test_observer_gets_the_keys_in_use_and_their_expiries(rings: FakeRings) -> None:
    async with reloading(rings, MemoryLogger()) as seen:
        await reloaded(rings)
        assert seen.keys == [("shop", "k1"), ("shop", "k2")]
        assert seen.expiries == {("shop", "k2"): EXPIRES_AT.timestamp()}
        rings.keys = rings.keys[:1]
        await reloaded(rings)
        assert (seen.keys, seen.expiries) == ([("shop", "k1")], {})


async def test_fault_of_a_key_file_is_logged_once_until_it_changes_or_ends(rings: FakeRings) -> None:
    logger = MemoryLogger()
    async with reloading(rings, logger):
        await reloaded(rings)
        assert logger.lines == []
        for faults in (["a is missing"], ["b is missing"], []):
            rings.faults = faults
            await reloaded(rings)
    assert [(event, fields.get("error")) for event, fields in logger.lines] == [
        ("key file is faulty, the old keys stay in use", "a is missing"),
        ("key file is faulty, the old keys stay in use", "b is missing"),
        ("all key files are valid again", None),
    ]


def test_accounts_whose_batch_refunds_name_no_merchant_are_reported_at_start() -> None:
    bound = [alipay.mapi(SignType.MD5), alipay.mapi(notify_verify=True), alipay.openapi(), alipay.antom()]
    assert unnamed_batches([alipay.mapi(), *bound]) == ["shop-sg"]
    assert unnamed_batches(bound) == []
