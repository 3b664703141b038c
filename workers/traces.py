"""Traces of a worker's batches and sends: the port, and its stand-in for a worker that traces nothing.

    process   one span for each batch in which a record is sampled, linked to the spans of those records, with a child
              for each step. Their receivers chose them, so the worker chooses nothing
    header    an event or notice that a sampled notification caused carries the batch's span in the outbox
    send      one span for each of these that is sent; its topic gets this span's header instead

A retry, and an operator's decision, is a trace of its own, linked to the receiver's: it may come a day later. Best
effort: nothing here may fail a batch, and no guarantee depends on it.
"""

from collections.abc import Iterable, Sequence
from collections.abc import Set as AbstractSet
from contextlib import AbstractContextManager, nullcontext
from typing import Protocol

import msgspec
from msgspec import Struct, structs

from schemas import topics, trace_context
from schemas.events import Outgoing
from schemas.trace_context import TraceContext
from workers.settlement.plan import HeldRow, LogRecord, ParsedRecord


class Sends(Protocol):
    """The spans of one publish."""

    @property
    def events(self) -> Sequence[Outgoing]:
        """The events to publish, with the headers of these spans."""

    def end(self, acknowledged: Iterable[int], /) -> None:
        """End the spans: the topics have acknowledged the events with these indexes, and perhaps not the others."""


class Tracing(Protocol):
    """Traces one worker. It must not raise, and must not wait."""

    @property
    def current(self) -> TraceContext | None:
        """The span of the batch that the running task has in hand, if it is traced."""

    def batch(
        self, records: Sequence[LogRecord] | Sequence[HeldRow], /, *, decision: str = ""
    ) -> AbstractContextManager[object]:
        """Trace the work of the block on these records, if one of them is sampled.

        `decision` is what an operator has decided about it, such as `accept`.
        """

    def step(self, name: str, seconds: float, /, *, ago_s: float = 0.0) -> None:
        """Add a step of the batch in hand, which ended so long ago."""

    def paused(self, error: Exception, /) -> None:
        """Add that the batch in hand waits, because of this error."""

    def sends(self, events: Sequence[Outgoing], /) -> Sends:
        """Begin the spans of these events and notices."""


class _NoSends(Struct, frozen=True):
    events: Sequence[Outgoing]

    def end(self, acknowledged: Iterable[int], /) -> None: ...


class _NotTraced:
    current = None

    def batch(
        self, records: Sequence[LogRecord] | Sequence[HeldRow], /, *, decision: str = ""
    ) -> AbstractContextManager[object]:
        return nullcontext()

    def step(self, name: str, seconds: float, /, *, ago_s: float = 0.0) -> None: ...

    def paused(self, error: Exception, /) -> None: ...

    def sends(self, events: Sequence[Outgoing], /) -> Sends:
        return _NoSends(events)


NOT_TRACED: Tracing = _NotTraced()


class _NamedCause(Struct):
    notification_id: str = ""


class _Caused(Struct):
    """What names the cause: in an order event its notification, in a notice the place of its record."""

    cause: _NamedCause | None = None
    held_id: str = ""
    record_id: str = ""


TRACED = frozenset({topics.ORDER_EVENT, topics.HELD, topics.NOTED})
_decode = msgspec.json.Decoder(_Caused).decode


def is_sampled(parsed: ParsedRecord) -> bool:
    """Return whether the receiver has traced this record."""
    return trace_context.of(parsed.record.headers) is not None


def marked(events: Sequence[Outgoing], parsed_records: Sequence[ParsedRecord], trace: TraceContext) -> list[Outgoing]:
    """Return the events, with this span's header on the order events and notices that sampled notifications caused."""
    sampled = [parsed for parsed in parsed_records if is_sampled(parsed)]
    ids = {parsed.notification.id for parsed in sampled if parsed.notification is not None}
    places = {str(parsed.position) for parsed in sampled}
    return [
        structs.replace(event, headers=trace_context.added(event.headers, trace))
        if _is_caused(event, ids, places)
        else event
        for event in events
    ]


def _is_caused(event: Outgoing, ids: AbstractSet[str], places: AbstractSet[str]) -> bool:
    """Return whether one of these notifications caused the event, or a record at one of these places the notice."""
    if event.topic not in TRACED:
        return False
    try:
        caused = _decode(event.value)
    except msgspec.DecodeError:  # our bug, and no reason to hold the batch
        return False
    if event.topic == topics.ORDER_EVENT:
        return caused.cause is not None and caused.cause.notification_id in ids
    return (caused.held_id or caused.record_id) in places
