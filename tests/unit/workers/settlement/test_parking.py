"""The life of held notifications: when one is retried, what wakes it, and what ends it."""

import pytest
from msgspec import structs

from schemas import topics
from schemas.dispositions import Disposition, Reason
from schemas.orders import Status
from tests.support.facts import antom_refund, batch, form, payment
from tests.support.plans import held_page
from tests.unit.workers.settlement.worlds import USD_100, antom, deliver, failed, mapi, outcome, settle
from workers.settlement import parking
from workers.settlement.plan import Position

HOUR_MS = 3_600_000


@pytest.mark.parametrize(("attempts", "wait_s"), [(0, 30), (1, 300), (2, 3600), (3, 3600), (24, 3600)])
def test_waits_are_30_seconds_5_minutes_and_then_hours(attempts: int, wait_s: int) -> None:
    assert parking.due_at_ms(attempts, first_at_ms=0, now_ms=1000, chance=0.5) == 1000 + wait_s * 1000


@pytest.mark.parametrize(("chance", "wait_ms"), [(0.0, 27_000), (0.5, 30_000), (0.999, 32_994)])
def test_waits_vary_by_ten_percent(chance: float, wait_ms: int) -> None:
    assert parking.due_at_ms(0, first_at_ms=0, now_ms=0, chance=chance) == wait_ms


def test_after_25_hours_there_is_no_next_retry() -> None:
    assert parking.due_at_ms(25, first_at_ms=0, now_ms=25 * HOUR_MS - 1, chance=0.5) == 26 * HOUR_MS - 1
    assert parking.due_at_ms(25, first_at_ms=0, now_ms=25 * HOUR_MS, chance=0.5) is None
    # The clock alone gives nothing up.
    assert parking.due_at_ms(19, first_at_ms=0, now_ms=900 * HOUR_MS, chance=0.5) == 901 * HOUR_MS
    assert parking.due_at_ms(20, first_at_ms=0, now_ms=900 * HOUR_MS, chance=0.5) is None


def test_parked_row_tells_when_it_is_given_up_if_it_has_a_limit() -> None:
    row = held_page(1, at_ms=1000).row
    assert parking.gives_up_at_ms(row) == 1000 + 25 * HOUR_MS
    assert parking.gives_up_at_ms(structs.replace(row, reason=Reason.LOCKED)) is None
    assert parking.gives_up_at_ms(structs.replace(row, disposition=Disposition.QUARANTINED)) is None


def test_no_due_time_of_a_right_clock_is_too_far_ahead() -> None:
    for attempts in range(40):
        for chance in (0.0, 0.5, 0.999999):
            due_ms = parking.due_at_ms(attempts, first_at_ms=0, now_ms=7, chance=chance)
            assert due_ms is not None
            assert due_ms <= parking.due_ahead_ms(7)


def test_tiers_follow_the_waits() -> None:
    assert [parking.tier_of(attempts) for attempts in (0, 1, 2, 3, 99)] == ["30s", "5m", "1h", "1h", "1h"]


def test_payment_waits_for_its_registration_and_is_then_applied() -> None:
    world = mapi("registered")
    assert outcome(world, form("p", "TRADE_SUCCESS")) == (Disposition.PARKED, Reason.UNKNOWN_ORDER)
    assert world.seen() == {}
    world.register("A", USD_100)
    world.sweep()
    assert world.store.deliveries[Position(0, 0)].disposition is Disposition.APPLIED
    assert world.seen()["A"]["status"] is Status.PAID
    assert not world.store.held


def test_copy_of_a_parked_notification_is_a_duplicate() -> None:
    world = mapi("registered")
    deliver(world, form("p", "TRADE_SUCCESS"))
    assert outcome(world, form("p", "TRADE_SUCCESS")) == (Disposition.DUPLICATE, Reason.SAME_ID)


def test_notification_parked_for_25_hours_is_quarantined() -> None:
    world = mapi("registered")
    deliver(world, form("p", "TRADE_SUCCESS"))
    retries = 0
    while world.store.held[Position(0, 0)].disposition is Disposition.PARKED:
        world.wait(0.25)
        retries += len(world.store.due_now(now_ms=world.now_ms))
        world.sweep()
    row = world.store.held[Position(0, 0)]
    assert (row.disposition, row.reason) == (Disposition.QUARANTINED, Reason.WAITED_TOO_LONG)
    assert 20 < retries < 30
    notices = [event.id for event in world.store.outbox if event.topic == topics.HELD]
    assert notices == ["held:0-0:0:parked", f"held:0-0:{retries}:quarantined"]


def test_batch_of_refunds_waits_until_all_its_trades_are_paid() -> None:
    world = mapi()
    assert outcome(world, batch("b", "T1^40.00^SUCCESS#T9^1.00^SUCCESS")) == (Disposition.PARKED, Reason.UNKNOWN_TRADE)
    deliver(world, form("p", "TRADE_SUCCESS"), form("p9", "TRADE_SUCCESS", order="B", trade="T9"))
    world.sweep()
    assert {number: shown["refunded_minor"] for number, shown in world.seen().items()} == {"A": 4000, "B": 100}
    assert not world.store.held


def test_refunds_parked_before_their_trade_in_one_batch_are_due_at_once() -> None:
    world = mapi()
    deliver(world, batch("b", "T1^40.00^SUCCESS"), form("p", "TRADE_SUCCESS"))
    assert [row.notification_id for row in world.store.due_now(now_ms=world.now_ms)] == ["b"]


def test_antom_refund_waits_for_its_registration_and_then_for_the_payment() -> None:
    world = antom()
    assert outcome(world, antom_refund("R1", "4000")) == (Disposition.PARKED, Reason.UNKNOWN_REFUND)
    world.register("A", {"refunds": ["R1"]})
    world.sweep()
    assert world.store.held[Position(0, 0)].reason is Reason.UNKNOWN_TRADE
    deliver(world, payment("p"))
    world.sweep()
    delivery = world.store.deliveries[Position(0, 0)]
    assert (delivery.disposition, delivery.order) == (Disposition.APPLIED, "A")
    assert world.seen()["A"]["refunded_minor"] == 4000


def test_record_of_a_newer_release_is_retried_without_limit() -> None:
    world = mapi()
    settle(world, failed(Reason.NEWER_ENVELOPE, Disposition.PARKED))
    for _ in range(100):
        world.wait(1)
        row = world.store.due_now(now_ms=world.now_ms)[0]
        settle(world, failed(Reason.NEWER_ENVELOPE, Disposition.PARKED, held=row))
        assert world.store.held[Position(0, 0)].due_at_ms == world.now_ms + 30_000
    assert world.store.held[Position(0, 0)].disposition is Disposition.PARKED


def test_row_that_was_resolved_since_it_was_read_is_left_alone() -> None:
    world = mapi("registered")
    deliver(world, form("p", "TRADE_SUCCESS"))
    row = world.store.held.pop(Position(0, 0))
    world.register("A", USD_100)
    world.retry([row])
    assert world.seen()["A"]["status"] is Status.WAITING


def test_refund_number_alone_does_not_register_its_order() -> None:
    world = mapi("registered")
    assert outcome(world, form("p", "TRADE_SUCCESS")) == (Disposition.PARKED, Reason.UNKNOWN_ORDER)
    world.register("A", {"refunds": ["R"]})
    world.wait(1)
    world.sweep()
    assert world.store.held[Position(0, 0)].disposition is Disposition.PARKED
    assert world.seen() == {}
    world.register("A", {"amount_minor": 200000, "currency": "USD"})
    world.sweep()
    assert world.store.held[Position(0, 0)].reason is Reason.AMOUNT_MISMATCH


def test_retried_row_keeps_its_first_time_and_counts_the_attempt() -> None:
    world = mapi("registered")
    deliver(world, form("p", "TRADE_SUCCESS"))
    first = world.store.held[Position(0, 0)]
    world.wait(1)
    world.retry([first])
    again = world.store.held[Position(0, 0)]
    assert (first.attempts, again.attempts, again.first_at_ms) == (0, 1, first.first_at_ms)
    assert again.due_at_ms == world.now_ms + 300_000


def test_row_that_was_retried_since_it_was_read_is_left_alone() -> None:
    """Sweeper and operator both read the row. The first retry quarantines it for an operator; it must stay so."""
    world = mapi("registered")
    deliver(world, form("p1", "TRADE_SUCCESS"), form("p2", "TRADE_SUCCESS", trade="T2"))
    rows = list(world.store.held.values())
    world.register("A", USD_100)
    world.retry(rows)
    assert world.store.held[Position(0, 1)].reason is Reason.SECOND_TRADE
    world.retry(rows[1:])
    assert world.store.held[Position(0, 1)].reason is Reason.SECOND_TRADE
    assert world.store.deliveries[Position(0, 1)].disposition is Disposition.QUARANTINED


def test_notice_is_sent_for_each_disposition_and_not_for_each_retry() -> None:
    world = mapi("registered")
    deliver(world, form("p", "TRADE_SUCCESS", "0.01"))
    world.retry(list(world.store.held.values()))
    world.register("A", USD_100)
    world.retry(list(world.store.held.values()))
    notices = [event.id for event in world.store.outbox if event.topic == topics.HELD]
    assert notices == ["held:0-0:0:parked", "held:0-0:2:quarantined"]
    first, second = (dict(event.headers) for event in world.store.outbox if event.topic == topics.HELD)
    assert (first["held-partition"], first["held-offset"]) == (b"0", b"0")
    assert (first["held-attempts"], second["held-attempts"]) == (b"0", b"2")
    assert second["held-step"] == b"decide"
    assert second["held-first-at"] == first["held-first-at"]
