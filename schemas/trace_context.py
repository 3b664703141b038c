"""The place of a sampled span, as W3C Trace Context writes it in the header `traceparent` of records and events.

Only sampled spans are written, so a header leads to a trace that is kept. It is advice: any program that can write to a
topic can write it, and nothing is decided by it.
"""

import re
from collections.abc import Sequence

from msgspec import Struct

from schemas.record_format import Header
from schemas.telemetry import Field

TRACEPARENT = Header.TRACEPARENT.value

# Version 00: trace id, span id, flags. Later versions may append fields, and none of them is written here.
_FORM = re.compile(rb"00-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})")
_SAMPLED = 0x01
_NO_TRACE, _NO_SPAN = "0" * 32, "0" * 16


class TraceContext(Struct, frozen=True, gc=False):
    """A sampled span: its trace and itself, in lower-case hexadecimal digits."""

    trace_id: str
    span_id: str

    @property
    def header(self) -> tuple[str, bytes]:
        """Return the header that names this span."""
        return TRACEPARENT, f"00-{self.trace_id}-{self.span_id}-01".encode()

    @property
    def log_fields(self) -> dict[str, str]:
        """Return the fields of a log line that name this span."""
        return {Field.TRACE_ID: self.trace_id, Field.SPAN_ID: self.span_id}


def parse(value: bytes) -> TraceContext | None:
    """Return the sampled span that a `traceparent` names; `None` if it is not sampled, or not valid."""
    found = _FORM.fullmatch(value)
    if found is None or not int(found[3], 16) & _SAMPLED:
        return None
    trace_id, span_id = found[1].decode(), found[2].decode()
    return None if trace_id == _NO_TRACE or span_id == _NO_SPAN else TraceContext(trace_id, span_id)


def of(headers: Sequence[tuple[str, bytes]]) -> TraceContext | None:
    """Return the sampled span that these headers name, if they name one. If the header is repeated, the last counts."""
    for name, value in reversed(headers):
        if name == TRACEPARENT:
            return parse(value)
    return None


def added(headers: tuple[tuple[str, bytes], ...], context: TraceContext) -> tuple[tuple[str, bytes], ...]:
    """Return the headers with this span's, in the place of any other."""
    return *(header for header in headers if header[0] != TRACEPARENT), context.header
