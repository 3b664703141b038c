"""Calls that the cluster's store answers without its database. All others: tests/contract/test_store.py."""

from typing import Any, NoReturn

import pytest

from schemas.record_format import Record
from tests.support.log_records import Time
from workers.postgres.store import PostgresOrderStore
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


async def test_undecodable_record_was_never_processed(store: PostgresOrderStore) -> None:
    assert not await store.are_settled([LogRecord(Position(0, 1), Record(b"", b"", ()))])


@pytest.mark.parametrize("id_", ["", "nonsense", "0-", "-1"])
async def test_malformed_id_names_no_held_row(store: PostgresOrderStore, id_: str) -> None:
    assert await store.held_page(id_) is None
