"""Write plans made by hand, and their parts."""

from collections.abc import Callable

from msgspec import structs

from schemas import topics
from schemas.dispositions import Disposition, Reason
from schemas.events import Outgoing
from schemas.notification import NamedNumber
from schemas.orders import Order
from schemas.record_format import Record
from tests.support import log_records
from tests.support.log_records import NOW_MS
from workers.queries import HeldPage
from workers.settlement import drafting, order_view
from workers.settlement.plan import (
    Delivery,
    HeldRow,
    LedgerRow,
    NumberRow,
    OrderWrite,
    Position,
    StoreSnapshot,
    WritePlan,
)


def plan(**parts: object) -> WritePlan:
    """An empty plan with some parts filled."""
    empty = drafting.empty()
    for name, part in parts.items():
        setattr(empty, name, part)
    return empty


def always(decided: WritePlan) -> Callable[[StoreSnapshot], WritePlan]:
    """A decision that is taken already."""
    return lambda _: decided


def delivery(offset: int, **changes: object) -> Delivery:
    plain = Delivery(
        position=Position(0, offset),
        account="shop-sg",
        order="N1",
        notification_id="n1",
        type="trade_status_sync",
        status="TRADE_SUCCESS",
        news="paid",
        disposition=Disposition.APPLIED,
        reason=Reason.NOTED,
        detail="",
        version=None,
        received_at_ms=NOW_MS,
        decided_at_ms=NOW_MS,
    )
    return structs.replace(plain, **changes)


def held_page(offset: int, *, at_ms: int = NOW_MS) -> HeldPage:
    """A held row as operators see it."""
    row = HeldRow(
        position=Position(0, offset),
        account="shop-sg",
        order=f"N{offset}",
        notification_id=f"n{offset}",
        disposition=Disposition.PARKED,
        reason=Reason.UNKNOWN_ORDER,
        detail="",
        record=Record(b"", b"", ()),
        first_at_ms=at_ms,
        attempts=0,
        due_at_ms=None,
        waits_for="",
    )
    return HeldPage(row=row, resolved_at_ms=None, resolution="", by="", why="", replays=0)


def event(order: str, version: int) -> Outgoing:
    return Outgoing(
        id=f"shop-sg:{order}:{version}",
        topic=topics.ORDER_EVENT,
        key=f"shop-sg:{order}".encode(),
        value=b"{}",
        headers=(("ce_id", b"x"),),
    )


def number_row(offset: int, named: NamedNumber) -> NumberRow:
    return NumberRow(account="shop-sg", named=named, position=Position(0, offset))


def order_write(order: Order, expected_version: int | None) -> OrderWrite:
    return OrderWrite(order=order, view=order_view.view(order), expected_version=expected_version)


def ledger_row(id_: str) -> LedgerRow:
    return LedgerRow(
        account="shop-sg",
        notification_id=id_,
        order="N1",
        digest=b"d",
        position=Position(0, 1),
        record=log_records.record("N1"),
    )
