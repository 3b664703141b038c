"""Metrics and log lines of callbacks; implements `sender.CallbackObserver`."""

import asyncio
import time
from collections.abc import Callable
from contextlib import suppress

from prometheus_client import CollectorRegistry

from schemas import callback_metrics
from schemas.telemetry import Field
from workers import metrics
from workers.callbacks.deliveries import CallbacksPort
from workers.callbacks.endpoints import Endpoint
from workers.callbacks.schedule import AttemptResult, DeliveryState, EndpointState
from workers.errors import InfrastructureDown
from workers.log_lines import Logger

GAUGES_EVERY_S = 15.0
REPORT_EVERY_S = 60.0  # of a store that does not answer, for all endpoints together


class CallbackTelemetry:
    """Counts and logs. A failed attempt has no line of its own: the delivery log has it."""

    def __init__(self, registry: CollectorRegistry, logger: Logger) -> None:
        self._logger = logger
        self._paused_s = float("-inf")
        self._attempts = metrics.counter(callback_metrics.ATTEMPTS, registry)
        self._oldest = metrics.gauge(callback_metrics.OLDEST, registry)
        self._pending = metrics.gauge(callback_metrics.PENDING, registry)
        self._disabled = metrics.gauge(callback_metrics.DISABLED, registry)

    def attempted(self, endpoint: Endpoint, result: AttemptResult) -> None:
        self._attempts.labels(endpoint.name, result.outcome.value).inc()
        if result.state is DeliveryState.GIVEN_UP:
            self._attempts.labels(endpoint.name, DeliveryState.GIVEN_UP.value).inc()
            fields = {Field.ENDPOINT: endpoint.name, Field.ATTEMPT: result.attempts, Field.ERROR: result.detail}
            self._logger.error("callback_given_up", **fields, event_id=result.event_id)

    def disabled(self, endpoint: Endpoint, state: EndpointState) -> None:
        self._disabled.labels(endpoint.name).set(1)
        self._logger.error("callback_disabled", **{Field.ENDPOINT: endpoint.name, Field.REASON: state.disabled_why})

    def removed(self, name: str) -> None:
        log_removed(self._logger, name)

    def paused(self, endpoint: Endpoint, error: InfrastructureDown) -> None:
        now_s = time.monotonic()
        if now_s - self._paused_s >= REPORT_EVERY_S:
            self._paused_s = now_s
            self._logger.warning("callback_paused", **{Field.ENDPOINT: endpoint.name, Field.ERROR: str(error)})

    def failed(self, endpoint: Endpoint, error: Exception) -> None:
        self._logger.error("callback_failed", **{Field.ENDPOINT: endpoint.name, Field.ERROR: error})

    async def keep_fresh(
        self, store: CallbacksPort, is_leading: Callable[[], bool], *, every_s: float = GAUGES_EVERY_S
    ) -> None:
        """Refresh the gauges for ever, while this process sends; another process has them otherwise."""
        shown: set[str] = set()
        while True:
            with suppress(InfrastructureDown):  # the gauges keep their values; the store's trouble has its own
                pages = [page for page in await store.endpoints() if page.is_configured] if is_leading() else []
                for gone in shown - {page.name for page in pages}:
                    for family in (self._oldest, self._pending, self._disabled):
                        family.remove(gone)
                for page in pages:
                    self._oldest.labels(page.name).set((page.oldest_ms or 0) / 1000)
                    self._pending.labels(page.name).set(page.pending)
                    self._disabled.labels(page.name).set(page.state.is_disabled)
                shown = {page.name for page in pages}
            await asyncio.sleep(every_s)


def log_removed(logger: Logger, name: str) -> None:
    """Log that an endpoint is configured no more: its events wait, and no gauge shows them."""
    logger.warning("callback_removed", **{Field.ENDPOINT: name})
