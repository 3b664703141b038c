"""`keys list` and `keys check`: every key, every fault, and the exit codes."""

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import typer
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.x509.oid import NameOID
from typer.testing import CliRunner, Result

from deploy.cli import keys as command
from ingest import key_files
from tests.support import alipay

ACCOUNTS = f"""
[accounts.shop-sg]
family = "mapi"
sign_type = "MD5"
md5_key_file = "md5"
seller_id = "{alipay.SELLER}"

[accounts.shop-cn]
family = "openapi"
sign_type = "RSA2"
app_id = "{alipay.APP}"
keys = ["alipay.pem"]
certificates = ["alipay.crt"]
"""


def certificate(*, ends_in: timedelta, serial: int = 1) -> bytes:
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "alipay")])
    end = datetime.now(UTC) + ends_in
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(alipay.rsa_key("certified").public_key())
        .serial_number(serial)
        .not_valid_before(end - timedelta(days=365))
        .not_valid_after(end)
        .sign(alipay.rsa_key("certified"), hashes.SHA256())
    )
    return made.public_bytes(serialization.Encoding.PEM)


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    alipay.written(tmp_path, "accounts.toml", ACCOUNTS.encode())
    alipay.written(tmp_path, "md5", alipay.MD5_SECRET)
    alipay.written(tmp_path, "alipay.pem", alipay.pem(alipay.rsa_key()))
    alipay.written(tmp_path, "alipay.crt", certificate(ends_in=timedelta(days=100)))
    return tmp_path


def run(directory: Path, *arguments: str) -> Result:
    app = typer.Typer()
    app.callback()(lambda: None)
    command.register(app)
    environment = {"ALIPAY_NOTIFY_ACCOUNTS": str(directory / "accounts.toml"), "COLUMNS": "300", "NO_COLOR": "1"}
    return CliRunner().invoke(app, ["keys", *arguments], env=environment)


def parsed(result: Result) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(result.stdout)
    return found


def test_every_key_is_listed_with_its_kind_strength_and_expiry(directory: Path) -> None:
    result = run(directory, "check", "--output", "json")
    assert result.exit_code == 0, result.output
    keys = parsed(result)["keys"]
    assert [(key["account"], key["key_id"], key["kind"], key["bits"], key["state"]) for key in keys] == [
        ("shop-sg", "md5", "MD5", 256, "ok"),
        ("shop-cn", "alipay.pem", "RSA", 2048, "ok"),
        ("shop-cn", "alipay.crt", "RSA", 2048, "ok"),
    ]
    assert keys[1]["fingerprint"].startswith("sha256:")
    assert (keys[0]["fingerprint"], keys[1]["expires_at"]) == ("", None)
    assert keys[2]["expires_at"]


@pytest.mark.parametrize("verb", ["list", "check"])
def test_no_secret_is_shown(directory: Path, verb: str) -> None:
    for output in ("table", "json"):
        shown = run(directory, verb, "--output", output).output
        assert "alipay.pem" in shown
        assert alipay.MD5_SECRET.decode() not in shown


def test_s28_expired_certificate_is_reported_and_check_exits_with_3(directory: Path) -> None:
    alipay.written(directory, "alipay.crt", certificate(ends_in=timedelta(days=-1)))
    result = run(directory, "check")
    assert result.exit_code == 3
    assert "expired" in result.output
    assert run(directory, "list").exit_code == 0


def test_check_says_of_each_key_what_is_wrong_and_what_to_do(directory: Path) -> None:
    alipay.written(directory, "alipay.crt", certificate(ends_in=timedelta(days=-1)))
    rows = {line.split()[2]: line for line in run(directory, "check").output.splitlines() if "RSA2" in line}
    assert rows["alipay.pem"].split()[0] == "ok"
    assert rows["alipay.crt"].split()[0] == "wrong"
    assert "replace the certificate" in rows["alipay.crt"]
    assert "replace the certificate" not in run(directory, "list").output


def test_certificate_that_expires_soon_is_reported(directory: Path) -> None:
    alipay.written(directory, "alipay.crt", certificate(ends_in=timedelta(days=10)))
    result = run(directory, "check", "--output", "json")
    assert (result.exit_code, parsed(result)["keys"][2]["state"]) == (0, "expires_soon")


def test_every_fault_is_reported_and_check_exits_with_3(directory: Path) -> None:
    alipay.written(directory, "md5", b"your_key")
    alipay.written(directory, "alipay.pem", alipay.private_pem(alipay.rsa_key()))
    (directory / "alipay.crt").unlink()
    result = run(directory, "check", "--output", "json")
    assert result.exit_code == 3
    assert len(parsed(result)["faults"]) == 3
    table = run(directory, "check")
    for part in ("md5", "private key", "alipay.crt does not exist"):
        assert part in table.output
    assert "your_key" not in table.output


def test_unreadable_accounts_file_exits_with_1(directory: Path) -> None:
    (directory / "accounts.toml").write_text("[accounts.X]\nfamily = 1\n")
    result = run(directory, "list")
    assert result.exit_code == 1
    assert "account X" in result.output


def number_of(content: bytes) -> str:
    return key_files.certificate_number(key_files.certificates(content)[0])


def test_numbers_of_certificates_and_roots_are_printed(directory: Path) -> None:
    root, own = certificate(ends_in=timedelta(days=100)), certificate(ends_in=timedelta(days=50), serial=2)
    alipay.written(directory, "root.crt", root * 2)
    alipay.written(directory, "app.crt", own)
    accounts = ACCOUNTS + 'root_certificates = ["root.crt"]\n'
    alipay.written(directory, "accounts.toml", accounts.encode())
    arguments = ("check", "--certificate", str(directory / "app.crt"))
    found = parsed(run(directory, *arguments, "--output", "json"))
    assert [key["cert_sn"] for key in found["keys"]] == [None, None, number_of(root)]
    assert found["roots"] == [{"account": "shop-cn", "alipay_root_cert_sn": f"{number_of(root)}_{number_of(root)}"}]
    assert found["certificates"] == [{"file": str(directory / "app.crt"), "cert_sn": number_of(own)}]
    table = run(directory, *arguments).output
    assert f"alipay_root_cert_sn of shop-cn: {number_of(root)}_{number_of(root)}\n" in table
    assert f"app.crt: {number_of(own)}\n" in table


@pytest.mark.parametrize("file", ["absent.crt", "alipay.pem"])
def test_unreadable_certificate_is_a_fault(directory: Path, file: str) -> None:
    result = run(directory, "check", "--certificate", str(directory / file), "--output", "json")
    assert (result.exit_code, len(parsed(result)["faults"])) == (3, 1)


def with_merchant_key(directory: Path, *settings: str) -> None:
    alipay.written(directory, "merchant.key", alipay.private_pem(alipay.rsa_key("certified")))
    lines = ('merchant_key_file = "merchant.key"', *settings)
    alipay.written(directory, "accounts.toml", (ACCOUNTS + "\n".join(lines) + "\n").encode())


def test_merchants_key_is_shown_by_its_public_half(directory: Path) -> None:
    with_merchant_key(directory)
    (row,) = parsed(run(directory, "check", "--output", "json"))["merchant_keys"]
    public = alipay.rsa_key("certified").public_key()
    assert (row["account"], row["file"], row["bits"]) == ("shop-cn", "merchant.key", 2048)
    assert (row["fingerprint"], row["app_cert_sn"], row["state"]) == (key_files.fingerprint(public), None, "ok")
    assert "merchant.key" in run(directory, "list").output


def test_merchants_certificate_must_be_of_the_key_and_gives_its_number(directory: Path) -> None:
    own, root = certificate(ends_in=timedelta(days=10), serial=2), certificate(ends_in=timedelta(days=100))
    alipay.written(directory, "root.crt", root)
    alipay.written(directory, "app.crt", own)
    with_merchant_key(directory, 'merchant_certificate_file = "app.crt"', 'root_certificates = ["root.crt"]')
    found = parsed(run(directory, "check", "--output", "json"))
    (row,) = found["merchant_keys"]
    assert (row["app_cert_sn"], row["state"]) == (number_of(own), "expires_soon")
    alipay.written(directory, "merchant.key", alipay.private_pem(alipay.rsa_key("other")))
    result = run(directory, "check", "--output", "json")
    assert result.exit_code == 3
    assert parsed(result)["faults"] == ["account shop-cn: app.crt is the certificate of another key than merchant.key"]


def test_expired_certificate_of_the_merchant_exits_with_3(directory: Path) -> None:
    alipay.written(directory, "root.crt", certificate(ends_in=timedelta(days=100)))
    alipay.written(directory, "app.crt", certificate(ends_in=timedelta(days=-1)))
    with_merchant_key(directory, 'merchant_certificate_file = "app.crt"', 'root_certificates = ["root.crt"]')
    assert run(directory, "check").exit_code == 3


def test_content_of_an_unusable_merchant_key_is_not_shown(directory: Path) -> None:
    with_merchant_key(directory)
    alipay.written(directory, "merchant.key", b"a-secret-that-is-no-key")
    result = run(directory, "check")
    assert (result.exit_code, "merchant.key is not a readable" in result.output) == (3, True)
    assert "a-secret" not in result.output


@pytest.mark.parametrize(("until", "state"), [("2099-12-31", "retiring"), ("2020-12-31", "retired")])
def test_retiring_keys_are_listed_with_their_end_and_a_note_if_short(directory: Path, until: str, state: str) -> None:
    alipay.written(directory, "old.pem", alipay.pem(alipay.rsa_key("old", bits=1024)))
    with (directory / "accounts.toml").open("a") as file:
        file.write(f'[[accounts.shop-cn.retiring]]\nsign_type = "RSA"\nkeys = ["old.pem"]\nuntil = {until}\n')
    result = run(directory, "check", "--output", "json")
    assert result.exit_code == 0
    found = parsed(result)
    old = next(key for key in found["keys"] if key["key_id"] == "old.pem")
    assert (old["sign_type"], old["state"], old["until"]) == ("RSA", state, until)
    assert "1024 bits" in found["notes"][0]
