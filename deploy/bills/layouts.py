"""The layouts of bills: the columns of each, by their names in Chinese and English, and the meaning of a row. Pure.

A column is found by its name, wherever it stands. Sources: the trade bill of
`alipay.data.dataservice.bill.downloadurl.query`; Antom's "Transaction details report" and "Transaction file format"
(docs.antom.com, AMS); the transaction files of Alipay's cross-border products (docs.antom.com, global barcode, WAP,
auto debit), whose columns are separated by `|` or commas.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from enum import StrEnum
from typing import TypeVar

from msgspec import Struct

from deploy.bills import cells
from deploy.bills.cells import BadCell
from schemas.accounts import Family
from schemas.money import Money

R = TypeVar("R")
T = TypeVar("T")
CAPTURE = "capture"
_UNIT = re.compile(r"\([+-]?元\)$")


class LineKind(StrEnum):
    """What a row of a bill reports."""

    PAYMENT = "payment"
    REFUND = "refund"


class BillLine(Struct, frozen=True, kw_only=True):
    """One payment or refund of a bill. `minor` is above zero; `number` is the line of the file.

    `own` is Alipay's number of the row itself, `trade` that of the payment. `order` and `refund` are the merchant's
    numbers; each may be empty if the layout does not have it.
    """

    number: int
    kind: LineKind
    order: str
    trade: str
    refund: str
    own: str
    minor: int
    currency: str
    at_ms: int | None
    is_capture: bool = False  # of an authorised payment, which may have more of them on other days
    is_settled: bool = False  # the row has a settlement, so the file is of one, and not of a day


class Layout(Struct, frozen=True, kw_only=True):
    """The columns of one kind of bill: for each, its names; those in `optional` may be missing.

    `kinds` has the row types that are compared; rows of other types are counted. `numbers` returns order, trade and
    refund of a row.
    """

    name: str
    families: frozenset[Family]
    columns: Mapping[str, tuple[str, ...]]
    optional: frozenset[str]
    kinds: Mapping[str, LineKind]
    numbers: Callable[[Mapping[str, str], str], tuple[str, str, str]]
    currency: str = ""  # if the file has no column for it
    is_minor: bool = False  # amounts without a point are in the smallest unit
    ends: tuple[str, ...] = ()  # columns that only those files have whose last line marks their end


def _of_trade_bill(row: Mapping[str, str], _: str) -> tuple[str, str, str]:
    return row["order"], row["trade"], row.get("refund", "")


def _of_antom(row: Mapping[str, str], type_: str) -> tuple[str, str, str]:
    if type_ == "refund":
        return row.get("original_order", ""), row.get("original_trade", ""), row["order"]
    if type_ == CAPTURE:  # its own numbers are new for each of them
        return row.get("original_order") or row["order"], row.get("original_trade", ""), ""
    return row["order"], row["trade"], ""


def _of_cross_border(row: Mapping[str, str], type_: str) -> tuple[str, str, str]:
    if type_ in ("refund", "r"):
        order = row.get("original_order", "")
        # The published pages do not tell whose number the trade's column has in a refund, if the order is named.
        return order, "" if order else row["trade"], row["order"]
    return row["order"], row["trade"], ""


LAYOUTS = (
    Layout(
        name="trade bill",
        families=frozenset({Family.OPENAPI, Family.MAPI}),
        columns={
            "trade": ("支付宝交易号", "交易号", "trade_no", "alipay trade no", "alipay transaction no"),
            "order": ("商户订单号", "商家订单号", "out_trade_no", "merchant order no", "merchant order number"),
            "type": ("业务类型", "business type", "type"),
            "amount": ("订单金额", "total_amount", "order amount"),
            "at": ("完成时间", "付款时间", "completion time", "finish time"),
            "created": ("创建时间", "creation time"),
            "refund": ("退款批次号/请求号", "退款批次号", "退款请求号", "refund batch no/request no", "out_request_no"),
            "currency": ("币种", "currency"),
        },
        optional=frozenset({"created", "refund", "currency"}),
        kinds={
            "交易": LineKind.PAYMENT, "payment": LineKind.PAYMENT, "trade": LineKind.PAYMENT,
            "退款": LineKind.REFUND, "refund": LineKind.REFUND,
        },
        numbers=_of_trade_bill,
        currency="CNY",
    ),
    Layout(
        name="Antom transaction report",
        families=frozenset({Family.ANTOM}),
        columns={
            "trade": ("transactionId",),
            "order": ("transactionRequestId",),
            "original_trade": ("originalTransactionId",),
            "original_order": ("originalTransactionRequestId",),
            "type": ("transactionType",),
            "amount": ("transactionAmountValue",),
            "currency": ("transactionCurrency", "transactionAmountCurrency"),
            "at": ("transactionTime", "transactionCompletionTime", "paymentTime"),
            "settled": ("settlementBatchId", "settlementTime"),
        },
        optional=frozenset({"original_trade", "original_order", "settled"}),
        kinds={"payment": LineKind.PAYMENT, CAPTURE: LineKind.PAYMENT, "refund": LineKind.REFUND},
        numbers=_of_antom,
        is_minor=True,
        ends=("PSP", "acquirer"),  # the older files have pspName
    ),
    Layout(
        name="cross-border transaction file",
        families=frozenset({Family.MAPI, Family.OPENAPI}),
        columns={
            "trade": ("Transaction_id",),
            "order": ("Partner_transaction_id",),
            "original_order": ("original_partner_transaction_ID",),
            "type": ("Transaction_type", "Type"),
            "amount": ("Transaction_amount", "Amount"),
            "currency": ("Currency",),
            "price": ("Trans_amount",),
            "price_currency": ("Trans_currency",),
            "at": ("Payment_time",),
            "settled": ("Settlement_time",),
        },
        optional=frozenset({"original_order", "price", "price_currency", "settled"}),
        kinds={
            "payment": LineKind.PAYMENT, "p": LineKind.PAYMENT, "refund": LineKind.REFUND, "r": LineKind.REFUND,
        },
        numbers=_of_cross_border,
    ),
)  # fmt: skip
TOTALS = "交易订单总笔数"  # a column of the second file in a trade bill's archive, which has sums only


class BillColumns(Struct, frozen=True):
    """A layout, the place of each of its columns in this file, and whether the last line of the file marks its end."""

    layout: Layout
    places: Mapping[str, int]
    has_end: bool = False

    def type_of(self, row: Sequence[str]) -> str:
        """Return a row's type, as the file has it."""
        return cells.plain(row[self.places["type"]])[:40]

    def line(self, row: Sequence[str], number: int) -> BillLine | None:
        """Return the payment or refund of a row; `None` if it is of another type.

        Raises:
            BadCell: a cell that decides cannot be read.
        """
        given = {name: row[place] for name, place in self.places.items()}
        type_ = cells.narrow(self.type_of(row)).lower()
        kind = self.layout.kinds.get(type_)
        if kind is None:
            return None
        columns = ("order", "trade", "original_order", "original_trade", "refund")
        numbers = {name: self._read(name, cells.number, given[name]) for name in columns if name in given}
        order, trade, refund = self.layout.numbers(numbers, type_)
        if not order and not trade:
            raise BadCell("it has no number of an order or a trade")
        money = self._read("amount", lambda row: _amount(row, self.layout), given)
        minor = abs(money.minor) if kind is LineKind.REFUND else money.minor
        if minor <= 0:
            raise BadCell(f"a {kind} of zero" if minor == 0 else f"a {kind} below zero")
        return BillLine(
            number=number,
            kind=kind,
            order=order,
            trade=trade,
            refund=refund,
            own=numbers["trade"],
            minor=minor,
            currency=money.currency,
            at_ms=self._read("at", _moment, given),
            is_capture=type_ == CAPTURE,
            is_settled=bool(cells.plain(given.get("settled", "")).strip("-").replace("null", "")),
        )

    def _read(self, column: str, read: Callable[[R], T], given: R) -> T:
        """Return the value of a cell. An error names the column."""
        try:
            return read(given)
        except BadCell as bad:
            raise BadCell(f"{self.layout.columns[column][0]}: {bad}") from None


def _amount(given: Mapping[str, str], layout: Layout) -> Money:
    """Return the amount in the currency that notifications have: the price's, if the file has both."""
    price, price_currency = cells.plain(given.get("price", "")), _currency(given.get("price_currency", ""))
    if price and price_currency:
        return cells.amount(price, price_currency, is_minor=layout.is_minor)
    currency = _currency(given.get("currency", "")) or layout.currency
    return cells.amount(given["amount"], currency, is_minor=layout.is_minor)


def _currency(text: str) -> str:
    code = cells.narrow(cells.plain(text)).upper()
    return {"人民币": "CNY", "RMB": "CNY"}.get(code, code)


def _moment(given: Mapping[str, str]) -> int | None:
    at_ms = cells.moment_ms(given["at"])
    return cells.moment_ms(given.get("created", "")) if at_ms is None else at_ms


def columns_of(header: Sequence[str]) -> BillColumns | None:
    """Return the layout that has all its columns in this header; `None` if none has."""
    names = [_name(cell) for cell in header]
    for layout in LAYOUTS:
        places = {
            column: names.index(found)
            for column, aliases in layout.columns.items()
            if (found := next((alias for each in aliases if (alias := _name(each)) in names), None)) is not None
        }
        if layout.columns.keys() - places.keys() <= layout.optional:
            return BillColumns(layout, places, any(_name(each) in names for each in layout.ends))
    return None


def is_totals(header: Sequence[str]) -> bool:
    """Return whether this is the header of a file with sums only, as the archive of a trade bill has one."""
    return TOTALS in [_name(cell) for cell in header]


def wanted() -> list[str]:
    """Return a line for each layout with the columns that it needs, for an error."""
    return [
        f"{layout.name}: " + ", ".join(names[0] for column, names in layout.columns.items()
                                       if column not in layout.optional)
        for layout in LAYOUTS
    ]  # fmt: skip


def _name(cell: str) -> str:
    """Return a column's name in the form in which names are compared."""
    name = cells.narrow(cells.plain(cell)).lower().replace(" ", "").replace("_", "")
    return _UNIT.sub("", name)
