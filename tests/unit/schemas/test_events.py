"""What consumers read: ids that are functions of the change, one word for it, CloudEvents in binary mode."""

import json
from datetime import UTC, datetime
from typing import Any

import pytest
from msgspec import structs

from schemas import events, topics
from schemas.dispositions import Disposition, Flag, Reason
from schemas.events import Cause, HeldNotice, OrderEvent
from schemas.orders import ClosedBecause, Status, View

AT = datetime(2025, 6, 5, 1, 10, 31, tzinfo=UTC)
WAITING = View(
    status=Status.WAITING,
    closed_because=None,
    trade="T1",
    amount_minor=7315,
    currency="HKD",
    refunded_minor=0,
    flags=(),
)
PAID = structs.replace(WAITING, status=Status.PAID)
REFUNDED = structs.replace(PAID, status=Status.CLOSED, closed_because=ClosedBecause.REFUNDED, refunded_minor=7315)
EXPIRED = structs.replace(WAITING, status=Status.CLOSED, closed_because=ClosedBecause.EXPIRED)
UNHEARD = structs.replace(WAITING, trade=None)
FLAGGED = (Flag.AMOUNT_MISMATCH,)


def event(**more: Any) -> OrderEvent:
    members = {name: getattr(PAID, name) for name in PAID.__struct_fields__}
    told = {"id": "shop:A:2", "type": "t", "account": "shop", "order": "A", "version": 2, "changed": ("status",)}
    return OrderEvent(**(members | told | {"cause": None, "occurred_at": AT} | more))


@pytest.mark.parametrize(
    ("before", "after", "word"),
    [
        (None, WAITING, "waiting"),
        (None, PAID, "paid"),
        (WAITING, PAID, "paid"),
        (WAITING, EXPIRED, "closed"),
        (EXPIRED, structs.replace(PAID, flags=FLAGGED), "paid"),
        (PAID, structs.replace(PAID, status=Status.FINISHED), "finished"),
        (PAID, structs.replace(PAID, refunded_minor=1), "refunded"),
        (PAID, REFUNDED, "refunded"),
        (None, REFUNDED, "refunded"),
        (EXPIRED, REFUNDED, "refunded"),
        (WAITING, structs.replace(PAID, refunded_minor=1), "paid"),
        (PAID, structs.replace(PAID, flags=FLAGGED), "flagged"),
        (None, structs.replace(UNHEARD, flags=FLAGGED), "flagged"),
        (PAID, structs.replace(PAID, trade="T0"), "updated"),
    ],
)
def test_the_weightiest_change_gives_the_event_its_type(before: View | None, after: View, word: str) -> None:
    assert events.event_type(before, after) == f"alipay_notify.order.{word}.v1"


def test_what_changed_is_named() -> None:
    assert events.changed(WAITING, PAID) == ("status",)
    assert events.changed(PAID, REFUNDED) == ("status", "closed_because", "refunded_minor")
    assert set(events.changed(None, PAID)) == set(PAID.__struct_fields__)
    assert events.changed(PAID, PAID) == ()


def test_an_events_id_is_a_function_of_order_and_version() -> None:
    assert events.event_id("shop", "A", 3) == "shop:A:3"


def test_an_event_is_a_cloud_event_in_binary_mode() -> None:
    outgoing = events.outgoing_event(event(type="alipay_notify.order.paid.v1"))
    assert (outgoing.id, outgoing.topic, outgoing.key) == ("shop:A:2", topics.ORDER_EVENT, b"shop:A")
    assert dict(outgoing.headers) == {
        "content-type": b"application/json",
        "ce_specversion": b"1.0",
        "ce_id": b"shop:A:2",
        "ce_type": b"alipay_notify.order.paid.v1",
        "ce_source": b"/alipay-notify/shop",
        "ce_subject": b"A",
        "ce_time": b"2025-06-05T01:10:31+00:00",
    }


def test_an_event_is_the_whole_order_with_its_cause() -> None:
    cause = Cause(notification_id="n", type="t", status="s", news="paid", happened_at=None, received_at=AT)
    told = json.loads(events.outgoing_event(event(cause=cause, flags=FLAGGED)).value)
    assert (told["status"], told["amount_minor"], told["currency"]) == ("PAID", 7315, "HKD")
    assert (told["refunded_minor"], told["flags"], told["changed"]) == (0, ["amount_mismatch"], ["status"])
    assert told["cause"] == {
        "notification_id": "n",
        "type": "t",
        "status": "s",
        "news": "paid",
        "happened_at": None,
        "received_at": "2025-06-05T01:10:31Z",
    }


def test_two_copies_of_one_event_are_the_same_bytes() -> None:
    assert events.outgoing_event(event()) == events.outgoing_event(event())


def test_a_number_that_no_header_can_hold_is_still_sent() -> None:
    outgoing = events.outgoing_event(event(order="单\n1", id="shop:单\n1:2"))
    assert dict(outgoing.headers)["ce_subject"] == "单\n1".encode()
    assert events.decoded(outgoing.value)["order"] == "单\n1"


def test_a_notice_tells_what_was_held_and_nothing_of_the_payer() -> None:
    notice = HeldNotice(
        id="held:0-7:0:quarantined",
        held_id="0-7",
        account="shop",
        order="A",
        notification_id="n",
        disposition=Disposition.QUARANTINED,
        reason=Reason.AMOUNT_MISMATCH,
        detail="another amount than the order's",
        at=AT,
    )
    outgoing = events.outgoing_notice(notice)
    headers = dict(outgoing.headers)
    assert (outgoing.topic, outgoing.key) == (topics.HELD, b"shop:A")
    assert headers["ce_type"] == b"alipay_notify.notification.quarantined.v1"
    assert (headers["held-disposition"], headers["held-reason"]) == (b"quarantined", b"amount_mismatch")
    assert events.decoded(outgoing.value).keys() == set(notice.__struct_fields__)
