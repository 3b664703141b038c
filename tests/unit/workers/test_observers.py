"""Observers: one that fails is logged and counted, and the others still observe."""

from typing import Any

from prometheus_client import CollectorRegistry

from schemas import topics
from schemas.events import Outgoing
from schemas.money import Money
from tests.support.admin import ACCOUNTS, NOW_MS
from tests.support.fakes import MemoryLogger
from tests.support.plans import delivery, plan
from workers.log_lines import WorkerLog
from workers.long_poll import OrderChanges
from workers.metrics import WorkerMetrics
from workers.observers import Observers
from workers.settlement import drafting
from workers.tail import Tail


class BrokenChanges(OrderChanges):
    def settled(self, plan: Any) -> None:
        raise RuntimeError("broken waiter")


class BrokenLog(MemoryLogger):
    def error(self, event: str, /, **fields: Any) -> None:
        raise OSError("disk full")


def observers(registry: CollectorRegistry, log: MemoryLogger) -> Observers:
    metrics = WorkerMetrics(registry, ACCOUNTS, now_ms=lambda: NOW_MS)
    return Observers(metrics=metrics, log=WorkerLog(log), changes=BrokenChanges())


def test_failing_observer_is_logged_and_the_others_still_observe() -> None:
    registry, log = CollectorRegistry(), MemoryLogger()
    observed = observers(registry, log)
    plan = drafting.empty()
    plan.paid.append(("shop", Money(1280, "USD")))
    observed.settled(plan, [])
    assert observed.failures == 1
    ((event, fields),) = log.lines
    assert event == "an observer failed"
    assert str(fields["error"]) == "broken waiter"
    money = {"account": "shop", "currency": "USD"}
    assert registry.get_sample_value("alipay_notify_amount_minor_units_total", money) == 1280


def test_failing_log_stops_no_batch() -> None:
    observed = observers(CollectorRegistry(), BrokenLog())
    observed.settled(drafting.empty(), [])
    observed.settled(drafting.empty(), [])
    assert observed.failures == 2


async def test_tail_has_batches_and_events_only_while_it_is_watched() -> None:
    tail = Tail(now_ms=lambda: NOW_MS)
    metrics = WorkerMetrics(CollectorRegistry(), ACCOUNTS, now_ms=lambda: NOW_MS)
    observed = Observers(metrics=metrics, log=WorkerLog(MemoryLogger()), changes=OrderChanges(), tail=tail)
    event = Outgoing(id="0-1", topic=topics.HELD, key=b"shop:A1", value=b"{}", headers=())
    for _ in range(2):
        observed.settled(plan(deliveries=[delivery(1)]), [])
        observed.emitted([event])
        tail.watch()
    assert [entry.kind for entry in tail.after(0, 10)] == ["settled", "sent"]
