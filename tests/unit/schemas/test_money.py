"""Amounts are read in one exact form each, and are integers from then on."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas import money
from schemas.currencies import EXPONENTS
from schemas.money import BadMoney, Money, UnknownCurrency
from tests.support import currencies

TWO = sorted(currency for currency, decimals in EXPONENTS.items() if decimals == 2)


def test_the_table_is_the_list_that_iso_4217_publishes() -> None:
    assert currencies.PATH.read_text(encoding="utf-8") == currencies.content(), (
        "run: python -m tests.support.currencies"
    )


@pytest.mark.parametrize(
    ("exponent", "codes"),
    [
        (0, "JPY KRW CLP VND PYG UGX"),
        (2, "USD EUR CNY HKD IDR THB PHP MYR BDT PKR BRL TWD MXN PLN PEN ILS AED ZAR CZK LKR MUR GBP CHF SGD SEK DKK"),
        (3, "KWD BHD OMR JOD TND"),
    ],
)
def test_currencies_have_the_decimals_of_alipay_s_documents(exponent: int, codes: str) -> None:
    assert {EXPONENTS[code] for code in codes.split()} == {exponent}


@pytest.mark.parametrize(
    ("text", "currency", "minor"),
    [
        ("0.01", "USD", 1),
        ("12.80", "USD", 1280),
        ("012.80", "USD", 1280),
        ("999999999.99", "CNY", 99_999_999_999),
        ("1280", "JPY", 1280),
        ("1280.00", "KRW", 1280),
        ("0.00", "EUR", 0),
        ("12.800", "KWD", 12800),
        ("250000", "VND", 250000),
        ("1.2345", "CLF", 12345),
    ],
)
def test_amount_of_a_form_is_parsed_to_minor_units(text: str, currency: str, minor: int) -> None:
    assert money.parse_major(text, currency) == Money(minor, currency)


BAD = ["", " ", "1", "1.0", "1.000", ".10", "1.", "-1.00", "+1.00", " 1.00", "1.00 ", "1.00\n", "1,000.00", "1e3",
       "1.00e1", "NaN", "Infinity", "0x1.00", "1_0.00", "１.00", "٣.00", "1000000000.00", "1.0a",
       "１２.８０"]  # fmt: skip


@pytest.mark.parametrize("text", BAD)
def test_other_text_is_no_amount_with_two_decimals(text: str) -> None:
    with pytest.raises(BadMoney):
        money.parse_major(text, "USD")


@pytest.mark.parametrize("text", ["", "1.5", "1.50", "1.0", "1.", "-1", "1e3", " 1", "1\n", "1234567890", "１"])
def test_other_text_is_no_amount_without_decimals(text: str) -> None:
    with pytest.raises(BadMoney):
        money.parse_major(text, "JPY")


@pytest.mark.parametrize("text", ["", "1.00", "-1", "+1", " 1", "1\n", "1" * 13, "1e3", "１"])
def test_other_text_is_no_amount_of_an_antom_message(text: str) -> None:
    with pytest.raises(BadMoney):
        money.parse_minor(text, "USD")


def test_antom_amount_is_in_the_smallest_unit_of_any_currency() -> None:
    assert money.parse_minor("100", "JPY") == Money(100, "JPY")
    assert money.parse_minor("100", "IDR") == Money(100, "IDR")
    assert money.parse_minor("9" * 12, "USD") == Money(999_999_999_999, "USD")


@pytest.mark.parametrize("text", ["12.80", "12.8000", "12", "12.", ".800"])
def test_other_text_is_no_amount_with_three_decimals(text: str) -> None:
    with pytest.raises(BadMoney, match=r"3 decimals, such as 12\.800"):
        money.parse_major(text, "KWD")


@pytest.mark.parametrize("currency", ["", "usd", "XYZ", "XAU", "XXX", "US", "USD "])
def test_form_amount_in_a_currency_without_decimals_is_refused_by_name(currency: str) -> None:
    with pytest.raises(UnknownCurrency, match=f"'{currency}'"):
        money.parse_major("100", currency)


def test_antom_amount_in_a_currency_of_no_list_is_compared_in_smallest_units() -> None:
    assert money.parse_minor("100", "XYZ") == Money(100, "XYZ")
    assert money.text(100, "XYZ") is None
    assert str(Money(100, "XYZ")) == "100 smallest units of XYZ"


@pytest.mark.parametrize("currency", ["", "usd", "US", "USD ", "USDT", "U$D"])
def test_antom_currency_is_three_capital_letters(currency: str) -> None:
    with pytest.raises(BadMoney):
        money.parse_minor("100", currency)


@given(st.integers(0, 99_999_999_999), st.sampled_from(sorted(EXPONENTS)))
def test_formatted_amounts_are_parsed_back(minor: int, currency: str) -> None:
    minor = min(minor, 10 ** (9 + EXPONENTS[currency]) - 1)
    assert money.parse_major(money.major(minor, currency), currency) == Money(minor, currency)


@given(st.lists(st.sampled_from(["0.10", "0.20"]), max_size=500))
def test_sums_are_exact(texts: list[str]) -> None:
    total = sum(money.parse_major(text, "USD").minor for text in texts)
    assert total == 10 * texts.count("0.10") + 20 * texts.count("0.20")


def test_amounts_are_formatted_with_the_currency_s_decimals() -> None:
    assert str(Money(1280, "USD")) == "12.80 USD"
    assert str(Money(1280, "JPY")) == "1280 JPY"
    assert money.major(-5, "USD") == "-0.05"
