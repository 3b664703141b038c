"""Notify URLs: what leads to a receiver, and what does not."""

import ssl
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from deploy import doctor_notify_url
from deploy.doctor import FindingState
from tests.support import certificates

ANSWERS = {
    "/notify/shop": (405, {"Allow": "POST"}),
    "/moved": (301, {"Location": "https://www.example/notify/shop"}),
    "/notify/nobody": (404, {}),
    "/": (200, {}),
    "/page-without-posts": (405, {"Allow": "GET"}),
    "/down": (503, {}),
}


class Handler(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        status, headers = ANSWERS[self.path]
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *args: object) -> None: ...


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as running:
        threading.Thread(target=running.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{running.server_port}"
        running.shutdown()


def test_url_that_leads_to_a_receiver_is_ok(server: str) -> None:
    assert doctor_notify_url.examine(f"{server}/notify/shop").state is FindingState.OK


@pytest.mark.parametrize(
    ("path", "detail"),
    [
        ("/moved", "redirects to https://www.example/notify/shop: Alipay does not follow"),
        ("/notify/nobody", "no account has this path (404)"),
        ("", "another program answers, or no receiver is ready (200)"),
        ("/page-without-posts", "(405)"),
        ("/down", "(503)"),
    ],
)
def test_url_that_leads_elsewhere_is_wrong_with_advice(server: str, path: str, detail: str) -> None:
    finding = doctor_notify_url.examine(server + path)
    assert (finding.state, detail in finding.detail) == (FindingState.WRONG, True)
    assert finding.advice


@pytest.mark.parametrize(
    "url",
    [
        "shop.example/notify/shop",
        "ftp://a/notify",
        "http://",
        "http://[::1",
        "http://a:0/",
        "http://127.0.0.1:1/é",
        "http://a b/",
    ],
)
def test_text_that_is_no_url_is_wrong(url: str) -> None:
    assert "is no http or https URL" in doctor_notify_url.examine(url).detail


def test_url_where_nothing_listens_cannot_be_reached() -> None:
    assert "cannot be reached" in doctor_notify_url.examine("http://127.0.0.1:1/notify/shop").detail


def test_url_whose_server_speaks_no_tls_cannot_be_reached(server: str) -> None:
    finding = doctor_notify_url.examine(server.replace("http:", "https:") + "/notify/shop")
    assert (finding.state, "cannot be reached" in finding.detail) == (FindingState.WRONG, True)


def test_url_whose_certificate_is_not_trusted_is_wrong(tmp_path: Path) -> None:
    certificates.issue(tmp_path)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(tmp_path / "stranger.pem")
    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as running:
        running.socket = context.wrap_socket(running.socket, server_side=True)
        threading.Thread(target=running.serve_forever, daemon=True).start()
        finding = doctor_notify_url.examine(f"https://127.0.0.1:{running.server_port}/notify/shop")
        running.shutdown()
    assert "its certificate is not valid: self" in finding.detail
    assert "chain" in finding.advice
