"""Everybody who wants to know what the worker does, behind the ports of those who tell. Nothing here is a guarantee.

Each is told by a plain call after the thing is true; none of them may wait. One that fails is a fault of ours, and must
not make a settled batch look as if it had failed: it is counted, and has its line in the log.
"""

from collections.abc import Callable, Sequence
from contextlib import suppress

from schemas.events import Outgoing
from workers.errors import InfrastructureDown
from workers.log_lines import WorkerLog
from workers.long_poll import OrderChanges
from workers.metrics import WorkerMetrics
from workers.settlement.plan import ParsedRecord, WritePlan


class Observers:
    """Metrics, log lines and those who wait for a change: one `workers.processing.Watch` for all of them."""

    def __init__(self, *, metrics: WorkerMetrics, log: WorkerLog, changes: OrderChanges) -> None:
        self._metrics = metrics
        self._log = log
        self._changes = changes
        self.faults = 0

    def settled(self, plan: WritePlan, parsed_records: Sequence[ParsedRecord]) -> None:
        self._tell(lambda: self._changes.settled(plan))
        self._tell(lambda: self._metrics.settled(plan, parsed_records))
        self._tell(lambda: self._log.settled(plan, parsed_records))

    def emitted(self, events: Sequence[Outgoing]) -> None:
        self._tell(lambda: self._metrics.emitted(events))

    def step(self, name: str, seconds: float) -> None:
        self._metrics.step(name, seconds)

    def paused(self, error: InfrastructureDown, *, attempts: int, wait_s: float) -> None:
        self._metrics.paused(error, attempts=attempts, wait_s=wait_s)
        self._log.paused(error, attempts=attempts, wait_s=wait_s)

    def lock_outcome(self, outcome: str, count: int) -> None:
        self._metrics.lock_outcome(outcome, count)

    def _tell(self, call: Callable[[], None]) -> None:
        try:
            call()
        except Exception as error:
            self.faults += 1
            with suppress(Exception):  # it may be the lines that failed
                self._log.fault(error)
