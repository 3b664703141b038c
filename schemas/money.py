"""Money: an integer of the currency's smallest unit with its ISO 4217 code.

Floats are never used. Amounts are parsed strictly: `1e3`, `1,000.00` or a leading blank are refused, because two
parsers could read them differently.
"""

import re

from msgspec import Struct

# ISO 4217 decimals of the currencies in Alipay's cross-border documents. Alipay writes CNY, USD etc. with two decimals
# (`12.80`), and JPY and KRW without or with `.00`. Another currency is refused (`BadMoney`) until it is added here.
DECIMALS: dict[str, int] = {
    "AUD": 2,
    "BDT": 2,
    "CAD": 2,
    "CHF": 2,
    "CNY": 2,
    "DKK": 2,
    "EUR": 2,
    "GBP": 2,
    "HKD": 2,
    "IDR": 2,
    "JPY": 0,
    "KRW": 0,
    "MOP": 2,
    "MYR": 2,
    "NOK": 2,
    "NZD": 2,
    "PHP": 2,
    "PKR": 2,
    "RUB": 2,
    "SEK": 2,
    "SGD": 2,
    "THB": 2,
    "USD": 2,
}

_TWO_DECIMALS = re.compile(r"[0-9]{1,9}\.[0-9]{2}", re.ASCII)
_NO_DECIMALS = re.compile(r"([0-9]{1,9})(?:\.00)?", re.ASCII)
_MINOR_UNITS = re.compile(r"[0-9]{1,12}", re.ASCII)


class BadMoney(ValueError):
    """The text is not an amount in the exact form of its currency, or the currency is unknown."""


class Money(Struct, frozen=True, order=True):
    """An amount in smallest units: `Money(1280, "USD")` is 12.80 dollars, `Money(1280, "JPY")` is 1280 yen."""

    minor: int
    currency: str

    def __str__(self) -> str:
        return f"{major(self.minor, self.currency)} {self.currency}"


def major(minor: int, currency: str) -> str:
    """Format an amount for people: `major(1280, "USD")` is `"12.80"`. An unknown currency gets two decimals."""
    decimals = DECIMALS.get(currency, 2)
    if decimals == 0:
        return str(minor)
    whole, fraction = divmod(abs(minor), 10**decimals)
    return f"{'-' if minor < 0 else ''}{whole}.{fraction:0{decimals}d}"


def parse_major(text: str, currency: str) -> Money:
    """Parse the amount of a form (`total_fee=12.80`): two decimals; for a currency without decimals none, or `.00`.

    Raises:
        BadMoney: another form, more than nine whole digits, or a currency not in `DECIMALS`.
    """
    decimals = _decimals(currency)
    if decimals == 2:
        if _TWO_DECIMALS.fullmatch(text) is None:
            raise BadMoney(f"{currency} amounts must have the form 12.80")
        return Money(int(text[:-3]) * 100 + int(text[-2:]), currency)
    match = _NO_DECIMALS.fullmatch(text)
    if match is None:
        raise BadMoney(f"{currency} amounts must have no decimals")
    return Money(int(match[1]), currency)


def parse_minor(text: str, currency: str) -> Money:
    """Parse the amount of an Antom message (`"value": "1280"`): smallest units of any currency, in digits.

    Raises:
        BadMoney: not one to twelve digits, or a currency not in `DECIMALS`.
    """
    _decimals(currency)
    if _MINOR_UNITS.fullmatch(text) is None:
        raise BadMoney("an Antom amount must be one to twelve digits, in the smallest unit")
    return Money(int(text), currency)


def _decimals(currency: str) -> int:
    try:
        return DECIMALS[currency]
    except KeyError:
        raise BadMoney("the currency is not supported") from None
