"""Read the merchant's orders from CSV or JSON lines: number, state, amount, currency, and the refunded sum.

The amounts are the registration by which the shadow checks notifications; the states are compared with its own.
"""

import csv
import io
from collections.abc import Iterable, Iterator
from typing import Any, BinaryIO

from msgspec import Struct

from deploy.bills import cells
from deploy.bills.cells import BadCell
from deploy.shadow import lines
from deploy.shadow.lines import BadLine
from deploy.shadow.shapes import OldOrder, OldState
from schemas import money
from schemas.money import BadMoney, Money

COLUMNS = ("order", "state", "amount", "currency", "refunded", "account")


class OrderDefaults(Struct, frozen=True, kw_only=True):
    """The values for rows that lack them: the account, its currency, the moment, and the merchant's own state words."""

    account: str
    currencies: dict[str, str]  # by account, of those in accounts.toml
    as_of_ms: int
    words: dict[str, OldState]


class OrderRow(Struct, frozen=True):
    """One row with its number and size in the file: an order, or the fault for which it is skipped."""

    number: int
    size: int
    order: OldOrder | None
    fault: str = ""


def read(file: BinaryIO, defaults: OrderDefaults) -> Iterator[OrderRow]:
    """Yield the rows. The first line decides: a JSON object, or the names of CSV columns.

    Raises:
        BadLine: the first line is neither.
    """
    numbered = lines.numbered(file)
    first = next(numbered, None)
    if first is None:
        return
    number, line, size = first
    if line is not None and line.lstrip(b"\xef\xbb\xbf \t").startswith(b"{"):
        for each, text, length in _with_first(first, numbered):
            yield _row(each, length, text, lines.as_object, defaults)
        return
    columns = _cells(line or b"")
    if "order" not in columns:
        raise BadLine("line 1 has neither a JSON object nor a column `order`")
    yield OrderRow(number, size, None)

    def as_fields(text: bytes) -> dict[str, Any]:
        row = _cells(text)
        if len(row) != len(columns):
            raise BadLine(f"has {len(row)} columns, and line 1 has {len(columns)}")
        return dict(zip(columns, row, strict=True))

    for each, text, length in numbered:
        yield _row(each, length, text, as_fields, defaults)


def _with_first(
    first: tuple[int, bytes | None, int], others: Iterable[tuple[int, bytes | None, int]]
) -> Iterator[tuple[int, bytes | None, int]]:
    yield first
    yield from others


def _cells(line: bytes) -> list[str]:
    try:
        text = line.decode("utf-8-sig")
        return [cells.plain(cell) for cell in next(csv.reader(io.StringIO(text), strict=True), [])]
    except (UnicodeDecodeError, csv.Error):
        raise BadLine("is not CSV in UTF-8, one order a line") from None


def _row(number: int, size: int, line: bytes | None, parse: Any, defaults: OrderDefaults) -> OrderRow:
    if line is not None and not line.strip():
        return OrderRow(number, size, None)
    try:
        if line is None:
            raise BadLine("is too long")
        return OrderRow(number, size, _order(parse(line), defaults))
    except BadLine as bad:
        return OrderRow(number, size, None, str(bad))


def _order(fields: dict[str, Any], defaults: OrderDefaults) -> OldOrder:
    texts = {name: lines.text_of(fields, name).strip() for name in COLUMNS}
    number, account = _number(texts["order"]), texts["account"] or defaults.account
    name = account.partition("/")[0]
    if name not in defaults.currencies:
        raise BadLine(
            f"account {account!r} is not in accounts.toml" if account else "account is missing; see --account"
        )
    state = lines.known_state(texts["state"], defaults.words)
    currency = texts["currency"] or defaults.currencies[name]
    amount = _amount(texts["amount"], currency)
    refunded = _amount(texts["refunded"], currency)
    return OldOrder(
        account=account,
        number=number,
        as_of_ms=defaults.as_of_ms,
        state=state,
        amount=amount,
        refunded_minor=None if refunded is None else refunded.minor,
    )


def _number(text: str) -> str:
    """Return the number of an order; a spreadsheet may have marked it as text, or rounded it."""
    try:
        number = cells.number(text)
    except BadCell as bad:
        raise BadLine(f"order: {bad}") from None
    if not number:
        raise BadLine("order is missing")
    return number


def _amount(text: str, currency: str) -> Money | None:
    """Return the amount; `12.8` and `12` count as `12.80` in the merchant's books."""
    if not text:
        return None
    try:
        whole, _, fraction = text.partition(".")
        decimals = len(money.major(0, currency).partition(".")[2])
        return money.parse_major(f"{whole}.{fraction.ljust(decimals, '0')}" if decimals else text, currency)
    except BadMoney as bad:
        raise BadLine(f"amount {text!r}: {bad}") from None
