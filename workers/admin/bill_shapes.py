"""Shapes of the API for comparisons with bills: its bodies, and its answers. Pure.

Amounts are integers in the currency's smallest unit, with a text beside them for people. Times are UTC.
"""

from datetime import datetime

from msgspec import UNSET, Struct, UnsetType

from schemas import money, scopes, times
from schemas.orders import Status
from workers import bills
from workers.bills import BillDifference, BillImport, BillReport, DifferenceKind, OrderHistory, OrderPayment
from workers.queries import OrderPage


class AccountBody(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The account that a bill is compared with: by its name, or the only one that fits the file.

    `merchants` are the account numbers that the file names, `is_antom` its layout. `auth_app_id` is the merchant, if
    the account serves several.
    """

    account: str = ""
    auth_app_id: str = ""
    merchants: tuple[str, ...] = ()
    is_antom: bool = False


class NumbersBody(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Numbers of orders and of trades of one account."""

    account: str
    orders: tuple[str, ...] = ()
    trades: tuple[str, ...] = ()


class NamedOrder(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    order: str
    auth_app_id: str | UnsetType = UNSET


class HistoriesBody(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Orders of one account."""

    account: str
    orders: tuple[NamedOrder, ...] = ()


class ReportBody(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A report without its differences. `digest` is the SHA-256 of the file; the name in `report` is replaced."""

    account: str
    digest: str
    report: BillReport
    by: str = ""


class DifferencesBody(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Differences of a report, from the place `first` on; places begin with 1."""

    first: int
    differences: tuple[BillDifference, ...] = ()


class FinishBody(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    by: str = ""


class AskBody(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """From which difference on to ask; the answer to one call has the next `after`."""

    after: int = 0
    by: str = ""


class BilledOrder(Struct, frozen=True, kw_only=True):
    """An order, as a bill knows it: its trades, and its refunds that have numbers."""

    account: str
    auth_app_id: str | UnsetType = UNSET
    order: str
    status: Status | None
    payments: tuple[OrderPayment, ...]
    refunds: dict[str, int]


class HistoryAnswer(Struct, frozen=True, kw_only=True):
    order: str
    auth_app_id: str | UnsetType = UNSET
    history: OrderHistory


class DifferenceAnswer(Struct, frozen=True, kw_only=True):
    """One difference, with its place in the report; amounts as texts are null if there is none."""

    place: int
    kind: DifferenceKind
    account: str
    auth_app_id: str | UnsetType = UNSET
    order: str
    trade: str
    refund: str
    bill_minor: int | None
    bill_amount: str | None
    bill_currency: str
    here_minor: int | None
    here_amount: str | None
    here_currency: str
    at: datetime | None
    detail: str
    is_known: bool


class ImportAnswer(Struct, frozen=True, kw_only=True):
    """One import. `differences` counts all; at most 1,000 are listed. The period ends before `until`."""

    number: int
    account: str
    file: str
    digest: str
    layout: str
    at: datetime
    by: str
    since: datetime
    until: datetime
    is_agreed: bool
    differences: int
    uncertain: int
    report: BillReport


def billed(page: OrderPage) -> BilledOrder:
    """Return the order as a bill knows it. The refunds of an order with many are only in its sums."""
    account, auth_app_id = scopes.split(page.account)
    order, refunds = page.order, dict[str, int]()
    for refund in () if order is None else order.refunds:
        refunds[refund.id] = max(refund.minor, refunds.get(refund.id, 0))
    return BilledOrder(
        account=account,
        auth_app_id=auth_app_id,
        order=page.number,
        status=None if page.view is None or order is None or order.is_note else page.view.status,
        payments=() if order is None else tuple(bills.payments(order)),
        refunds=refunds,
    )


def answer(found: BillImport) -> ImportAnswer:
    """Return an import as it is shown."""
    report = found.report
    return ImportAnswer(
        number=found.number,
        account=found.account,
        file=report.file,
        digest=found.digest,
        layout=report.layout,
        at=times.from_epoch_ms(found.begun_at_ms),
        by=report.by,
        since=times.from_epoch_ms(report.since_ms),
        until=times.from_epoch_ms(report.until_ms),
        is_agreed=report.is_agreed,
        differences=report.differences,
        uncertain=report.counts.get(DifferenceKind.UNCERTAIN, 0),
        report=report,
    )


def difference(place: int, found: BillDifference) -> DifferenceAnswer:
    """Return a difference as it is shown."""
    account, auth_app_id = scopes.split(found.scope)
    return DifferenceAnswer(
        place=place,
        kind=found.kind,
        account=account,
        auth_app_id=auth_app_id,
        order=found.order,
        trade=found.trade,
        refund=found.refund,
        bill_minor=found.bill_minor,
        bill_amount=_text(found.bill_minor, found.bill_currency),
        bill_currency=found.bill_currency,
        here_minor=found.here_minor,
        here_amount=_text(found.here_minor, found.here_currency),
        here_currency=found.here_currency,
        at=_moment(found.at_ms),
        detail=found.detail,
        is_known=found.is_known,
    )


def _moment(epoch_ms: int | None) -> datetime | None:
    try:
        return None if epoch_ms is None else times.from_epoch_ms(epoch_ms)
    except (ValueError, OverflowError, OSError):
        return None


def _text(minor: int | None, currency: str) -> str | None:
    return None if minor is None else money.text(minor, currency)
