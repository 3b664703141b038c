"""Single cells: as Alipay writes them, as spreadsheets change them, and hostile ones."""

from datetime import datetime

import pytest

from deploy.bills import cells
from deploy.bills.cells import BadCell
from schemas import times
from schemas.money import Money


@pytest.mark.parametrize(
    ("text", "minor"),
    [
        ("12.80", 1280), ("1,234.50", 123450), ("+5", 500), ("-5.00", -500), (" 12.8\t", 1280), ("１２．８０", 1280),
        ("\u22123.00", -300), ('="7.10"', 710), ("'9.00", 900), ("12.8000", 1280),
        ("9,999,999,999.99", 999999999999), ("10000000000", 10**12),
    ],
)  # fmt: skip
def test_amounts_are_read_as_people_and_programs_write_them(text: str, minor: int) -> None:
    assert cells.amount(text, "CNY") == Money(minor, "CNY")


@pytest.mark.parametrize(
    "text",
    [
        "",
        "abc",
        "1e3",
        "12,80",
        "1,23.00",
        "12.805",
        "--5",
        "5-",
        "0x10",
        "1²",
        "٣",
        "=1+1",
        "9" * 16,
        "10000000000.01",
        "9" * 15,
    ],
)
def test_other_amounts_are_refused(text: str) -> None:
    with pytest.raises(BadCell):
        cells.amount(text, "CNY")


def test_decimals_are_those_of_the_currency() -> None:
    assert cells.amount("1280.00", "JPY") == Money(1280, "JPY")
    assert cells.amount("1.234", "KWD") == Money(1234, "KWD")
    assert cells.amount("1280", "USD", is_minor=True) == Money(1280, "USD")
    assert cells.amount("12.80", "USD", is_minor=True) == Money(1280, "USD")
    assert cells.amount("1280", "XBB", is_minor=True) == Money(1280, "XBB")  # which has no decimals in ISO 4217
    for currency in ("XBB", "usd", ""):
        with pytest.raises(BadCell):
            cells.amount("12.80", currency, is_minor=True)
    for text, currency in (("1280.50", "JPY"), ("1.00", "ABC"), ("1.00", "")):
        with pytest.raises(BadCell):
            cells.amount(text, currency)


def test_error_quotes_a_cell_only_if_it_has_digits_and_signs() -> None:
    for text, is_quoted in (("12,80", True), ("buyer@example.com", False), ("张三", False)):
        with pytest.raises(BadCell) as caught:
            cells.amount(text, "CNY")
        assert (text in str(caught.value)) is is_quoted


def test_numbers_lose_the_marks_of_spreadsheets() -> None:
    for text in ("2025100922\t", "'2025100922", "`2025100922", '="2025100922"', "\ufeff 2025100922 "):
        assert cells.number(text) == "2025100922"
    assert cells.number("\t") == ""


@pytest.mark.parametrize("text", ["2.02510E+27", "2E+27", "3e+127", "A\x00B", "A\ufffdB", "A\u202eB", "x" * 129])
def test_numbers_that_are_damaged_are_refused(text: str) -> None:
    with pytest.raises(BadCell):
        cells.number(text)


@pytest.mark.parametrize("text", ["3E20260131001", "2E27", "1E+2026", "31E+12", "E+12"])
def test_numbers_of_orders_with_an_e_are_no_rounded_ones(text: str) -> None:
    assert cells.number(text) == text


@pytest.mark.parametrize(
    "text",
    ["2025-10-09 16:53:18", "2025/10/9 16:53:18", "10/09/2025 16:53:18", "2025-10-09T16:53:18+08:00",
     "2025-10-09T08:53:18Z", "2025-10-09 08:53:18Z", "2025-10-09 15:53:18+07:00",
     "2025-10-09 16:53:18.123", "２０２５-10-09 16:53:18"],
)  # fmt: skip
def test_times_without_a_zone_are_of_china(text: str) -> None:
    assert cells.moment_ms(text) == times.to_epoch_ms(datetime.fromisoformat("2025-10-09T08:53:18+00:00"))


def test_other_times_are_refused_and_an_empty_one_is_none() -> None:
    assert cells.moment_ms("  ") is None
    for text in ("yesterday", "2025-02-30 10:00:00", "2025-10-09", "2025-10-09 25:00:00", "0000-01-01 00:00:00"):
        with pytest.raises(BadCell):
            cells.moment_ms(text)


def test_times_of_other_centuries_are_refused() -> None:
    years = ("0001-01-01 00:00:00", "9999-12-31 23:59:59", "1970-01-01 00:00:00", "0001-01-01T00:00:00+08:00")
    for text in years:
        with pytest.raises(BadCell):
            cells.moment_ms(text)
