"""What is told of a worker's doings: counters, one log line per record, and the call to those who wait for an order.

None of it is a guarantee: it is what may be lost. Nothing that decides or stores depends on it.
"""

from collections.abc import Sequence
from typing import Any, Protocol

from schemas.dispositions import HELD, Disposition
from schemas.events import Outgoing
from schemas.telemetry import Field
from workers import retries
from workers.changes import Changes
from workers.metrics import Metrics
from workers.plan import Delivery, Plan, Reading
from workers.processing import Fenced, Infrastructure


class Logger(Protocol):
    """Where lines go. It must not wait."""

    def info(self, event: str, /, **fields: Any) -> None: ...
    def warning(self, event: str, /, **fields: Any) -> None: ...
    def error(self, event: str, /, **fields: Any) -> None: ...


class Telling:
    """Everything that the loops and the story report, to everybody who wants to know.

    Of what went smoothly (applied, duplicate, stale) every `sample`-th line is written; a held record always has one.
    """

    def __init__(self, *, metrics: Metrics, changes: Changes, logger: Logger, sample: int = 1) -> None:
        self._metrics = metrics
        self._changes = changes
        self._logger = logger
        self._sample = sample
        self._smooth = 0

    def settled(self, plan: Plan, readings: Sequence[Reading]) -> None:
        """A batch has its dispositions, durably."""
        self._metrics.settled(plan, readings)
        self._changes.settled(plan)
        tried = {reading.position: reading.held for reading in readings if reading.held is not None}
        for delivery in plan.deliveries:
            held = tried.get(delivery.position)
            if held is not None and held.disposition is Disposition.PARKED:
                self._metrics.came_due(retries.tier_of(held.attempts), held.reason)
            if held is None or delivery.disposition is not held.disposition:
                self._line(delivery)

    def emitted(self, events: Sequence[Outgoing]) -> None:
        """Events were acknowledged by their topic."""
        self._metrics.emitted(events)

    def step(self, name: str, seconds: float) -> None:
        self._metrics.step(name, seconds)

    def claimed(self, outcome: str, count: int) -> None:
        self._metrics.claimed(outcome, count)

    def paused(self, error: Infrastructure, *, attempts: int, wait_s: float) -> None:
        """A loop stands still for something it depends on; said at most once a second."""
        self._metrics.paused()
        if isinstance(error, Fenced):
            self._metrics.fenced()
        self._logger.warning(
            "waiting for infrastructure",
            **{Field.ERROR: str(error), Field.ATTEMPT: attempts, Field.DURATION_MS: round(wait_s * 1000)},
        )

    def _line(self, delivery: Delivery) -> None:
        if delivery.disposition in HELD:
            tell = self._logger.warning
        else:
            self._smooth += 1
            if self._smooth % self._sample:
                return
            tell = self._logger.info
        tell(
            "settled",
            **{
                Field.ACCOUNT: delivery.account,
                Field.OUT_TRADE_NO: delivery.order,
                Field.NOTIFY_ID: delivery.notification_id,
                Field.DISPOSITION: delivery.disposition.value,
                Field.REASON: delivery.reason.value,
                Field.VERSION: delivery.version,
                Field.PARTITION: delivery.position.partition,
                Field.OFFSET: delivery.position.offset,
            },
        )
