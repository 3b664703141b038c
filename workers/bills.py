"""Comparisons with Alipay's bills: the reports, their differences, and the facts of orders that a comparison needs.

A command reads the file and compares; it asks for facts in batches and writes the report in pieces. Nothing here
changes an order, and nothing of the buyer is stored. A report that is finished replaces the earlier ones of the same
file and account. Reports are kept for `KEPT_MS`.
"""

from collections.abc import Iterator, Sequence
from enum import StrEnum
from typing import Any, Protocol

import msgspec
from msgspec import Struct

from schemas import orders, times, topics
from schemas.dispositions import Disposition
from schemas.orders import PAYMENT_STATES, ClosedBecause, Order, Status
from schemas.times import DAY_MS
from workers.queries import OrderPage
from workers.settlement import order_view, transitions

DIFFERENCES_MAX = 1000  # that a report lists; all are counted
KEPT_MS = 400 * DAY_MS  # a year, and the month in which its last bill is looked at
UNFINISHED_KEPT_MS = DAY_MS
PAID_NEWS = frozenset({"paid", "captured", "finished", "frozen"})  # each with the time of the payment
REFUND_NEWS = frozenset({"partly_refunded", "refunded", "reversed"})  # each with the time of the refund


class DifferenceKind(StrEnum):
    """How the bill and the order store differ. `UNCERTAIN` is no difference: it cannot be decided."""

    PAYMENT_ONLY_IN_BILL = "payment_only_in_bill"
    PAYMENT_ONLY_HERE = "payment_only_here"
    PAYMENT_AMOUNT = "payment_amount"
    REFUND_ONLY_IN_BILL = "refund_only_in_bill"
    REFUND_ONLY_HERE = "refund_only_here"
    REFUND_AMOUNT = "refund_amount"
    UNCERTAIN = "uncertain"


class BillDifference(Struct, frozen=True, kw_only=True):
    """One difference. The amounts are in smallest units; one of them is null if it is on one side only.

    `scope` and `order` are those of the order here; without one, the account and the bill's number. `at_ms` is the time
    of the payment or refund. `detail` is a sentence.
    """

    kind: DifferenceKind
    scope: str
    order: str
    trade: str = ""
    refund: str = ""
    bill_minor: int | None = None
    bill_currency: str = ""
    here_minor: int | None = None
    here_currency: str = ""
    at_ms: int | None = None
    detail: str = ""
    is_known: bool = True  # there is an order here


class BillSum(Struct, frozen=True, kw_only=True):
    """The payments, or the refunds, of one currency: in the bill, and those of them that are here too."""

    kind: str
    currency: str
    bill_count: int
    bill_minor: int
    here_count: int
    here_minor: int


class BillReport(Struct, frozen=True, kw_only=True):
    """The result of a comparison, without its differences. A period ends before `until_ms`.

    `is_one_way`: the file is of a settlement, so that payments only here were not looked for. `faults` are the first
    rows that could not be read, `disagreements` where the file contradicts itself, `others` the types of rows that are
    not compared, `left_out` the files of an archive with other columns.
    `auth_app_id` is the merchant whose orders were compared, if the account serves several.
    """

    file: str
    layout: str
    since_ms: int
    until_ms: int
    by: str
    rows: int = 0
    duplicates: int = 0
    outside: int = 0
    unreadable: int = 0
    faults: tuple[str, ...] = ()
    disagreements: tuple[str, ...] = ()
    others: dict[str, int] = {}
    left_out: tuple[str, ...] = ()
    is_one_way: bool = False
    auth_app_id: str = ""
    sums: tuple[BillSum, ...] = ()
    counts: dict[str, int] = {}  # by the kind of difference, of all

    @property
    def differences(self) -> int:
        """The number of differences, without the uncertain ones."""
        return sum(count for kind, count in self.counts.items() if kind != DifferenceKind.UNCERTAIN)

    @property
    def is_agreed(self) -> bool:
        """Whether every file and row was read, and none differs."""
        return not (self.differences or self.unreadable or self.disagreements or self.left_out)


class BillImport(Struct, frozen=True, kw_only=True):
    """One import, with its report."""

    number: int
    account: str
    digest: str
    begun_at_ms: int
    finished_at_ms: int | None
    report: BillReport


class NewImport(Struct, frozen=True, kw_only=True):
    """An import that begins."""

    account: str
    digest: str
    report: BillReport


class OrderPayment(Struct, frozen=True, kw_only=True):
    """One trade of an order, with the refunded sum."""

    trade: str
    minor: int
    currency: str
    is_paid: bool
    refunded_minor: int


class OrderHistory(Struct, frozen=True, kw_only=True):
    """When an order was paid and refunded.

    `paid_at_ms` is Alipay's time of the payment, `None` if no event has it. `received_at_ms` is when the first
    notification of the payment was received; without one, when the order became paid here. `refunds` has of each
    refund the time, `None` if it is unknown, its sum, and when it was received. If the events before a refund are
    pruned, its sum may have earlier refunds in it, and its time counts as unknown.
    """

    paid_at_ms: int | None
    received_at_ms: int | None
    refunds: tuple[tuple[int | None, int, int], ...]


def payments(order: Order) -> list[OrderPayment]:
    """Return the trades of an order."""
    return [
        OrderPayment(
            trade=claim.trade,
            minor=claim.paid_minor,
            currency=claim.currency,
            is_paid=claim.state in PAYMENT_STATES,
            refunded_minor=transitions.refunded_minor(claim),
        )
        for claim in order_view.claims_with_refunds(order)
    ]


class _EventCause(Struct):
    news: str
    happened_at: str | None
    received_at: str


class _OrderVersion(Struct, kw_only=True):
    version: int
    status: Status
    closed_because: ClosedBecause | None = None
    refunded_minor: int = 0
    cause: _EventCause | None = None
    occurred_at: str

    @property
    def is_paid(self) -> bool:
        return orders.was_paid(self.status, self.closed_because)

    @property
    def received_at_ms(self) -> int:
        """When its notification was received; without one, when an operator decided or the merchant registered."""
        return times.iso_to_epoch_ms(self.occurred_at if self.cause is None else self.cause.received_at)

    def happened_at_ms(self, news: frozenset[str]) -> int | None:
        """Return Alipay's time of the event, if its notification has one and is one of these news."""
        cause = self.cause
        if cause is None or cause.happened_at is None or cause.news not in news:
            return None
        return times.iso_to_epoch_ms(cause.happened_at)


_event = msgspec.json.Decoder(_OrderVersion).decode


def history(page: OrderPage) -> OrderHistory:
    """Return when the order was paid and refunded, as far as its events and notifications tell.

    Events are kept for thirty days; of an older change only the time of receipt is known.
    """
    events = [_event(each.event.value) for each in page.events if each.event.topic == topics.ORDER_EVENT]
    paid = _first_paid(events)
    return OrderHistory(
        paid_at_ms=None if paid is None else paid.happened_at_ms(PAID_NEWS),
        received_at_ms=_received_at_ms(page, paid),
        refunds=tuple(_refunds(events)),
    )


def _first_paid(events: Sequence[_OrderVersion]) -> _OrderVersion | None:
    """Return the event with which the order became paid; `None` if it may be one that is pruned."""
    version = 0
    for event in events:
        if event.is_paid:
            return event if event.version == version + 1 else None
        version = event.version
    return None


def _received_at_ms(page: OrderPage, paid: _OrderVersion | None) -> int | None:
    """Return when the payment was first reported. A notification that was held counts if none was applied."""
    reported = [each for each in page.deliveries if each.news in PAID_NEWS | REFUND_NEWS]
    applied = [each for each in reported if each.disposition is Disposition.APPLIED]
    first_ms = min((each.received_at_ms for each in applied or reported), default=None)
    return paid.received_at_ms if first_ms is None and paid is not None else first_ms


def _refunds(events: Sequence[_OrderVersion]) -> Iterator[tuple[int | None, int, int]]:
    version, before = 0, 0
    for event in events:
        refunded = event.refunded_minor - before
        is_next = event.version == version + 1
        if refunded > 0 and (is_next or event.cause is None or event.cause.news in REFUND_NEWS):
            yield event.happened_at_ms(REFUND_NEWS) if is_next else None, refunded, event.received_at_ms
        version, before = event.version, event.refunded_minor


def import_of(row: Sequence[Any]) -> BillImport:
    """Return the import from the columns number, account, digest, times and report."""
    number, account, digest, begun_at_ms, finished_at_ms, report = row
    return BillImport(
        number=number,
        account=account,
        digest=digest,
        begun_at_ms=begun_at_ms,
        finished_at_ms=finished_at_ms,
        report=msgspec.json.decode(report, type=BillReport),
    )


def difference_of(text: str) -> BillDifference:
    """Return the difference from its column."""
    return msgspec.json.decode(text, type=BillDifference)


def audited(found: BillImport) -> str:
    """Return the text of an import's audit row."""
    return f"{found.account}: {found.report.file}, {found.report.differences} differences"


def last_of(replaced: Sequence[BillImport]) -> BillImport | None:
    """Return the last one of the reports that were replaced, which are sorted by number."""
    return replaced[-1] if replaced else None


class BillsPort(Protocol):
    """Reports of comparisons, and orders by their numbers."""

    async def bill_orders(self, account: str, numbers: Sequence[str], trades: Sequence[str]) -> Sequence[OrderPage]:
        """Return the orders of the account and its merchants with these numbers, or with these trades."""

    async def begin_import(self, new: NewImport, *, now_ms: int) -> int:
        """Write a report without differences and return its number. Old and unfinished ones are deleted."""

    async def add_differences(self, number: int, first: int, differences: Sequence[BillDifference]) -> bool:
        """Write differences from the place `first` on; again is the same. Return whether the report is unfinished."""

    async def finish_import(self, number: int, *, by: str, now_ms: int) -> BillImport | None:
        """Finish a report, with its audit row, and delete the earlier finished ones of the same file; return the last.

        Finishing it again changes nothing.
        """

    async def imports(self, limit: int, before: int | None = None) -> Sequence[BillImport]:
        """Return finished imports, the newest first, below the number `before`."""

    async def bill_import(self, number: int) -> BillImport | None: ...

    async def differences(self, number: int, *, after: int, limit: int) -> Sequence[tuple[int, BillDifference]]:
        """Return differences of a report with their places, from the place after `after` on; places begin with 1."""
