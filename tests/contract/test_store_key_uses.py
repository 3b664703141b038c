"""The uses of keys in the order store of each engine."""

import asyncio

import pytest

from deploy.embedded.key_uses import SqliteKeyUses
from deploy.embedded.store import SqliteOrderStore
from schemas.times import DAY_MS, HOUR_MS
from tests.contract.engines import AnyStore
from tests.support.log_records import NOW_MS
from workers.key_uses import KEPT_MS, SLOT_MS, KeyUse, KeyUsed, KeyUsesPort
from workers.postgres.key_uses import PostgresKeyUses
from workers.postgres.store import PostgresOrderStore


@pytest.fixture
def uses(store: AnyStore) -> KeyUsesPort:
    if isinstance(store, SqliteOrderStore):
        return SqliteKeyUses(store.database, store.reads)
    assert isinstance(store, PostgresOrderStore)
    return PostgresKeyUses(store.database, store.reads)


def use(key_id: str, at_ms: int, messages: int = 1, account: str = "shop") -> KeyUse:
    slot_ms = at_ms - at_ms % SLOT_MS
    return KeyUse(account=account, key_id=key_id, slot_ms=slot_ms, messages=messages, last_at_ms=at_ms)


def used(key_id: str, at_ms: int, in_hour: int, in_day: int, account: str = "shop") -> KeyUsed:
    return KeyUsed(account=account, key_id=key_id, last_at_ms=at_ms, in_hour=in_hour, in_day=in_day)


async def test_uses_add_up_by_key_and_the_last_moment_never_goes_back(uses: KeyUsesPort) -> None:
    await uses.note_key_uses([use("a", NOW_MS, 2), use("b", NOW_MS - 2 * HOUR_MS, 5), use("a", NOW_MS, 1, "other")])
    await uses.note_key_uses([use("a", NOW_MS - 1000, 3), use("a", NOW_MS - 2 * DAY_MS, 9)])
    assert list(await uses.key_uses(["shop", "nobody"], now_ms=NOW_MS)) == [
        used("a", NOW_MS, 5, 5),
        used("b", NOW_MS - 2 * HOUR_MS, 0, 5),
    ]
    assert list(await uses.key_uses(["other"], now_ms=NOW_MS + 2 * DAY_MS)) == [used("a", NOW_MS, 0, 0, "other")]
    assert list(await uses.key_uses([], now_ms=NOW_MS)) == []


async def test_newest_slot_of_a_key_stays_and_older_ones_go_as_it_is_used(uses: KeyUsesPort) -> None:
    first, second = NOW_MS - 2 * KEPT_MS, NOW_MS
    await uses.note_key_uses([use("a", first), use("b", first)])
    await uses.note_key_uses([use("a", second)])
    at_first = await uses.key_uses(["shop"], now_ms=first)
    assert list(at_first) == [used("a", second, 1, 1), used("b", first, 1, 1)]


async def test_many_writers_at_once_lose_nothing(uses: KeyUsesPort) -> None:
    both = [use("a", NOW_MS), use("b", NOW_MS)]
    await asyncio.gather(*(uses.note_key_uses(both if turn % 2 else both[::-1]) for turn in range(8)))
    assert [each.in_hour for each in await uses.key_uses(["shop"], now_ms=NOW_MS)] == [8, 8]
