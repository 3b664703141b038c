"""Captured requests: with headers or bare, the body's bytes are exact."""

from deploy.verify import capture
from deploy.verify.capture import Captured


def test_file_without_a_request_line_is_a_body() -> None:
    for body in (b"", b"a=1&b=2", b"a=1\r\n\r\nb=2", b'{"a":1}\n', b"POST"):
        assert capture.read(body) == Captured(body=body)


def test_request_is_parsed_with_either_line_end() -> None:
    for end in (b"\r\n", b"\n"):
        head = end.join([b"POST /notify/shop?x=1 HTTP/1.1", b"Host: h", b"Client-Id:  C ", b"", b""])
        found = capture.read(head + b"a=1&b=%0A" + end)
        assert found.target == "/notify/shop?x=1"
        assert found.headers == {"host": "h", "client-id": "C"}
        assert found.body == b"a=1&b=%0A" + end


def test_body_ends_at_its_content_length() -> None:
    assert capture.read(b"POST /n HTTP/1.1\nContent-Length: 3\n\na=1\n").body == b"a=1"
    assert capture.read(b"POST /n HTTP/1.1\nContent-Length: 30\n\na=1\n").body == b"a=1\n"
    assert capture.read(b"POST /n HTTP/1.1\nContent-Length: x\n\na=1\n").body == b"a=1\n"


def test_request_without_body_or_with_odd_lines_is_still_parsed() -> None:
    assert capture.read(b"GET /n?a=1 HTTP/1.1\r\nHost: h") == Captured(body=b"", headers={"host": "h"}, target="/n?a=1")
    assert capture.read(b"POST /n HTTP/1.1\nno header at all\nA: b\n\nx").headers == {"a": "b"}
