"""Values as rows of a store, and back: nothing is lost on the way."""

import msgspec
import pytest
from msgspec import structs

from schemas import events
from schemas.dispositions import Disposition, Flag, Reason
from schemas.events import Outgoing
from schemas.money import Money
from schemas.notification import NamedNumber, NumberKind
from schemas.orders import RANK, Capture, Claim, ClosedBecause, Movement, Order, Refund, State, Status, View
from schemas.record_format import Record
from workers import row_codec
from workers.queries import Snooze
from workers.settlement import order_view
from workers.settlement.plan import (
    Delivery,
    HeldRow,
    LedgerRow,
    MovementKind,
    MovementRow,
    NumberRow,
    OrderWrite,
    Position,
)

RECORD = Record(b"shop:A1", b"a=1&b=\xff", (("version", b"1"), ("account", b"shop"), ("receipt", b"\x00\xff")))
DELIVERY = Delivery(
    position=Position(3, 41),
    account="shop",
    order="A1",
    notification_id="n1",
    type="trade_status_sync",
    status="TRADE_SUCCESS",
    news="paid",
    disposition=Disposition.QUARANTINED,
    reason=Reason.SECOND_TRADE,
    detail="why",
    version=None,
    received_at_ms=1_000,
    decided_at_ms=1_250,
)
HELD = HeldRow(
    position=Position(3, 41),
    account="shop",
    order="A1",
    notification_id="n1",
    disposition=Disposition.PARKED,
    reason=Reason.UNKNOWN_ORDER,
    detail="waits for order:A1",
    record=RECORD,
    first_at_ms=1_000,
    attempts=2,
    due_at_ms=31_000,
    waits_for="order:A1",
)
FULL = Order(
    account="shop",
    number="A1",
    version=4,
    claims=(
        Claim(trade="T1", amount_minor=1280, currency="USD", state=State.FINISHED, refunded_total_minor=280),
        Claim(trade="T2", amount_minor=1280, currency="USD", lapsed=ClosedBecause.EXPIRED, state=State.LAPSED),
    ),
    refunds=(Refund(id="R1", amount=Money(280, "USD"), trade="T1"),),
    expected=Money(1280, "USD"),
    registered=True,
    refused=frozenset({Flag.AMOUNT_MISMATCH}),
)


def write(order: Order) -> OrderWrite:
    return OrderWrite(order=order, view=order_view.view(order), expected_version=None)


def claimed(state: State, lapsed: ClosedBecause | None = None) -> Order:
    claim = Claim(trade="T1", amount_minor=1280, currency="USD", state=state, lapsed=lapsed)
    return Order(account="shop", number="A1", version=1, claims=(claim,))


AUTHORIZED = structs.replace(
    claimed(State.AUTHORIZED),
    claims=(Claim(trade="T1", amount_minor=1280, currency="USD", state=State.AUTHORIZED, authorized_until_ms=77_000),),
)
ORDERS = [
    FULL,
    Order(account="shop", number="A1"),
    claimed(State.WAITING),
    claimed(State.LAPSED, ClosedBecause.FAILED),
    claimed(State.PAID),
    claimed(State.REFUNDED),
    structs.replace(FULL, alternatives=(Money(8000, "CNY"),)),
    Order(account="shop", number="A1", registered=True),
    AUTHORIZED,
    structs.replace(
        claimed(State.PAID), refunds=(Refund(id="R1", amount=Money(1500, "USD")),), refund_limit_minor=1500
    ),
    structs.replace(AUTHORIZED, captures=(Capture(id="C1", trade="T1"), Capture(id="C2", minor=80, currency="USD"))),
]


@pytest.mark.parametrize("order", ORDERS)
def test_order_and_its_view_survive_their_row(order: Order) -> None:
    version, facts, _rank, *shown, changed_at_ms, number, account = row_codec.order_row(write(order), 77)
    assert (version, changed_at_ms, number, account) == (order.version, 77, "A1", "shop")
    assert row_codec.order(facts) == order
    assert row_codec.order_and_view((facts, *shown)) == (order, order_view.view(order))


def test_row_of_an_earlier_release_is_read_and_reads_there() -> None:
    written = msgspec.to_builtins(FULL)
    assert not {"alternatives", "captures"} & written.keys()
    assert row_codec.order(msgspec.msgpack.encode(written)) == FULL
    empty = {"version": 0, "claims": [], "refunds": [], "expected": None, "registered": False, "refused": []}
    stored = msgspec.msgpack.encode({"account": "shop", "number": "A1"} | empty)
    assert row_codec.order(stored) == Order(account="shop", number="A1")


@pytest.mark.parametrize(
    ("order", "state"),
    [
        (Order(account="shop", number="A1"), State.WAITING),
        (claimed(State.LAPSED, ClosedBecause.EXPIRED), State.LAPSED),
        (claimed(State.LAPSED, ClosedBecause.FAILED), State.LAPSED),
        (claimed(State.PAID), State.PAID),
        (claimed(State.FINISHED), State.FINISHED),
        (claimed(State.REFUNDED), State.REFUNDED),
        (AUTHORIZED, State.WAITING),
        (structs.replace(AUTHORIZED, captures=(Capture(id="C1"),)), State.REFUNDED),
        (structs.replace(claimed(State.PAID), captures=(Capture(id="C1"),)), State.PAID),
    ],
)
def test_row_has_the_rank_that_a_trigger_keeps_from_falling(order: Order, state: State) -> None:
    assert row_codec.order_row(write(order), 0)[2] == RANK[state]


def test_order_row_has_the_columns_that_sql_searches() -> None:
    view = View(
        status=Status.CLOSED,
        closed_because=ClosedBecause.REFUNDED,
        trade="T1",
        amount_minor=1280,
        currency="USD",
        refunded_minor=1280,
        flags=(Flag.SECOND_TRADE, Flag.FROZEN),
    )
    row = row_codec.order_row(OrderWrite(order=FULL, view=view, expected_version=3), 0)
    assert row[3:10] == ("CLOSED", "refunded", "T1", 1280, "USD", 1280, "second_trade frozen")


def test_delivery_survives_its_row() -> None:
    assert row_codec.delivery(row_codec.delivery_row(DELIVERY)) == DELIVERY


def test_held_row_survives_its_row_with_bytes_and_headers() -> None:
    assert row_codec.held(row_codec.held_row(HELD)) == HELD


def test_held_page_has_the_outcome_after_the_row() -> None:
    page = row_codec.held_page(
        (*row_codec.held_row(HELD), 9_000, "discarded", "kim", "double", 3, 9_500, 9_700, "bo", "asked")
    )
    assert page.row == HELD
    assert page.erased_at_ms == 9_500
    assert page.snooze == Snooze(until_ms=9_700, by="bo", why="asked")
    assert (page.resolved_at_ms, page.resolution, page.by, page.why, page.replays) == (
        9_000,
        "discarded",
        "kim",
        "double",
        3,
    )


def test_event_survives_its_row() -> None:
    event = Outgoing(
        id=events.event_id("shop", "A1", 4),
        topic="payments.order.event.v1",
        key=b"shop:A1",
        value=b'{"version":4}',
        headers=(("ce_id", b"shop:A1:4"),),
    )
    id_, topic, key, value, headers, version, written_at_ms = row_codec.outbox_row(event, 55)
    assert (version, written_at_ms) == (4, 55)
    emitted = row_codec.emitted((9, id_, topic, key, value, headers, None))
    assert (emitted.number, emitted.event, emitted.sent_at_ms) == (9, event, None)


def test_ledger_row_has_the_signed_bytes() -> None:
    entry = LedgerRow(
        account="shop", notification_id="n1", order="A1", digest=b"d", position=Position(3, 41), record=RECORD
    )
    row = row_codec.ledger_row(entry)
    assert row[:8] == ("n1", "shop", "A1", b"d", 3, 41, RECORD.key, RECORD.value)


def test_number_row_has_the_number_first() -> None:
    row = NumberRow(account="shop", named=NamedNumber(NumberKind.AGREEMENT, "A1"), position=Position(3, 41))
    assert row_codec.number_row(row) == ("A1", "shop", "agreement", 3, 41)


@pytest.mark.parametrize(
    "movement",
    [
        Refund(id="R1", amount=Money(280, "USD"), trade="T1"),
        Refund(id="R" * 5000, amount=Money(10**12, "KWD")),
        Capture(id="C1", trade="T1", minor=5, currency="HKD"),
        Capture(id="C1", trade="T1"),
    ],
)
def test_movement_survives_its_row(movement: Movement) -> None:
    row = row_codec.movement_row(MovementRow(account="shop", order="A1", movement=movement))
    assert row_codec.movement(row[4:]) == movement
    assert row[:2] == ("A1", "shop")
    assert all(-(2**63) <= digest < 2**63 for digest in row[2:4])


def test_rows_of_one_movement_have_one_digest() -> None:
    def digests(movement: Movement) -> tuple[int, int]:
        row = row_codec.movement_row(MovementRow(account="shop", order="A1", movement=movement))
        return row[2], row[3]

    (named, stated), (again, larger) = (
        digests(Refund(id="R1", amount=Money(minor, "USD"), trade="T1")) for minor in (5, 6)
    )
    assert named == again == row_codec.movement_digest((MovementKind.REFUND, "R1"))
    assert stated != larger
    assert digests(Capture(id="R1", trade="T1", minor=5, currency="USD"))[0] != named
