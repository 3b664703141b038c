"""`verify`: its exit codes, its output, and how it finds the account."""

import json
from pathlib import Path
from typing import Any

import pytest
import typer
from typer.testing import CliRunner, Result

from deploy.cli import verify as command
from tests.support import alipay

ACCOUNTS = f"""
[accounts.shop-sg]
family = "mapi"
sign_type = "RSA"
keys = ["alipay.pem"]
seller_id = "{alipay.SELLER}"

[accounts.shop-cn]
family = "openapi"
sign_type = "RSA2"
app_id = "{alipay.APP}"
seller_id = "{alipay.SELLER}"
keys = ["alipay-rsa2.pem"]

[accounts.antom-hk]
family = "antom"
client_id = "{alipay.CLIENT}"
keys = {{ 1 = "antom.pem" }}
"""
FORM: dict[str, str | bytes] = {
    "app_id": alipay.APP,
    "seller_id": alipay.SELLER,
    "out_trade_no": "OP-1",
    "subject": "票 \x1b[31m",
    "total_amount": "9.00",
}
BODY = b'{"paymentRequestId":"PAY-1"}'


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    alipay.written(tmp_path, "accounts.toml", ACCOUNTS.encode())
    alipay.written(tmp_path, "alipay.pem", alipay.pem(alipay.rsa_key(bits=1024)))
    alipay.written(tmp_path, "alipay-rsa2.pem", alipay.bare_base64(alipay.rsa_key()))
    alipay.written(tmp_path, "antom.pem", alipay.pem(alipay.rsa_key("antom")))
    return tmp_path


def run(directory: Path, content: bytes, *arguments: str, stdin: bool = False) -> Result:
    app = typer.Typer()
    app.callback()(lambda: None)
    command.register(app)
    (directory / "captured").write_bytes(content)
    file = "-" if stdin else str(directory / "captured")
    environment = {"ALIPAY_NOTIFY_ACCOUNTS": str(directory / "accounts.toml"), "COLUMNS": "300", "NO_COLOR": "1"}
    return CliRunner().invoke(app, ["verify", file, *arguments], input=content if stdin else None, env=environment)


def parsed(result: Result) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(result.stdout)
    return found


GENUINE = alipay.form(FORM, alipay.rsa_key(), "RSA2")


@pytest.mark.parametrize("stdin", [True, False])
def test_authentic_body_exits_with_0(directory: Path, stdin: bool) -> None:
    result = run(directory, GENUINE, "--account", "shop-cn", stdin=stdin)
    assert result.exit_code == 0, result.output
    assert "验签成功" in result.output
    assert "\x1b[31m" not in result.output


def test_forged_body_exits_with_3_and_names_the_cause(directory: Path) -> None:
    result = run(directory, GENUINE.replace(b"9.00", b"0.01"), "--account", "shop-cn")
    assert result.exit_code == 3
    assert "验签失败" in result.output
    assert "over another text" in result.output


def test_json_has_stable_fields(directory: Path) -> None:
    result = run(
        directory, GENUINE.replace(b"sign_type=RSA2", b"sign_type=RSA"), "--account", "shop-cn", "--output", "json"
    )
    assert result.exit_code == 3
    found = parsed(result)
    assert set(found) == {
        "account", "accepted", "cause", "remedy", "reason", "key", "signed_text", "sign_type", "departures", "tried",
        "ignored", "read_as", "is_decoded",
    }  # fmt: skip
    assert (found["accepted"], found["reason"], found["sign_type"]) == (False, "unsupported_sign_type", "RSA")
    assert {"variant", "holds"} == set(found["tried"][0])


def test_account_is_found_by_the_fields_of_the_message(directory: Path) -> None:
    result = run(directory, GENUINE, "--output", "json")
    assert (result.exit_code, parsed(result)["account"]) == (0, "shop-cn")


def test_account_is_found_by_the_path_of_a_captured_request(directory: Path) -> None:
    request = b"POST /notify/shop-cn HTTP/1.1\r\nContent-Length: %d\r\n\r\n%s\n" % (len(GENUINE), GENUINE)
    result = run(directory, request, "--output", "json")
    assert (result.exit_code, parsed(result)["account"]) == (0, "shop-cn")


def test_unclear_account_is_wrong_usage_and_lists_the_candidates(directory: Path) -> None:
    result = run(directory, b"a=1&sign=x&sign_type=RSA")
    assert result.exit_code == 2
    assert "shop-sg, shop-cn" in result.output
    assert run(directory, GENUINE, "--account", "unknown").exit_code == 2


def test_headers_of_antom_come_from_options_or_from_the_capture(directory: Path) -> None:
    headers = alipay.antom_headers(BODY, alipay.rsa_key("antom"))
    options = [part for name, value in headers.items() for part in ("--header", f"{name.title()}: {value}")]
    assert run(directory, BODY, *options).exit_code == 0
    head = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
    assert run(directory, f"POST /notify/antom-hk HTTP/1.1\r\n{head}\r\n".encode() + BODY).exit_code == 0
    assert run(directory, BODY, "--account", "antom-hk").exit_code == 3
    assert run(directory, BODY, "--header", "nonsense").exit_code == 2


def test_given_path_helps_to_name_the_cause(directory: Path) -> None:
    headers = alipay.antom_headers(BODY, alipay.rsa_key("antom"), path="/pay/n")
    options = [part for name, value in headers.items() for part in ("--header", f"{name}: {value}")]
    result = run(directory, BODY, *options, "--account", "antom-hk", "--path", "/pay/n", "--output", "json")
    assert (result.exit_code, parsed(result)["departures"]) == (3, ["path_of_request"])


def test_key_of_another_account_and_given_key_name_the_cause(directory: Path) -> None:
    of_antom = alipay.form(FORM, alipay.rsa_key("antom"), "RSA2")
    result = run(directory, of_antom, "--account", "shop-cn", "--output", "json")
    assert (result.exit_code, parsed(result)["key"]) == (3, "antom-hk: 1")
    alipay.written(directory, "mine.pem", alipay.private_pem(alipay.rsa_key("mine")))
    mine = alipay.form(FORM, alipay.rsa_key("mine"), "RSA2")
    result = run(directory, mine, "--account", "shop-cn", "--key", str(directory / "mine.pem"), "--output", "json")
    assert (result.exit_code, parsed(result)["departures"]) == (3, ["given_key"])


def test_return_is_explained_too(directory: Path) -> None:
    result = run(directory, b"resultStatus={6001};memo={};result={}", "--account", "shop-sg")
    assert result.exit_code == 3
    assert "nothing signed" in result.output


def test_broken_key_ends_the_command_only_in_the_messages_account(directory: Path) -> None:
    alipay.written(directory, "antom.pem", b"broken")
    assert run(directory, GENUINE, "--account", "shop-cn").exit_code == 0
    result = run(directory, BODY, "--account", "antom-hk")
    assert result.exit_code == 1
    assert "account antom-hk: antom.pem" in result.output


def test_unreadable_accounts_file_exits_with_1(directory: Path) -> None:
    (directory / "accounts.toml").write_text("[accounts")
    assert run(directory, GENUINE).exit_code == 1
    (directory / "accounts.toml").unlink()
    result = run(directory, GENUINE)
    assert result.exit_code == 1
    assert "cannot be read" in result.output


def test_missing_file_or_key_exits_with_1(directory: Path) -> None:
    assert run(directory, GENUINE, "--account", "shop-cn", "--key", str(directory / "none")).exit_code == 1
    alipay.written(directory, "junk.pem", b"junk!")
    assert run(directory, GENUINE, "--account", "shop-cn", "--key", str(directory / "junk.pem")).exit_code == 1
    app = typer.Typer()
    app.callback()(lambda: None)
    command.register(app)
    assert CliRunner().invoke(app, ["verify", str(directory / "absent")]).exit_code == 1


def test_dump_from_a_log_is_verified_and_json_is_short_for_output(directory: Path) -> None:
    signed = {name: str(value) for name, value in alipay.signed(FORM, alipay.rsa_key(), "RSA2").items()}
    line = f"2026-11-30 08:00:00 INFO alipay notify {signed!r}\n"
    result = run(directory, line.encode(), "--json", stdin=True)
    found = parsed(result)
    assert (result.exit_code, found["account"], found["read_as"], found["is_decoded"]) == (0, "shop-cn", "quoted", True)
    assert "the raw body would prove more" in found["remedy"]
    shown = run(directory, line.encode())
    assert (shown.exit_code, "read as" in shown.output) == (0, True)


def test_return_with_an_added_parameter_is_authentic_and_names_it(directory: Path) -> None:
    query = b"https://shop.example/index.php?s=/pay/return&" + GENUINE
    result = run(directory, query, "--json")
    assert (result.exit_code, parsed(result)["ignored"]) == (0, ["s"])
    assert "ignored" in run(directory, query).output


def test_file_beyond_the_limit_is_refused(directory: Path) -> None:
    result = run(directory, b"x" * (1024 * 1024 + 1))
    assert result.exit_code == 1
    assert "1 MiB" in result.output


def test_own_public_key_in_the_place_of_alipays_is_recognised(directory: Path) -> None:
    alipay.written(directory, "alipay-rsa2.pem", alipay.bare_base64(alipay.rsa_key("mine")))
    alipay.written(directory, "mine.pem", alipay.private_pem(alipay.rsa_key("mine")))
    given = run(directory, GENUINE, "--json", "--key", str(directory / "mine.pem"))
    assert "应用公钥 (the application's own public key) is in the place of 支付宝公钥" in parsed(given)["cause"]
    configured = ACCOUNTS.replace('sign_type = "RSA2"', 'sign_type = "RSA2"\nmerchant_key_file = "mine.pem"')
    (directory / "accounts.toml").write_text(configured)
    assert parsed(run(directory, GENUINE, "--json"))["cause"] == parsed(given)["cause"]
    (directory / "mine.pem").unlink()
    assert "no key known here" in parsed(run(directory, GENUINE, "--json"))["cause"]
