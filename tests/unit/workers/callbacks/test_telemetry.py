"""Metrics and log lines of callbacks."""

import asyncio
from collections.abc import Sequence

from prometheus_client import CollectorRegistry

from tests.support import waiting
from tests.support.fakes import MemoryLogger
from tests.unit.workers.callbacks.test_schedule import result
from workers.callbacks.deliveries import EndpointPage
from workers.callbacks.endpoints import Endpoint
from workers.callbacks.schedule import GIVE_UP_ATTEMPTS, GIVE_UP_MS, CallbackOutcome, EndpointState
from workers.callbacks.telemetry import CallbackTelemetry
from workers.errors import InfrastructureDown

SHOP = Endpoint(name="shop", url="https://shop.example/", secrets=(b"s" * 24,))
NOW_MS = 1_700_000_000_000


class Pages:
    """The endpoints in the store."""

    def __init__(self) -> None:
        self.pages: list[EndpointPage] = []
        self.asked = asyncio.Event()

    async def endpoints(self) -> Sequence[EndpointPage]:
        self.asked.set()
        return self.pages


def page(name: str, **more: object) -> EndpointPage:
    usual = {"url": "", "state": EndpointState(), "is_configured": True, "pending": 0, "oldest_ms": None}
    return EndpointPage(name=name, **(usual | {"last_delivered_ms": None} | more))  # type: ignore[arg-type]


def test_attempts_are_counted_and_given_up_events_logged() -> None:
    registry, log = CollectorRegistry(), MemoryLogger()
    telemetry = CallbackTelemetry(registry, log)
    telemetry.attempted(SHOP, result(CallbackOutcome.DELIVERED))
    telemetry.attempted(SHOP, result(at_ms=NOW_MS + GIVE_UP_MS, attempts=GIVE_UP_ATTEMPTS))
    for outcome in ("delivered", "refused", "given_up"):
        labels = {"endpoint": "shop", "outcome": outcome}
        assert registry.get_sample_value("alipay_notify_callback_attempts_total", labels) == 1
    assert [event for event, _ in log.lines] == ["callback_given_up"]


async def test_gauges_show_the_endpoints_while_this_process_sends() -> None:
    registry = CollectorRegistry()
    telemetry, store, is_leading = CallbackTelemetry(registry, MemoryLogger()), Pages(), True

    def value(name: str, endpoint: str = "shop") -> float | None:
        return registry.get_sample_value(f"alipay_notify_callback_{name}", {"endpoint": endpoint})

    disabled = EndpointState(disabled_at_ms=NOW_MS, disabled_why="gone")
    store.pages = [page("shop", state=disabled, pending=3, oldest_ms=NOW_MS), page("old", is_configured=False)]
    running = asyncio.create_task(telemetry.keep_fresh(store, lambda: is_leading, every_s=0.01))  # type: ignore[arg-type]
    await waiting.until(lambda: value("disabled") is not None, within_s=30)
    assert (value("disabled"), value("pending_events")) == (1, 3)
    assert value("oldest_timestamp_seconds") == NOW_MS / 1000
    assert value("disabled", "old") is None
    store.pages = [page("shop")]
    await waiting.until(lambda: not value("disabled"), within_s=30)
    assert value("oldest_timestamp_seconds") == 0
    is_leading = False
    await waiting.until(lambda: value("disabled") is None, within_s=30)
    running.cancel()


def test_disabled_endpoint_is_logged_and_shown_at_once() -> None:
    registry, log = CollectorRegistry(), MemoryLogger()
    telemetry = CallbackTelemetry(registry, log)
    telemetry.disabled(SHOP, EndpointState(disabled_at_ms=NOW_MS, disabled_why="gone"))
    telemetry.removed("old")
    telemetry.failed(SHOP, RuntimeError("a bug"))
    for _ in range(3):
        telemetry.paused(SHOP, InfrastructureDown("away"))
    assert registry.get_sample_value("alipay_notify_callback_disabled", {"endpoint": "shop"}) == 1
    assert [event for event, _ in log.lines] == [
        "callback_disabled",
        "callback_removed",
        "callback_failed",
        "callback_paused",
    ]
