"""The rows of a bill on disk."""

from msgspec import structs

from deploy.bills import sheet
from deploy.bills.layouts import BillLine, LineKind

PAID = BillLine(
    number=1, kind=LineKind.PAYMENT, order="A1", trade="T1", refund="", own="T1", minor=1280, currency="CNY", at_ms=1000
)
REFUND = structs.replace(PAID, kind=LineKind.REFUND, refund="R1", minor=300, at_ms=2000)


def test_rows_of_one_trade_are_joined() -> None:
    other = structs.replace(PAID, order="A2", trade="T2", own="T2", at_ms=None)
    with sheet.opened() as rows:
        rows.add([PAID, REFUND, structs.replace(REFUND, refund="R2", minor=200, at_ms=3000), other])
        assert (rows.complete(), rows.span_ms) == (2, (1000, 3000))
        first, second = rows.trades()
        assert (first.order, first.trade, first.payments, first.paid_minor) == ("A1", "T1", 1, 1280)
        assert (first.refunds, first.refunded_minor, first.paid_at_ms, first.refunded_at_ms) == (2, 500, 1000, 3000)
        assert sorted(rows.refunds(first)) == [("R1", 300), ("R2", 200)]
        assert (second.paid_at_ms, second.refunds) == (None, 0)
        assert list(rows.sums()) == [("payment", "CNY", 2, 2560), ("refund", "CNY", 2, 500)]


def test_row_that_is_there_twice_counts_once() -> None:
    unknown = structs.replace(PAID, order="A2", trade="T2", at_ms=None)
    with sheet.opened() as rows:
        rows.add([PAID, structs.replace(PAID, number=2), unknown, unknown, structs.replace(PAID, at_ms=5)])
        assert (rows.duplicates, rows.complete()) == (2, 2)


def test_equal_refunds_without_a_number_are_kept_and_doubtful() -> None:
    loose = structs.replace(REFUND, refund="")
    with sheet.opened() as rows:
        rows.add([PAID, loose, structs.replace(loose, number=2), REFUND, structs.replace(REFUND, number=3)])
        assert (rows.duplicates, rows.complete()) == (1, 1)
        (found,) = rows.trades()
        assert (found.refunds, found.refunded_minor, found.doubtful_minor) == (3, 900, 300)
        numbered = structs.replace(loose, order="A2", own="F1")  # Alipay's own number of the refund
        rows.add([numbered, structs.replace(numbered, number=2)])
        assert rows.duplicates == 2


def test_captures_of_one_authorisation_are_one_trade() -> None:
    captures = [structs.replace(PAID, own=f"C{each}", is_capture=True) for each in range(3)]
    with sheet.opened() as rows:
        rows.add(captures)
        assert rows.complete() == 1
        (found,) = rows.trades()
        assert (found.is_captured, found.payments, found.paid_minor) == (True, 3, 3840)


def test_payments_are_found_by_trade_and_refunds_by_either_number() -> None:
    with sheet.opened() as rows:
        rows.add([PAID, REFUND, structs.replace(PAID, order="A3", trade="", own="C3")])
        rows.complete()
        found = [rows.has_payment(*each) for each in (("A1", "T1"), ("A9", "T1"), ("A1", ""), ("A3", "T3"))]
        assert found == [True] * 4
        missing = [rows.has_payment(*each) for each in (("A1", "T9"), ("", ""), ("A9", ""), ("", "T9"))]
        assert missing == [False] * 4
        assert [rows.refunded_minor(*each) for each in (("A1", ""), ("", "T1"), ("", ""), ("A9", "T9"))] == [
            300,
            300,
            0,
            0,
        ]


def test_more_rows_than_one_batch_are_added() -> None:
    count = sheet.ROWS_AT_ONCE * 2 + 1
    with sheet.opened() as rows:
        rows.add(structs.replace(PAID, order=f"A{each}", trade=f"T{each}") for each in range(count))
        assert rows.complete() == count
        assert sum(1 for _ in rows.trades()) == count


def test_order_is_new_once() -> None:
    with sheet.opened() as rows:
        assert [rows.is_new(*each) for each in (("shop", "A1"), ("shop", "A1"), ("isv/1", "A1"))] == [True, False, True]
