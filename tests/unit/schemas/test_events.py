"""Event ids and types are derived from the change; events are CloudEvents in binary mode."""

import json
from datetime import UTC, datetime
from typing import Any

import pytest
from msgspec import structs

from schemas import events, topics
from schemas.dispositions import Disposition, Flag, Reason
from schemas.events import Cause, HeldNotice, HeldWay, NotedNotice, OrderEvent
from schemas.notification import Kind, NamedNumber, NumberKind
from schemas.orders import ClaimView, ClosedBecause, Status, View

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
AUTHORIZED = structs.replace(WAITING, authorized_minor=7315, authorized_until=AT)
UNHEARD = structs.replace(WAITING, trade=None)
FLAGGED = (Flag.AMOUNT_MISMATCH,)


def event(**more: Any) -> OrderEvent:
    members = {name: getattr(PAID, name) for name in events.changed(None, PAID)}
    own = {"id": "shop:A:2", "type": "t", "account": "shop", "order": "A", "version": 2, "changed": ("status",)}
    return OrderEvent(**(members | own | {"cause": None, "occurred_at": AT} | more))


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
        (structs.replace(REFUNDED, flags=FLAGGED), structs.replace(REFUNDED, refund_accepted_minor=8000), "refunded"),
        (None, REFUNDED, "refunded"),
        (EXPIRED, REFUNDED, "refunded"),
        (WAITING, structs.replace(PAID, refunded_minor=1), "paid"),
        (PAID, structs.replace(PAID, flags=FLAGGED), "flagged"),
        (None, structs.replace(UNHEARD, flags=FLAGGED), "flagged"),
        (PAID, structs.replace(PAID, trade="T0"), "updated"),
        (None, AUTHORIZED, "authorized"),
        (WAITING, AUTHORIZED, "authorized"),
        (AUTHORIZED, structs.replace(AUTHORIZED, flags=FLAGGED), "flagged"),
        (AUTHORIZED, structs.replace(PAID, authorized_minor=7315, authorized_until=AT), "paid"),
        (PAID, structs.replace(PAID, authorized_minor=7315, authorized_until=AT), "updated"),
        (AUTHORIZED, structs.replace(EXPIRED, authorized_minor=7315, authorized_until=AT), "closed"),
    ],
)
def test_most_important_change_decides_the_event_type(before: View | None, after: View, word: str) -> None:
    assert events.event_type(before, after) == f"alipay_notify.order.{word}.v1"


def test_changed_fields_are_listed() -> None:
    assert events.changed(WAITING, PAID) == ("status",)
    assert events.changed(PAID, REFUNDED) == ("status", "closed_because", "refunded_minor")
    usual = set(PAID.__struct_fields__) - {"authorized_minor", "authorized_until", "refund_accepted_minor", "claims"}
    assert set(events.changed(None, AUTHORIZED)) == usual | {"authorized_minor", "authorized_until"}
    assert set(events.changed(None, PAID)) == usual
    accepted = structs.replace(REFUNDED, refund_accepted_minor=8000)
    assert set(events.changed(None, accepted)) == usual | {"refund_accepted_minor"}
    assert events.changed(REFUNDED, accepted) == ("refund_accepted_minor",)
    claims = (ClaimView(trade="T", status=Status.PAID, amount_minor=1, currency="USD", refunded_minor=0),)
    assert set(events.changed(None, structs.replace(PAID, claims=claims))) == usual | {"claims"}
    assert events.changed(PAID, structs.replace(PAID, claims=claims)) == ("claims",)
    assert events.changed(WAITING, AUTHORIZED) == ("authorized_minor", "authorized_until")
    assert events.changed(PAID, PAID) == ()


def test_event_id_is_made_of_order_and_version() -> None:
    assert events.event_id("shop", "A", 3) == "shop:A:3"


def test_event_is_a_cloudevent_in_binary_mode() -> None:
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


def test_event_contains_the_whole_order_and_its_cause() -> None:
    cause = Cause(notification_id="n", type="t", status="s", news="paid", happened_at=None, received_at=AT)
    value = json.loads(events.outgoing_event(event(cause=cause, flags=FLAGGED)).value)
    assert (value["status"], value["amount_minor"], value["currency"]) == ("PAID", 7315, "HKD")
    assert (value["refunded_minor"], value["flags"], value["changed"]) == (0, ["amount_mismatch"], ["status"])
    assert value["cause"] == {
        "notification_id": "n",
        "type": "t",
        "status": "s",
        "news": "paid",
        "happened_at": None,
        "received_at": "2025-06-05T01:10:31Z",
    }


def test_only_an_authorised_payment_has_the_fields_of_its_authorisation() -> None:
    usual = json.loads(events.outgoing_event(event()).value)
    assert not {"authorized_minor", "refund_accepted_minor"} & usual.keys()
    value = json.loads(events.outgoing_event(event(authorized_minor=7315, authorized_until=AT)).value)
    assert (value["authorized_minor"], value["authorized_until"]) == (7315, "2025-06-05T01:10:31Z")


def test_copies_of_one_event_are_identical_bytes() -> None:
    assert events.outgoing_event(event()) == events.outgoing_event(event())


def test_order_number_with_a_control_character_is_still_sent() -> None:
    outgoing = events.outgoing_event(event(order="单\n1", id="shop:单\n1:2"))
    assert dict(outgoing.headers)["ce_subject"] == "单\n1".encode()
    assert events.decoded(outgoing.value)["order"] == "单\n1"


def test_noted_notice_has_its_first_number_as_key_and_subject() -> None:
    notice = NotedNotice(
        id="noted:shop:n",
        record_id="0-7",
        account="shop",
        order="A",
        notification_id="n",
        kind=Kind.AGREEMENT,
        type="dut_user_sign",
        status="NORMAL",
        numbers=(NamedNumber(NumberKind.AGREEMENT, "A1"), NamedNumber(NumberKind.EXTERNAL_AGREEMENT, "E1")),
        fields={"status": "NORMAL"},
        sent_at=None,
        received_at=AT,
        at=AT,
    )
    outgoing = events.outgoing_noted(notice)
    headers = dict(outgoing.headers)
    assert (outgoing.id, outgoing.topic, outgoing.key) == ("noted:shop:n", topics.NOTED, b"shop:A1")
    assert (headers["ce_type"], headers["ce_subject"]) == (b"alipay_notify.notification.noted.v1", b"A1")
    assert headers["noted-kind"] == b"agreement"
    assert events.version_of(outgoing) is None
    value = events.decoded(outgoing.value)
    assert value["numbers"][1] == {"kind": "external_agreement", "number": "E1"}
    without = [structs.replace(notice, numbers=()), structs.replace(notice, numbers=(), order="")]
    assert [events.outgoing_noted(each).key for each in without] == [b"shop:A", b"shop:n"]
    of_order = structs.replace(notice, kind=Kind.PAYMENT)
    assert [events.outgoing_noted(each).key for each in (of_order, structs.replace(of_order, order=""))] == [
        b"shop:A",
        b"shop:A1",
    ]
    refund = structs.replace(notice, kind=Kind.REFUND, numbers=(NamedNumber(NumberKind.REFUND, "R1"),))
    assert events.outgoing_noted(refund).key == b"shop:R1"


def test_notice_describes_the_held_notification_without_payer_data() -> None:
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
    way = HeldWay(
        partition=0,
        offset=7,
        received_at=AT,
        first_at=AT,
        step="decide",
        error_class="",
        attempts=2,
        replays=1,
    )
    outgoing = events.outgoing_notice(notice, way)
    headers = dict(outgoing.headers)
    assert (outgoing.topic, outgoing.key) == (topics.HELD, b"shop:A")
    assert headers["ce_type"] == b"alipay_notify.notification.quarantined.v1"
    held = {name: text.decode() for name, text in headers.items() if name.startswith("held-")}
    assert held == {
        "held-disposition": "quarantined",
        "held-reason": "amount_mismatch",
        "held-partition": "0",
        "held-offset": "7",
        "held-timestamp": AT.isoformat(),
        "held-step": "decide",
        "held-error-class": "",
        "held-error-message": "another amount than the order's",
        "held-attempts": "2",
        "held-first-at": AT.isoformat(),
        "held-replays": "1",
    }
    long = dict(events.outgoing_notice(structs.replace(notice, detail="额" * 999), way).headers)["held-error-message"]
    assert len(long) <= 1024
    assert long.decode() == "额" * 341
    assert events.decoded(outgoing.value).keys() == set(notice.__struct_fields__) - {"auth_app_id"}


def test_event_of_a_service_provider_names_the_merchant_in_key_and_source() -> None:
    outgoing = events.outgoing_event(event(account="isv", auth_app_id="2021", id="isv/2021:A:2"))
    assert outgoing.key == b"isv/2021:A"
    assert dict(outgoing.headers)["ce_source"] == b"/alipay-notify/isv/2021"
    shown = events.decoded(outgoing.value)
    assert (shown["account"], shown["auth_app_id"]) == ("isv", "2021")
    assert "auth_app_id" not in events.decoded(events.outgoing_event(event()).value)
