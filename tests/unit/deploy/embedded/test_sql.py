"""Statements with many rows, and numbers as JSON arrays."""

import sqlite3
from collections.abc import Iterator

import pytest

from deploy.embedded import sql
from schemas.events import Outgoing
from tests.support import plans
from workers import row_codec


@pytest.fixture
def connection() -> Iterator[sqlite3.Connection]:
    opened = sqlite3.connect(":memory:", isolation_level=None)
    opened.execute("CREATE TABLE numbers (number INTEGER PRIMARY KEY, name TEXT)")
    yield opened
    opened.close()


@pytest.mark.parametrize("count", [0, 1, 15, 16, 17, 128, 145, 300])
def test_rows_are_inserted_in_order_by_few_statements(connection: sqlite3.Connection, count: int) -> None:
    statements: list[str] = []
    connection.set_trace_callback(statements.append)
    rows = [(number, f"n{number}") for number in range(count)]
    assert sql.insert(connection, "INSERT INTO numbers (number, name)", rows) == count
    assert connection.execute("SELECT number, name FROM numbers ORDER BY rowid").fetchall() == rows
    assert len(statements) - 1 == count // 128 + count % 128 // 16 + count % 16


def test_only_inserted_rows_are_counted(connection: sqlite3.Connection) -> None:
    rows = [(number % 3, "n") for number in range(20)]
    into = "INSERT INTO numbers (number, name)"
    assert sql.insert(connection, into, rows, after="ON CONFLICT DO NOTHING") == 3


def test_numbers_are_grouped_by_account_and_sorted() -> None:
    names = [("b", "2"), ("a", "9"), ("b", "1")]
    assert dict(sql.by_account(names)) == {"b": '["1","2"]', "a": '["9"]'}
    assert list(sql.by_account([])) == []


def test_rows_are_as_wide_as_their_columns() -> None:
    event = Outgoing(id="x:1", topic="t", key=b"", value=b"", headers=())
    assert len(row_codec.delivery_row(plans.delivery(1))) == sql.DELIVERY.count(",") + 1
    assert len(row_codec.outbox_row(event, 0)) == 7
