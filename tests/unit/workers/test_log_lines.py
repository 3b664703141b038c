"""The worker's log lines: one for each record, one for each wait, and which of them are sampled."""

from typing import Any

import pytest
from msgspec import structs

from schemas.dispositions import Disposition, Reason
from schemas.record_format import Record
from schemas.telemetry import Field
from schemas.trace_context import TraceContext
from workers.errors import InfrastructureDown, VersionConflict
from workers.log_lines import WorkerLog
from workers.settlement import drafting
from workers.settlement.plan import Delivery, HeldRow, ParsedRecord, Position, WritePlan

DELIVERY = Delivery(
    position=Position(3, 41),
    account="shop",
    order="A1",
    notification_id="n1",
    type="trade_status_sync",
    status="TRADE_SUCCESS",
    news="paid",
    disposition=Disposition.APPLIED,
    reason=Reason.CHANGED,
    detail="",
    version=2,
    received_at_ms=1_000,
    decided_at_ms=1_250,
)
PARKED = structs.replace(DELIVERY, disposition=Disposition.PARKED, reason=Reason.UNKNOWN_ORDER, version=None)


class Logger:
    """Keeps its lines as (level, event, fields)."""

    def __init__(self) -> None:
        self.lines: list[tuple[str, str, dict[str, Any]]] = []

    def info(self, event: str, /, **fields: Any) -> None:
        self.lines.append(("info", event, fields))

    def warning(self, event: str, /, **fields: Any) -> None:
        self.lines.append(("warning", event, fields))

    def error(self, event: str, /, **fields: Any) -> None:
        self.lines.append(("error", event, fields))


@pytest.fixture
def logger() -> Logger:
    return Logger()


def plan(*deliveries: Delivery) -> WritePlan:
    return structs.replace(drafting.empty(), deliveries=list(deliveries))


def retried(position: Position, *, attempts: int) -> ParsedRecord:
    record = Record(b"shop:A1", b"", ())
    row = HeldRow(
        position=position,
        account="shop",
        order="A1",
        notification_id="n1",
        disposition=Disposition.PARKED,
        reason=Reason.UNKNOWN_ORDER,
        detail="",
        record=record,
        first_at_ms=0,
        attempts=attempts,
    )
    return ParsedRecord(position=position, record=record, account="shop", received_at_ms=0, notification=None, held=row)


def test_each_record_has_one_line_with_its_disposition(logger: Logger) -> None:
    WorkerLog(logger).settled(plan(DELIVERY), [])
    ((level, event, fields),) = logger.lines
    assert (level, event) == ("info", "settled")
    assert fields == {
        Field.ACCOUNT: "shop",
        Field.OUT_TRADE_NO: "A1",
        Field.NOTIFY_ID: "n1",
        Field.DISPOSITION: "applied",
        Field.REASON: "changed",
        Field.STATUS: "TRADE_SUCCESS",
        Field.ORDER_VERSION: 2,
        Field.ATTEMPT: 1,
        Field.PARTITION: 3,
        Field.OFFSET: 41,
        Field.DURATION_MS: 250,
    }


def test_line_of_a_sampled_record_names_the_span_of_its_batch(logger: Logger) -> None:
    span, request = TraceContext("1" * 32, "2" * 16), TraceContext("3" * 32, "4" * 16)
    sampled, other = Position(3, 41), Position(3, 42)
    record = Record(b"shop:A1", b"", (request.header,))
    parsed_records = [structs.replace(retried(sampled, attempts=0), record=record), retried(other, attempts=0)]
    WorkerLog(logger).settled(plan(DELIVERY, structs.replace(DELIVERY, position=other)), parsed_records, span)
    first, second = (fields for _, _, fields in logger.lines)
    assert (first[Field.TRACE_ID], first[Field.SPAN_ID]) == (span.trace_id, span.span_id)
    assert Field.TRACE_ID not in second


def test_retry_of_a_held_row_counts_the_first_attempt_and_the_retries(logger: Logger) -> None:
    WorkerLog(logger).settled(plan(DELIVERY), [retried(DELIVERY.position, attempts=3)])
    assert [fields[Field.ATTEMPT] for _, _, fields in logger.lines] == [5]


def test_sample_logs_every_third_routine_record_across_batches(logger: Logger) -> None:
    log = WorkerLog(logger, sample=3)
    for _ in range(2):
        log.settled(plan(*[DELIVERY] * 4), [])
    assert len(logger.lines) == 2


def test_held_record_is_always_logged_and_as_a_warning(logger: Logger) -> None:
    WorkerLog(logger, sample=1000).settled(plan(DELIVERY, PARKED, DELIVERY), [])
    assert [(level, fields[Field.DISPOSITION]) for level, _, fields in logger.lines] == [("warning", "parked")]


@pytest.mark.parametrize("error", [InfrastructureDown("locked"), VersionConflict("locked")])
def test_wait_is_logged_with_its_error_attempt_and_duration(logger: Logger, error: InfrastructureDown) -> None:
    WorkerLog(logger).paused(error, attempts=2, wait_s=0.3456)
    ((level, event, fields),) = logger.lines
    assert (level, event) == ("warning", "paused")
    assert fields == {Field.ERROR: f"{type(error).__name__}: locked", Field.ATTEMPT: 2, Field.DURATION_MS: 346}


def test_failed_observer_is_logged_as_our_error(logger: Logger) -> None:
    error = RuntimeError("bug")
    WorkerLog(logger).observer_failed(error)
    assert logger.lines == [("error", "an observer failed", {Field.ERROR: error})]
