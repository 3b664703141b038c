"""The signed vectors, sent to a running engine as the notifications they are."""

import http.client
import http.server
import json
import subprocess
import sys
import threading
from base64 import b64decode
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from tests.support.paths import ROOT
from tests.support.processes import Engine

VECTORS: dict[str, dict[str, Any]] = {
    path.stem: json.loads(path.read_text(encoding="utf-8")) for path in sorted((ROOT / "tests/vectors").glob("*.json"))
}
MERCHANTS_OWN = "antom_merchant_request_rsa256_2022_query_signed"  # the other way: no notification
NOTIFICATIONS = [
    name
    for name, vector in VECTORS.items()
    if name != MERCHANTS_OWN
    and (
        vector["headers"] or (vector["raw_body"] and "&sign=" in vector["raw_body"] and '="' not in vector["raw_body"])
    )
]
EXPIRED = "openplatform_rsa2_sandbox_cert_plus_sign_2023"


class Gateway(http.server.BaseHTTPRequestHandler):
    """Alipay's notify_verify, which knows every id: it vouches for what names no payee."""

    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("Content-Length", "4")
        self.end_headers()
        self.wfile.write(b"true")

    def log_message(self, *_: object) -> None:
        """Say nothing."""


def account(name: str, vector: dict[str, Any], directory: Path, gateway: str) -> str:
    """The account that the vector's merchant would configure, with its key in a file."""
    params = vector["params"] or {}
    lines = [f"[accounts.{name}]", f'sign_type = "{vector["algorithm"]}"']
    if vector["headers"]:
        headers = {key.lower(): value for key, value in vector["headers"].items()}
        lines += [
            'family = "antom"',
            f'client_id = "{headers["client-id"]}"',
            f'public_path = "{vector["request_path"]}"',
        ]
        lines += [f'keys = {{ 1 = "{name}.pem" }}']
    elif vector["algorithm"] == "MD5":
        lines += ['family = "mapi"', 'partner = "2088"', "notify_verify = true", f'notify_verify_url = "{gateway}"']
        lines += [f'md5_key_file = "{name}.md5"']
        (directory / f"{name}.md5").write_text(vector["md5_key"].ljust(16, "x"))
        return "\n".join(lines)
    elif bits(vector) < 2048:
        lines += ['family = "mapi"', f'seller_id = "{params.get("seller_id", "2088")}"', f'keys = ["{name}.pem"]']
    else:
        lines += ['family = "openapi"', f'app_id = "{params["app_id"]}"']
        certificate = vector["certificate_pem"]
        lines += [f'certificates = ["{name}.crt"]' if certificate else f'keys = ["{name}.pem"]']
        (directory / f"{name}.crt").write_text(certificate or "")
    (directory / f"{name}.pem").write_text(vector["public_key"])
    return "\n".join(lines)


def bits(vector: dict[str, Any]) -> int:
    key = serialization.load_der_public_key(b64decode(vector["public_key"]))
    assert isinstance(key, rsa.RSAPublicKey)
    return key.key_size


@pytest.fixture(scope="module")
def merchant(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """accounts.toml with an account for every vector."""
    directory = tmp_path_factory.mktemp("merchant")
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Gateway) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        gateway = f"http://127.0.0.1:{server.server_port}/gateway.do"
        tables = [account(account_of(name), VECTORS[name], directory, gateway) for name in NOTIFICATIONS]
        (directory / "accounts.toml").write_text("\n\n".join(tables))
        yield directory / "accounts.toml"
        server.shutdown()


def account_of(name: str) -> str:
    """The vector's name as an account's."""
    return name.replace("_", "-")[:60].strip("-")


@pytest.fixture(scope="module")
def engine(merchant: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Engine]:
    engine = Engine(merchant, tmp_path_factory.mktemp("vectors") / "engine")
    engine.start()
    yield engine
    engine.end()


def test_vectors_have_notifications_of_every_kind() -> None:
    assert len(NOTIFICATIONS) == 9
    assert {VECTORS[name]["expected"] for name in NOTIFICATIONS} == {True, False}


@pytest.mark.parametrize("name", NOTIFICATIONS)
def test_each_vector_is_accepted_or_refused_as_it_states(engine: Engine, name: str) -> None:
    vector = VECTORS[name]
    given = vector["headers"] or {"Content-Type": "application/x-www-form-urlencoded; charset=utf-8"}
    address = urlsplit(engine.public)
    connection = http.client.HTTPConnection(str(address.hostname), address.port, timeout=10)
    try:
        path = f"/notify/{account_of(name)}"
        connection.request("POST", path, vector["raw_body"].encode(), {"Content-Type": "application/json"} | given)
        answer = connection.getresponse()
        body = answer.read()
    finally:
        connection.close()

    assert answer.status == (200 if vector["expected"] else 401), body
    assert (body == b"success" or b'"resultStatus":"S"' in body) is vector["expected"]


def test_expired_certificate_is_reported(merchant: Path) -> None:
    checked = subprocess.run(
        [sys.executable, "-m", "deploy.cli.main", "keys", "check", "--accounts", merchant, "--output", "json"],
        capture_output=True, text=True, check=False, cwd=ROOT,
    )  # fmt: skip
    assert checked.returncode == 3, checked.stderr
    assert "expired" in checked.stdout
    assert account_of(EXPIRED) in checked.stdout
