"""Statements built from columns: one array for each."""

import re

from schemas.events import Outgoing
from tests.support import log_records
from workers import row_codec
from workers.postgres import columns
from workers.postgres.columns import Columns
from workers.settlement.plan import LedgerRow, Position

TWO = Columns("name text, count bigint")


def test_insert_takes_one_array_for_each_column() -> None:
    assert TWO.insert("things", after="RETURNING 1") == (
        "INSERT INTO things (name, count) SELECT name, count "
        "FROM unnest($1::text[], $2::bigint[]) AS given(name, count) RETURNING 1"
    )


def test_rows_are_transposed_to_columns() -> None:
    assert columns.arrays([("a", 1), ("b", 2)]) == [("a", "b"), (1, 2)]


def width(of: Columns) -> int:
    return len(re.findall(r"\[\]", of.arrays))


def test_rows_are_as_wide_as_their_columns() -> None:
    event = Outgoing(id="x:1", topic="payments.order.event.v1", key=b"", value=b"", headers=())
    entry = LedgerRow(
        account="a",
        notification_id="n",
        order="o",
        digest=b"",
        position=Position(0, 1),
        record=log_records.record("N1"),
    )
    assert len(row_codec.outbox_row(event, 0)) == width(columns.OUTBOX)
    assert len(row_codec.ledger_row(entry)) == width(columns.LEDGER)
