"""Calls that the cluster's store answers without its database. All others: tests/contract/test_store.py."""

import asyncio
from typing import Any, NoReturn

import pytest

from schemas import topics
from schemas.events import Outgoing
from schemas.record_format import Record
from tests.support.log_records import Time
from workers.emission import NOTICES, ORDER_EVENTS
from workers.postgres.store import PostgresOrderStore
from workers.queries import Emitted
from workers.settlement.plan import LogRecord, Position


class NoDatabase:
    """Fails a test that uses the database."""

    def __getattr__(self, name: str) -> NoReturn:
        pytest.fail(f"the store used its database: {name}")


@pytest.fixture
def store() -> PostgresOrderStore:
    database: Any = NoDatabase()
    return PostgresOrderStore(database, holder="worker-1", now_ms=Time(), has_relay=False)


async def test_store_without_a_relay_sends_no_events(store: PostgresOrderStore) -> None:
    assert await store.unsent(100) == ()


async def test_events_of_our_own_do_not_wait_for_a_look_of_the_other_loop(monkeypatch: pytest.MonkeyPatch) -> None:
    """A look asks the database who leads, and for orphans, and may take long."""
    looks, answers = asyncio.Event(), asyncio.Event()
    answers.set()

    async def leads() -> bool:
        looks.set()
        await answers.wait()
        return False

    database: Any = NoDatabase()
    store = PostgresOrderStore(database, holder="worker-1", now_ms=Time())
    monkeypatch.setattr(store.sending, "leads", leads)
    assert list(await store.unsent(100, only=ORDER_EVENTS)) == []
    looks.clear()
    answers.clear()
    look = asyncio.create_task(store.unsent(100, only=NOTICES))
    await looks.wait()
    event = Outgoing(id="shop:N1:1", topic=topics.ORDER_EVENT, key=b"shop:N1", value=b"{}", headers=())
    store._unsent.adopt([Emitted(number=1, event=event, sent_at_ms=None)])
    async with asyncio.timeout(60):
        assert list(await store.unsent(100, only=ORDER_EVENTS)) == [(1, event)]
    assert not look.done()
    answers.set()
    assert list(await look) == []


async def test_undecodable_record_was_never_processed(store: PostgresOrderStore) -> None:
    assert not await store.are_settled([LogRecord(Position(0, 1), Record(b"", b"", ()))])


@pytest.mark.parametrize("id_", ["", "nonsense", "0-", "-1"])
async def test_malformed_id_names_no_held_row(store: PostgresOrderStore, id_: str) -> None:
    assert await store.held_page(id_) is None
