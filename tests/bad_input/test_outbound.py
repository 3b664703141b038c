"""Rows X: outbound calls: never to an address in a message, and to Alipay only with a valid certificate."""

import socket
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from tests.bad_input import merchant, wire
from tests.bad_input.certificates import Authority
from tests.bad_input.judge import OK, Expected, Judge, Server
from tests.bad_input.merchant import Signer, encode

PATH = "/notify/shop-cn"
WEB = "/notify/shop-web"
UNAVAILABLE = Expected(503, "unavailable", "unavailable")


# --- X01: the content of a message is only text

FIELDS = (
    "notify_url",
    "return_url",
    "cert_url",
    "alipay_cert_url",
    "alipay_root_cert_url",
    "key_url",
    "notify_verify_url",
)
URLS = ("http://169.254.169.254/latest/meta-data", "file:///etc/passwd", "gopher://127.0.0.1:9/x", "//127.0.0.1/x")


@contextmanager
def listening() -> Iterator[tuple[int, list[str]]]:
    """A port that a message names, and its callers."""
    called: list[str] = []
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(0.05)
        over = threading.Event()

        def listen() -> None:
            while not over.is_set():
                try:
                    one, address = listener.accept()
                except TimeoutError:
                    continue
                one.close()
                called.append(str(address))

        thread = threading.Thread(target=listen)
        thread.start()
        try:
            yield listener.getsockname()[1], called
        finally:
            over.set()
            thread.join()


def test_x01_addresses_in_a_signed_message_are_never_called(judge: Judge) -> None:
    with listening() as (port, called):
        before = judge.server.state()["outbound"]
        for url in (*URLS, f"http://127.0.0.1:{port}/x", f"https://localhost:{port}/x"):
            params = judge.signer.cn(merchant.payment(**dict.fromkeys(FIELDS, url)))
            judge.row(wire.post(PATH, encode(params)), OK)
            headers = {"X-Forwarded-Host": f"127.0.0.1:{port}", "Origin": url, "Referer": url, "Link": f"<{url}>"}
            judge.row(wire.post(PATH, encode(judge.signer.cn(merchant.payment())), headers=headers), OK)
        assert judge.server.state()["outbound"] == before, "an address was looked up or called"
    assert called == []


def test_x01_unknown_certificate_is_not_fetched(judge: Judge) -> None:
    with listening() as (port, called):
        before = judge.server.state()["outbound"]
        params = merchant.payment(alipay_cert_sn="0" * 32, cert_url=f"http://127.0.0.1:{port}/cert")
        form = encode(judge.signer.cn(params, key=judge.signer.keys.cert))
        judge.row(wire.post("/notify/shop-cert", form), Expected(401, "bad_signature", "unknown_key"))
        assert judge.server.state()["outbound"] == before
    assert called == []


# --- X04: Alipay's gateway proves its identity


class Gateway:
    """Answers `true` to every question over TLS, with this certificate."""

    def __init__(self, certificate: Path) -> None:
        self.asked: list[str] = []
        asked = self.asked

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                asked.append(self.path)
                self.send_response(200)
                self.send_header("Content-Length", "4")
                self.end_headers()
                self.wfile.write(b"true")

            def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the name it has there
                """Nobody reads it."""

        class Quiet(ThreadingHTTPServer):
            def handle_error(self, request: object, client_address: object) -> None:
                """Here the client breaks the handshake off on purpose."""

        self._server = Quiet(("127.0.0.1", 0), Handler)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate)
        # The handshake is the handler's: in the accepting thread one that is broken off would end them all.
        self._server.socket = context.wrap_socket(self._server.socket, server_side=True, do_handshake_on_connect=False)
        self.port: int = self._server.server_address[1]
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,))

    def __enter__(self) -> "Gateway":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path)


@contextmanager
def asking(directory: Path, signer: Signer, authority: Authority, port: int) -> Iterator[Judge]:
    """A receiver that asks the gateway on this port, and trusts the suite's authority."""
    accounts = merchant.write_accounts(directory, signer.keys)
    url = f'notify_verify_url = "https://localhost:{port}/gateway.do"'
    accounts.write_text(accounts.read_text().replace("notify_verify = true", f"notify_verify = true\n{url}"))
    server = Server(accounts, SUITE_ASKS="1", SSL_CERT_FILE=str(authority.file))
    try:
        yield Judge(server, signer)
    finally:
        server.stop()


def ask(judge: Judge, expected: Expected) -> None:
    judge.row(wire.post(WEB, encode(judge.signer.web(merchant.website_payment()))), expected)


def test_x04_gateway_with_a_valid_certificate_is_called(tmp_path: Path, signer: Signer, authority: Authority) -> None:
    with Gateway(authority.issue("localhost")) as gateway, asking(tmp_path, signer, authority, gateway.port) as judge:
        ask(judge, OK)
        assert len(gateway.asked) == 1
        assert any("socket.connect" in wanted for wanted in judge.server.state()["outbound"]), "the window sees it"


@pytest.mark.parametrize("kind", ["another name", "self-signed", "expired", "a stranger's authority"])
def test_x04_gateway_without_a_valid_certificate_is_not_trusted(
    tmp_path: Path, signer: Signer, authority: Authority, kind: str
) -> None:
    (tmp_path / "stranger").mkdir()
    certificate = {
        "another name": lambda: authority.issue("elsewhere.example"),
        "self-signed": lambda: authority.self_signed("localhost"),
        "expired": lambda: authority.issue("localhost", days=-1),
        "a stranger's authority": lambda: Authority(tmp_path / "stranger").issue("localhost"),
    }[kind]()
    with Gateway(certificate) as gateway, asking(tmp_path, signer, authority, gateway.port) as judge:
        ask(judge, UNAVAILABLE)
        assert gateway.asked == [], "not even the question was sent"
