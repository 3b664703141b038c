"""Traces of a worker: which events are marked, and that nothing happens in a worker that traces nothing."""

import pytest
from msgspec import structs

from schemas import topics, trace_context
from schemas.events import Outgoing
from schemas.record_format import Record
from schemas.trace_context import TraceContext
from tests.support import log_records
from tests.support.log_records import SHOP
from tests.unit.workers.in_memory import MemoryWorker
from workers import traces
from workers.settlement.plan import LogRecord, ParsedRecord, Position
from workers.traces import NOT_TRACED

SPAN, REQUEST = TraceContext("1" * 32, "2" * 16), TraceContext("3" * 32, "4" * 16)
BAD_RECORD = Record(b"x", b"x", (REQUEST.header,))


def sampled(parsed: ParsedRecord) -> ParsedRecord:
    """The record as a receiver that samples it writes it."""
    headers = (*parsed.record.headers, REQUEST.header)
    return structs.replace(parsed, record=structs.replace(parsed.record, headers=headers))


async def test_only_events_and_notices_that_a_sampled_notification_caused_are_marked() -> None:
    worker = MemoryWorker(accounts=log_records.ACCOUNTS)
    unsampled = structs.replace(BAD_RECORD, headers=())
    await worker.process(BAD_RECORD, unsampled, *(log_records.record(order, id_=f"id-{order}") for order in "AB"))
    unread, other, first, second = worker.observer.parsed_records
    events = [event for _, event in await worker.store.unsent(10)]
    marked = traces.marked(events, [unread, other, sampled(first), second], SPAN)
    assert {event.id: trace_context.of(event.headers) for event in marked if event.topic == topics.ORDER_EVENT} == {
        f"{SHOP.name}:A:1": SPAN,
        f"{SHOP.name}:B:1": None,
    }
    assert [trace_context.of(event.headers) for event in marked if event.topic == topics.HELD] == [SPAN, None]
    assert [(event.id, event.value) for event in marked] == [(event.id, event.value) for event in events]


@pytest.mark.parametrize("value", [b'{"cause":null}', b"{}", b"no JSON", b'{"cause":7}', b"\xff"])
def test_event_whose_cause_cannot_be_read_is_sent_unmarked(value: bytes) -> None:
    event = Outgoing(id="s:A:1", topic=topics.ORDER_EVENT, key=b"", value=value, headers=())
    assert traces.marked([event], [], SPAN) == [event]


def test_worker_that_traces_nothing_publishes_the_events_as_they_are() -> None:
    event = Outgoing(id="s:A:1", topic=topics.ORDER_EVENT, key=b"", value=b"{}", headers=(SPAN.header,))
    sends = NOT_TRACED.sends([event])
    sends.end([0])
    assert sends.events == [event]
    with NOT_TRACED.batch([LogRecord(Position(0, 1), log_records.record("N1"))]):
        NOT_TRACED.step("apply", 0.1)
        NOT_TRACED.paused(OSError())
        assert NOT_TRACED.current is None


@pytest.mark.parametrize(
    ("header", "is_sampled"),
    [(REQUEST.header, True), (("traceparent", b"nonsense"), False), (("trace", REQUEST.header[1]), False)],
)
def test_record_is_sampled_if_its_header_says_so(header: tuple[str, bytes], is_sampled: bool) -> None:
    parsed = ParsedRecord(
        position=Position(0, 1),
        record=Record(b"", b"", (header,)),
        account="shop",
        received_at_ms=0,
        notification=None,
    )
    assert traces.is_sampled(parsed) == is_sampled
