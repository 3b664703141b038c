"""The worker's metrics: what moves each of them, and that no sender can add a series."""

import asyncio
from types import SimpleNamespace
from urllib.parse import urlencode

import pytest
from msgspec import structs
from prometheus_client import CollectorRegistry

from schemas import record_format, telemetry
from schemas.orders import ClosedBecause
from schemas.trace_context import TraceContext
from tests.support import log_records
from tests.support.admin import ACCOUNTS, NOW_MS, World, form
from tests.support.waiting import until
from workers import metrics
from workers.errors import InfrastructureDown, VersionConflict
from workers.metrics import WorkerMetrics
from workers.restarts import LoopName
from workers.settlement.order_view import CONTRADICTIONS
from workers.settlement.plan import LogRecord, Position

RETRY_PENDING = "alipay_notify_retry_pending_notifications"


def value(world: World, name: str, **labels: str) -> float | None:
    return world.registry.get_sample_value(name, labels)


def test_counters_of_rare_events_begin_with_0_so_that_the_first_event_is_an_increase() -> None:
    world = World()
    for reason in CONTRADICTIONS.values():
        assert value(world, "alipay_notify_held_total", disposition="quarantined", reason=reason.value) == 0
    for loop in LoopName:
        assert value(world, "alipay_notify_worker_loop_failures_total", loop=loop.value, reason="dead_letters") == 0
    for outcome in ("acquired", "contended_then_acquired", "timeout", "error", "done"):
        assert value(world, "alipay_notify_claims_total", outcome=outcome) == 0


async def test_records_are_counted_by_disposition_status_and_delay() -> None:
    world = World()
    await world.deliver(form("A1"))
    await world.deliver(form("A1"))
    await world.deliver(form("B1"), "strict")
    assert value(world, "alipay_notify_processed_total", result="applied") == 1
    assert value(world, "alipay_notify_processed_total", result="duplicate") == 1
    assert value(world, "alipay_notify_held_total", disposition="parked", reason="unknown_order") == 1
    assert value(world, "alipay_notify_trade_status_total", account="shop", trade_status="TRADE_SUCCESS") == 2
    # Received at 16:53:20 in Beijing, paid two seconds before; all three of them.
    assert value(world, "alipay_notify_delivery_delay_seconds_sum") == 6


@pytest.mark.parametrize("status", ["TRADE_FINISHED", "TRADE_PENDING"])
async def test_status_without_a_time_of_its_own_has_no_delay(status: str) -> None:
    """A trade is finished months after its payment, whose time the form repeats."""
    world = World()
    await world.deliver(form("A1", trade_status=status, gmt_payment="2026-01-01 00:00:00"))
    assert value(world, "alipay_notify_trade_status_total", account="shop", trade_status=status) == 1
    assert value(world, "alipay_notify_delivery_delay_seconds_count") == 0


async def test_order_that_an_answer_changed_is_recovered_and_has_no_delay_of_delivery() -> None:
    world = World()
    body = (
        b"<alipay><is_success>T</is_success><response><trade><out_trade_no>A1</out_trade_no><trade_no>2026</trade_no>"
        b"<trade_status>TRADE_SUCCESS</trade_status><total_fee>12.80</total_fee>"
        b"<gmt_payment>2026-01-01 00:00:00</gmt_payment></trade></response></alipay>"
    )
    answer = structs.replace(
        record_format.decode(log_records.sealed(body, "A1", account=ACCOUNTS["shop"])), is_answer=True
    )
    for offset in (1, 2):
        await world.processing.process([LogRecord(Position(0, offset), record_format.encode(answer, "A1"))])
    await world.deliver_raw(urlencode(form("B1")).encode(), "B1")
    assert value(world, "alipay_notify_recovered_total", account="shop") == 1
    assert value(world, "alipay_notify_delivery_delay_seconds_count") == 1


async def test_retry_of_a_parked_notification_is_not_counted_as_a_new_one() -> None:
    world = World()
    await world.deliver(form("B1"), "strict")
    row = next(iter(world.store.pages.values())).row
    await world.processing.retry([row])
    assert value(world, "alipay_notify_processed_total", result="parked") == 1
    assert value(world, "alipay_notify_held_total", disposition="parked", reason="unknown_order") == 1
    assert value(world, "alipay_notify_retries_total", tier="30s", reason="unknown_order") == 1


@pytest.mark.parametrize(
    "statuses",
    [
        ["TRADE_SUCCESS"],
        ["TRADE_FINISHED"],
        ["WAIT_BUYER_PAY", "TRADE_SUCCESS", "TRADE_FINISHED"],
        ["WAIT_BUYER_PAY", "TRADE_FINISHED"],
        ["WAIT_BUYER_PAY", "TRADE_FINISHED", "TRADE_SUCCESS", "WAIT_BUYER_PAY"],
    ],
)
async def test_money_is_counted_once_when_an_order_becomes_paid(statuses: list[str]) -> None:
    world = World()
    for status in statuses:
        await world.deliver(form("A1", status))
    assert value(world, "alipay_notify_amount_minor_units_total", account="shop", currency="USD") == 1280


async def test_money_refunded_in_the_same_notification_is_counted_as_paid() -> None:
    world = World()
    await world.deliver(form("A1", "WAIT_BUYER_PAY"))
    await world.deliver(form("A1", "TRADE_CLOSED", refund_status="REFUND_SUCCESS", gmt_refund="2025-10-09 16:53:19"))
    await world.deliver(form("A2", "WAIT_BUYER_PAY"))
    expired = form("A2", "TRADE_CLOSED")
    del expired["gmt_payment"]
    await world.deliver(expired)
    orders = [view.closed_because for view in world.store.views.values()]
    assert orders == [ClosedBecause.REFUNDED, ClosedBecause.EXPIRED]
    assert value(world, "alipay_notify_amount_minor_units_total", account="shop", currency="USD") == 1280


async def test_time_from_receiver_to_topic_is_measured_for_each_event() -> None:
    world = World()
    for order, status in (("A1", "TRADE_SUCCESS"), ("A1", "TRADE_FINISHED"), ("A2", "TRADE_FINISHED")):
        await world.deliver(form(order, status))
    await world.processing.emit()
    assert value(world, "alipay_notify_end_to_end_duration_seconds_count", trade_status="TRADE_FINISHED") == 2


async def test_exemplar_of_an_order_event_is_the_trace_that_it_carries() -> None:
    world, trace = World(), TraceContext("1" * 32, "2" * 16)
    for order in ("A1", "A2"):
        await world.deliver(form(order))
    events = [event for _, event in await world.store.unsent(10)]
    events[0] = structs.replace(events[0], headers=(*events[0].headers, trace.header))
    world.metrics.emitted(events)
    world.metrics.exemplify(events)
    samples = [sample for family in world.registry.collect() for sample in family.samples]
    (shown,) = (sample for sample in samples if sample.exemplar)
    assert shown.exemplar is not None
    assert (shown.name, shown.exemplar.labels) == (
        "alipay_notify_end_to_end_duration_seconds_bucket", {"trace_id": trace.trace_id}
    )  # fmt: skip


async def test_gauges_show_held_notifications_and_unsent_events() -> None:
    world = World()
    await world.deliver(form("A1"))
    await world.deliver(form("B1"), "strict")
    await world.metrics.refresh(world.store)
    assert value(world, "alipay_notify_held_notifications", disposition="parked") == 1
    assert value(world, "alipay_notify_held_notifications", disposition="dead") == 0
    assert [value(world, RETRY_PENDING, tier=tier) for tier in ("30s", "5m", "1h")] == [1, 0, 0]
    assert value(world, "alipay_notify_held_oldest_timestamp_seconds", disposition="parked") == NOW_MS / 1000
    assert value(world, "alipay_notify_outbox_pending_events") == 2
    await world.processing.emit()
    await world.metrics.refresh(world.store)
    assert value(world, "alipay_notify_outbox_pending_events") == 0
    assert value(world, "alipay_notify_outbox_oldest_timestamp_seconds") == 0


async def test_parked_notification_moves_from_tier_to_tier_until_it_is_resolved() -> None:
    world = World()
    position = await world.deliver(form("B1"), "strict")
    seen = []
    for _ in range(4):
        await world.processing.retry([world.store.pages[position].row])
        await world.metrics.refresh(world.store)
        seen.append([value(world, RETRY_PENDING, tier=tier) for tier in ("30s", "5m", "1h")])
    assert seen == [[0, 1, 0], [0, 0, 1], [0, 0, 1], [0, 0, 1]]
    await world.decisions.discard(world.store.pages[position], by="kim", why="done")
    await world.metrics.refresh(world.store)
    assert [value(world, RETRY_PENDING, tier=tier) for tier in ("30s", "5m", "1h")] == [0, 0, 0]


async def test_store_that_is_down_does_not_end_the_refresh_of_gauges() -> None:
    world = World()

    class Down:
        asked = 0

        async def counts(self) -> None:
            self.asked += 1
            raise RuntimeError("down")

    down = Down()
    task = asyncio.create_task(world.metrics.keep_fresh(down, interval_s=0))  # type: ignore[arg-type]
    await until(lambda: down.asked >= 3)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


@pytest.mark.parametrize(("taken_s", "rest_s"), [(0.01, 5.0), (2.0, 40.0)])
async def test_gauges_that_take_long_are_refreshed_less_often(
    monkeypatch: pytest.MonkeyPatch, taken_s: float, rest_s: float
) -> None:
    world, moments, rests = World(), [100.0, 100.0 + taken_s], []

    async def rest(seconds: float) -> None:
        rests.append(seconds)
        raise asyncio.CancelledError

    monkeypatch.setattr(metrics, "time", SimpleNamespace(monotonic=lambda: moments.pop(0)))
    monkeypatch.setattr(metrics, "asyncio", SimpleNamespace(sleep=rest))
    with pytest.raises(asyncio.CancelledError):
        await world.metrics.keep_fresh(world.store)
    assert rests == [pytest.approx(rest_s)]


async def test_l04_a_sender_can_add_no_series() -> None:
    world = World()
    for number in range(20):
        await world.deliver(form(f"A{number}", notify_type=f"type{number}", trade_status=f"STATUS{number}"))
        await world.deliver(form(f"B{number}", trade_status=f"STATUS{number}"))
    statuses = {
        sample.labels["trade_status"]
        for family in world.registry.collect()
        for sample in family.samples
        if sample.name == "alipay_notify_trade_status_total"
    }
    assert statuses <= {"other"}


def test_waits_locks_steps_and_lag_are_counted() -> None:
    registry = CollectorRegistry()
    counted = WorkerMetrics(registry, ACCOUNTS, now_ms=lambda: NOW_MS)
    counted.paused(InfrastructureDown("full"), attempts=1, wait_s=0.1)
    counted.paused(VersionConflict("another"), attempts=1, wait_s=0.1)
    counted.lock_outcome("acquired", 3)
    counted.lock_span("wait", 0.01)
    counted.lock_span("hold", 0.02)
    counted.step("apply", 0.01)
    counted.lag(messages=7, seconds=1.5)
    expected = {
        ("alipay_notify_retries_total", ("tier", "pause"), ("reason", "infrastructure")): 2,
        ("alipay_notify_fenced_writes_total",): 1,
        ("alipay_notify_claims_total", ("outcome", "acquired")): 3,
        ("alipay_notify_claim_wait_duration_seconds_count",): 1,
        ("alipay_notify_claim_hold_duration_seconds_sum",): 0.02,
        ("alipay_notify_processing_duration_seconds_count", ("step", "apply")): 1,
    }
    for (name, *labels), count in expected.items():
        assert registry.get_sample_value(name, dict(labels)) == count  # type: ignore[arg-type]
    where = {"topic": "payments.alipay.notification.v1", "partition": "0", "group": "worker"}
    assert registry.get_sample_value("alipay_notify_consumer_lag_messages", where) == 7


def test_all_metrics_are_in_the_catalogue() -> None:
    registry = CollectorRegistry()
    WorkerMetrics(registry, ACCOUNTS, now_ms=lambda: NOW_MS)
    named = {family.name for family in telemetry.CATALOGUE}
    assert {family.name for family in registry.collect()} <= named
