"""The period of a file, and an import that ends early."""

from pathlib import Path

import pytest

from deploy.bills import files, importing, sheet
from deploy.bills.files import BadBill
from deploy.bills.importing import CannotAsk
from deploy.bills.judgement import BillPeriod
from deploy.bills.reader import BillNotes
from deploy.cli import terminal
from deploy.cli.admin import AdminClient
from schemas.times import DAY_MS
from tests.support.admin import TOKEN
from tests.support.bills import bill_in_dollars
from tests.unit.deploy.bills.test_comparison import NOON_MS, SINCE_MS, line
from tests.unit.deploy.cli import admin_server


def test_period_is_that_of_the_comments_or_the_days_of_the_rows() -> None:
    with sheet.opened() as rows:
        with pytest.raises(BadBill, match="--date"):
            importing.span_of(BillNotes(), rows)
        rows.add([line(1)])
        assert rows.span_ms == (NOON_MS, NOON_MS)
        assert importing.span_of(BillNotes(), rows) == BillPeriod(SINCE_MS, SINCE_MS + DAY_MS)
        assert importing.span_of(BillNotes(span_ms=(5, 6)), rows) == BillPeriod(5, 6)


def test_import_that_cannot_ask_leaves_no_report(tmp_path: Path) -> None:
    path = tmp_path / "bill.csv"
    path.write_bytes(bill_in_dollars(("A1", {})))
    with admin_server.running() as server, files.opened(str(path)) as bill:
        api = AdminClient(server.url, token=TOKEN)
        with pytest.raises(CannotAsk):
            importing.run(api, bill, account="shop", given=None, ask=True, by="kim", progress=terminal.progress)
        assert api.get("bills")["imports"] == []


def test_report_of_many_differences_is_written_in_pieces(tmp_path: Path) -> None:
    path = tmp_path / "bill.csv"
    path.write_bytes(bill_in_dollars(*((f"A{each}", {}) for each in range(importing.SENT_AT_ONCE + 5))))
    with admin_server.running() as server, files.opened(str(path)) as bill:
        api = AdminClient(server.url, token=TOKEN)
        result = importing.run(api, bill, account="shop", given=None, ask=False, by="kim", progress=terminal.progress)
    assert len(result["differences"]) == importing.SENT_AT_ONCE + 5
    assert [each["place"] for each in result["differences"]] == list(range(1, importing.SENT_AT_ONCE + 6))
    assert result["import"]["by"].startswith("kim (")
