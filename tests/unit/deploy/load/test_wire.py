"""Parsing an answer, whole or in pieces, by its length, in chunks, or by the end of the connection."""

import pytest

from deploy.load.wire import ANSWER_BYTES_MAX, NotHttp, WireAnswer, parse_answer, request_bytes

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 7\r\n\r\nsuccess"
CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nsuc\r\n4\r\ncess\r\n0\r\n\r\n"


@pytest.mark.parametrize("whole", [OK, CHUNKED], ids=["length", "chunked"])
def test_answer_is_parsed_only_when_it_is_complete(whole: bytes) -> None:
    assert parse_answer(whole) == WireAnswer(200, b"success", True)
    for size in range(len(whole)):
        assert parse_answer(whole[:size]) is None, f"{size} of {len(whole)} bytes"


def test_answer_with_close_ends_the_connection() -> None:
    closing = parse_answer(b"HTTP/1.1 503 Busy\r\nConnection: Close\r\nContent-Length: 4\r\n\r\nfail")
    assert closing == WireAnswer(503, b"fail", False)
    assert parse_answer(OK.replace(b"HTTP/1.1", b"HTTP/1.0")) == WireAnswer(200, b"success", False)


def test_end_of_the_connection_ends_an_answer_without_a_length() -> None:
    unframed = b"HTTP/1.1 200 OK\r\n\r\nsuccess"
    assert parse_answer(unframed) is None
    assert parse_answer(unframed, ended=True) == WireAnswer(200, b"success", False)


@pytest.mark.parametrize(
    ("received", "ended"),
    [
        (b"SSH-2.0-OpenSSH\r\n", False),
        (b"HTTP/1.1 abc OK\r\n\r\n", False),
        (b"HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n", False),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n", False),
        (OK[:-1], True),
        (b"HTTP/1.1 200", True),
        (b"HTTP/1.1 200 OK\r\n\r\n" + b"x" * (ANSWER_BYTES_MAX + 1), False),
    ],
)
def test_bytes_that_are_no_answer_are_an_error(received: bytes, ended: bool) -> None:
    with pytest.raises(NotHttp):
        parse_answer(received, ended=ended)


def test_request_has_its_length_in_bytes() -> None:
    assert request_bytes("h:1", "/notify/a", (("A", "b"),), b"x=1") == (
        b"POST /notify/a HTTP/1.1\r\nHost: h:1\r\nA: b\r\nContent-Length: 3\r\n\r\nx=1"
    )
