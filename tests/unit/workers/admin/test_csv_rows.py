"""Rows for spreadsheets."""

from datetime import UTC, datetime

import pytest
from msgspec import UNSET

from workers.admin import csv_rows


@pytest.mark.parametrize("text", ["=1+1", "+1", "-1", "@x", "\t=1", "\r=1", "＝1"])
def test_cells_are_no_formulas(text: str) -> None:
    assert csv_rows.safe(text) == f"'{text}"


def test_values_become_texts() -> None:
    moment = datetime(2025, 10, 9, tzinfo=UTC)
    assert [csv_rows.text(each) for each in (None, UNSET, ("a", "b"), 5, moment)] == [
        "", "", "a b", "5", "2025-10-09T00:00:00+00:00",
    ]  # fmt: skip


def test_rows_are_quoted_where_they_have_to_be() -> None:
    assert csv_rows.safe("12.80") == "12.80"
    assert csv_rows.lines([("a", 'b"c', "d,e"), ("中",)]) == 'a,"b""c","d,e"\r\n中\r\n'.encode()
