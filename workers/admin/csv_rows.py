"""Rows of CSV for spreadsheets, in which no cell is run as a formula. Pure."""

import csv
import io
from collections.abc import Iterable

from msgspec import UNSET

# A spreadsheet runs a cell that begins with one of these as a formula; some take the wide forms too.
FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n", "＝", "＋", "－", "＠")


def safe(cell: str) -> str:
    """Return a cell that no spreadsheet runs as a formula."""
    return f"'{cell}" if cell.startswith(FORMULA) else cell


def text(value: object) -> str:
    """Return a value as the text of a cell: nothing for none, and a list separated by blanks."""
    if value is None or value is UNSET:
        return ""
    if isinstance(value, tuple):
        return " ".join(map(str, value))
    return value.isoformat() if hasattr(value, "isoformat") else str(value)


def lines(rows: Iterable[Iterable[str]]) -> bytes:
    """Return the rows as CSV in UTF-8."""
    written = io.StringIO()
    csv.writer(written).writerows(rows)
    return written.getvalue().encode()
