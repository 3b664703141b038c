"""Observers of the worker: metrics, log lines, long polls, the tail, traces. None may block or fail a batch.

Each is called after the fact, with a plain call, and must not wait. If one raises, that is our bug: it is counted and
logged, and the batch stays processed.
"""

from collections.abc import Callable, Sequence
from contextlib import suppress

from schemas.events import Outgoing
from workers.errors import InfrastructureDown
from workers.key_uses import KeyUses
from workers.log_lines import WorkerLog
from workers.long_poll import OrderChanges
from workers.metrics import WorkerMetrics
from workers.replays import ReplayTask
from workers.restarts import FailureKind, LoopName
from workers.settlement.plan import ParsedRecord, WritePlan
from workers.tail import Tail
from workers.traces import NOT_TRACED, Tracing


class Observers:
    """Metrics, log lines, long polls, the tail and traces behind one `ProcessingObserver` and `ConsumerObserver`."""

    def __init__(
        self,
        *,
        metrics: WorkerMetrics,
        log: WorkerLog,
        changes: OrderChanges,
        key_uses: KeyUses | None = None,
        tail: Tail | None = None,
        tracing: Tracing = NOT_TRACED,
    ) -> None:
        self._key_uses = key_uses
        self._metrics = metrics
        self._tracing = tracing
        self._log = log
        self._changes = changes
        self._tail = tail
        self.failures = 0

    def settled(self, plan: WritePlan, parsed_records: Sequence[ParsedRecord]) -> None:
        self._notify(lambda: self._changes.settled(plan))
        self._notify(lambda: self._metrics.settled(plan, parsed_records))
        self._notify(lambda: self._log.settled(plan, parsed_records, self._tracing.current))
        if (key_uses := self._key_uses) is not None:
            self._notify(lambda: key_uses.settled(plan, parsed_records))
        if (tail := self._tail) is not None:
            self._notify(lambda: tail.settled(plan))

    def emitted(self, events: Sequence[Outgoing]) -> None:
        self._notify(lambda: self._metrics.emitted(events))
        if (tail := self._tail) is not None:
            self._notify(lambda: tail.emitted(events))
        if self._tracing is not NOT_TRACED:
            self._notify(lambda: self._metrics.exemplify(events))

    def step(self, name: str, seconds: float) -> None:
        self._metrics.step(name, seconds)
        self._tracing.step(name, seconds)

    def paused(self, error: InfrastructureDown, *, attempts: int, wait_s: float) -> None:
        self._metrics.paused(error, attempts=attempts, wait_s=wait_s)
        self._log.paused(error, attempts=attempts, wait_s=wait_s)
        self._tracing.paused(error)

    def interrupted(self, step: str) -> None:
        """Observe that our code took longer than its limit; called in the thread that it ran in."""
        self._notify(lambda: self._metrics.interrupted(step))
        self._notify(lambda: self._log.interrupted(step))

    def lock_outcome(self, outcome: str, count: int) -> None:
        self._metrics.lock_outcome(outcome, count)

    def lock_span(self, span: str, seconds: float) -> None:
        self._metrics.lock_span(span, seconds)

    def loop_failed(
        self, loop: LoopName, kind: FailureKind, error: BaseException, *, why: str, wait_s: float | None
    ) -> None:
        self._notify(lambda: self._metrics.loop_failed(loop, kind))
        self._notify(lambda: self._log.loop_failed(loop, kind, error, why=why, wait_s=wait_s))

    def task_ended(self, task: ReplayTask) -> None:
        self._notify(lambda: self._log.task_ended(task))

    def could_not_let_go(self, loop: LoopName, error: BaseException) -> None:
        self._notify(lambda: self._log.could_not_let_go(loop, error))

    def _notify(self, call: Callable[[], None]) -> None:
        try:
            call()
        except Exception as error:
            self.failures += 1
            with suppress(Exception):  # the log may be the observer that failed
                self._log.observer_failed(error)
