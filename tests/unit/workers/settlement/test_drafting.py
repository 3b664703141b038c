"""The draft of a write plan: rows, events and releases that follow from each decision."""

import json
from typing import Any

import pytest
from msgspec import structs

from schemas import topics
from schemas.dispositions import Disposition, Reason
from schemas.money import Money
from schemas.notification import Kind, NamedNumber, Notification, NumberKind
from schemas.orders import Claim, Order, State
from tests.support import facts
from tests.support.facts import form
from tests.unit.workers.settlement.worlds import failed
from workers.settlement import drafting, order_view, parking
from workers.settlement.drafting import Draft
from workers.settlement.plan import HeldRow, ParsedRecord, Position

NOW_MS = 1_743_480_000_000
ACCOUNT = facts.account("mapi")
WAITING = Claim(trade="T1", amount_minor=10000, currency="USD")
PAID = Claim(trade="T1", amount_minor=10000, currency="USD", state=State.PAID)


@pytest.fixture
def draft() -> Draft:
    return Draft(now_ms=NOW_MS, chance=lambda: 0.5)


def notification() -> Notification:
    return facts.notification(form("p", "TRADE_SUCCESS"), ACCOUNT)


def parsed(held: HeldRow | None = None) -> ParsedRecord:
    record = facts.record(facts.body(form("p", "TRADE_SUCCESS")), ACCOUNT)
    return ParsedRecord(
        position=Position(0, 3),
        record=record,
        account=ACCOUNT.name,
        received_at_ms=NOW_MS - 5,
        notification=notification(),
        held=held,
    )


def held_row(disposition: Disposition) -> HeldRow:
    failure = failed(Reason.UNKNOWN_ORDER, disposition)
    assert failure.failure is not None
    return parking.held_row(failure, failure.failure, due_ms=None, now_ms=NOW_MS)


def order(*claims: Claim, version: int = 0, **more: Any) -> Order:
    return Order(account=ACCOUNT.name, number="A", claims=claims, version=version, **more)


def test_finished_record_has_one_delivery_and_no_other_row(draft: Draft) -> None:
    draft.finish(parsed(), notification(), Disposition.APPLIED, Reason.CHANGED, version=4)
    plan = draft.plan
    (delivery,) = plan.deliveries
    assert (delivery.order, delivery.notification_id, delivery.version) == ("A", "p", 4)
    assert (delivery.received_at_ms, delivery.decided_at_ms) == (NOW_MS - 5, NOW_MS)
    assert (plan.held, plan.released, plan.events) == ([], [], [])


def test_noted_record_has_one_notice(draft: Draft) -> None:
    numbers = (NamedNumber(NumberKind.AGREEMENT, "A1"),)
    mandate = structs.replace(
        notification(), kind=Kind.AGREEMENT, order="", numbers=numbers, fields=(("status", "NORMAL"),)
    )
    draft.finish(parsed(), mandate, Disposition.APPLIED, Reason.NOTED, order="B")
    (notice,) = draft.plan.events
    assert (notice.topic, notice.id) == (topics.NOTED, f"noted:{ACCOUNT.name}:p")
    value = json.loads(notice.value)
    assert (value["record_id"], value["order"], value["kind"]) == ("0-3", "B", "agreement")
    assert value["numbers"] == [{"kind": "agreement", "number": "A1"}]
    assert value["fields"] == {"status": "NORMAL"}


def test_finished_retry_releases_its_row(draft: Draft) -> None:
    draft.finish(parsed(held_row(Disposition.PARKED)), notification(), Disposition.DUPLICATE, Reason.SAME_FACT)
    assert draft.plan.released == [Position(0, 3)]


def test_row_that_is_held_again_has_no_new_notice(draft: Draft) -> None:
    draft.park(parsed(held_row(Disposition.PARKED)), notification(), Reason.UNKNOWN_ORDER, waits_for="order:A")
    assert [row.attempts for row in draft.plan.held] == [1]
    assert (draft.plan.events, draft.plan.released) == ([], [])


def test_row_with_another_disposition_has_a_notice(draft: Draft) -> None:
    draft.quarantine(parsed(held_row(Disposition.PARKED)), notification(), Reason.AMOUNT_MISMATCH, "why")
    (event,) = draft.plan.events
    assert (event.topic, event.id) == (topics.HELD, "held:0-3:1:quarantined")


def test_copy_of_an_unreadable_message_is_a_duplicate(draft: Draft) -> None:
    copy = failed(Reason.BAD_AMOUNT, Disposition.QUARANTINED)
    assert copy.failure is not None
    draft.finish_copy(copy, copy.failure)
    (delivery,) = draft.plan.deliveries
    assert (delivery.disposition, delivery.reason) == (Disposition.DUPLICATE, Reason.SAME_ID)
    assert draft.plan.held == []


def test_visible_change_has_the_next_version_one_event_and_its_payment(draft: Draft) -> None:
    before = order(WAITING, version=2)
    after, view = draft.change_order(parsed(), notification(), before=before, view_before=None, after=order(PAID))
    assert (after.version, view) == (3, order_view.view(order(PAID)))
    (event,) = draft.plan.events
    value = json.loads(event.value)
    assert (value["version"], value["cause"]["notification_id"]) == (3, "p")
    assert draft.plan.paid == [(ACCOUNT.name, Money(10000, "USD"))]


def test_change_that_consumers_do_not_see_has_no_event(draft: Draft) -> None:
    before = order(PAID, version=2)
    same, _ = draft.change_order(parsed(), notification(), before=before, view_before=None, after=before)
    note, _ = draft.change_order(parsed(), notification(), before=order(), view_before=None, after=order())
    assert (same.version, note.version) == (2, 0)
    assert (draft.plan.events, draft.plan.paid) == ([], [])


def test_each_number_of_a_notification_has_a_row_at_its_position(draft: Draft) -> None:
    numbers = (NamedNumber(NumberKind.DISPUTE, "D1"), NamedNumber(NumberKind.TRADE, "T1"))
    draft.add_numbers(parsed(), numbers)
    rows = [(row.account, row.named, row.position) for row in draft.plan.numbers]
    assert rows == [(ACCOUNT.name, named, Position(0, 3)) for named in numbers]


def test_empty_plan_writes_nothing() -> None:
    empty = drafting.empty()
    assert not any(getattr(empty, name) for name in empty.__struct_fields__)
