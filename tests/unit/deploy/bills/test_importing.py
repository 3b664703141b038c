"""The period of a file, and an import that ends early."""

from pathlib import Path

import pytest
from msgspec import structs

from deploy.bills import files, importing, sheet
from deploy.bills.files import BadBill
from deploy.bills.importing import CannotAsk
from deploy.bills.judgement import BillPeriod
from deploy.bills.reader import BillNotes
from deploy.cli import terminal
from deploy.cli.admin import AdminClient
from schemas.times import DAY_MS
from tests.support import bills
from tests.support.admin import TOKEN
from tests.support.bills import bill_in_dollars
from tests.unit.deploy.bills.test_comparison import NOON_MS, SINCE_MS, line
from tests.unit.deploy.cli import admin_server

COUNT = 400  # differences, which are more than one request takes


def test_period_is_that_of_the_comments_or_the_days_of_the_rows() -> None:
    with sheet.opened() as rows:
        with pytest.raises(BadBill, match="--date"):
            importing.span_of(BillNotes(), rows)
        rows.add([line(1)])
        assert rows.span_ms == (NOON_MS, NOON_MS)
        assert importing.span_of(BillNotes(), rows) == BillPeriod(SINCE_MS, SINCE_MS + DAY_MS)
        assert importing.span_of(BillNotes(spans_ms={(5, 6)}), rows) == BillPeriod(5, 6)
        assert importing.span_of(BillNotes(spans_ms={(6, 9), (5, 6)}), rows) == BillPeriod(5, 9)
        nested = BillNotes(spans_ms={(1, 9), (2, 3), (5, 6), (9, 10)})
        assert importing.span_of(nested, rows) == BillPeriod(1, 10)
        with pytest.raises(BadBill, match="leave days out"):
            importing.span_of(BillNotes(spans_ms={(7, 9), (5, 6)}), rows)


def test_period_of_rows_is_refused_if_it_may_have_days_without_rows() -> None:
    def span(*moments_ms: int, is_settlement: bool = False) -> BillPeriod:
        with sheet.opened() as rows:
            rows.add([structs.replace(line(each), at_ms=at_ms) for each, at_ms in enumerate(moments_ms)])
            return importing.span_of(BillNotes(), rows, is_settlement=is_settlement)

    next_day_ms = NOON_MS + DAY_MS
    assert span(next_day_ms, NOON_MS) == BillPeriod(NOON_MS, next_day_ms + 1)  # a day in another zone
    for other_ms in (NOON_MS + 2 * DAY_MS, NOON_MS - 40 * 365 * DAY_MS):
        with pytest.raises(BadBill, match="--date"):
            span(NOON_MS, other_ms)
    assert span(NOON_MS, NOON_MS + 2 * DAY_MS, is_settlement=True) == BillPeriod(SINCE_MS, SINCE_MS + 3 * DAY_MS)


@pytest.mark.parametrize(
    ("content", "given", "is_agreed"),
    [
        (bill_in_dollars(), None, True),  # its summary announces none
        (bill_in_dollars().split("#交易合计".encode("gbk"))[0], None, False),
        (bill_in_dollars(("A1", {"kind": "其他"})).split("#交易合计".encode("gbk"))[0], None, False),
        (bill_in_dollars(("A1", {})), BillPeriod(SINCE_MS - DAY_MS, SINCE_MS), False),
    ],
)
def test_import_that_compared_nothing_does_not_agree(
    tmp_path: Path, content: bytes, given: BillPeriod | None, is_agreed: bool
) -> None:
    path = tmp_path / "bill.csv"
    path.write_bytes(content)
    with admin_server.running() as server, files.opened(str(path)) as bill:
        api = AdminClient(server.url, token=TOKEN)
        result = importing.run(api, bill, account="shop", given=given, ask=False, by="kim", progress=terminal.progress)
    shown = result["import"]
    assert (shown["is_agreed"], shown["differences"], bool(shown["report"]["disagreements"])) == (
        is_agreed, 0, not is_agreed,
    )  # fmt: skip


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
    path.write_bytes(bill_in_dollars(*((f"A{each}", {}) for each in range(COUNT + 5))))
    with admin_server.running() as server, files.opened(str(path)) as bill:
        api = AdminClient(server.url, token=TOKEN)
        result = importing.run(api, bill, account="shop", given=None, ask=False, by="kim", progress=terminal.progress)
    assert len(result["differences"]) == COUNT + 5
    assert [each["place"] for each in result["differences"]] == list(range(1, COUNT + 6))
    assert result["import"]["by"].startswith("kim (")


def test_bills_of_several_merchants_or_kinds_are_refused(tmp_path: Path) -> None:
    one = bills.trade_bill([]).encode("gbk")
    other = bills.trade_bill([], merchant="2088001000000002").encode("gbk")
    antom = (
        b"transactionId,transactionRequestId,transactionType,transactionAmountValue,transactionCurrency,paymentTime\n"
    )
    for number, members in enumerate(({"a": one, "b": other}, {"a": one, "b": antom})):
        path = bills.archive(tmp_path / f"{number}.zip", **members)
        api = AdminClient("http://127.0.0.1:1")
        with files.opened(str(path)) as bill, pytest.raises(BadBill, match="several"):
            importing.run(api, bill, account="", given=None, ask=False, by="kim", progress=terminal.progress)


def test_hostile_file_has_a_report_that_the_server_takes(tmp_path: Path) -> None:
    """As many faults and names as a report has, all of characters that JSON writes in six bytes."""
    wide = "\u4e2d"
    rows = [bills.trade_row(f"A{each}", wide * 300, kind="\u4ea4\u6613") for each in range(40)]
    rows += [bills.trade_row(wide * 120 + str(each), kind=wide * 60) for each in range(40)]
    rows += [bills.trade_row(wide * 120 + str(each), trade=wide * 120 + str(each)) for each in range(200)]
    members = {wide * 60 + str(each): b"a,b\n" for each in range(60)}
    path = bills.archive(tmp_path / "bill.zip", bill=bills.trade_bill(rows, merchant="").encode("utf-8"), **members)
    with admin_server.running() as server, files.opened(str(path)) as bill:
        api = AdminClient(server.url, token=TOKEN)
        result = importing.run(api, bill, account="shop", given=None, ask=False, by="kim", progress=terminal.progress)
    report = result["import"]["report"]
    assert (len(result["differences"]), report["unreadable"], len(report["left_out"])) == (200, 40, 10)
