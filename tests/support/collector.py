"""A collector of traces: it takes spans by OTLP over HTTP, as a real one does, and keeps them."""

import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from msgspec import Struct
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import Span as SpanMessage
from opentelemetry.sdk.trace import ReadableSpan


class Seen(Struct, frozen=True, kw_only=True):
    """A span with what it names: its parent, and the spans that it is linked to."""

    name: str
    kind: str
    trace_id: str
    span_id: str
    parent: str
    links: tuple[str, ...]
    attributes: Mapping[str, Any]
    is_error: bool
    service: str
    events: tuple[str, ...]


def connected(spans: Sequence[Seen], start: Seen) -> list[Seen]:
    """Return the spans that can be reached from this one over parents and links, in either direction."""
    reached, grew = {start.span_id}, True
    while grew:
        more = {each.span_id for each in spans if {each.parent, *each.links} & reached} | {
            other for each in spans if each.span_id in reached for other in (each.parent, *each.links) if other
        }
        grew = not more <= reached
        reached |= more
    return [each for each in spans if each.span_id in reached]


def in_memory(span: ReadableSpan) -> Seen:
    """Return a span of the SDK's in-memory exporter."""
    context = span.get_span_context()
    assert context is not None
    return Seen(
        name=span.name,
        kind=span.kind.name,
        trace_id=f"{context.trace_id:032x}",
        span_id=f"{context.span_id:016x}",
        parent="" if span.parent is None else f"{span.parent.span_id:016x}",
        links=tuple(f"{link.context.span_id:016x}" for link in span.links),
        attributes=dict(span.attributes or {}),
        is_error=not span.status.is_unset,
        service=str(span.resource.attributes["service.name"]),
        events=tuple(event.name for event in span.events),
    )


class Collector:
    """The collector. While it `hangs`, it answers nothing."""

    def __init__(self, endpoint: str) -> None:
        self.endpoint = endpoint
        self.spans: list[Seen] = []
        self.may_answer = threading.Event()
        self.may_answer.set()
        self.requests = 0

    def named(self, name: str) -> list[Seen]:
        return [span for span in self.spans if span.name == name]

    def take(self, body: bytes) -> None:
        for resource in ExportTraceServiceRequest.FromString(body).resource_spans:
            service = _plain(resource.resource.attributes)["service.name"]
            for scope in resource.scope_spans:
                self.spans += [_seen(span, service) for span in scope.spans]


@contextmanager
def collecting() -> Iterator[Collector]:
    """Run a collector on a free port of loopback."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            collector.requests += 1
            collector.may_answer.wait()
            collector.take(body)
            self.send_response(200)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *args: Any) -> None: ...

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    collector = Collector(f"http://127.0.0.1:{server.server_port}")
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield collector
    finally:
        collector.may_answer.set()
        server.shutdown()
        server.server_close()


def _seen(span: SpanMessage, service: str) -> Seen:
    return Seen(
        name=span.name,
        kind=SpanMessage.SpanKind.Name(span.kind).removeprefix("SPAN_KIND_"),
        trace_id=span.trace_id.hex(),
        span_id=span.span_id.hex(),
        parent=span.parent_span_id.hex(),
        links=tuple(link.span_id.hex() for link in span.links),
        attributes=_plain(span.attributes),
        is_error=span.status.code == 2,
        service=service,
        events=tuple(event.name for event in span.events),
    )


def _plain(attributes: Any) -> dict[str, Any]:
    return {each.key: getattr(each.value, each.value.WhichOneof("value")) for each in attributes}
