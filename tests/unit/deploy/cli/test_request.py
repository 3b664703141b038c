"""`request` signs with the key beside the accounts, prints a text to copy, and registers only if asked to."""

import json
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import pytest
from typer.testing import Result

from tests.support import alipay
from tests.unit.deploy.cli.admin_server import Server
from tests.unit.deploy.cli.commands import against, run

ACCOUNTS = f"""
[accounts.shop]
family = "mapi"
sign_type = "RSA"
keys = ["alipay.pem"]
seller_id = "{alipay.SELLER}"
currency = "USD"
merchant_key_file = "merchant.key"
notify_url = "https://pay.example/notify/shop"

[accounts.cn]
family = "openapi"
sign_type = "RSA2"
keys = ["alipay.pem"]
app_id = "{alipay.APP}"
"""
TEA = ("--order", "A1", "--subject", "Tea", "--amount", "12.80")


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    alipay.written(tmp_path, "accounts.toml", ACCOUNTS.encode())
    alipay.written(tmp_path, "merchant.key", alipay.private_pem(alipay.rsa_key("merchant")))
    return tmp_path


def sign(directory: Path, product: str, *arguments: str, account: str = "shop") -> Result:
    accounts = str(directory / "accounts.toml")
    return run({}, "request", product, "--account", account, "--accounts", accounts, *arguments)


def test_address_is_printed_alone(directory: Path) -> None:
    done = sign(directory, "h5", *TEA, "--timeout", "2h", "--extra", "payment_inst=ALIPAYHK")
    assert (done.exit_code, done.stderr) == (0, "")
    sent = parse_qs(urlsplit(done.stdout.strip()).query)
    assert (sent["total_fee"], sent["payment_inst"], sent["timeout_rule"]) == (["12.80"], ["ALIPAYHK"], ["2h"])


def test_order_string_is_printed_unescaped(directory: Path) -> None:
    done = sign(directory, "native", "--order", "A1", "--subject", "奶茶", "--amount", "12.80")
    assert 'subject="奶茶"' in done.stdout
    assert done.stdout.count("\n") == 1


def test_json_has_both_forms(directory: Path) -> None:
    answer = json.loads(sign(directory, "native", *TEA, "--output", "json").stdout)
    assert (answer["url"], answer["registered"], answer["product"]) == (None, False, "native")
    assert 'service="mobile.securitypay.pay"' in answer["order_string"]


def test_order_is_registered_if_asked_to(directory: Path, server: Server) -> None:
    accounts = ("--accounts", str(directory / "accounts.toml"))
    done = against(server, "request", "h5", "--account", "shop", *TEA, "--register", *accounts)
    assert done.exit_code == 0
    rmb = ("--rmb", "80.00", "--currency", "USD")
    both = against(server, "request", "h5", "--account", "shop", *TEA[:-1], "11.20", *rmb, "--register", *accounts)
    assert both.exit_code == 0
    assert [row[3] for row in server.world.store.audit] == ["12.80 USD", "80.00 CNY, 11.20 USD"]
    alone = against(server, "request", "h5", "--account", "shop", *TEA[:-2], *rmb, "--register", *accounts)
    assert (alone.exit_code, "give amount too" in alone.stderr) == (2, True)


def test_request_is_not_printed_if_its_registration_fails(directory: Path) -> None:
    accounts = ("--accounts", str(directory / "accounts.toml"))
    done = against("http://127.0.0.1:9", "request", "h5", "--account", "shop", *TEA, "--register", *accounts)
    assert (done.exit_code, done.stdout) == (1, "")


@pytest.mark.parametrize(
    ("product", "account", "arguments", "code", "words"),
    [
        ("app", "shop", TEA, 2, "use native, h5, page"),
        ("h5", "shop", (*TEA[:-1], "12.8"), 2, "USD amounts must have 2 decimals"),
        ("h5", "shop", (*TEA, "--extra", "x"), 2, "must be NAME=VALUE"),
        ("h5", "gone", TEA, 2, "it has shop, cn"),
        ("page", "cn", (*TEA, "--notify-url", "https://pay.example/n"), 1, "has no merchant_key_file"),
    ],
)
def test_faults_name_what_works(
    directory: Path, product: str, account: str, arguments: tuple[str, ...], code: int, words: str
) -> None:
    done = sign(directory, product, *arguments, account=account)
    assert (done.exit_code, done.stdout) == (code, "")
    assert words in done.stderr


def test_unusable_key_or_accounts_fail_without_their_content(directory: Path) -> None:
    alipay.written(directory, "merchant.key", b"a-secret-that-is-no-key")
    done = sign(directory, "h5", *TEA)
    assert (done.exit_code, "merchant.key is not a readable" in done.stderr) == (1, True)
    assert "a-secret" not in done.stderr
    (directory / "accounts.toml").write_text("")
    assert sign(directory, "h5", *TEA).exit_code == 1


def test_provider_signs_for_its_merchant_with_the_token_in_a_file(directory: Path, server: Server) -> None:
    merchant = "2021000000000008"
    isv = f'[accounts.isv]\nfamily = "openapi"\nsign_type = "RSA2"\nkeys = ["alipay.pem"]\napp_id = "{alipay.APP}"\n'
    isv += 'auth_app_id = "any"\nmerchant_key_file = "merchant.key"\nnotify_url = "https://pay.example/n"\n'
    alipay.written(directory, "accounts.toml", isv.encode())
    alipay.written(directory, "token", b"202112BBmerchant\n")
    arguments = (*TEA, "--auth-app-id", merchant)
    refused = sign(directory, "page", *arguments, account="isv")
    assert (refused.exit_code, "app_auth_token is missing" in refused.stderr) == (2, True)
    done = sign(directory, "page", *arguments, "--app-auth-token-file", str(directory / "token"), account="isv")
    sent = parse_qs(urlsplit(done.stdout.strip()).query)
    assert (done.exit_code, sent["app_auth_token"]) == (0, ["202112BBmerchant"])
    absent = sign(directory, "page", *arguments, "--app-auth-token-file", str(directory / "none"), account="isv")
    assert absent.exit_code == 2
