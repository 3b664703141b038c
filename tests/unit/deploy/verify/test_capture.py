"""Captured requests: with headers or bare, the body's bytes are exact."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from deploy.verify import capture
from deploy.verify.capture import Captured
from deploy.verify.dumps import Dump, Notation


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
    assert capture.read(b"GET /n?a=1 HTTP/1.1\r\nHost: h") == Captured(
        body=b"", headers={"host": "h"}, target="/n?a=1", read_as="request"
    )
    assert capture.read(b"POST /n HTTP/1.1\nno header at all\nA: b\n\nx").headers == {"a": "b"}


FORM = "app_id=2021&subject=%E8%8C%B6&sign=abc%2B%3D&sign_type=RSA2"
MESSAGE = '{"notifyType":"PAYMENT_RESULT","paymentRequestId":"P/1"}'
SIGNING = {"signature": "algorithm=RSA256,keyVersion=1,signature=abc", "client-id": "C", "request-time": "T"}


def found(content: str | bytes, read_as: str) -> list[Captured]:
    encoded = content.encode() if isinstance(content, str) else content
    return [each for each in capture.readings(encoded) if each.read_as == read_as]


def test_headers_without_a_request_line_are_parsed() -> None:
    head = "\n".join(f"{name.title()}: {value}" for name, value in SIGNING.items())
    (request,) = found(f"{head}\n\n{MESSAGE}", "request")
    assert (request.headers, request.body) == (SIGNING, MESSAGE.encode())
    assert found(f"Host: h\n\n{MESSAGE}", "request") == []


def test_curl_command_is_parsed() -> None:
    options = " ".join(f"-H '{name}: {value}'" for name, value in SIGNING.items())
    (request,) = found(f"curl 'https://shop.example/notify/a?x=1' \\\n {options} --data-raw '{MESSAGE}'", "curl")
    assert (request.headers, request.body, request.target) == (SIGNING, MESSAGE.encode(), "/notify/a?x=1")
    (request,) = found("curl https://shop.example -d a=1 -d 'sign=b'", "curl")
    assert (request.body, request.target) == (b"a=1&sign=b", "/")
    assert found("curl 'unclosed", "curl") == []


@pytest.mark.parametrize("wrap", [lambda event: event, lambda event: {"level": "info", "request": event}])
def test_event_of_a_serverless_platform_is_parsed(wrap: object) -> None:
    event = {"headers": SIGNING, "body": MESSAGE, "path": "/notify/a"}
    content = json.dumps(wrap(event))  # type: ignore[operator]
    (request,) = found(content, "event")
    assert (request.headers, request.body, request.target) == (SIGNING, MESSAGE.encode(), "/notify/a")
    assert not request.is_decoded


def test_event_with_a_parsed_body_is_decoded() -> None:
    (request,) = found(json.dumps({"headers": SIGNING, "body": json.loads(MESSAGE)}), "event")
    assert (request.body, request.is_decoded) == (MESSAGE.encode(), True)


@pytest.mark.parametrize(
    "line",
    [
        f"2026-11-30 08:00:00 INFO alipay notify body={FORM}",
        f'10.0.0.1 - - "GET /pay/return?{FORM} HTTP/1.1" 200 12',
        f"notify: '{FORM}', from 10.0.0.1",
    ],
)
def test_form_in_a_log_line_is_found(line: str) -> None:
    assert FORM.encode() in [each.body for each in found(line, "log_line")]


def test_form_in_a_json_log_line_is_found() -> None:
    assert [each.body for each in found(json.dumps({"msg": "notify", "raw": FORM}), "event")] == [FORM.encode()]


def test_files_of_windows_are_read() -> None:
    for content in (FORM.encode("utf-16"), b"\xef\xbb\xbf" + FORM.encode()):
        assert next(capture.readings(content)).body == FORM.encode()


def test_dump_is_encoded_in_the_charset_that_it_names_first() -> None:
    pairs = (("charset", "GBK"), ("subject", "茶"), ("sign", "+"), (b"body", b"\xff"))
    bodies = [each.body for each in capture.encoded(Dump(Notation.QUOTED, pairs))]
    assert bodies[0] == b"charset=GBK&subject=%B2%E8&sign=%2B&body=%FF"
    assert bodies[1] == b"charset=GBK&subject=%E8%8C%B6&sign=%2B&body=%FF"
    surrogate = capture.encoded(Dump(Notation.QUOTED, (("subject", "\ud83d"), ("sign", "x"))))
    assert [each.body for each in surrogate] == [b"subject=%3F&sign=x"]


def test_result_of_an_app_in_a_map_becomes_json() -> None:
    text = '{resultStatus=9000, memo=, result={"alipay_trade_app_pay_response":{"a":"b"},"sign":"x"}}'
    (read, *_) = found(text, "map")
    assert json.loads(read.body)["result"] == '{"alipay_trade_app_pay_response":{"a":"b"},"sign":"x"}'


@given(st.one_of(st.binary(max_size=200), st.text(alphabet="{}[]()'\"\\=:>, \nsignab1", max_size=80).map(str.encode)))
def test_no_content_raises(content: bytes) -> None:
    assert next(iter(list(capture.readings(content)))).read_as in ("body", "request")
