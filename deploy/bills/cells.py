"""Read the cells of a bill: numbers, amounts and times, as Alipay and spreadsheets write them. Pure."""

import re
from datetime import datetime

from schemas import money, times
from schemas.currencies import EXPONENTS
from schemas.money import Money
from workers.admin.orders import MINOR_MAX

NUMBER_CHARACTERS_MAX = 128  # Alipay's own limit for an order number is 64
YEARS = range(2000, 2100)  # Alipay began in 2004

# The full-width forms of the ASCII characters, and the minus sign that word processors write.
_WIDE = {0xFF01 + offset: 0x21 + offset for offset in range(94)} | {0x3000: 0x20, 0x2212: 0x2D}
_AMOUNT = re.compile(r"([+-]?)(\d{1,3}(?:,\d{3}){1,4}|\d{1,15})(?:\.(\d{1,6}))?", re.ASCII)
_ROUNDED = re.compile(r"\d(?:\.\d+)?E\+\d{1,3}", re.ASCII | re.IGNORECASE)
_SIGNS = re.compile(r"[\d.,:;/+ -]{0,40}", re.ASCII)
_WORD = re.compile(r"[^\W\d_][^\W\d]{0,29}(?:[ /（(+-]{1,2}[^\W\d]{1,20}[）)]?){0,3}")
HIDDEN = "…"
_QUOTED = re.compile(r'="(.*)"')  # the form in which a spreadsheet keeps a long number as text
_SLASHES = re.compile(r"(\d{4})[/-](\d{1,2})[/-](\d{1,2})[ T](\d{1,2}):(\d\d)(?::(\d\d))?", re.ASCII)
_MONTH_FIRST = re.compile(r"(\d{1,2})/(\d{1,2})/(\d{4}) (\d{1,2}):(\d\d)(?::(\d\d))?", re.ASCII)


class BadCell(ValueError):
    """A cell cannot be read; the text tells why."""


def plain(text: str) -> str:
    """Return a cell without the blanks, tabs and marks that keep spreadsheets from changing it."""
    text = text.strip(" \t\r\n\v\f\u00a0\ufeff")
    quoted = _QUOTED.fullmatch(text)
    return (quoted[1] if quoted else text).strip().lstrip("'`").strip()


def narrow(text: str) -> str:
    """Return a text with full-width letters, digits and signs as ASCII."""
    return text.translate(_WIDE)


def number(text: str) -> str:
    """Return the number of an order, a trade or a refund; empty if the cell is.

    Raises:
        BadCell: it is too long, has characters that no number has, or a spreadsheet has rounded it.
    """
    found = plain(text)
    if len(found) > NUMBER_CHARACTERS_MAX:
        raise BadCell(f"a number of more than {NUMBER_CHARACTERS_MAX} characters")
    if not found.isprintable() or "\ufffd" in found:
        raise BadCell("a number with characters that cannot be read")
    if _ROUNDED.fullmatch(found):
        raise BadCell(f"a spreadsheet has rounded the number {found}: import the file as it was downloaded")
    return found


def word(text: str) -> str:
    """Return a column's name or a row's type; `HIDDEN` if it may be something else, such as a buyer's address."""
    return text if _WORD.fullmatch(text) else HIDDEN if text else ""


def _quoted(text: str) -> str:
    """Return a cell for an error, which is kept: as it is if it has digits and signs only, else not at all."""
    found = plain(text)
    return repr(found) if _SIGNS.fullmatch(found) else "the text in it"


def amount(text: str, currency: str, *, is_minor: bool = False) -> Money:
    """Return an amount with its sign: `1,234.50`, `+5`, `-5.00`, full-width digits. Missing decimals are zeros.

    `is_minor`: digits without a point are in the currency's smallest unit.

    Raises:
        BadCell: it is no amount, has too many decimals, is above the largest one of an order (`MINOR_MAX`), or the
            currency is unknown.
    """
    shown = narrow(plain(text)).replace(" ", "")
    match = _AMOUNT.fullmatch(shown)
    if match is None:
        raise BadCell(f"{_quoted(text)} is not an amount")
    sign, whole, decimals = match[1], match[2].replace(",", ""), match[3]
    exponent = EXPONENTS.get(currency)
    if is_minor and decimals is None and money.is_code(currency):
        minor = int(whole)  # which needs no exponent, as in a notification
    elif exponent is None:
        raise BadCell(f"{_quoted(currency)} is not a currency of ISO 4217 with decimals")
    else:
        given = (decimals or "").ljust(exponent, "0")
        if given[exponent:].strip("0"):
            raise BadCell(f"{currency} amounts have at most {exponent} decimals")
        minor = int(whole + given[:exponent])
    if minor > MINOR_MAX:
        raise BadCell(f"an amount above the largest one of an order, {Money(MINOR_MAX, currency)}")
    return Money(-minor if sign == "-" else minor, currency)


def moment_ms(text: str) -> int | None:
    """Return a time as epoch milliseconds; `None` if the cell is empty. A time without a zone is Alipay's, UTC+8.

    Raises:
        BadCell: it is no time, or of another century.
    """
    shown = narrow(plain(text))
    if not shown:
        return None
    try:
        has_zone = re.search(r"[T ].*(?:Z|[+-]\d\d:?\d\d)$", shown)
        found = times.parse_iso(shown.replace(" ", "T", 1)) if has_zone else _local(shown)
        if found.year not in YEARS:
            raise ValueError(found.year)
        return times.to_epoch_ms(found)
    except (ValueError, OverflowError):
        raise BadCell(f"{_quoted(shown)} is not a time") from None


def _local(text: str) -> datetime:
    if match := _SLASHES.fullmatch(text.partition(".")[0]):
        year, month, day = match[1], match[2], match[3]
    elif match := _MONTH_FIRST.fullmatch(text):
        month, day, year = match[1], match[2], match[3]
    else:
        raise ValueError(text)
    clock = (int(match[4]), int(match[5]), int(match[6] or 0))
    return datetime(int(year), int(month), int(day), *clock, tzinfo=times.BEIJING)
