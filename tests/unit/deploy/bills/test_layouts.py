"""The columns of bills: found by name, in any order, in Chinese and English."""

import pytest

from deploy.bills import layouts
from deploy.bills.cells import BadCell
from deploy.bills.layouts import BillColumns, BillLine, LineKind
from tests.support import bills

ANTOM = (
    "customerId,transactionId,originalTransactionId,transactionRequestId,transactionType,transactionAmountValue,"
    "transactionCurrency,paymentTime,originalTransactionRequestId"
)
CROSS_BORDER = (
    "Partner_transaction_ id|Transaction_id|Transaction_amount|Charge_amount|Currency|Payment_time|Transaction_type|"
    "Remark|Trans_currency|Trans_amount"
)


def columns(header: str, separator: str = ",") -> BillColumns:
    found = layouts.columns_of(header.split(separator))
    assert found is not None
    return found


def line(header: str, row: str, separator: str = ",") -> BillLine:
    found = columns(header, separator).line(row.split(separator), 7)
    assert found is not None
    return found


def test_trade_bill_has_payments_and_refunds() -> None:
    paid = line(bills.TRADE_COLUMNS, bills.trade_row("A1"))
    assert (paid.kind, paid.order, paid.trade, paid.minor, paid.currency) == (
        LineKind.PAYMENT, "A1", "20251009A1", 1280, "CNY",
    )  # fmt: skip
    refund = line(bills.TRADE_COLUMNS, bills.trade_row("A1", "-5.00", kind="退款", refund="R1"))
    assert (refund.kind, refund.minor, refund.refund) == (LineKind.REFUND, 500, "R1")


def test_columns_are_found_by_name_in_any_order_and_width() -> None:
    header = "订单金额(元),业务类型,完成时间, 商户订单号 ,支付宝交易号"
    found = line(header, "3.00,交易,2025-10-09 16:53:18,A1,T1")
    assert (found.order, found.trade, found.minor) == ("A1", "T1", 300)
    english = "trade_no,out_trade_no,Business Type,order amount,completion time,currency"
    assert line(english, "T1,A1,Payment,3.00,2025-10-09 16:53:18,usd").currency == "USD"


def test_antom_rows_name_the_payment_they_are_about() -> None:
    at = "2025-10-09T16:53:18+08:00"
    paid = line(ANTOM, f"C,P1,,REQ-1,PAYMENT,1280,USD,{at},")
    assert (paid.order, paid.trade, paid.minor, paid.currency) == ("REQ-1", "P1", 1280, "USD")
    refund = line(ANTOM, f"C,F1,P1,REF-1,REFUND,-3.00,USD,{at},REQ-1")
    assert (refund.order, refund.trade, refund.refund, refund.minor) == ("REQ-1", "P1", "REF-1", 300)
    capture = line(ANTOM, f"C,C1,P1,REQ-1,CAPTURE,1280,USD,{at},REQ-1")
    assert (capture.kind, capture.order, capture.trade, capture.own) == (LineKind.PAYMENT, "REQ-1", "P1", "C1")
    other = line(ANTOM, f"C,C2,P1,CAP-2,CAPTURE,1280,USD,{at},REQ-1")
    assert (other.order, other.trade, other.is_capture, refund.is_capture) == ("REQ-1", "P1", True, False)
    for type_ in ("AUTHORIZATION", "CANCEL", "DISPUTE", ""):
        assert columns(ANTOM).line(f"C,P1,,REQ-1,{type_},1280,USD,{at},".split(","), 1) is None


def test_cross_border_amount_is_that_of_the_price() -> None:
    row = "A1|T1|7.50|0.01|EUR|2025-10-09 16:53:18|PAYMENT|||"
    assert (line(CROSS_BORDER, row, "|").currency, line(CROSS_BORDER, row, "|").minor) == ("EUR", 750)
    priced = "A1|T1|7.50|0.01|EUR|2025-10-09 16:53:18|PAYMENT||CNY|60.00"
    assert (line(CROSS_BORDER, priced, "|").currency, line(CROSS_BORDER, priced, "|").minor) == ("CNY", 6000)
    refund = line(CROSS_BORDER, "R1|T1|2.50|0.01|EUR|2025-10-09 16:53:18|REFUND|||", "|")
    assert (refund.order, refund.trade, refund.refund) == ("", "T1", "R1")


@pytest.mark.parametrize("amount", ["0.00", "-1.00", "x"])
def test_payments_that_are_not_above_zero_are_refused(amount: str) -> None:
    with pytest.raises(BadCell):
        line(bills.TRADE_COLUMNS, bills.trade_row("A1", amount))


def test_rows_without_any_number_are_refused() -> None:
    with pytest.raises(BadCell, match="no number"):
        line(bills.TRADE_COLUMNS, bills.trade_row("", trade=" "))


def test_other_files_are_of_no_layout() -> None:
    assert layouts.columns_of(["支付宝交易号", "商户订单号"]) is None
    assert layouts.columns_of([]) is None
    assert layouts.is_totals(bills.TOTALS_COLUMNS.split(","))
    assert any("支付宝交易号" in each for each in layouts.wanted())
