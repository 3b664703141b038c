"""Each disposition and each reason, a sentence each. That arrival does not matter: `test_settlement_any_order`."""

import json
from typing import Any

import pytest

from schemas import topics
from schemas.dispositions import Disposition, Flag, Reason
from schemas.money import Money
from schemas.notification import Kind
from schemas.orders import News, Order, Status
from tests.support import facts
from tests.support.facts import PAID_AT, Fact, antom_refund, batch, form, payment, refund, refunded
from tests.support.world import World
from workers.settlement import decision, order_view
from workers.settlement.plan import Delivery, ParsedRecord, ParseFailure, Position, Registration

USD_100 = {"amount_minor": 10000, "currency": "USD"}


def tell(world: World, *told: Fact) -> list[Delivery]:
    """One batch of these notifications."""
    return world.deliver(*(facts.notification(fact, world.account) for fact in told))


def end(world: World, told: Fact) -> tuple[Disposition, Reason]:
    delivery = tell(world, told)[0]
    return delivery.disposition, delivery.reason


def mapi(orders: str = "any", **registered: dict[str, Any]) -> World:
    return World(facts.account("mapi", orders), registered)


def openapi(**registered: dict[str, Any]) -> World:
    return World(facts.account("openapi"), registered)


def antom(**registered: dict[str, Any]) -> World:
    return World(facts.account("antom"), registered)


def flags(world: World, number: str = "A") -> set[Flag]:
    return set(order_view.view(world.order(number)).flags)


def test_the_first_news_of_an_order_creates_it_where_any_order_is_taken() -> None:
    world = mapi()
    delivery = tell(world, form("p", "TRADE_SUCCESS", **PAID_AT))[0]
    assert (delivery.disposition, delivery.reason, delivery.version) == (Disposition.APPLIED, Reason.CHANGED, 1)
    assert world.seen()["A"]["status"] is Status.PAID


def test_waiting_for_the_buyer_is_no_paid_event() -> None:
    world = mapi()
    tell(world, form("w", "WAIT_BUYER_PAY"))
    event = json.loads(world.store.outbox[0].value)
    assert (event["status"], event["type"]) == ("WAITING", "alipay_notify.order.waiting.v1")


def test_each_visible_change_is_one_version_and_one_event() -> None:
    world = mapi()
    tell(world, form("w", "WAIT_BUYER_PAY"), form("p", "TRADE_SUCCESS"), form("f", "TRADE_FINISHED"))
    assert [event.id for event in world.store.outbox] == [f"mapi-any:A:{version}" for version in (1, 2, 3)]
    assert world.order().version == 3


def test_the_same_id_with_the_same_content_is_a_duplicate_also_within_one_batch() -> None:
    world = mapi()
    first, second = tell(world, form("p", "TRADE_SUCCESS"), form("p", "TRADE_SUCCESS"))
    assert first.disposition is Disposition.APPLIED
    assert (second.disposition, second.reason) == (Disposition.DUPLICATE, Reason.SAME_ID)
    assert end(world, form("p", "TRADE_SUCCESS")) == (Disposition.DUPLICATE, Reason.SAME_ID)


def test_a_resend_with_a_new_time_of_sending_is_a_duplicate() -> None:
    world = mapi()
    told = form("p", "TRADE_SUCCESS")
    world.deliver(facts.notification(told, world.account, resend=0))
    delivery = world.deliver(facts.notification(told, world.account, resend=9))[0]
    assert (delivery.disposition, delivery.reason) == (Disposition.DUPLICATE, Reason.SAME_ID)


def test_the_same_id_with_other_content_is_a_conflict_and_changes_nothing() -> None:
    world = mapi()
    tell(world, form("p", "WAIT_BUYER_PAY"))
    assert end(world, form("p", "TRADE_SUCCESS")) == (Disposition.QUARANTINED, Reason.ID_CONFLICT)
    assert world.order().version == 1


def test_another_id_for_a_known_fact_is_a_duplicate_of_the_fact() -> None:
    world = mapi()
    tell(world, form("p", "TRADE_SUCCESS"))
    assert end(world, form("q", "TRADE_SUCCESS")) == (Disposition.DUPLICATE, Reason.SAME_FACT)
    assert world.order().version == 1


def test_news_older_than_what_is_known_is_stale() -> None:
    world = mapi()
    tell(world, form("f", "TRADE_FINISHED"))
    for number, status in enumerate(("TRADE_SUCCESS", "WAIT_BUYER_PAY", "TRADE_PENDING")):
        assert end(world, form(f"old-{number}", status)) == (Disposition.STALE, Reason.OLD_NEWS)
    assert world.order().version == 1


def test_a_smaller_sum_than_was_refunded_already_is_stale() -> None:
    world = openapi()
    tell(world, refunded("r2", "30.00"))
    assert end(world, refunded("r1", "10.00"))[0] is not Disposition.APPLIED
    assert world.seen()["A"]["refunded_minor"] == 3000


def test_a_trade_finished_a_year_later_is_applied() -> None:
    world = mapi()
    tell(world, form("p", "TRADE_SUCCESS"))
    assert end(world, form("f", "TRADE_FINISHED", notify_time="2026-04-01 00:00:00")) == (
        Disposition.APPLIED,
        Reason.CHANGED,
    )


def test_what_moves_no_order_is_noted() -> None:
    world = mapi()
    told = {"id": "x", "fields": {"notify_id": "x", "notify_type": "something_new", "out_trade_no": "A"}}
    assert end(world, told) == (Disposition.APPLIED, Reason.NOTED)
    assert world.seen() == {}


def test_a_batch_in_which_no_refund_succeeded_is_noted() -> None:
    assert end(mapi(), batch("b", "T1^1.00^TRADE_HAS_CLOSED")) == (Disposition.APPLIED, Reason.NOTED)


def test_an_order_that_has_to_be_registered_is_waited_for_and_then_applied() -> None:
    world = mapi("registered")
    assert end(world, form("p", "TRADE_SUCCESS")) == (Disposition.PARKED, Reason.UNKNOWN_ORDER)
    assert world.seen() == {}
    world.register("A", USD_100)
    world.sweep()
    assert world.store.deliveries[Position(0, 0)].disposition is Disposition.APPLIED
    assert world.seen()["A"]["status"] is Status.PAID
    assert not world.store.held


def test_a_copy_of_what_is_parked_is_a_duplicate() -> None:
    world = mapi("registered")
    tell(world, form("p", "TRADE_SUCCESS"))
    assert end(world, form("p", "TRADE_SUCCESS")) == (Disposition.DUPLICATE, Reason.SAME_ID)


def test_what_waited_for_25_hours_is_quarantined() -> None:
    world = mapi("registered")
    tell(world, form("p", "TRADE_SUCCESS"))
    tries = 0
    while world.store.held[Position(0, 0)].disposition is Disposition.PARKED:
        world.wait(0.25)
        tries += len(world.store.due_now(now_ms=world.now_ms))
        world.sweep()
    row = world.store.held[Position(0, 0)]
    assert (row.disposition, row.reason) == (Disposition.QUARANTINED, Reason.WAITED_TOO_LONG)
    assert 20 < tries < 30
    notices = [event.id for event in world.store.outbox if event.topic == topics.HELD]
    assert notices == ["held:0-0:0:parked", f"held:0-0:{tries}:quarantined"]


@pytest.mark.parametrize(
    ("told", "reason", "flag"),
    [
        (form("p", "TRADE_SUCCESS", "0.01"), Reason.AMOUNT_MISMATCH, Flag.AMOUNT_MISMATCH),
        (form("p", "TRADE_SUCCESS", "200.00"), Reason.AMOUNT_MISMATCH, Flag.AMOUNT_MISMATCH),
        (form("p", "TRADE_SUCCESS", currency="EUR"), Reason.CURRENCY_MISMATCH, Flag.CURRENCY_MISMATCH),
        (form("p", "TRADE_SUCCESS", "0.01", currency="EUR"), Reason.CURRENCY_MISMATCH, Flag.CURRENCY_MISMATCH),
    ],
)
def test_what_differs_from_the_registration_joins_nothing_and_flags_the_order(
    told: Fact, reason: Reason, flag: Flag
) -> None:
    world = mapi(A=USD_100)
    assert end(world, told) == (Disposition.QUARANTINED, reason)
    shown = world.seen()["A"]
    assert (shown["status"], shown["trade"], shown["flags"]) == (Status.WAITING, None, {flag})


def test_the_right_payment_after_a_wrong_one_is_applied() -> None:
    world = mapi(A=USD_100)
    tell(world, form("wrong", "TRADE_SUCCESS", "0.01"))
    assert end(world, form("right", "TRADE_SUCCESS")) == (Disposition.APPLIED, Reason.CHANGED)
    assert flags(world) == {Flag.AMOUNT_MISMATCH}


def test_a_wrong_payment_can_be_replayed_once_the_registration_is_corrected() -> None:
    world = mapi(A=USD_100)
    tell(world, form("p", "TRADE_SUCCESS", "99.00"))
    world.register("A", {"amount_minor": 9900, "currency": "USD"})
    assert flags(world) == set()
    world.retry(list(world.store.held.values()))
    assert world.seen()["A"]["status"] is Status.PAID
    assert not world.store.held


def test_without_a_registration_another_amount_contradicts_the_first_and_so_does_a_third() -> None:
    world = mapi()
    tell(world, form("p", "TRADE_SUCCESS"))
    for number, amount in enumerate(("101.00", "102.00")):
        assert end(world, form(f"q{number}", "WAIT_BUYER_PAY", amount)) == (
            Disposition.QUARANTINED,
            Reason.AMOUNT_MISMATCH,
        )
    assert world.seen()["A"]["amount_minor"] == 10000


def test_without_a_registration_another_currency_contradicts_the_first() -> None:
    world = mapi()
    tell(world, form("p", "TRADE_SUCCESS"))
    assert end(world, form("q", "TRADE_SUCCESS", currency="EUR")) == (
        Disposition.QUARANTINED,
        Reason.CURRENCY_MISMATCH,
    )


def test_a_second_trade_paid_is_quarantined_and_the_elder_stands() -> None:
    world = mapi()
    tell(world, form("p2", "TRADE_SUCCESS", trade="T2"))
    assert end(world, form("p1", "TRADE_SUCCESS", trade="T1")) == (Disposition.QUARANTINED, Reason.SECOND_TRADE)
    assert (world.seen()["A"]["trade"], flags(world)) == ("T1", {Flag.SECOND_TRADE})


def test_a_second_trade_that_nobody_paid_contradicts_nothing() -> None:
    world = mapi()
    tell(world, form("p1", "TRADE_SUCCESS"))
    assert end(world, form("w2", "WAIT_BUYER_PAY", trade="T2"))[0] is Disposition.STALE
    assert flags(world) == set()


@pytest.mark.parametrize("statuses", [("TRADE_SUCCESS", "TRADE_CLOSED"), ("TRADE_CLOSED", "TRADE_SUCCESS")])
def test_paid_and_expired_is_quarantined_and_the_payment_stands(statuses: tuple[str, str]) -> None:
    world = mapi()
    tell(world, form("1", statuses[0]))
    assert end(world, form("2", statuses[1])) == (Disposition.QUARANTINED, Reason.PAID_AND_EXPIRED)
    assert (world.seen()["A"]["status"], flags(world)) == (Status.PAID, {Flag.PAID_AND_EXPIRED})


def test_news_that_contradicts_nothing_is_applied_to_an_order_that_is_flagged_already() -> None:
    world = mapi()
    tell(world, form("p", "TRADE_SUCCESS"), form("e", "TRADE_CLOSED"))
    assert end(world, form("f", "TRADE_FINISHED")) == (Disposition.APPLIED, Reason.CHANGED)
    assert flags(world) == {Flag.PAID_AND_EXPIRED}


def test_a_third_trade_paid_is_quarantined_as_the_second_was() -> None:
    world = mapi()
    tell(world, form("p1", "TRADE_SUCCESS"), form("p2", "TRADE_SUCCESS", trade="T2"))
    assert end(world, form("p3", "TRADE_SUCCESS", trade="T3")) == (Disposition.QUARANTINED, Reason.SECOND_TRADE)
    assert end(world, form("w4", "WAIT_BUYER_PAY", trade="T4")) == (Disposition.STALE, Reason.OLD_NEWS)


def test_a_second_refund_beyond_the_amount_is_quarantined_as_the_first_was() -> None:
    world = mapi()
    tell(world, form("p", "TRADE_SUCCESS"), batch("b1", "T1^100.01^SUCCESS"))
    assert end(world, batch("b2", "T1^100.02^SUCCESS")) == (Disposition.QUARANTINED, Reason.OVER_REFUNDED)


def test_a_refund_on_an_expired_order_is_quarantined() -> None:
    world = openapi()
    tell(world, form("e", "TRADE_CLOSED"))
    assert end(world, refunded("r", "10.00")) == (Disposition.QUARANTINED, Reason.PAID_AND_EXPIRED)


def test_a_sum_above_the_amount_is_quarantined_and_remembered_before_the_order_is_known() -> None:
    world = openapi()
    assert end(world, refunded("r", "100.01", "TRADE_CLOSED")) == (Disposition.QUARANTINED, Reason.OVER_REFUNDED)
    assert world.seen() == {}
    assert end(world, form("p", "TRADE_SUCCESS")) == (Disposition.APPLIED, Reason.CHANGED)
    assert flags(world) == {Flag.OVER_REFUNDED}


def test_a_sum_above_the_amount_stays_on_record_when_the_order_is_registered_later() -> None:
    world = openapi()
    tell(world, refunded("r", "100.01"))
    world.register("A", {"amount_minor": 10000, "currency": "CNY"})
    assert flags(world) == {Flag.OVER_REFUNDED}


def test_a_payment_of_what_nobody_has_registered_can_be_registered_afterwards() -> None:
    world = mapi()
    tell(world, form("p", "TRADE_SUCCESS"))
    world.register("A", USD_100)
    assert (world.seen()["A"]["status"], flags(world), world.order().version) == (Status.PAID, set(), 1)


def test_a_registration_that_differs_from_what_was_paid_flags_the_order_and_lowers_nothing() -> None:
    world = mapi()
    tell(world, form("p", "TRADE_SUCCESS"))
    world.register("A", {"amount_minor": 9900, "currency": "USD"})
    shown = world.seen()["A"]
    assert (shown["status"], shown["amount_minor"], shown["flags"]) == (Status.PAID, 10000, {Flag.AMOUNT_MISMATCH})
    event = json.loads(world.store.outbox[-1].value)
    assert (event["version"], event["cause"]) == (2, None)


def test_a_batch_waits_for_its_trades_and_is_applied_when_they_are_paid() -> None:
    world = mapi()
    assert end(world, batch("b", "T1^40.00^SUCCESS#T9^1.00^SUCCESS")) == (Disposition.PARKED, Reason.UNKNOWN_TRADE)
    tell(world, form("p", "TRADE_SUCCESS"), form("p9", "TRADE_SUCCESS", order="B", trade="T9"))
    world.sweep()
    assert {number: shown["refunded_minor"] for number, shown in world.seen().items()} == {"A": 4000, "B": 100}
    assert not world.store.held


def test_a_batch_parked_before_its_trade_in_the_same_batch_is_due_at_once() -> None:
    world = mapi()
    tell(world, batch("b", "T1^40.00^SUCCESS"), form("p", "TRADE_SUCCESS"))
    assert [row.notification_id for row in world.store.due_now(now_ms=world.now_ms)] == ["b"]


def test_a_refund_too_large_for_its_own_order_is_found_beside_one_that_fits_another() -> None:
    world = mapi()
    tell(world, form("p", "TRADE_SUCCESS"), form("q", "TRADE_SUCCESS", "5.00", order="B", trade="T2"))
    assert end(world, batch("b", "T1^50.00^SUCCESS#T2^50.00^SUCCESS")) == (
        Disposition.QUARANTINED,
        Reason.OVER_REFUNDED,
    )
    assert (flags(world, "A"), flags(world, "B")) == (set(), {Flag.OVER_REFUNDED})
    assert {number: shown["refunded_minor"] for number, shown in world.seen().items()} == {"A": 5000, "B": 0}


def test_each_refund_beyond_the_amount_is_quarantined_and_each_within_it_applied() -> None:
    world = mapi()
    tell(world, form("p", "TRADE_SUCCESS"))
    assert end(world, batch("big", "T1^100.01^SUCCESS")) == (Disposition.QUARANTINED, Reason.OVER_REFUNDED)
    assert end(world, batch("b1", "T1^60.00^SUCCESS")) == (Disposition.APPLIED, Reason.CHANGED)
    assert end(world, batch("b2", "T1^50.00^SUCCESS")) == (Disposition.QUARANTINED, Reason.OVER_REFUNDED)
    assert end(world, batch("b3", "T1^30.00^SUCCESS")) == (Disposition.QUARANTINED, Reason.OVER_REFUNDED)
    assert world.seen()["A"]["refunded_minor"] == 9000


def test_a_refund_told_again_under_another_id_is_the_same_fact() -> None:
    world = mapi()
    tell(world, form("p", "TRADE_SUCCESS"), batch("b", "T1^10.00^SUCCESS", "one"))
    assert end(world, batch("c", "T1^10.00^SUCCESS", "one")) == (Disposition.DUPLICATE, Reason.SAME_FACT)


def test_a_refund_that_a_larger_sum_includes_is_stale() -> None:
    world = mapi()
    tell(world, form("p", "TRADE_SUCCESS"), refund("r", "TRADE_CLOSED"))
    assert end(world, batch("b", "T1^10.00^SUCCESS")) == (Disposition.STALE, Reason.OLD_NEWS)


def test_antoms_refund_waits_until_an_order_registers_its_number_and_then_for_the_payment() -> None:
    world = antom()
    assert end(world, antom_refund("R1", "4000")) == (Disposition.PARKED, Reason.UNKNOWN_REFUND)
    world.register("A", {"refunds": ["R1"]})
    world.sweep()
    assert world.store.held[Position(0, 0)].reason is Reason.UNKNOWN_TRADE
    tell(world, payment("p"))
    world.sweep()
    delivery = world.store.deliveries[Position(0, 0)]
    assert (delivery.disposition, delivery.order) == (Disposition.APPLIED, "A")
    assert world.seen()["A"]["refunded_minor"] == 4000


def test_antoms_refund_that_names_its_payment_needs_no_registration() -> None:
    world = antom(B={"refunds": ["R1"]})
    tell(world, payment("p"))
    assert end(world, antom_refund("R1", "10000", paymentId="T1")) == (Disposition.APPLIED, Reason.CHANGED)
    assert world.seen()["A"]["closed_because"] == "refunded"


def test_a_refund_in_another_currency_is_quarantined() -> None:
    world = antom(A={"refunds": ["R1"]})
    tell(world, payment("p"))
    assert end(world, antom_refund("R1", "100", "JPY")) == (Disposition.QUARANTINED, Reason.CURRENCY_MISMATCH)
    assert world.seen()["A"]["refunded_minor"] == 0


def test_a_failed_refund_is_noted() -> None:
    told = antom_refund("R1", "100", refundStatus="FAIL")
    assert end(antom(), told) == (Disposition.APPLIED, Reason.NOTED)


def fault(reason: Reason, disposition: Disposition, *, digest: bytes = b"", offset: int = 0) -> ParsedRecord:
    why = ParseFailure(
        disposition=disposition, reason=reason, detail="d", order="A", notification_id="n", digest=digest
    )
    account = facts.account("mapi")
    blank = facts.record(b"x", account)
    return ParsedRecord(
        position=Position(0, offset),
        record=blank,
        account=account.name,
        received_at_ms=1,
        notification=None,
        failure=why,
    )


def settle(world: World, reading: ParsedRecord) -> Delivery:
    world.store.settle_now(
        decision.load_request([reading]),
        lambda known: decision.decide([reading], known, facts.ACCOUNTS, now_ms=world.now_ms, chance=lambda: 0.5),
    )
    return world.store.deliveries[reading.position]


@pytest.mark.parametrize(
    ("reason", "disposition"),
    [
        (Reason.MALFORMED, Disposition.DEAD),
        (Reason.UNAUTHENTICATED, Disposition.DEAD),
        (Reason.BAD_AMOUNT, Disposition.QUARANTINED),
    ],
)
def test_a_record_without_a_notification_is_held_with_its_bytes(reason: Reason, disposition: Disposition) -> None:
    world = mapi()
    delivery = settle(world, fault(reason, disposition))
    assert (delivery.disposition, delivery.reason) == (disposition, reason)
    row = world.store.held[Position(0, 0)]
    assert (row.record.value, row.due_at_ms) == (b"x", None)
    assert [event.topic for event in world.store.outbox] == [topics.HELD]
    assert not world.store.ledger


def test_a_record_of_a_newer_program_waits_and_is_never_given_up() -> None:
    world = mapi()
    reading = fault(Reason.NEWER_ENVELOPE, Disposition.PARKED)
    settle(world, reading)
    for _ in range(100):
        world.wait(1)
        row = world.store.due_now(now_ms=world.now_ms)[0]
        settle(
            world, ParsedRecord(**{name: getattr(reading, name) for name in reading.__struct_fields__} | {"held": row})
        )
    assert world.store.held[Position(0, 0)].disposition is Disposition.PARKED


def test_an_authentic_message_that_cannot_be_read_is_held_once_and_its_copies_are_duplicates() -> None:
    world = mapi()
    settle(world, fault(Reason.BAD_AMOUNT, Disposition.QUARANTINED, digest=b"same"))
    again = settle(world, fault(Reason.BAD_AMOUNT, Disposition.QUARANTINED, digest=b"same", offset=1))
    assert (again.disposition, again.reason) == (Disposition.DUPLICATE, Reason.SAME_ID)
    other = settle(world, fault(Reason.BAD_TIME, Disposition.QUARANTINED, digest=b"other", offset=2))
    assert other.disposition is Disposition.QUARANTINED
    assert list(world.store.held) == [Position(0, 0), Position(0, 2)]


def test_a_record_that_has_its_disposition_is_passed_over() -> None:
    world = mapi()
    notification = facts.notification(form("p", "TRADE_SUCCESS"), world.account)
    reading = facts.reading(notification, world.account, Position(0, 0))
    settle(world, reading)
    settle(world, reading)
    assert world.store.settled_batches[1].deliveries == []
    assert world.order().version == 1


def test_a_held_row_that_somebody_resolved_meanwhile_is_left_alone() -> None:
    world = mapi("registered")
    tell(world, form("p", "TRADE_SUCCESS"))
    row = world.store.held.pop(Position(0, 0))
    world.register("A", USD_100)
    world.retry([row])
    assert world.seen()["A"]["status"] is Status.WAITING


def test_a_registered_order_that_was_never_heard_of_has_version_zero_and_no_event() -> None:
    world = mapi(A=USD_100)
    assert (world.order().version, world.store.outbox) == (0, [])
    assert world.seen()["A"]["amount_minor"] == 10000


def test_registering_without_an_amount_keeps_the_one_that_was_registered() -> None:
    before = Order(account="shop", number="A", expected=Money(1, "USD"), registered=True)
    plan = decision.register(before, "shop", "A", Registration(expected=None, refunds=("R",)), now_ms=0)
    assert plan.orders[0].order.expected == Money(1, "USD")
    assert plan.wakes == {("shop", "order:A"), ("shop", "refund:R")}


def test_a_refund_number_alone_does_not_register_its_order() -> None:
    world = mapi("registered")
    assert end(world, form("p", "TRADE_SUCCESS")) == (Disposition.PARKED, Reason.UNKNOWN_ORDER)
    world.register("A", {"refunds": ["R"]})
    world.wait(1)
    world.sweep()
    assert world.store.held[Position(0, 0)].disposition is Disposition.PARKED
    assert world.seen() == {}
    world.register("A", {"amount_minor": 200000, "currency": "USD"})
    world.sweep()
    assert world.store.held[Position(0, 0)].reason is Reason.AMOUNT_MISMATCH


def test_what_has_to_be_known_is_asked_for_by_number() -> None:
    account = facts.account("mapi")
    told = (form("p", "TRADE_SUCCESS"), batch("b", "T1^1.00^SUCCESS#T2^2.00^SUCCESS"))
    asked = decision.load_request(
        [facts.reading(facts.notification(fact, account), account, Position(0, n)) for n, fact in enumerate(told)]
    )
    assert asked.ids == {(account.name, "p"), (account.name, "b")}
    assert asked.orders == {(account.name, "A")}
    assert asked.trades == {(account.name, "T1"), (account.name, "T2")}
    assert asked.refunds == frozenset()
    antoms = facts.account("antom")
    one = facts.reading(facts.notification(antom_refund("R1", "1"), antoms), antoms, Position(0, 0))
    assert decision.load_request([one]).refunds == {(antoms.name, "R1")}
    assert one.notification is not None
    assert (one.notification.kind, one.notification.news) == (Kind.REFUND, News.PARTLY_REFUNDED)
