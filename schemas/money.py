"""Money: an integer of the currency's smallest unit with its ISO 4217 code.

Floats are never used. Amounts are parsed strictly: `1e3`, `1,000.00` or a leading blank are refused, because two
parsers could read them differently.

Alipay's documents give no currency other decimals than ISO 4217 does: IDR has two, whose digits are always 00; JPY and
KRW have none, written without or with `.00`.
"""

import re

from msgspec import Struct

from schemas.currencies import EXPONENTS

_NO_DECIMALS = re.compile(r"([0-9]{1,9})(?:\.00)?", re.ASCII)
_DECIMALS = {n: re.compile(rf"[0-9]{{1,9}}\.[0-9]{{{n}}}", re.ASCII) for n in {*EXPONENTS.values()} - {0}}
_MINOR_UNITS = re.compile(r"[0-9]{1,12}", re.ASCII)
_CODE = re.compile(r"[A-Z]{3}", re.ASCII)


class BadMoney(ValueError):
    """The text is not an amount in the exact form of its currency, or the currency is unknown."""


class UnknownCurrency(BadMoney):
    """ISO 4217 gives the currency no exponent, so an amount with a decimal point cannot be converted."""

    def __init__(self, currency: str) -> None:
        super().__init__(f"{currency!r} is not a currency of ISO 4217 with decimals")


class Money(Struct, frozen=True, order=True, gc=False):
    """An amount in smallest units: `Money(1280, "USD")` is 12.80 dollars, `Money(1280, "JPY")` is 1280 yen."""

    minor: int
    currency: str

    def __str__(self) -> str:
        shown = text(self.minor, self.currency)
        return f"{shown} {self.currency}" if shown is not None else f"{self.minor} smallest units of {self.currency}"


def is_code(currency: str) -> bool:
    """Return whether the text has the form of a currency code: three capital letters."""
    return _CODE.fullmatch(currency) is not None


def text(minor: int, currency: str) -> str | None:
    """Format an amount for people: `text(1280, "USD")` is `"12.80"`. Return `None` for a currency without exponent."""
    decimals = EXPONENTS.get(currency)
    return None if decimals is None else _format(minor, decimals)


def major(minor: int, currency: str) -> str:
    """Format an amount as Alipay writes it in a form.

    Raises:
        UnknownCurrency: the currency has no exponent.
    """
    return _format(minor, _exponent(currency))


def parse_major(text: str, currency: str) -> Money:
    """Parse the amount of a form: `12.80` with as many decimals as the currency has; if it has none, also `1280.00`.

    Raises:
        UnknownCurrency: the currency has no exponent.
        BadMoney: another form, or more than nine whole digits.
    """
    decimals = _exponent(currency)
    if decimals == 0:
        match = _NO_DECIMALS.fullmatch(text)
        if match is None:
            raise BadMoney(f"{currency} amounts must have no decimals")
        return Money(int(match[1]), currency)
    if _DECIMALS[decimals].fullmatch(text) is None:
        example = _format(128 * 10 ** (decimals - 1), decimals)
        raise BadMoney(f"{currency} amounts must have {decimals} decimals, such as {example}")
    return Money(int(text[: -decimals - 1] + text[-decimals:]), currency)


def parse_minor(text: str, currency: str) -> Money:
    """Parse the amount of an Antom message (`"value": "1280"`): smallest units, in digits, of any three-letter code.

    The code may be missing in ISO 4217's list, because smallest units can be compared without an exponent.

    Raises:
        BadMoney: not one to twelve digits, or the currency is not three capital letters.
    """
    if not is_code(currency):
        raise BadMoney("a currency must be three capital letters")
    if _MINOR_UNITS.fullmatch(text) is None:
        raise BadMoney("an Antom amount must be one to twelve digits, in the smallest unit")
    return Money(int(text), currency)


def _exponent(currency: str) -> int:
    try:
        return EXPONENTS[currency]
    except KeyError:
        raise UnknownCurrency(currency) from None


def _format(minor: int, decimals: int) -> str:
    if decimals == 0:
        return str(minor)
    whole, fraction = divmod(abs(minor), 10**decimals)
    return f"{'-' if minor < 0 else ''}{whole}.{fraction:0{decimals}d}"
