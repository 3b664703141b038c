"""Those who are told what a worker does: one that fails takes nothing from the others, and is heard of."""

from typing import Any

from prometheus_client import CollectorRegistry

from schemas.money import Money
from tests.support.admin import ACCOUNTS, NOW_MS
from tests.support.fakes import MemoryLogger
from workers.log_lines import WorkerLog
from workers.long_poll import OrderChanges
from workers.metrics import WorkerMetrics
from workers.observers import Observers
from workers.settlement import drafting


class BrokenChanges(OrderChanges):
    def settled(self, plan: Any) -> None:
        raise RuntimeError("a waiter that is none")


class BrokenLog(MemoryLogger):
    def error(self, event: str, /, **fields: Any) -> None:
        raise OSError("no more lines")


def everyone(registry: CollectorRegistry, log: MemoryLogger) -> Observers:
    metrics = WorkerMetrics(registry, ACCOUNTS, now_ms=lambda: NOW_MS)
    return Observers(metrics=metrics, log=WorkerLog(log), changes=BrokenChanges())


def test_a_watcher_that_fails_has_its_line_and_the_others_are_told_all_the_same() -> None:
    registry, log = CollectorRegistry(), MemoryLogger()
    told = everyone(registry, log)
    plan = drafting.empty()
    plan.paid.append(("shop", Money(1280, "USD")))
    told.settled(plan, [])
    assert told.failures == 1
    ((event, fields),) = log.lines
    assert event == "an observer failed"
    assert str(fields["error"]) == "a waiter that is none"
    money = {"account": "shop", "currency": "USD"}
    assert registry.get_sample_value("alipay_notify_amount_minor_units_total", money) == 1280


def test_a_log_that_fails_too_stops_nobody() -> None:
    told = everyone(CollectorRegistry(), BrokenLog())
    told.settled(drafting.empty(), [])
    told.settled(drafting.empty(), [])
    assert told.failures == 2
