"""Spans: who is sampled, what is linked to what, and that no failure of tracing is one of a notification."""

import asyncio
import logging
import threading
import time
from collections.abc import Sequence

import pytest
from msgspec import structs
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SimpleSpanProcessor, SpanExporter, SpanExportResult
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from deploy import spans
from deploy.spans import Places, ProcessTraces
from schemas import topics, trace_context
from schemas.money import Money
from schemas.record_format import Record
from schemas.trace_context import TraceContext
from tests.support import log_records
from tests.support.collector import Seen, connected, in_memory
from tests.support.fakes import MemoryTopics, PlanObserver
from tests.support.log_records import REGISTERED, SHOP, Time
from tests.support.stores import MemoryStore
from workers.held_decisions import HeldDecisions
from workers.processing import Processing
from workers.settlement.plan import LogRecord, Position, Registration

PLACES = Places(system="kafka", group="workers")


class Traced:
    """Traces that are kept in memory, and the processing of a worker that makes them."""

    def __init__(self, ratio: float = 1.0) -> None:
        self.exporter = InMemorySpanExporter()
        processor = SimpleSpanProcessor(self.exporter)
        self.traces = ProcessTraces(processor, ratio=ratio, places=PLACES, service="shop", version="1")
        self.store, self.topics = MemoryStore(), MemoryTopics()
        self.processing = Processing(
            accounts=log_records.ACCOUNTS,
            authenticate=log_records.anybody_signed_this,
            store=self.store,
            events=self.topics,
            observer=PlanObserver(),
            now_ms=Time(),
            tracing=self.traces,
        )

    @property
    def spans(self) -> list[Seen]:
        return [in_memory(span) for span in self.exporter.get_finished_spans()]

    def named(self, name: str) -> list[Seen]:
        return [span for span in self.spans if span.name == name]

    def received(self, record: Record) -> Record:
        """The record as a receiver that samples it writes it."""
        span = self.traces.sampled(SHOP, b"n-1", None)
        assert span is not None
        span.end()
        return structs.replace(record, headers=trace_context.added(record.headers, span.context))

    async def process(self, *records: Record) -> None:
        """Process them as one batch of the consumer."""
        batch = [LogRecord(Position(3, offset), record) for offset, record in enumerate(records)]
        with self.traces.batch(batch):
            await self.processing.process(batch)


def test_sampled_request_is_one_span_from_its_beginning_to_its_end() -> None:
    traced = Traced()
    span = traced.traces.sampled(SHOP, b"2026-n", time.monotonic() - 2)
    assert span is not None
    span.end()
    ((seen,), (kept,)) = traced.spans, traced.exporter.get_finished_spans()
    assert (seen.name, seen.kind, seen.parent) == ("send payments.alipay.notification.v1", "PRODUCER", "")
    assert seen.attributes == {
        "messaging.system": "kafka",
        "messaging.destination.name": "payments.alipay.notification.v1",
        "messaging.operation.name": "send",
        "messaging.operation.type": "send",
        "alipay.notify_id": "2026-n",
    }
    assert (span.context.trace_id, span.context.span_id) == (seen.trace_id, seen.span_id)
    assert kept.end_time is not None
    assert kept.start_time is not None
    assert kept.end_time - kept.start_time >= 2e9
    assert (seen.events, seen.is_error) == (("verified",), False)


def test_failed_append_is_an_error_without_its_text() -> None:
    traced = Traced()
    span = traced.traces.sampled(SHOP, b"n", None)
    assert span is not None
    span.end(OSError("secret"))
    span.end()
    (kept,) = traced.exporter.get_finished_spans()
    assert (kept.status.is_ok, kept.status.description) == (False, "OSError")


def test_trace_has_the_id_by_which_it_was_sampled() -> None:
    traced = Traced(0.2)
    sampled = [span for _ in range(2000) if (span := traced.traces.sampled(SHOP, b"n", None)) is not None]
    assert 200 < len(sampled) < 700
    assert all(int(span.context.trace_id[16:], 16) < 0.2 * 2**64 for span in sampled)
    assert Traced(0.0).traces.sampled(SHOP, b"n", None) is None


async def test_batch_is_linked_to_its_sampled_records_and_the_event_follows() -> None:
    traced = Traced()
    records = [log_records.record(f"N{number}", id_=f"id-{number}") for number in range(4)]
    records[1] = traced.received(records[1])
    await traced.process(*records)
    await traced.processing.emit()
    (request,), (batch,), (sent,) = (traced.named(each) for each in (
        "send payments.alipay.notification.v1", "process payments.alipay.notification.v1",
        "send payments.order.event.v1",
    ))  # fmt: skip
    assert (batch.kind, batch.parent, batch.links) == ("CONSUMER", "", (request.span_id,))
    assert batch.attributes["messaging.batch.message_count"] == 4
    assert batch.attributes["messaging.consumer.group.name"] == "workers"
    assert (sent.kind, sent.parent, sent.is_error) == ("PRODUCER", batch.span_id, False)
    assert len(connected(traced.spans, request)) == len(traced.spans)
    headers = {event.id: trace_context.of(event.headers) for event in traced.topics.events}
    found = {id_: context for id_, context in headers.items() if context is not None}
    assert found == {"shop-sg:N1:1": TraceContext(sent.trace_id, sent.span_id)}


async def test_retry_of_a_parked_record_is_a_trace_of_its_own_with_the_same_link() -> None:
    traced = Traced()
    await traced.process(traced.received(log_records.record("N1", account=REGISTERED)))
    (row,) = traced.store.held.values()
    amounts = (Money(1280, "USD"),)
    traced.store.register_now(REGISTERED.name, "N1", Registration(amounts=amounts), now_ms=Time()())
    await traced.processing.retry([row])
    await traced.processing.emit()
    (request,) = traced.named("send payments.alipay.notification.v1")
    first, again = traced.named("process payments.alipay.notification.v1")
    assert first.links == again.links == (request.span_id,)
    assert len({request.trace_id, first.trace_id, again.trace_id}) == 3
    assert traced.named("send payments.order.event.v1")[0].parent == again.span_id


async def test_decision_of_a_batch_is_a_step_of_it() -> None:
    traced = Traced()
    await traced.process(traced.received(log_records.record("N1")))
    (batch,) = traced.named("process payments.alipay.notification.v1")
    (decided,) = traced.named("decide")
    assert decided.parent == batch.span_id


async def test_notice_of_a_held_notification_follows_its_batch() -> None:
    traced = Traced()
    await traced.process(traced.received(log_records.record("N1", account=REGISTERED)), log_records.record("N2"))
    await traced.processing.emit()
    (request,) = traced.named("send payments.alipay.notification.v1")
    (batch,) = traced.named("process payments.alipay.notification.v1")
    (sent,) = traced.named("send payments.notification.held.v1")
    assert (sent.kind, sent.parent) == ("PRODUCER", batch.span_id)
    assert sent in connected(traced.spans, request)
    (notice,) = (event for event in traced.topics.events if event.topic == topics.HELD)
    assert trace_context.of(notice.headers) == TraceContext(sent.trace_id, sent.span_id)


@pytest.mark.parametrize("verb", ["accept", "discard"])
async def test_decision_of_an_operator_is_a_trace_linked_to_the_request(verb: str) -> None:
    traced = Traced()
    traced.store.register_now(REGISTERED.name, "N1", Registration(amounts=(Money(9900, "USD"),)), now_ms=Time()())
    await traced.process(traced.received(log_records.record("N1", account=REGISTERED)))
    decisions = HeldDecisions(
        accounts=log_records.ACCOUNTS,
        read=traced.processing.read,
        store=traced.store,
        observer=PlanObserver(),
        now_ms=Time(),
        tracing=traced.traces,
    )
    (row,) = traced.store.held.values()
    page = await traced.store.held_page(row.id)
    assert page is not None
    await getattr(decisions, verb)(page, by="kim", why="as the buyer says")
    await traced.processing.emit()
    (request,) = traced.named("send payments.alipay.notification.v1")
    held, decided = traced.named("process payments.alipay.notification.v1")
    assert (held.links, decided.links) == ((request.span_id,), (request.span_id,))
    assert ("alipay.decision" in held.attributes, decided.attributes["alipay.decision"]) == (False, verb)
    flagged, *sent = traced.named("send payments.order.event.v1")
    assert flagged.parent == held.span_id
    # What is discarded changed nothing, so its order has no new event.
    assert [span.parent for span in sent] == ([decided.span_id] if verb == "accept" else [])
    assert "kim" not in str([span.attributes for span in traced.spans])


async def test_event_that_no_topic_acknowledges_ends_as_an_error_and_is_sent_anew() -> None:
    traced = Traced()
    await traced.process(traced.received(log_records.record("N1")))
    traced.topics.down = True
    with pytest.raises(Exception, match="no topic"):
        await traced.processing.emit()
    traced.topics.down = False
    await traced.processing.emit()
    failed, sent = traced.named("send payments.order.event.v1")
    assert (failed.is_error, sent.is_error, failed.parent) == (True, False, sent.parent)


async def test_batch_without_a_sampled_record_is_not_traced() -> None:
    traced = Traced()
    forged = log_records.record("N2")
    forged = structs.replace(forged, headers=(*forged.headers, ("traceparent", b"\xff" * 55)))
    await traced.process(log_records.record("N1"), forged)
    await traced.processing.emit()
    assert traced.spans == []
    assert [trace_context.of(event.headers) for event in traced.topics.events] == [None, None]


async def test_whole_batch_of_sampled_records_keeps_all_its_links() -> None:
    traced = Traced()
    record = traced.received(log_records.record("N1"))
    with traced.traces.batch([LogRecord(Position(0, offset), record) for offset in range(500)]):
        pass
    (batch,) = traced.named("process payments.alipay.notification.v1")
    assert len(batch.links) == 500


async def test_batch_that_fails_is_an_error_and_the_next_one_is_not_inside_it() -> None:
    traced = Traced()
    record = traced.received(log_records.record("N1"))

    def fail() -> None:
        with traced.traces.batch([LogRecord(Position(0, 1), record)]):
            traced.traces.paused(OSError())
            traced.traces.step("commit", 0.5)
            assert traced.traces.current is not None
            raise KeyError

    with pytest.raises(KeyError):
        fail()
    assert traced.traces.current is None
    traced.traces.step("commit", 0.5)
    batch, commit = traced.named("process payments.alipay.notification.v1"), traced.spans[1]
    assert (batch[0].is_error, batch[0].events) == (True, ("paused",))
    assert (commit.name, commit.kind) == ("commit payments.alipay.notification.v1", "CLIENT")
    assert commit.parent == batch[0].span_id
    assert len(traced.spans) == 3


async def test_failure_of_tracing_is_logged_and_fails_no_notification(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    traced = Traced()
    record = traced.received(log_records.record("N1"))
    monkeypatch.setattr(traced.traces, "_tracer", None)
    with caplog.at_level(logging.WARNING):
        assert traced.traces.sampled(SHOP, b"n", None) is None
    assert "AttributeError" in caplog.text
    await traced.process(record)
    await traced.processing.emit()
    assert [event.topic for event in traced.topics.events] == [topics.ORDER_EVENT]


class Hanging(SpanExporter):
    """An exporter whose collector takes the connection and answers nothing."""

    def __init__(self) -> None:
        self.may_go_on = threading.Event()

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        self.may_go_on.wait()
        return SpanExportResult.SUCCESS

    def shutdown(self) -> None: ...


async def test_stop_waits_for_the_last_spans_and_for_no_collector_that_hangs(monkeypatch: pytest.MonkeyPatch) -> None:
    exporter = InMemorySpanExporter()
    traces = ProcessTraces(BatchSpanProcessor(exporter), ratio=1.0, places=PLACES, service="s", version="1")
    span = traces.sampled(SHOP, b"n", None)
    assert span is not None
    span.end()
    await traces.stop()
    assert len(exporter.get_finished_spans()) == 1

    monkeypatch.setattr(spans, "FLUSH_S", 0.05)
    hanging = Hanging()
    traces = ProcessTraces(BatchSpanProcessor(hanging), ratio=1.0, places=PLACES, service="s", version="1")
    span = traces.sampled(SHOP, b"n", None)
    assert span is not None
    span.end()
    async with asyncio.timeout(20):
        await traces.stop()
    hanging.may_go_on.set()
