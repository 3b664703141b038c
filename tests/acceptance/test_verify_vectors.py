"""`alipay-notify verify` on every vector as a captured request: it names the right cause."""

from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from deploy.cli import main
from tests.acceptance.test_vectors import MERCHANTS_OWN, NOTIFICATIONS, VECTORS, account

# The expected exit code, and words of the cause. The mapi forms of RSA name no payee that the
# vector's account could have, but the seller that they do name; the account that has MD5 lets Alipay vouch.
CAUSES: dict[str, tuple[int, str]] = {
    "antom_notifypayment_rsa256_2019": (0, "验签成功"),
    "antom_notifypayment_rsa256_2019_reserialised": (3, "the JSON body was written again"),
    "mapi_forex_md5_odoo_wrong_sign": (3, "MD5"),
    "mapi_forex_payline_edited": (3, "names sign_type RSA2 and the account is pinned to RSA"),
    "mapi_key_rsa_gbk_precreate_2015": (0, "验签成功"),
    "mapi_md5_chloerei_notify": (0, "验签成功"),
    "openplatform_doc_sample_2016_unverifiable": (3, "but over another text"),
    "openplatform_rsa2_sandbox_cert_plus_sign_2023": (0, "验签成功"),
    "openplatform_rsa_omnipay_f2f_selfsigned": (0, "验签成功"),
    MERCHANTS_OWN: (3, "the query of the address was signed with the path"),
}


def capture(vector: dict[str, Any]) -> bytes:
    """The body as it came; with its request line and headers where these are signed too."""
    body: bytes = vector["raw_body"].encode()
    if not vector["headers"]:
        return body
    named = "".join(f"{name}: {value}\r\n" for name, value in vector["headers"].items())
    return f"POST {vector['request_path']} HTTP/1.1\r\n{named}\r\n".encode() + body


def verified(vector: dict[str, Any], directory: Path, *arguments: str) -> Result:
    of_path = vector | {"request_path": vector.get("request_path", "").partition("?")[0]}  # which is all Antom signs
    (directory / "accounts.toml").write_text(account("shop", of_path, directory, "http://127.0.0.1:9/gateway.do"))
    (directory / "capture").write_bytes(capture(vector))
    environment = {"ALIPAY_NOTIFY_ACCOUNTS": str(directory / "accounts.toml"), "COLUMNS": "80", "NO_COLOR": "1"}
    command = ["verify", str(directory / "capture"), "--account", "shop", *arguments]
    return CliRunner().invoke(main.application(), command, env=environment)


def test_every_notification_vector_has_a_cause() -> None:
    assert CAUSES.keys() == {*NOTIFICATIONS, MERCHANTS_OWN}


@pytest.mark.parametrize("name", CAUSES)
def test_verify_names_the_cause(name: str, tmp_path: Path) -> None:
    code, cause = CAUSES[name]
    told = verified(VECTORS[name], tmp_path, "--output", "json")
    assert (told.exit_code, cause in told.stdout) == (code, True), told.output


@pytest.mark.parametrize("name", [name for name, (code, _) in CAUSES.items() if code == 0])
def test_signed_text_is_shown_unwrapped_on_a_narrow_terminal(name: str, tmp_path: Path) -> None:
    vector = VECTORS[name]
    told = verified(vector, tmp_path)
    signed = vector["signed_content"].encode(vector["charset"]).decode("utf-8", "backslashreplace")
    for line in signed.split("\n"):
        assert f"\n{line}\n" in told.stdout
