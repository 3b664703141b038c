"""Rows T: malformed and hostile HTTP."""

import socket
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import pytest

from tests.bad_input import merchant, wire
from tests.bad_input.judge import AT_ONCE_S, FAIL, OK, P400, Expected, Judge
from tests.bad_input.merchant import Signer

PATH = "/notify/shop-cn"
HEAD = f"POST {PATH} HTTP/1.1\r\nHost: pay.merchant.example\r\nContent-Type: {wire.FORM}\r\n".encode()
BAD_SIGNATURE = Expected(401, "bad_signature", "bad_signature")
NOWHERE = Expected(404, "unknown_account")
SECOND = b"POST /notify/shop-cn HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n"


def payment(signer: Signer) -> bytes:
    return merchant.encode(signer.cn(merchant.payment()))


def chunked(body: bytes) -> bytes:
    return b"%x\r\n%s\r\n0\r\n" % (len(body), body)


FRAMINGS: dict[str, Callable[[bytes], bytes]] = {
    "T01": lambda body: HEAD + b"Content-Length: %d\r\nTransfer-Encoding: chunked\r\n\r\n" % len(body) + chunked(body),
    "T02-equal": lambda body: HEAD + b"Content-Length: %d\r\n" % len(body) * 2 + b"\r\n" + body,
    "T02-different": lambda body: HEAD + b"Content-Length: 5\r\nContent-Length: %d\r\n\r\n" % len(body) + body,
    "T02-list": lambda body: HEAD + b"Content-Length: %d, %d\r\n\r\n" % (len(body), len(body)) + body,
    "T02-signed": lambda body: HEAD + b"Content-Length: +%d\r\n\r\n" % len(body) + body,
    "T02-hex": lambda body: HEAD + b"Content-Length: 0x%x\r\n\r\n" % len(body) + body,
    "T02-negative": lambda body: HEAD + b"Content-Length: -1\r\n\r\n" + body,
    "T04": lambda body: HEAD + b"Transfer-Encoding : chunked\r\n\r\n" + chunked(body) + b"\r\n",
    "T04-gzip": lambda body: HEAD + b"Transfer-Encoding: gzip, chunked\r\n\r\n" + chunked(body) + b"\r\n",
    "T04-gzip-apart": lambda body: (
        HEAD + b"Transfer-Encoding: gzip\r\nTransfer-Encoding: chunked\r\n\r\n" + chunked(body) + b"\r\n"
    ),
    "T04-twice": lambda body: (
        HEAD + b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n" + chunked(body) + b"\r\n"
    ),
    "T04-obsolete": lambda body: HEAD + b"Transfer-Encoding: xchunked\r\n\r\n" + chunked(body) + b"\r\n",
    "T06": lambda body: HEAD.replace(b"\r\n", b"\n") + b"Content-Length: %d\n\n" % len(body) + body,
    "T07": lambda body: HEAD + b"Transfer-Encoding: chunked\r\n\r\n%x;a\nb\r\n%s\r\n0\r\n\r\n" % (len(body), body),
    "T07-size": lambda body: HEAD + b"Transfer-Encoding: chunked\r\n\r\n+%x\r\n%s\r\n0\r\n\r\n" % (len(body), body),
    "T08-many": lambda body: HEAD + b"Transfer-Encoding: chunked\r\n\r\n" + chunked(body) + b"t: v\r\n" * 100_000,
    "T09": lambda body: HEAD + b"Host: elsewhere.example\r\nContent-Length: %d\r\n\r\n" % len(body) + body,
    "T09-none": lambda body: (
        HEAD.replace(b"Host: pay.merchant.example\r\n", b"") + b"Content-Length: %d\r\n\r\n" % len(body) + body
    ),
    "T13-nul": lambda body: HEAD + b"X-Note: a\x00b\r\nContent-Length: %d\r\n\r\n" % len(body) + body,
    "T13-bell": lambda body: HEAD + b"X-Note: a\x07b\r\nContent-Length: %d\r\n\r\n" % len(body) + body,
    "T13-cr": lambda body: HEAD + b"X-Note: a\rb\r\nContent-Length: %d\r\n\r\n" % len(body) + body,
    "T13-fold": lambda body: HEAD + b"X-Note: a\r\n b\r\nContent-Length: %d\r\n\r\n" % len(body) + body,
    "T14": lambda body: HEAD + b"X-Note: " + b"n" * 9 * 1024 + b"\r\nContent-Length: %d\r\n\r\n" % len(body) + body,
    "T14-target": lambda body: HEAD.replace(b"shop-cn", b"s" * 9 * 1024) + b"Content-Length: 0\r\n\r\n",
    "T15-200": lambda body: HEAD + b"X-Note: n\r\n" * 200 + b"Content-Length: %d\r\n\r\n" % len(body) + body,
    "T15-20000": lambda body: HEAD + b"X-Note: n\r\n" * 20_000 + b"Content-Length: %d\r\n\r\n" % len(body) + body,
    "T20-http2": lambda _: b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    "T20-tls": lambda _: bytes.fromhex("16030100c8010000c40303") + b"\x5a" * 190,
    "T20-zeros": lambda _: bytes(1000),
    "E05": lambda body: HEAD + b"Content-Type: text/plain\r\nContent-Length: %d\r\n\r\n" % len(body) + body,
}


def with_headers(body: bytes, count: int, value: bytes = b"n") -> bytes:
    """Return a request with so many headers: ours, and as many others as are missing."""
    lines = b"".join(b"X-%d: %s\r\n" % (number, value) for number in range(count - 3))
    return HEAD + lines + b"Content-Length: %d\r\n\r\n" % len(body) + body


def test_h8_header_has_at_most_64_lines(judge: Judge) -> None:
    judge.row(with_headers(payment(judge.signer), 64), OK)
    judge.row(with_headers(payment(judge.signer), 65), P400)


def test_h8_header_value_has_at_most_four_kibibytes(judge: Judge) -> None:
    judge.row(with_headers(payment(judge.signer), 4, b"n" * 4_000), OK)
    judge.row(with_headers(payment(judge.signer), 4, b"n" * 4_097), P400)


@pytest.mark.parametrize("name", FRAMINGS)
def test_request_that_is_no_plain_http_is_refused(judge: Judge, name: str) -> None:
    judge.row(FRAMINGS[name](payment(judge.signer)), P400, within_s=3.0)


@pytest.mark.parametrize("name", ["T07", "T07-size", "T08-many"])
def test_body_broken_in_a_later_segment_is_refused_at_once(judge: Judge, name: str) -> None:
    before = judge.server.mark()
    head, end, rest = FRAMINGS[name](payment(judge.signer)).partition(b"\r\n\r\n")
    with wire.connect(judge.port) as opened:
        opened.sendall(head + end)
        time.sleep(0.05)
        with suppress(OSError):
            opened.sendall(rest)
        answer = wire.receive(opened)
    assert answer.seconds < AT_ONCE_S
    judge.judge(answer, P400, before)


def test_t08_request_in_a_trailer_is_no_second_request(judge: Judge) -> None:
    """The trailer is refused or ignored; never is it a second request."""
    judge.server.mark()
    body = merchant.encode(judge.signer.cn(merchant.payment(out_trade_no="T08")))
    request = HEAD + b"Transfer-Encoding: chunked\r\n\r\n" + chunked(body) + SECOND
    with wire.connect(judge.port) as opened:
        opened.sendall(request)
        raw, _ = wire.drain(opened, within_s=1.0)
    assert len(wire.statuses(raw)) <= 1
    assert sum(wire.statuses(raw)) in (0, 200, 400)
    state = judge.server.state()
    assert len(state["records"]) <= 1
    assert "Traceback" not in state["log"]
    judge.canary()


def test_unclear_framing_ends_the_connection_at_an_unknown_path_too(judge: Judge) -> None:
    head = HEAD.replace(b"shop-cn", b"nobody") + b"Transfer-Encoding: gzip, chunked\r\n\r\n"
    with wire.connect(judge.port) as opened:
        opened.sendall(head + chunked(b"a=b") + b"\r\n" + SECOND)
        raw, is_closed = wire.drain(opened, within_s=8.0)
    assert (wire.statuses(raw), is_closed) == ([400], True)
    judge.canary()


def test_what_follows_connect_is_no_request(judge: Judge) -> None:
    """Its body, or what a load balancer took for a tunnel."""
    connect = b"CONNECT pay.example:443 HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n" % len(SECOND)
    with wire.connect(judge.port) as opened:
        opened.sendall(connect + SECOND + SECOND)
        raw, is_closed = wire.drain(opened, within_s=8.0)
    assert (len(wire.statuses(raw)), is_closed) == (1, True)
    judge.canary()


def test_bytes_after_a_body_are_the_next_request(judge: Judge) -> None:
    body = payment(judge.signer)
    with wire.connect(judge.port) as opened:
        opened.sendall(wire.post(PATH, body) + wire.post(PATH, b"") + wire.post(PATH, body))
        raw, _ = wire.drain(opened, within_s=1.0)
    assert wire.statuses(raw)[:2] == [200, 400]
    judge.canary()


@pytest.mark.parametrize("upgrade", ["websocket", "h2c", "tls"])
def test_upgrade_request_changes_nothing(judge: Judge, upgrade: str) -> None:
    headers = {"Connection": "Upgrade", "Upgrade": upgrade}
    judge.row(wire.post(PATH, payment(judge.signer), headers=headers), OK)


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1", "[::1]"])
def test_t10_no_host_name_switches_verification_off(judge: Judge, host: str) -> None:
    forged = merchant.encode(judge.signer.cn(merchant.payment(), key=judge.signer.keys.stranger))
    judge.row(wire.post(PATH, forged, host=host), BAD_SIGNATURE)


@pytest.mark.parametrize(
    "header",
    ["X-Forwarded-For", "X-Forwarded-Host", "Forwarded", "X-Debug", "X-Skip-Verify", "Cookie", "Authorization"],
)
def test_no_header_switches_verification_off(judge: Judge, header: str) -> None:
    forged = merchant.encode(judge.signer.cn(merchant.payment(), key=judge.signer.keys.stranger))
    judge.row(wire.post(PATH, forged, headers={header: "127.0.0.1"}), BAD_SIGNATURE)


def test_t12_absolute_target_is_refused(judge: Judge) -> None:
    judge.row(wire.post("http://evil.example" + PATH, payment(judge.signer)), Expected(400, "malformed"))


@pytest.mark.parametrize("method", ["GET", "PUT", "OPTIONS", "TRACE", "DELETE", "PATCH"])
def test_t16_only_post_is_allowed(judge: Judge, method: str) -> None:
    judge.row(wire.post(PATH, b"", method=method), Expected(405, "unsupported", "method"))


def test_t16_head_gets_the_same_answer_without_a_body(judge: Judge) -> None:
    with wire.connect(judge.port) as opened:
        opened.sendall(f"HEAD {PATH} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".encode())
        raw, is_closed = wire.drain(opened, within_s=2.0)
    assert raw.startswith(b"HTTP/1.1 405")
    assert raw.endswith(b"\r\n\r\n")
    assert is_closed
    judge.canary()


@pytest.mark.parametrize(
    "path",
    [
        "//notify/shop-cn",
        "/notify/shop-cn/",
        "/x/../notify/shop-cn",
        "/./notify/shop-cn",
        "/NOTIFY/shop-cn",
        "/notify/SHOP-CN",
        "/notify//shop-cn",
        "/notify/shop-cn%20",
        "/notify/shop-cn;a=b",
        "/notify/shop-cn#part",
        "/notify/",
        "/notify",
        "/",
        "*",
        "/%6eotify/shop-cn",
        "/notify/shop%2dcn",
        "/notify/nobody",
    ],
)
def test_t17_t18_only_the_exact_path_is_served(judge: Judge, path: str) -> None:
    expected = P400 if path == "*" else NOWHERE
    judge.row(wire.post(path, payment(judge.signer)), expected)


@pytest.mark.parametrize("path", ["/metrics", "/livez", "/readyz", "/api/orders/shop-cn/1", "/console", "/held"])
def test_l07_the_public_port_serves_nothing_else(judge: Judge, path: str) -> None:
    judge.row(wire.post(path, b"", method="GET"), NOWHERE)


def test_t21_ten_gigabytes_are_refused_before_continue_is_sent(judge: Judge) -> None:
    request = wire.post(PATH, b"", headers={"Expect": "100-continue"}, length=10 * 1024**3)
    answer = judge.row(request, Expected(413, "too_large", "too_large"))
    assert answer.seconds < AT_ONCE_S
    assert b"100 Continue" not in answer.raw


def test_t21_sender_that_expects_continue_gets_it(judge: Judge) -> None:
    before = judge.server.mark()
    body = payment(judge.signer)
    with wire.connect(judge.port) as opened:
        opened.sendall(wire.post(PATH, b"", headers={"Expect": "100-continue"}, length=len(body)))
        assert opened.recv(100) == b"HTTP/1.1 100 Continue\r\n\r\n"
        opened.sendall(body)
        answer = wire.receive(opened)
    judge.judge(answer, OK, before)


def test_t22_ten_gigabytes_are_refused_at_once(judge: Judge) -> None:
    answer = judge.row(wire.post(PATH, b"a=b", length=10 * 1024**3), Expected(413, "too_large", "too_large"))
    assert answer.seconds < AT_ONCE_S


def test_t24_stalled_body_times_out(judge: Judge) -> None:
    answer = judge.row(wire.post(PATH, b"a=b", length=100), Expected(408, "too_slow", "too_slow"))
    assert answer.seconds < 5
    assert answer.is_closed


def test_t24_body_at_one_byte_a_second_times_out(judge: Judge) -> None:
    before = judge.server.mark()
    with wire.connect(judge.port) as opened:
        began = time.monotonic()
        opened.sendall(wire.post(PATH, b"", length=100))
        while time.monotonic() - began < 1.9:
            opened.sendall(b"a")
            time.sleep(0.5)
        answer = wire.receive(opened, began=began)
    assert answer.seconds < 5
    judge.judge(answer, Expected(408, "too_slow", "too_slow"), before)


def test_t23_header_at_one_byte_a_second_times_out(judge_of: Callable[..., Judge]) -> None:
    judge = judge_of(ALIPAY_NOTIFY_EXPOSED="true")
    with wire.connect(judge.port) as opened:
        began = time.monotonic()
        opened.settimeout(1.0)
        while time.monotonic() - began < 14:
            try:
                opened.sendall(b"P" if time.monotonic() - began < 1 else b"O")
                if opened.recv(10) == b"":
                    break
            except TimeoutError:
                continue
            except OSError:
                break
    assert time.monotonic() - began < 12
    judge.canary()


ENDS = ("accepted", "gone")


def test_t25_half_closed_connection_leaves_at_most_one_record(judge: Judge) -> None:
    before = judge.server.mark()
    answer = wire.send(judge.port, wire.post(PATH, payment(judge.signer)), close_half=True, within_s=2.0)
    assert answer.status in (0, 200)
    received = 'alipay_notify_received_total{account="shop-cn",outcome="%s"}'

    def grown(state: dict[str, Any]) -> float:
        growth = (state["samples"][received % each] - before["samples"][received % each] for each in ENDS)
        return float(sum(growth))

    state = judge.server.until(grown)
    assert grown(state) == 1
    assert len(state["records"]) == 1
    assert "Traceback" not in state["log"]
    judge.canary()


def test_sender_that_disconnects_in_the_middle_is_counted_as_gone(judge: Judge) -> None:
    before = judge.server.mark()
    with wire.connect(judge.port) as opened:
        opened.sendall(wire.post(PATH, b"a=b", length=100))
        judge.server.until_serving(1)
        opened.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\x00\x00\x00\x00\x00\x00\x00")
    gone = 'alipay_notify_received_total{account="shop-cn",outcome="gone"}'
    state = judge.server.until(lambda state: state["samples"][gone] != before["samples"][gone])
    assert state["records"] == []
    assert "Traceback" not in state["log"]
    judge.canary()


def test_http_1_0_is_answered_and_closed(judge: Judge) -> None:
    request = wire.post(PATH, payment(judge.signer)).replace(b"HTTP/1.1", b"HTTP/1.0", 1)
    with wire.connect(judge.port) as opened:
        opened.sendall(request)
        raw, is_closed = wire.drain(opened, within_s=1.0)
    assert wire.statuses(raw) == [200]
    assert is_closed


def test_connection_is_kept_between_notifications(judge: Judge) -> None:
    with wire.connect(judge.port) as opened:
        for _ in range(3):
            opened.sendall(wire.post(PATH, payment(judge.signer)))
            answer = wire.receive(opened)
            assert (answer.status, answer.is_closed) == (200, False)
        opened.sendall(wire.post(PATH, b"a=b"))
        assert wire.receive(opened).body == FAIL


def test_o6_http_1_0_with_chunks_is_refused_and_closed(judge: Judge) -> None:
    head = HEAD.replace(b"HTTP/1.1", b"HTTP/1.0", 1) + b"Transfer-Encoding: chunked\r\n\r\n"
    judge.row(head + chunked(payment(judge.signer)) + b"\r\n", Expected(400, "malformed", "malformed"))
    with wire.connect(judge.port) as opened:
        opened.sendall(head + chunked(payment(judge.signer)) + b"\r\n")
        raw, is_closed = wire.drain(opened, within_s=5.0)
    assert (wire.statuses(raw), is_closed) == ([400], True)


def tiny_chunks(body: bytes, extension: bytes = b"", trailer: bytes = b"") -> bytes:
    return b"".join(b"1%s\r\n%c\r\n" % (extension, byte) for byte in body) + b"0\r\n" + trailer + b"\r\n"


def on_the_wire(body: bytes, size: int) -> bytes:
    """`body` in two chunks, the first with an extension that makes the whole `size` bytes long."""
    text = b"%x;%s\r\n%s\r\n1\r\n%s\r\n0\r\n\r\n"
    bare = len(text % (len(body) - 1, b"", body[:-1], body[-1:]))
    # aiohttp bounds one line, so that a long extension is spread over many chunks of one byte.
    room, pieces = size - bare, b""
    used = 0
    while room - len(pieces) > 2_000 and used < len(body) - 2:
        pieces += b"1;%s\r\n%c\r\n" % (b"e" * 1_000, body[used])
        used += 1
    rest = body[used:]
    whole = pieces + text % (len(rest) - 1, b"", rest[:-1], rest[-1:])
    missing = size - len(whole)
    return pieces + text % (len(rest) - 1, b"e" * missing, rest[:-1], rest[-1:])


CHUNKED_HEAD = HEAD + b"Transfer-Encoding: chunked\r\n\r\n"
TOO_LARGE = Expected(413, "too_large", "too_large")


def test_body_in_chunks_of_one_byte_is_accepted(judge: Judge) -> None:
    judge.row(CHUNKED_HEAD + tiny_chunks(payment(judge.signer)), OK)


def test_h8_body_may_take_twice_its_limit_on_the_wire_and_no_byte_more(judge: Judge) -> None:
    limit = 2 * 65_536
    for size, expected in ((limit, OK), (limit + 1, TOO_LARGE)):
        body = on_the_wire(payment(judge.signer), size)
        assert len(body) == size
        judge.row(CHUNKED_HEAD + body, expected)


def test_o6_extensions_count_as_bytes_on_the_wire(judge: Judge) -> None:
    judge.row(CHUNKED_HEAD + tiny_chunks(payment(judge.signer), b";" + b"e" * 1_000), TOO_LARGE)


def test_h8_long_request_behind_another_is_refused_by_itself(judge: Judge) -> None:
    body = payment(judge.signer)
    with wire.connect(judge.port) as opened:
        opened.sendall(wire.post(PATH, body) + CHUNKED_HEAD + tiny_chunks(body, b";" + b"e" * 1_000))
        raw, is_closed = wire.drain(opened, within_s=8.0)
    assert (wire.statuses(raw), is_closed) == ([200, 413], True)
    judge.canary()
