"""The worker's log lines: one for each record, with its disposition; one for each wait.

They have only numbers and values of closed sets, and no field of the form but its ids and status. A large shop may log
every n-th routine record; a held one always has its line.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from schemas import scopes
from schemas.dispositions import HELD
from schemas.telemetry import Field
from schemas.trace_context import TraceContext
from workers import traces
from workers.errors import InfrastructureDown
from workers.replays import ReplayState, ReplayTask
from workers.restarts import FailureKind, LoopName
from workers.settlement.plan import Delivery, ParsedRecord, Position, WritePlan


class Logger(Protocol):
    """A structured logger, which must not block."""

    def info(self, event: str, /, **fields: Any) -> None: ...

    def warning(self, event: str, /, **fields: Any) -> None: ...

    def error(self, event: str, /, **fields: Any) -> None: ...


_NO_IDS: Mapping[str, str] = {}


class WorkerLog:
    """The log of one worker. Counters have the events sent and the time spent."""

    def __init__(self, logger: Logger, *, sample: int = 1) -> None:
        self._logger = logger
        self._sample = max(sample, 1)
        self._routine = 0

    def settled(
        self, plan: WritePlan, parsed_records: Sequence[ParsedRecord], trace: TraceContext | None = None
    ) -> None:
        """Log the dispositions of a batch. `trace` is its span, for the lines of sampled records."""
        traced: dict[Position, dict[str, str]] = {}
        if trace is not None:
            ids = trace.log_fields
            traced = {parsed.position: ids for parsed in parsed_records if traces.is_sampled(parsed)}
        attempts = {parsed.position: parsed.held.attempts + 2 for parsed in parsed_records if parsed.held is not None}
        for delivery in plan.deliveries:
            if delivery.disposition not in HELD:
                self._routine += 1
                if self._routine % self._sample:
                    continue
            self._settled(
                delivery,
                attempts.get(delivery.position, 1),
                traced.get(delivery.position, _NO_IDS) if traced else _NO_IDS,
            )

    def paused(self, error: InfrastructureDown, *, attempts: int, wait_s: float) -> None:
        fields = {Field.ERROR: f"{type(error).__name__}: {error}", Field.ATTEMPT: attempts}
        self._logger.warning("paused", **fields, **{Field.DURATION_MS: round(wait_s * 1000)})

    def loop_failed(
        self, loop: LoopName, kind: FailureKind, error: BaseException, *, why: str, wait_s: float | None
    ) -> None:
        """Log that a loop failed, with the wait before its restart; with a traceback if it is our bug."""
        fields: dict[str, Any] = {Field.LOOP: loop.value, Field.REASON: kind.value}
        fields[Field.ERROR] = error if kind is FailureKind.BUG else why
        if wait_s is not None:
            fields[Field.DURATION_MS] = round(wait_s * 1000)
        is_end = wait_s is None and loop is LoopName.CONSUMER
        self._logger.error("worker stopped" if is_end else "worker loop failed", **fields)

    def task_ended(self, task: ReplayTask) -> None:
        """Log how far a task over held notifications has come: to its end, or until this process stops."""
        event = "held task finished" if task.state is ReplayState.FINISHED else "held task waits for another worker"
        counts = {Field.DONE: task.handled, Field.TOTAL: task.total}
        self._logger.info(event, **{Field.TASK: task.number, Field.ACTION: task.action.value, **counts})

    def interrupted(self, step: str) -> None:
        """Log that reading a record or deciding a batch was interrupted, because it took longer than its limit."""
        self._logger.error("handling interrupted", **{Field.STEP: step})

    def could_not_let_go(self, loop: LoopName, error: BaseException) -> None:
        """Log that a failed loop keeps its partitions or its lease until these expire."""
        text = f"{type(error).__name__}: {error}"
        self._logger.warning("worker loop could not let go", **{Field.LOOP: loop.value, Field.ERROR: text})

    def observer_failed(self, error: Exception) -> None:
        """Log that an observer failed: our bug, without an effect on any record."""
        self._logger.error("an observer failed", **{Field.ERROR: error})

    def _settled(self, delivery: Delivery, attempt: int, trace: Mapping[str, str]) -> None:
        account, auth_app_id = delivery.account, {}
        if "/" in account:
            account, merchant = scopes.split(account)
            auth_app_id = {Field.AUTH_APP_ID: merchant}
        log = self._logger.warning if delivery.disposition in HELD else self._logger.info
        log(
            "settled",
            **{
                Field.ACCOUNT: account,
                **auth_app_id,
                Field.OUT_TRADE_NO: delivery.order,
                Field.NOTIFY_ID: delivery.notification_id,
                Field.DISPOSITION: delivery.disposition._value_,
                Field.REASON: delivery.reason._value_,
                Field.STATUS: delivery.status,
                Field.ORDER_VERSION: delivery.version,
                Field.ATTEMPT: attempt,
                Field.PARTITION: delivery.position.partition,
                Field.OFFSET: delivery.position.offset,
                Field.DURATION_MS: delivery.decided_at_ms - delivery.received_at_ms,
                **trace,
            },
        )
