"""Spans of OpenTelemetry, made by hand: those of a receiver's appends, and of batches, decisions and sends.

Only this module imports OpenTelemetry, and only a process that traces imports this module (`deploy.tracing`). Names and
attributes are those of OpenTelemetry's messaging conventions. No span has a field of the form but the notification's
id: no data of the buyer, and no order number, which would give each order a span name of its own.

The receiver samples. All later spans follow its choice, so a trace that begins is complete. Each of its traces has no
parent, so OpenTelemetry's samplers come down to one ratio, and an unsampled notification costs one random number.

Nothing here may raise, wait or fail a notification. Spans go to a bounded queue, from which a thread of the SDK exports
them; if the collector is away or slow, the queue drops spans.
"""

import asyncio
import logging
import os
import random
import threading
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from contextvars import ContextVar

from msgspec import Struct, structs
from opentelemetry.context import Context
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import SpanLimits, SpanProcessor, TracerProvider
from opentelemetry.sdk.trace.id_generator import RandomIdGenerator
from opentelemetry.sdk.trace.sampling import ALWAYS_ON, TraceIdRatioBased
from opentelemetry.trace import (
    Link,
    NonRecordingSpan,
    Span,
    SpanContext,
    SpanKind,
    Status,
    StatusCode,
    TraceFlags,
    set_span_in_context,
)

from schemas import topics, trace_context
from schemas.accounts import Account
from schemas.events import Outgoing
from schemas.trace_context import TraceContext
from workers.consumer import BATCH_MAX
from workers.settlement.plan import HeldRow, LogRecord
from workers.traces import TRACED, Sends

FLUSH_S = 3.0  # at the stop; spans that are not exported by then are lost
LINKS_MAX = BATCH_MAX  # the SDK's own limit would cut the links of a batch in which every record is sampled

SYSTEM, DESTINATION = "messaging.system", "messaging.destination.name"
OPERATION, OPERATION_TYPE = "messaging.operation.name", "messaging.operation.type"
PARTITION, OFFSET = "messaging.destination.partition.id", "messaging.kafka.offset"
GROUP, COUNT = "messaging.consumer.group.name", "messaging.batch.message_count"
NOTIFY_ID = "alipay.notify_id"
DECISION = "alipay.decision"

NOT_ACKNOWLEDGED = "not acknowledged"
_NO_PARENT = Context()
_logger = logging.getLogger(__name__)


class Places(Struct, frozen=True, kw_only=True):
    """Where the messages of a process lie: the system, its consumer group, and the prefix of its topics."""

    system: str
    group: str
    prefix: str = topics.PREFIX


class _Ids(RandomIdGenerator):
    """Random ids. The next trace has the id by which it was sampled."""

    def __init__(self) -> None:
        self.next_trace: int | None = None

    def generate_trace_id(self) -> int:
        chosen, self.next_trace = self.next_trace, None
        return super().generate_trace_id() if chosen is None else chosen


class _AppendSpan:
    __slots__ = ("_span", "context")

    def __init__(self, span: Span) -> None:
        self._span = span
        self.context = _written(span.get_span_context())

    def end(self, error: BaseException | None = None, /) -> None:
        _end(self._span, _name(error))


class _Sends:
    """The spans of one publish, by the indexes of their events."""

    def __init__(self, events: Sequence[Outgoing], spans: dict[int, Span]) -> None:
        self.events = events
        self._spans = spans

    def end(self, acknowledged: Iterable[int], /) -> None:
        arrived = set(acknowledged) if self._spans else ()
        for index, span in self._spans.items():
            _end(span, "" if index in arrived else NOT_ACKNOWLEDGED)


class ProcessTraces:
    """The traces of one process, as `ingest.receive.AppendSpans` and as `workers.traces.Tracing`."""

    def __init__(self, processor: SpanProcessor, *, ratio: float, places: Places, service: str, version: str) -> None:
        self._ids = _Ids()
        self._provider = TracerProvider(
            sampler=ALWAYS_ON,  # later spans follow the receiver's choice
            resource=_resource(service, version),
            id_generator=self._ids,
            span_limits=_span_limits(),
            shutdown_on_exit=False,
        )
        self._provider.add_span_processor(processor)
        self._tracer = self._provider.get_tracer("alipay_notify", version)
        self._sampled_below = TraceIdRatioBased.get_bound_for_rate(ratio)
        self._places = places
        self._log_name = topics.named(topics.NOTIFICATION, places.prefix)
        self._topic_names = {topic: topics.named(topic, places.prefix) for topic in TRACED}
        self._of_log = {SYSTEM: places.system, DESTINATION: self._log_name}
        self._send_name = f"send {self._log_name}"
        self._batch: ContextVar[Span | None] = ContextVar("batch", default=None)

    def sampled(self, account: Account, notify_id: bytes, began_s: float | None, /) -> _AppendSpan | None:
        """Return the span of a request that began at this monotonic time; `None` if it is not sampled."""
        try:
            trace_id = random.getrandbits(128)
            return self._append(trace_id, notify_id, began_s) if self._is_sampled(trace_id) else None
        except Exception as error:
            _failed(error)
            return None

    def _is_sampled(self, trace_id: int) -> bool:
        """Decide as the SDK's ratio sampler does, so that consumers with such a sampler decide the same."""
        return trace_id & TraceIdRatioBased.TRACE_ID_LIMIT < self._sampled_below

    def _append(self, trace_id: int, notify_id: bytes, began_s: float | None) -> _AppendSpan:
        now_ns = time.time_ns()
        passed_ns = 0 if began_s is None else int((time.monotonic() - began_s) * 1e9)
        attributes = {OPERATION: "send", OPERATION_TYPE: "send", NOTIFY_ID: notify_id.decode("utf-8", "replace")}
        self._ids.next_trace = trace_id
        span = self._tracer.start_span(
            self._send_name,
            _NO_PARENT,
            SpanKind.PRODUCER,
            self._of_log | attributes,
            start_time=now_ns - passed_ns,
        )
        span.add_event("verified", timestamp=now_ns)
        return _AppendSpan(span)

    @property
    def current(self) -> TraceContext | None:
        """The span of the batch that the running task has in hand, if it is traced."""
        span = self._batch.get()
        return None if span is None else _written(span.get_span_context())

    @contextmanager
    def batch(self, records: Sequence[LogRecord] | Sequence[HeldRow], /, *, decision: str = "") -> Iterator[None]:
        """Trace the work of the block on these records, if one of them is sampled."""
        span = self._start_batch(records, decision)
        if span is None:
            yield
            return
        token = self._batch.set(span)
        try:
            yield
        except BaseException as error:
            _end(span, _name(error))
            raise
        finally:
            self._batch.reset(token)
            _end(span, "")

    def _start_batch(self, records: Sequence[LogRecord] | Sequence[HeldRow], decision: str) -> Span | None:
        try:
            links = [
                Link(_remote(found), {PARTITION: str(each.position.partition), OFFSET: each.position.offset})
                for each in records
                if (found := trace_context.of(each.record.headers)) is not None
            ]
            if not links:
                return None
            about: dict[str, str | int] = {OPERATION: "process", OPERATION_TYPE: "process", COUNT: len(records)}
            if decision:
                about[DECISION] = decision
            return self._tracer.start_span(
                f"process {self._log_name}",
                _NO_PARENT,
                SpanKind.CONSUMER,
                {**self._of_log, **about, GROUP: self._places.group},
                links,
            )
        except Exception as error:
            _failed(error)
            return None

    def step(self, name: str, seconds: float, /, *, ago_s: float = 0.0) -> None:
        """Add a step of the batch in hand, which ended so long ago."""
        batch = self._batch.get()
        if batch is None:
            return
        try:
            ended_ns = time.time_ns() - int(ago_s * 1e9)
            parent, started_ns = set_span_in_context(batch, _NO_PARENT), ended_ns - int(seconds * 1e9)
            if name == "commit":
                attributes = {**self._of_log, OPERATION: "commit", OPERATION_TYPE: "settle", GROUP: self._places.group}
                span = self._tracer.start_span(
                    f"commit {self._log_name}", parent, SpanKind.CLIENT, attributes, start_time=started_ns
                )
            else:
                span = self._tracer.start_span(name, parent, start_time=started_ns)
            span.end(ended_ns)
        except Exception as error:
            _failed(error)

    def paused(self, error: Exception, /) -> None:
        """Add that the batch in hand waits, because of this error."""
        batch = self._batch.get()
        if batch is not None:
            batch.add_event("paused", {"error.type": type(error).__name__})

    def sends(self, events: Sequence[Outgoing], /) -> Sends:
        """Begin the spans of the sampled order events and notices among these."""
        try:
            return self._sends(events)
        except Exception as error:
            _failed(error)
            return _Sends(events, {})

    def _sends(self, events: Sequence[Outgoing]) -> _Sends:
        sent, spans = list(events), dict[int, Span]()
        about = {SYSTEM: self._places.system, OPERATION: "send", OPERATION_TYPE: "send"}
        for index, event in enumerate(events):
            caused_by = trace_context.of(event.headers) if event.topic in TRACED else None
            if caused_by is None:
                continue
            name = self._topic_names[event.topic]
            parent = set_span_in_context(NonRecordingSpan(_remote(caused_by)), _NO_PARENT)
            span = self._tracer.start_span(f"send {name}", parent, SpanKind.PRODUCER, {**about, DESTINATION: name})
            spans[index] = span
            headers = trace_context.added(event.headers, _written(span.get_span_context()))
            sent[index] = structs.replace(event, headers=headers)
        return _Sends(sent, spans)

    async def stop(self) -> None:
        """Export the ended spans, for `FLUSH_S` at most; the others are lost."""
        loop, done = asyncio.get_running_loop(), asyncio.Event()

        def export() -> None:
            with suppress(Exception):
                self._provider.shutdown()
            with suppress(RuntimeError):  # the loop has not waited
                loop.call_soon_threadsafe(done.set)

        # Not the loop's executor: its end would wait for an exporter that hangs.
        threading.Thread(target=export, name="export-spans", daemon=True).start()
        with suppress(TimeoutError):
            async with asyncio.timeout(FLUSH_S):
                await done.wait()


def _name(error: BaseException | None) -> str:
    """Return the error's class; its text may be long, and may have an address."""
    return "" if error is None else type(error).__name__


def _end(span: Span, trouble: str) -> None:
    """End the span, if it has not ended, as an error if there was trouble."""
    try:
        if span.is_recording():
            if trouble:
                span.set_status(Status(StatusCode.ERROR, trouble))
            span.end()
    except Exception as failure:
        _failed(failure)


def _failed(error: Exception) -> None:
    """Report a failure of tracing, which nothing else notices."""
    _logger.warning("a span could not be made: %s", type(error).__name__)


def _written(context: SpanContext) -> TraceContext:
    return TraceContext(f"{context.trace_id:032x}", f"{context.span_id:016x}")


def _remote(context: TraceContext) -> SpanContext:
    return SpanContext(
        int(context.trace_id, 16), int(context.span_id, 16), is_remote=True, trace_flags=TraceFlags(TraceFlags.SAMPLED)
    )


def _resource(service: str, version: str) -> Resource:
    """Return the process's name and version; OTEL_RESOURCE_ATTRIBUTES may give it another name, and more attributes."""
    named = {} if "service.name=" in os.environ.get("OTEL_RESOURCE_ATTRIBUTES", "") else {"service.name": service}
    return Resource.create({**named, "service.version": version})


def _span_limits() -> SpanLimits:
    return SpanLimits() if "OTEL_SPAN_LINK_COUNT_LIMIT" in os.environ else SpanLimits(max_links=LINKS_MAX)
