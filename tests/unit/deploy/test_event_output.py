"""Order events as `listen` shows them and passes them on."""

import json
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from threading import Thread
from typing import Any, ClassVar

import pytest
from cloudevents.core.bindings.http import HTTPMessage, from_binary
from cloudevents.core.formats.json import JSONFormat

from deploy import event_output
from deploy.event_output import NotAnOrderEvent

ORDER = {
    "account": "shop", "order": "A1", "version": 2, "status": "PAID", "amount_minor": 1280, "currency": "USD",
    "flags": ["amount_mismatch"],
}  # fmt: skip
HEADERS = [
    ("ce_specversion", b"1.0"), ("ce_id", b"shop:A1:2"), ("ce_type", b"alipay_notify.order.paid.v1"),
    ("ce_source", b"/alipay-notify/shop"), ("ce_subject", b"A1"), ("ce_time", b"2025-10-09T08:53:20Z"),
    ("traceparent", b"00-x"),
]  # fmt: skip
EVENT = event_output.of_record(HEADERS, json.dumps(ORDER).encode())


class Shop(BaseHTTPRequestHandler):
    """A service that keeps what it is sent, and answers 204, or 500 to /fails."""

    seen: ClassVar[list[HTTPMessage]] = []

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        headers = {name.lower(): value for name, value in self.headers.items()}
        self.seen.append(HTTPMessage(headers=headers, body=body))
        self.send_response(500 if self.path == "/fails" else 204)
        self.end_headers()

    def log_message(self, *_: Any) -> None:
        """Print nothing."""


@pytest.fixture
def shop() -> Iterator[str]:
    Shop.seen.clear()
    server = HTTPServer(("127.0.0.1", 0), Shop)
    thread = Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()


def test_record_and_feed_give_the_same_cloudevent() -> None:
    fed = {"number": 7, "topic": "t", **{name[3:]: text.decode() for name, text in HEADERS[:6]}, "data": ORDER}
    assert event_output.of_feed(fed) == EVENT
    assert EVENT["datacontenttype"] == "application/json"
    assert "number" not in EVENT


@pytest.mark.parametrize(
    ("headers", "value"),
    [(HEADERS, None), (HEADERS, b"[]"), (HEADERS, b"{}"), (HEADERS, b"\xff"), ([], b'{"order":1}')],
)
def test_record_of_another_kind_is_none(headers: list[tuple[str, bytes]], value: bytes | None) -> None:
    with pytest.raises(NotAnOrderEvent):
        event_output.of_record(headers, value)


@pytest.mark.parametrize(
    ("types", "accounts", "wanted"),
    [
        ((), (), True), (("paid",), (), True), (("alipay_notify.order.paid.v1",), ("shop",), True),
        (("refunded", "paid"), ("other", "shop"), True), (("refunded",), (), False), (("paid",), ("other",), False),
        (("order",), (), False),
    ],
)  # fmt: skip
def test_filter_takes_types_and_accounts(types: tuple[str, ...], accounts: tuple[str, ...], wanted: bool) -> None:
    assert event_output.is_wanted(EVENT, types=types, accounts=accounts) is wanted


def test_line_has_time_change_order_amount_and_flags() -> None:
    assert event_output.line(EVENT).split() == [
        "2025-10-09", "08:53:20", "paid", "shop:A1", "v2", "PAID", "12.80", "USD", "!amount_mismatch",
    ]  # fmt: skip
    waiting = {**EVENT, "data": {**ORDER, "auth_app_id": "2021", "amount_minor": None, "flags": []}}
    assert event_output.line(waiting).split()[3:] == ["shop/2021:A1", "v2", "PAID"]


def test_forwarded_event_is_read_by_the_library_of_cloudevents(shop: str) -> None:
    event = {**EVENT, "subject": "订单 1"}
    assert event_output.forward(event, f"{shop}/hook?x=1").startswith("204 in ")
    (message,) = Shop.seen
    read = from_binary(message, JSONFormat())
    assert (read.get_id(), read.get_type(), read.get_subject()) == ("shop:A1:2", EVENT["type"], "订单 1")
    assert read.get_data() == ORDER


def test_refusal_and_silence_are_told_and_not_raised(shop: str) -> None:
    assert event_output.forward(EVENT, f"{shop}/fails").startswith("500 in ")
    assert event_output.forward(EVENT, "http://127.0.0.1:1").startswith("failed: ")
