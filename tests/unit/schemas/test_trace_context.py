"""W3C Trace Context in headers: what is written is read again, and nothing else is believed."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas import trace_context
from schemas.trace_context import TraceContext

SPAN = TraceContext("0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331")
WRITTEN = b"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"

NONE = {
    "not sampled": WRITTEN[:-2] + b"00",
    "a random trace id that is not sampled": WRITTEN[:-2] + b"02",
    "another version": b"01" + WRITTEN[2:],
    "no trace": b"00-" + b"0" * 32 + WRITTEN[35:],
    "no span": WRITTEN[:36] + b"0" * 16 + b"-01",
    "upper case": WRITTEN.upper(),
    "a line's end": WRITTEN + b"\n",
    "more": WRITTEN + b"-00",
    "less": WRITTEN[:-1],
    "nothing": b"",
    "other digits": b"00-" + "٣".encode() * 16 + WRITTEN[35:],
}


def test_span_is_written_and_read_as_w3c_says() -> None:
    assert SPAN.header == ("traceparent", WRITTEN)
    assert trace_context.parse(WRITTEN) == SPAN
    assert trace_context.parse(WRITTEN[:-2] + b"03") == SPAN


@pytest.mark.parametrize("name", NONE)
def test_what_names_no_sampled_span_is_not_read(name: str) -> None:
    assert trace_context.parse(NONE[name]) is None


@given(st.binary(max_size=70))
def test_no_header_makes_reading_fail(value: bytes) -> None:
    assert trace_context.of((("traceparent", value),)) in (None, trace_context.parse(value))


def test_last_of_several_headers_counts() -> None:
    other = SPAN.header[1].replace(b"0af7", b"1111")
    headers = (("a", b""), ("traceparent", other), SPAN.header, ("b", b""))
    assert trace_context.of(headers) == SPAN
    assert trace_context.of(headers[:1]) is None


def test_header_is_replaced_and_the_others_stay() -> None:
    headers = (("ce_id", b"1"), ("traceparent", b"x"), ("ce_type", b"t"))
    assert trace_context.added(headers, SPAN) == (("ce_id", b"1"), ("ce_type", b"t"), SPAN.header)


def test_log_line_names_trace_and_span() -> None:
    assert SPAN.log_fields == {"trace_id": SPAN.trace_id, "span_id": SPAN.span_id}
