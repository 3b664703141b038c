"""Each disposition and each reason, one test each. `test_any_order` shows that the order of arrival does not matter."""

import json

import pytest
from msgspec import structs

from schemas import topics
from schemas.dispositions import Disposition, Flag, Reason
from schemas.money import Money
from schemas.notification import NamedNumber, NumberKind
from schemas.orders import Order, Status
from tests.support import facts
from tests.support.facts import AUTHORIZED, PAID_AT, Fact, antom_refund, batch, capture, form, payment, refund, refunded
from tests.support.world import World
from tests.unit.workers.settlement.worlds import (
    USD_100,
    antom,
    deliver,
    failed,
    flags,
    mapi,
    openapi,
    outcome,
    settle,
)
from workers.settlement import decision
from workers.settlement.plan import Position, Registration


def test_first_notification_creates_its_order_if_no_registration_is_needed() -> None:
    world = mapi()
    delivery = deliver(world, form("p", "TRADE_SUCCESS", **PAID_AT))[0]
    assert (delivery.disposition, delivery.reason, delivery.version) == (Disposition.APPLIED, Reason.CHANGED, 1)
    assert world.seen()["A"]["status"] is Status.PAID


def test_order_that_waits_for_the_buyer_has_no_paid_event() -> None:
    world = mapi()
    deliver(world, form("w", "WAIT_BUYER_PAY"))
    event = json.loads(world.store.outbox[0].value)
    assert (event["status"], event["type"]) == ("WAITING", "alipay_notify.order.waiting.v1")


def test_each_visible_change_is_one_version_and_one_event() -> None:
    world = mapi()
    deliver(world, form("w", "WAIT_BUYER_PAY"), form("p", "TRADE_SUCCESS"), form("f", "TRADE_FINISHED"))
    assert [event.id for event in world.store.outbox] == [f"mapi-any:A:{version}" for version in (1, 2, 3)]
    assert world.order().version == 3


def test_same_id_with_same_content_is_a_duplicate_even_within_a_batch() -> None:
    world = mapi()
    first, second = deliver(world, form("p", "TRADE_SUCCESS"), form("p", "TRADE_SUCCESS"))
    assert first.disposition is Disposition.APPLIED
    assert (second.disposition, second.reason) == (Disposition.DUPLICATE, Reason.SAME_ID)
    assert outcome(world, form("p", "TRADE_SUCCESS")) == (Disposition.DUPLICATE, Reason.SAME_ID)


def test_resend_with_a_new_notify_time_is_a_duplicate() -> None:
    world = mapi()
    fact = form("p", "TRADE_SUCCESS")
    world.deliver(facts.notification(fact, world.account, resend=0))
    delivery = world.deliver(facts.notification(fact, world.account, resend=9))[0]
    assert (delivery.disposition, delivery.reason) == (Disposition.DUPLICATE, Reason.SAME_ID)


def test_same_id_with_other_content_is_a_conflict_and_changes_nothing() -> None:
    world = mapi()
    deliver(world, form("p", "WAIT_BUYER_PAY"))
    assert outcome(world, form("p", "TRADE_SUCCESS")) == (Disposition.QUARANTINED, Reason.ID_CONFLICT)
    assert world.order().version == 1


def test_known_fact_under_another_id_is_a_duplicate() -> None:
    world = mapi()
    deliver(world, form("p", "TRADE_SUCCESS"))
    assert outcome(world, form("q", "TRADE_SUCCESS")) == (Disposition.DUPLICATE, Reason.SAME_FACT)
    assert world.order().version == 1


def test_older_facts_are_stale() -> None:
    world = mapi()
    deliver(world, form("f", "TRADE_FINISHED"))
    for number, status in enumerate(("TRADE_SUCCESS", "WAIT_BUYER_PAY", "TRADE_PENDING")):
        assert outcome(world, form(f"old-{number}", status)) == (Disposition.STALE, Reason.OLD_NEWS)
    assert world.order().version == 1


def test_smaller_refund_sum_than_the_known_one_is_not_applied() -> None:
    world = openapi()
    deliver(world, refunded("r2", "30.00"))
    assert outcome(world, refunded("r1", "10.00"))[0] is not Disposition.APPLIED
    assert world.seen()["A"]["refunded_minor"] == 3000


def test_trade_finished_a_year_later_is_applied() -> None:
    world = mapi()
    deliver(world, form("p", "TRADE_SUCCESS"))
    assert outcome(world, form("f", "TRADE_FINISHED", notify_time="2026-04-01 00:00:00")) == (
        Disposition.APPLIED,
        Reason.CHANGED,
    )


def test_notification_that_moves_no_order_is_noted() -> None:
    world = mapi()
    fact = {"id": "x", "fields": {"notify_id": "x", "notify_type": "something_new", "out_trade_no": "A"}}
    assert outcome(world, fact) == (Disposition.APPLIED, Reason.NOTED)
    assert world.seen() == {}


def test_batch_without_a_successful_refund_is_noted() -> None:
    assert outcome(mapi(), batch("b", "T1^1.00^TRADE_HAS_CLOSED")) == (Disposition.APPLIED, Reason.NOTED)


@pytest.mark.parametrize(
    ("fact", "reason", "flag"),
    [
        (form("p", "TRADE_SUCCESS", "0.01"), Reason.AMOUNT_MISMATCH, Flag.AMOUNT_MISMATCH),
        (form("p", "TRADE_SUCCESS", "200.00"), Reason.AMOUNT_MISMATCH, Flag.AMOUNT_MISMATCH),
        (form("p", "TRADE_SUCCESS", currency="EUR"), Reason.CURRENCY_MISMATCH, Flag.CURRENCY_MISMATCH),
        (form("p", "TRADE_SUCCESS", "0.01", currency="EUR"), Reason.CURRENCY_MISMATCH, Flag.CURRENCY_MISMATCH),
    ],
)
def test_payment_unlike_the_registration_joins_nothing_and_flags_the_order(
    fact: Fact, reason: Reason, flag: Flag
) -> None:
    world = mapi(A=USD_100)
    assert outcome(world, fact) == (Disposition.QUARANTINED, reason)
    shown = world.seen()["A"]
    assert (shown["status"], shown["trade"], shown["flags"]) == (Status.WAITING, None, {flag})


def test_right_payment_after_a_wrong_one_is_applied() -> None:
    world = mapi(A=USD_100)
    deliver(world, form("wrong", "TRADE_SUCCESS", "0.01"))
    assert outcome(world, form("right", "TRADE_SUCCESS")) == (Disposition.APPLIED, Reason.CHANGED)
    assert flags(world) == {Flag.AMOUNT_MISMATCH}


def test_wrong_payment_can_be_replayed_after_a_corrected_registration() -> None:
    world = mapi(A=USD_100)
    deliver(world, form("p", "TRADE_SUCCESS", "99.00"))
    world.register("A", {"amount_minor": 9900, "currency": "USD"})
    assert flags(world) == set()
    world.retry(list(world.store.held.values()))
    assert world.seen()["A"]["status"] is Status.PAID
    assert not world.store.held


TWO_PRICES = {"amounts": [(8000, "CNY"), (10000, "USD")]}


def test_currency_that_is_not_registered_is_held_whatever_its_number() -> None:
    world = mapi(A=TWO_PRICES)
    held = outcome(world, form("x", "TRADE_SUCCESS", "80.00", currency="EUR"))
    assert held == (Disposition.QUARANTINED, Reason.CURRENCY_MISMATCH)
    swapped = outcome(world, form("y", "TRADE_SUCCESS", "80.00", currency="USD"))
    assert swapped == (Disposition.QUARANTINED, Reason.AMOUNT_MISMATCH)
    assert outcome(world, form("p", "TRADE_SUCCESS", "80.00", currency="CNY")) == (
        Disposition.APPLIED,
        Reason.CHANGED,
    )


def test_second_trade_in_the_other_registered_currency_is_a_second_trade() -> None:
    world = mapi(A=TWO_PRICES)
    deliver(world, form("p", "TRADE_SUCCESS", "80.00", currency="CNY"))
    second = outcome(world, form("q", "TRADE_SUCCESS", trade="T2"))
    assert second == (Disposition.QUARANTINED, Reason.SECOND_TRADE)
    assert flags(world) == {Flag.SECOND_TRADE}


def test_one_trade_in_both_registered_currencies_is_no_contradiction() -> None:
    world = mapi(A=TWO_PRICES)
    deliver(world, form("w", "WAIT_BUYER_PAY", "80.00", currency="CNY"))
    assert outcome(world, form("p", "TRADE_FINISHED")) == (Disposition.APPLIED, Reason.CHANGED)
    assert outcome(world, batch("b", "T1^60.00^SUCCESS")) == (Disposition.APPLIED, Reason.CHANGED)
    assert (flags(world), world.seen()["A"]["refunded_minor"]) == (set(), 6000)


def test_further_registered_amount_clears_the_flag_of_its_currency() -> None:
    world = mapi(A=USD_100)
    deliver(world, form("p", "TRADE_SUCCESS", "80.00", currency="CNY"))
    assert flags(world) == {Flag.CURRENCY_MISMATCH}
    world.register("A", TWO_PRICES)
    assert flags(world) == set()
    world.retry(list(world.store.held.values()))
    assert (world.seen()["A"]["status"], world.seen()["A"]["currency"]) == (Status.PAID, "CNY")


def test_same_amounts_in_another_order_keep_the_flags() -> None:
    world = mapi(A=TWO_PRICES)
    deliver(world, form("x", "TRADE_SUCCESS", "1.00"))
    world.register("A", {"amounts": [(10000, "USD"), (8000, "CNY")]})
    assert flags(world) == {Flag.AMOUNT_MISMATCH}


def test_payment_before_the_registration_may_fit_one_of_its_amounts() -> None:
    world = mapi()
    deliver(world, form("p", "TRADE_SUCCESS"), form("q", "WAIT_BUYER_PAY", "80.00", currency="CNY"))
    assert flags(world) == {Flag.AMOUNT_MISMATCH, Flag.CURRENCY_MISMATCH}
    world.register("A", TWO_PRICES)
    assert flags(world) == set()
    world.register("A", {"amounts": [(8000, "CNY"), (9900, "USD")]})
    assert flags(world) == {Flag.AMOUNT_MISMATCH}
    world.register("A", {"amounts": [(8000, "CNY"), (10000, "EUR")]})
    assert flags(world) == {Flag.CURRENCY_MISMATCH}


def test_order_registered_without_an_amount_accepts_the_first() -> None:
    world = mapi("registered", A={"amounts": []})
    assert outcome(world, form("p", "TRADE_SUCCESS", "0.01")) == (Disposition.APPLIED, Reason.CHANGED)
    assert outcome(world, form("q", "TRADE_SUCCESS", "0.02")) == (Disposition.QUARANTINED, Reason.AMOUNT_MISMATCH)


def test_refund_sum_above_the_amount_is_remembered_before_the_payment() -> None:
    world = openapi()
    assert outcome(world, refunded("r", "100.01", "TRADE_CLOSED")) == (Disposition.QUARANTINED, Reason.OVER_REFUNDED)
    assert world.seen() == {}
    assert outcome(world, form("p", "TRADE_SUCCESS")) == (Disposition.APPLIED, Reason.CHANGED)
    assert flags(world) == {Flag.OVER_REFUNDED}


def test_refund_sum_above_the_amount_keeps_its_flag_after_a_registration() -> None:
    world = openapi()
    deliver(world, refunded("r", "100.01"))
    world.register("A", {"amount_minor": 10000, "currency": "CNY"})
    assert flags(world) == {Flag.OVER_REFUNDED}


def test_paid_order_can_be_registered_afterwards() -> None:
    world = mapi()
    deliver(world, form("p", "TRADE_SUCCESS"))
    world.register("A", USD_100)
    assert (world.seen()["A"]["status"], flags(world), world.order().version) == (Status.PAID, set(), 1)


def test_registration_unlike_the_payment_flags_the_order_and_lowers_nothing() -> None:
    world = mapi()
    deliver(world, form("p", "TRADE_SUCCESS"))
    world.register("A", {"amount_minor": 9900, "currency": "USD"})
    shown = world.seen()["A"]
    assert (shown["status"], shown["amount_minor"], shown["flags"]) == (Status.PAID, 10000, {Flag.AMOUNT_MISMATCH})
    event = json.loads(world.store.outbox[-1].value)
    assert (event["version"], event["cause"]) == (2, None)


def test_refund_repeated_under_another_id_is_the_same_fact() -> None:
    world = mapi()
    deliver(world, form("p", "TRADE_SUCCESS"), batch("b", "T1^10.00^SUCCESS", "one"))
    assert outcome(world, batch("c", "T1^10.00^SUCCESS", "one")) == (Disposition.DUPLICATE, Reason.SAME_FACT)


def test_refund_that_may_be_another_one_is_noted_and_no_duplicate() -> None:
    world = mapi()
    deliver(world, form("p", "TRADE_SUCCESS"), refund("r"))
    again = {"gmt_refund": "2025-04-03 11:12:13"}
    assert outcome(world, refund("s", **again)) == (Disposition.APPLIED, Reason.NOTED)
    assert outcome(world, refund("s", **again)) == (Disposition.DUPLICATE, Reason.SAME_ID)
    assert outcome(world, form("p2", "TRADE_SUCCESS")) == (Disposition.STALE, Reason.OLD_NEWS)
    platform = openapi()
    deliver(platform, refunded("r", "40.00", out_biz_no="R1"))
    assert outcome(platform, refunded("s", "40.00", out_biz_no="R2")) == (Disposition.APPLIED, Reason.NOTED)
    assert outcome(platform, refunded("t", "30.00", out_biz_no="R3")) == (Disposition.STALE, Reason.OLD_NEWS)


def test_refund_that_a_larger_sum_includes_is_stale() -> None:
    world = mapi()
    deliver(world, form("p", "TRADE_SUCCESS"), refund("r", "TRADE_CLOSED"))
    assert outcome(world, batch("b", "T1^10.00^SUCCESS")) == (Disposition.STALE, Reason.OLD_NEWS)


def test_antom_refund_that_names_its_payment_needs_no_registration() -> None:
    world = antom(B={"refunds": ["R1"]})
    deliver(world, payment("p"))
    assert outcome(world, antom_refund("R1", "10000", paymentId="T1")) == (Disposition.APPLIED, Reason.CHANGED)
    assert world.seen()["A"]["closed_because"] == "refunded"


def test_failed_refund_is_noted() -> None:
    fact = antom_refund("R1", "100", refundStatus="FAIL")
    assert outcome(antom(), fact) == (Disposition.APPLIED, Reason.NOTED)


@pytest.mark.parametrize(
    ("reason", "disposition"),
    [
        (Reason.MALFORMED, Disposition.DEAD),
        (Reason.UNAUTHENTICATED, Disposition.DEAD),
        (Reason.BAD_AMOUNT, Disposition.QUARANTINED),
    ],
)
def test_record_without_a_notification_is_held_with_its_bytes(reason: Reason, disposition: Disposition) -> None:
    world = mapi()
    delivery = settle(world, failed(reason, disposition))
    assert (delivery.disposition, delivery.reason) == (disposition, reason)
    row = world.store.held[Position(0, 0)]
    assert (row.record.value, row.due_at_ms) == (b"x", None)
    assert [event.topic for event in world.store.outbox] == [topics.HELD]
    assert not world.store.ledger


def test_copies_of_a_held_unreadable_message_are_duplicates() -> None:
    world = mapi()
    settle(world, failed(Reason.BAD_AMOUNT, Disposition.QUARANTINED, digest=b"same"))
    again = settle(world, failed(Reason.BAD_AMOUNT, Disposition.QUARANTINED, digest=b"same", offset=1))
    assert (again.disposition, again.reason) == (Disposition.DUPLICATE, Reason.SAME_ID)
    other = settle(world, failed(Reason.BAD_TIME, Disposition.QUARANTINED, digest=b"other", offset=2))
    assert other.disposition is Disposition.QUARANTINED
    assert list(world.store.held) == [Position(0, 0), Position(0, 2)]


def test_numbers_are_written_with_the_first_record_of_a_notification() -> None:
    world = mapi(orders="registered")
    named = NamedNumber(NumberKind.SUBSCRIPTION, "S1")
    parked = structs.replace(facts.notification(form("p", "TRADE_SUCCESS"), world.account), numbers=(named,))
    world.deliver(parked, parked)
    trade = NamedNumber(NumberKind.TRADE, "T1")  # while it is held, no order has its trade
    assert [(row.named, row.position) for row in world.store.numbers] == [
        (named, Position(0, 0)),
        (trade, Position(0, 0)),
    ]
    world.store.numbers.clear()  # as if a release without numbers had held it
    world.retry([world.store.held[Position(0, 0)]])
    assert [row.named for row in world.store.numbers] == [named, trade]
    world.deliver(structs.replace(parked, digest=b"other"))
    assert [row.position.offset for row in world.store.numbers] == [0, 0, 2, 2]


def test_copy_that_is_filed_under_no_order_keeps_the_numbers_by_which_orders_show_it() -> None:
    world = antom()
    first, copy = deliver(world, capture("C1", "4000"), capture("C1", "4000"))
    assert (first.order, copy.order, copy.reason) == ("", "", Reason.SAME_ID)
    of_copy = [row.named for row in world.store.numbers if row.position == copy.position]
    assert of_copy == [NamedNumber(NumberKind.TRADE, "T1")]
    deliver(world, payment("p"))
    (late,) = deliver(world, capture("C1", "4000"))
    assert late.order == "A"
    assert late.position not in {row.position for row in world.store.numbers}


def test_unreadable_record_has_its_numbers_in_each_scope_that_it_may_mean() -> None:
    world = mapi()
    named = NamedNumber(NumberKind.CLAIMED_ORDER, "A")
    parsed = failed(Reason.AMBIGUOUS, Disposition.QUARANTINED, digest=b"same")
    assert parsed.failure is not None
    failure = structs.replace(parsed.failure, order="", numbers=(named,), scopes=("isv/1", "isv/2"))
    settle(world, structs.replace(parsed, failure=failure))
    copy = structs.replace(parsed, failure=failure, position=Position(0, 1))
    settle(world, copy)
    assert [(row.account, row.named, row.position.offset) for row in world.store.numbers] == [
        ("isv/1", named, 0),
        ("isv/2", named, 0),
    ]


def test_redelivered_record_is_skipped() -> None:
    world = mapi()
    notification = facts.notification(form("p", "TRADE_SUCCESS"), world.account)
    parsed = facts.reading(notification, world.account, Position(0, 0))
    settle(world, parsed)
    settle(world, parsed)
    assert world.store.settled_batches[1].deliveries == []
    assert world.order().version == 1


def test_registered_order_without_a_notification_has_version_zero_and_no_event() -> None:
    world = mapi(A=USD_100)
    assert (world.order().version, world.store.outbox) == (0, [])
    assert world.seen()["A"]["amount_minor"] == 10000


def test_registration_without_an_amount_keeps_the_earlier_amount() -> None:
    before = Order(account="shop", number="A", expected=Money(1, "USD"), registered=True)
    plan = decision.register(before, "shop", "A", Registration(refunds=("R",)), now_ms=0)
    assert plan.orders[0].order.expected == Money(1, "USD")
    assert plan.wakes == {("shop", "order:A"), ("shop", "refund:R")}


def test_capture_waits_for_its_payment_and_is_woken_by_it() -> None:
    world = antom()
    assert outcome(world, capture("C1", None)) == (Disposition.PARKED, Reason.UNKNOWN_TRADE)
    deliver(world, payment("p"))
    assert [row.waits_for for row in world.store.due_now(now_ms=world.now_ms)] == ["trade:T1"]
    world.sweep()
    assert (flags(world), world.order().version) == ({Flag.CAPTURE_FAILED}, 2)


def test_capture_that_names_only_its_order_waits_for_the_order() -> None:
    world = antom()
    unnamed = {"paymentId": "", "paymentRequestId": "A"}
    assert outcome(world, capture("C1", None, **unnamed)) == (Disposition.PARKED, Reason.UNKNOWN_TRADE)
    deliver(world, payment("p"))
    world.sweep()
    assert flags(world) == {Flag.CAPTURE_FAILED}


def test_capture_that_changes_nothing_stands_on_the_timeline_of_its_order() -> None:
    world = antom()
    deliver(world, payment("p"))
    (noted,) = deliver(world, capture("C1", "10000"))
    assert (noted.order, noted.disposition, noted.reason, noted.version) == (
        "A",
        Disposition.APPLIED,
        Reason.NOTED,
        None,
    )
    again = capture("C1", "10000", captureRequestId="again")
    assert outcome(world, again) == (Disposition.DUPLICATE, Reason.SAME_FACT)


def test_capture_above_the_authorised_amount_is_quarantined() -> None:
    world = World(facts.account("manual"))
    deliver(world, payment("p", **AUTHORIZED), capture("C1", "6000"))
    (held,) = deliver(world, capture("C2", "5000"))
    assert (held.order, held.disposition, held.reason) == ("A", Disposition.QUARANTINED, Reason.AMOUNT_MISMATCH)
    assert world.seen()["A"]["amount_minor"] == 10000


def test_authorised_payment_is_no_payment_until_it_is_captured() -> None:
    world = World(facts.account("manual"))
    deliver(world, payment("p", **AUTHORIZED))
    assert world.store.settled_batches[-1].paid == []
    deliver(world, capture("C1", "6000"))
    assert world.store.settled_batches[-1].paid == [(world.account.name, Money(6000, "HKD"))]
    types = [json.loads(event.value)["type"] for event in world.store.outbox]
    assert types == ["alipay_notify.order.authorized.v1", "alipay_notify.order.paid.v1"]


def test_other_message_stands_on_the_timeline_of_the_payment_that_it_names() -> None:
    world = antom()
    deliver(world, payment("p"))
    dispute: Fact = {
        "id": "D1",
        "message": {"disputeNotificationType": "DISPUTE_CREATED", "disputeId": "D1", "paymentId": "T1"},
    }
    (noted,) = deliver(world, dispute)
    assert (noted.order, noted.reason) == ("A", Reason.NOTED)
