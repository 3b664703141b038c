"""Whole bills: encodings, comments, faulty rows, and files that are no bills."""

from datetime import datetime
from pathlib import Path

import pytest

from deploy.bills import files, reader
from deploy.bills.files import BadBill
from deploy.bills.layouts import BillLine
from deploy.bills.reader import BillNotes
from schemas import times
from tests.support import bills
from tests.support.bills import trade_bill, trade_row

DAY_MS = times.to_epoch_ms(datetime(2025, 10, 9, tzinfo=times.BEIJING))


def read(path: Path) -> tuple[list[BillLine], BillNotes]:
    notes = BillNotes()
    with files.opened(str(path)) as bill:
        return list(reader.read(bill, notes, lambda count: None)), notes


def read_text(tmp_path: Path, text: str, encoding: str = "gbk") -> tuple[list[BillLine], BillNotes]:
    path = tmp_path / "bill.csv"
    path.write_bytes(text.encode(encoding))
    return read(path)


@pytest.mark.parametrize("encoding", ["gbk", "utf-8", "utf-8-sig", "gb18030"])
def test_bill_is_read_in_each_encoding(tmp_path: Path, encoding: str) -> None:
    rows = [
        trade_row("A1"),
        trade_row("A2"),
        trade_row("A1", "-5.00", kind="退款", refund="R1"),
        trade_row("A3", kind="其他"),
    ]
    found, notes = read_text(tmp_path, trade_bill(rows), encoding)
    assert [(line.kind, line.order, line.minor) for line in found] == [
        ("payment", "A1", 1280), ("payment", "A2", 1280), ("refund", "A1", 500),
    ]  # fmt: skip
    assert (notes.merchants, notes.spans_ms) == ({"2088001000000001"}, {(DAY_MS, DAY_MS + times.DAY_MS)})
    assert (notes.others, notes.rows, notes.unreadable, notes.disagreements()) == ({"其他": 1}, 4, [], [])


def test_archive_of_alipay_has_its_sums_left_out(tmp_path: Path) -> None:
    sums = f"#汇总\n{bills.TOTALS_COLUMNS}\n,,1,0,12.80,12.80\n".encode("gbk")
    path = bills.archive(tmp_path / "a.zip", detail=trade_bill([trade_row("A1")]).encode("gbk"), sums=sums)
    found, notes = read(path)
    assert ([line.order for line in found], notes.left_out) == (["A1"], [])
    with pytest.raises(BadBill, match="sums only"):
        read(bills.archive(tmp_path / "b.zip", sums=sums))


def test_other_files_of_an_archive_are_named(tmp_path: Path) -> None:
    path = bills.archive(tmp_path / "a.zip", bill=trade_bill([trade_row("A1")]).encode("gbk"), other=b"a,b\n1,2\n")
    found, notes = read(path)
    assert (len(found), notes.left_out) == (1, ["other.csv"])


def test_faulty_rows_are_named_and_the_others_are_read(tmp_path: Path) -> None:
    rows = [
        trade_row("A1"), trade_row("A2", "twelve"), trade_row("A3\0"), trade_row("A4", at="never"),
        trade_row("A5", subject="a,b"), "too,few", trade_row("A6", subject="x" * 70_000), trade_row("2.5E+27"),
        trade_row("A7"),
    ]  # fmt: skip
    found, notes = read_text(tmp_path, trade_bill(rows))
    assert [line.order for line in found] == ["A1", "A7"]
    assert (notes.unreadable_count, len(notes.unreadable)) == (7, 7)
    assert not any(word in each for each in notes.unreadable for word in ("twelve", "never"))  # it may be a buyer's
    for word in (
        "订单金额: the text in it is not",
        "NUL",
        "完成时间: the text",
        "26 cells",
        "2 cells",
        "64 KiB",
        "spreadsheet",
    ):
        assert any(word in each for each in notes.unreadable), word
    assert notes.disagreements() == ["the summary has 8 payments, the rows have 2"]


def test_line_with_a_hash_is_a_row_if_it_has_all_cells(tmp_path: Path) -> None:
    order = trade_row("A1", trade="#1")
    found, notes = read_text(tmp_path, trade_bill([order, "#a comment" + "," * 24, "#another,one"]))
    assert ([line.trade for line in found], notes.unreadable_count) == (["#1"], 0)


def test_types_that_may_be_data_of_a_buyer_are_not_kept(tmp_path: Path) -> None:
    rows = [trade_row("A1", kind=kind) for kind in ("其他", "转账 (退回)", "13800138000", "a@b.cn", "x" * 35)]
    assert read_text(tmp_path, trade_bill(rows))[1].others == {"其他": 1, "转账 (退回)": 1, "…": 3}


def test_only_some_faulty_rows_are_named(tmp_path: Path) -> None:
    _, notes = read_text(tmp_path, trade_bill([trade_row("A1", "x")] * 50))
    assert (notes.unreadable_count, len(notes.unreadable)) == (50, reader.NAMED_MAX)


def test_quoted_cells_may_have_commas_and_line_breaks(tmp_path: Path) -> None:
    rows = [trade_row("A1", subject='"one, two"'), trade_row("A2", subject='"first\nsecond ""x"""'), trade_row("A3")]
    found, notes = read_text(tmp_path, trade_bill(rows))
    assert ([line.order for line in found], notes.unreadable) == (["A1", "A2", "A3"], [])


def test_stray_quote_does_not_swallow_the_rows_after_it(tmp_path: Path) -> None:
    rows = [
        trade_row("A1", subject='"stray'),
        *(trade_row(f"B{number}") for number in range(12)),
        trade_row("C1", subject='5" disk'),
    ]
    found, notes = read_text(tmp_path, trade_bill(rows))
    assert len(found) + notes.unreadable_count == 14
    assert {line.order for line in found} >= {f"B{number}" for number in range(12)}


@pytest.mark.parametrize("between", [0, 1, 3])
@pytest.mark.parametrize("second", ['"stray too', '5" disk', '"whole"" and stray'])
def test_two_stray_quotes_do_not_make_one_row_of_two(tmp_path: Path, between: int, second: str) -> None:
    rows = [
        trade_row("A1", "1.00", subject='"stray'),
        *(trade_row(f"B{number}", subject='"with, commas"') for number in range(between)),
        trade_row("C1", "9.00", subject=second),
    ]
    found, notes = read_text(tmp_path, trade_bill(rows))
    orders = ["A1", *(f"B{number}" for number in range(between)), "C1"]
    assert ([line.order for line in found], notes.unreadable) == (orders, [])
    assert (found[0].minor, found[-1].minor) == (100, 900)


def test_last_cell_may_have_a_line_break(tmp_path: Path) -> None:
    remark = trade_row("A1") + '"two\nlines"'
    found, notes = read_text(tmp_path, trade_bill([remark, trade_row("A2")]))
    assert ([line.order for line in found], notes.unreadable) == (["A1", "A2"], [])


def test_free_text_that_cannot_be_decoded_is_no_fault(tmp_path: Path) -> None:
    path = tmp_path / "bill.csv"
    path.write_bytes(
        trade_bill([trade_row("A1", subject="@@"), trade_row("A2")]).encode("utf-8").replace(b"@@", b"\xe4\xb8")
    )
    found, notes = read(path)
    assert ([line.order for line in found], notes.unreadable) == (["A1", "A2"], [])
    path.write_bytes(trade_bill([trade_row("@@"), trade_row("A2")]).encode("utf-8").replace(b"@@", b"\xe4\xb8"))
    found, notes = read(path)
    assert ([line.order for line in found], notes.unreadable_count) == (["A2"], 1)


def test_antom_report_ends_with_its_mark(tmp_path: Path) -> None:
    header = (
        "customerId,transactionId,transactionRequestId,transactionType,transactionAmountValue,transactionCurrency,"
        "paymentTime"
    )
    text = f"{header}\nC,P1,REQ-1,PAYMENT,1280,USD,2025-10-09T16:53:18+08:00\n<END>\nanything,else\n"
    found, notes = read_text(tmp_path, text)
    assert ([line.order for line in found], notes.unreadable_count) == (["REQ-1"], 0)


def test_antom_report_of_nothing_but_its_end_announces_none(tmp_path: Path) -> None:
    header = (
        "transactionId,transactionRequestId,transactionType,transactionAmountValue,transactionCurrency,paymentTime\n"
    )
    for text, announces_none in (
        (header, False),
        (header + "<END>\n", True),
        (header + "C,R,FEE,1,USD,\n<END>\n", False),
    ):
        assert read_text(tmp_path, text)[1].announces_none is announces_none


@pytest.mark.parametrize("column", ["PSP", "acquirer", "pspName"])
def test_antom_report_without_its_end_is_cut_off(tmp_path: Path, column: str) -> None:
    header = (
        f"customerId,{column},transactionId,transactionRequestId,transactionType,transactionAmountValue,"
        "transactionCurrency,paymentTime"
    )
    text = f"{header}\nC,X,P1,REQ-1,PAYMENT,1280,USD,2025-10-09T16:53:18+08:00\n"
    assert read_text(tmp_path, text + "<END>\n")[1].disagreements() == []
    is_doubtful = bool(read_text(tmp_path, text)[1].disagreements())
    assert is_doubtful is (column != "pspName"), "older files have no mark at their end"


@pytest.mark.parametrize(
    ("until", "added_ms"), [("10日 00:00:00", 0), ("09日 23:59:59", 0), ("09日 12:00:00", -times.DAY_MS // 2)]
)
def test_period_may_be_given_by_its_last_second(tmp_path: Path, until: str, added_ms: int) -> None:
    text = trade_bill([]).replace("10日 00:00:00", until)
    assert read_text(tmp_path, text)[1].spans_ms == {(DAY_MS, DAY_MS + times.DAY_MS + added_ms)}


def test_first_line_of_a_cross_border_file_is_checked(tmp_path: Path) -> None:
    text = (
        "Partner:2088001000000001|Payment_time: 2025-10-09|Total_count:3\n"
        "Partner_transaction_id|Transaction_id|Transaction_amount|Charge_amount|Currency|Payment_time|Transaction_type\n"
        "A1|T1|7.50|0.01|EUR|2025-10-09 16:53:18|PAYMENT\n"
    )
    found, notes = read_text(tmp_path, text)
    assert (len(found), notes.merchants) == (1, {"2088001000000001"})
    assert notes.disagreements() == ["the first line has 3 rows, the file has 1"]


def test_hostile_comments_take_no_time_and_no_room(tmp_path: Path) -> None:
    comments = [
        "#起始日期：[" + " " * 60_000,
        "#交易合计：1笔" * 4000,
        *(f"#账号：[2088{each:012}]" for each in range(2000)),
    ]
    found, notes = read_text(tmp_path, "\n".join([*comments, bills.TRADE_COLUMNS, trade_row("A1")]))
    assert (len(found), len(notes.merchants)) == (1, reader.KEPT_MAX + 1)


def test_file_that_is_cut_off_says_so(tmp_path: Path) -> None:
    whole = trade_bill([trade_row("A1"), trade_row("A2")])
    _, notes = read_text(tmp_path, whole[: whole.index("A2") + 80])
    assert any("ends before" in each for each in notes.disagreements())


def test_day_without_payments_is_a_bill_too(tmp_path: Path) -> None:
    found, notes = read_text(tmp_path, trade_bill([]))
    assert (found, notes.rows, notes.disagreements(), bool(notes.layouts)) == ([], 0, [], True)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"a,b,c\n1,2,3\n", ["a, b, c", "支付宝交易号", "transactionRequestId", "Partner_transaction_id"]),
        (b"#only\n#comments\n", ["Found: none"]),
        (b"\x00\x01\x02\x03" * 500, ["unknown"]),
        (trade_bill([]).encode("utf-16"), ["UTF-16"]),
        (trade_bill([trade_row("A1")]).encode("big5", "ignore"), ["unknown"]),
        (b"%PDF-1.7\n\xff\xfe\n", ["unknown"]),
    ],
)
def test_files_that_are_no_bills_are_refused_with_the_reason(tmp_path: Path, content: bytes, words: list[str]) -> None:
    path = tmp_path / "bill.csv"
    path.write_bytes(content)
    with pytest.raises(BadBill) as refused:
        read(path)
    assert [word for word in words if word not in str(refused.value)] == []


def test_file_with_too_many_rows_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reader, "ROWS_MAX", 2)
    with pytest.raises(BadBill, match="more than 2 rows"):
        read_text(tmp_path, trade_bill([trade_row(f"A{number}") for number in range(3)]))
