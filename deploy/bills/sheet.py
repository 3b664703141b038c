"""The payments and refunds of one bill, on disk while it is compared: memory stays the same however long the bill is.

The rows lie in a temporary SQLite file that is deleted at the end. A row that is there twice counts once, unless it is
of a refund without a number: two of them may be equal.
"""

import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing, contextmanager
from itertools import islice
from pathlib import Path
from tempfile import TemporaryDirectory

from msgspec import Struct

from deploy.bills.layouts import BillLine, LineKind

ROWS_AT_ONCE = 1000
_CREATE = """
    CREATE TABLE rows (
        kind TEXT, ord TEXT, trade TEXT, refund TEXT, own TEXT, minor INTEGER, currency TEXT, at_ms INTEGER,
        capture INTEGER, again INTEGER,
        UNIQUE (kind, ord, trade, refund, own, minor, currency, at_ms, again)
    )
"""
_CREATE_SEEN = "CREATE TABLE seen (scope TEXT, ord TEXT, PRIMARY KEY (scope, ord)) WITHOUT ROWID"
_ADD = "INSERT OR IGNORE INTO rows VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
_INDEXES = ("CREATE INDEX by_order ON rows (ord, trade, currency)", "CREATE INDEX by_trade ON rows (trade)")
_TRADES = """
    SELECT ord, trade, currency,
        count(*) FILTER (WHERE kind = 'payment'), coalesce(sum(minor) FILTER (WHERE kind = 'payment'), 0),
        count(*) FILTER (WHERE kind = 'refund'), coalesce(sum(minor) FILTER (WHERE kind = 'refund'), 0),
        max(at_ms) FILTER (WHERE kind = 'payment'), max(at_ms) FILTER (WHERE kind = 'refund'),
        coalesce(max(capture), 0), coalesce(sum(minor) FILTER (WHERE again > 0), 0)
    FROM rows GROUP BY ord, trade, currency
"""
_SUMS = "SELECT kind, currency, count(*), sum(minor) FROM rows GROUP BY kind, currency ORDER BY kind, currency"
_REFUNDS = """
    SELECT refund, sum(minor) FROM rows
    WHERE ord = ? AND trade = ? AND currency = ? AND kind = 'refund' GROUP BY refund
"""
# A row with another trade of the same order is another payment.
_PAYMENT = """
    SELECT 1 FROM rows WHERE kind = 'payment' AND trade = ?2 AND ?2 <> ''
    UNION ALL
    SELECT 1 FROM rows WHERE kind = 'payment' AND ord = ?1 AND ?1 <> '' AND (trade = '' OR ?2 = '') LIMIT 1
"""
_REFUNDED = """
    SELECT coalesce(sum(minor), 0) FROM rows
    WHERE kind = 'refund' AND ((ord = ?1 AND ord <> '') OR (trade = ?2 AND trade <> ''))
"""
_UNKNOWN_MS = -1  # NULL would never be equal to NULL


class BilledTrade(Struct, frozen=True, kw_only=True):
    """All rows of one trade: what was paid and refunded of it in this bill. `order` or `trade` may be empty.

    `doubtful_minor` is the part of `refunded_minor` whose rows are equal to others, and have no number.
    """

    order: str
    trade: str
    currency: str
    payments: int
    paid_minor: int
    refunds: int
    refunded_minor: int
    paid_at_ms: int | None
    refunded_at_ms: int | None
    is_captured: bool = False
    doubtful_minor: int = 0


class Sheet:
    """The rows of one bill."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection
        self.duplicates = 0
        self.span_ms: tuple[int, int] | None = None  # of the first and the last row

    def add(self, lines: Iterable[BillLine]) -> None:
        """Add the lines."""
        lines = iter(lines)
        while some := list(islice(lines, ROWS_AT_ONCE)):
            before = self._connection.total_changes
            self._connection.executemany(_ADD, (_row(line) for line in some if not _may_be_equal(line)))
            for line in filter(_may_be_equal, some):
                if not self._connection.execute(_ADD, _row(line)).rowcount:
                    self._connection.execute(_ADD, _row(line, again=line.number))
            self.duplicates += len(some) - (self._connection.total_changes - before)
            moments = [line.at_ms for line in some if line.at_ms is not None]
            if moments:
                first, last = self.span_ms or (moments[0], moments[0])
                self.span_ms = (min(first, *moments), max(last, *moments))

    def complete(self) -> int:
        """Make the rows ready to be compared, and return the number of trades."""
        for statement in _INDEXES:
            self._connection.execute(statement)
        return int(self._connection.execute(f"SELECT count(*) FROM ({_TRADES})").fetchone()[0])  # noqa: S608 - a constant

    def trades(self) -> Iterator[BilledTrade]:
        """Yield the trades, by order number."""
        with closing(self._connection.execute(_TRADES)) as found:
            for order, trade, currency, payments, paid, refunds, refunded, *more in found:
                paid_at_ms, refunded_at_ms, is_captured, doubtful = more
                yield BilledTrade(
                    order=order,
                    trade=trade,
                    currency=currency,
                    payments=payments,
                    paid_minor=paid,
                    refunds=refunds,
                    refunded_minor=refunded,
                    paid_at_ms=_moment(paid_at_ms),
                    refunded_at_ms=_moment(refunded_at_ms),
                    is_captured=bool(is_captured),
                    doubtful_minor=doubtful,
                )

    def refunds(self, trade: BilledTrade) -> Sequence[tuple[str, int]]:
        """Return the refunds of a trade: number and sum."""
        return self._connection.execute(_REFUNDS, (trade.order, trade.trade, trade.currency)).fetchall()

    def has_payment(self, order: str, trade: str) -> bool:
        """Return whether the bill has a payment of this order or this trade."""
        return self._connection.execute(_PAYMENT, (order, trade)).fetchone() is not None

    def refunded_minor(self, order: str, trade: str) -> int:
        """Return the sum that the bill refunds of this order or this trade."""
        return int(self._connection.execute(_REFUNDED, (order, trade)).fetchone()[0])

    def is_new(self, scope: str, order: str) -> bool:
        """Note an order that is only here, and return whether it was not noted before."""
        found = self._connection.execute("INSERT OR IGNORE INTO seen VALUES (?, ?)", (scope, order))
        return found.rowcount == 1

    def sums(self) -> Sequence[tuple[str, str, int, int]]:
        """Return kind, currency, number and sum of all rows."""
        return self._connection.execute(_SUMS).fetchall()


@contextmanager
def opened() -> Iterator[Sheet]:
    """Open an empty sheet; its file is deleted when the block ends."""
    with TemporaryDirectory(prefix="alipay-notify-bill-") as directory:
        connection = sqlite3.connect(Path(directory) / "rows.db", isolation_level=None)
        with closing(connection):
            for statement in ("PRAGMA journal_mode = OFF", "PRAGMA synchronous = OFF", "BEGIN", _CREATE, _CREATE_SEEN):
                connection.execute(statement)
            yield Sheet(connection)


def _may_be_equal(line: BillLine) -> bool:
    """Return whether a line may be equal to one of another refund: nothing but the payment's numbers name it."""
    return line.kind is LineKind.REFUND and not line.refund and line.own in ("", line.trade)


def _row(line: BillLine, *, again: int = 0) -> tuple[object, ...]:
    at_ms = _UNKNOWN_MS if line.at_ms is None else line.at_ms
    numbers = (line.kind.value, line.order, line.trade, line.refund, line.own)
    return (*numbers, line.minor, line.currency, at_ms, line.is_capture, again)


def _moment(at_ms: int | None) -> int | None:
    return None if at_ms in (None, _UNKNOWN_MS) else at_ms
