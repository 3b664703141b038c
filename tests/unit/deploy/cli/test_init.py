"""`init`: from options alone, and from answers on a terminal."""

from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from deploy import accounts_file
from deploy.cli import init, main
from tests.unit.deploy.cli.commands import parsed, run
from tests.unit.deploy.test_first_account import BASE64, OWN, PEM

SELLER = "2088101122136241"


@pytest.fixture
def files(tmp_path: Path) -> Path:
    (tmp_path / "alipay.pem").write_bytes(PEM)
    (tmp_path / "own.pem").write_bytes(OWN)
    return tmp_path


def run_init(files: Path, *options: str) -> Result:
    return run({}, "init", "--accounts", str(files / "made.toml"), *options)


def typed(files: Path, monkeypatch: pytest.MonkeyPatch, *lines: str) -> Result:
    monkeypatch.setattr(init, "_is_terminal", lambda: True)
    arguments = ["init", "--accounts", str(files / "made.toml")]
    return CliRunner().invoke(main.application(), arguments, input="".join(f"{line}\n" for line in lines))


def test_options_alone_write_an_account_and_the_next_steps(files: Path) -> None:
    done = run_init(
        files, "--name", "shop-sg", "--family", "mapi", "--seller-id", SELLER, "--currency", "USD", "--key",
        str(files / "alipay.pem"),
    )  # fmt: skip
    assert done.exit_code == 0, done.output
    assert accounts_file.read(files / "made.toml")["shop-sg"].seller_id == SELLER
    assert f"alipay-notify up --accounts {files}/made.toml" in done.stdout
    assert "/notify/shop-sg" in done.stdout


@pytest.mark.parametrize(("family", "identity"), [("openapi", "--app-id"), ("antom", "--client-id")])
def test_other_families_need_no_currency(files: Path, family: str, identity: str) -> None:
    done = run_init(
        files, "--family", family, identity, "2021000000000000", "--key", str(files / "alipay.pem"), "--output", "json"
    )
    assert parsed(done) == {
        "accounts": str(files / "made.toml"), "key": str(files / "keys/shop.pem"), "account": "shop",
        "path": "/notify/shop",
    }  # fmt: skip


def test_key_can_come_from_stdin(files: Path) -> None:
    arguments = [
        "init",
        "--accounts",
        str(files / "made.toml"),
        "--family",
        "openapi",
        "--app-id",
        "2021000000000000",
        "--key",
        "-",
    ]
    assert CliRunner().invoke(main.application(), arguments, input=PEM).exit_code == 0
    assert (files / "keys/shop.pem").read_bytes() == PEM


def test_without_a_terminal_every_missing_option_is_named(files: Path) -> None:
    refused = run_init(files, "--family", "mapi")
    assert refused.exit_code == 2
    for option in ("--seller-id", "--currency", "--key"):
        assert f"- {option}" in refused.stderr
    refused = run_init(files)
    assert refused.exit_code == 2
    assert "- --family" in refused.stderr
    assert not (files / "made.toml").exists()


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (("--family", "mapi", "--seller-id", SELLER, "--currency", "USD", "--key", "own.pem"), "private key"),
        (("--family", "mapi", "--seller-id", SELLER, "--currency", "USD", "--key", "none.pem"), "No such file"),
        (("--family", "mapi", "--app-id", "1", "--currency", "USD", "--key", "alipay.pem"), "seller_id"),
        (("--family", "wechat", "--key", "alipay.pem"), "--family must be one of"),
        (("--family", "openapi", "--app-id", "1", "--key", "alipay.pem", "--sign-type", "RSA512"), "--sign-type must"),
        (("--family", "openapi", "--app-id", "1", "--key", "alipay.pem", "--name", "A B"), "lower-case"),
    ],
)
def test_wrong_options_are_told_and_nothing_is_written(
    files: Path, monkeypatch: pytest.MonkeyPatch, options: tuple[str, ...], told: str
) -> None:
    monkeypatch.chdir(files)
    refused = run_init(files, *options)
    assert refused.exit_code == 2
    assert told in refused.stderr
    assert not (files / "made.toml").exists()
    assert not (files / "keys").exists()


def test_accounts_that_are_there_are_never_changed(files: Path) -> None:
    (files / "made.toml").write_text("mine")
    refused = run_init(files, "--family", "openapi", "--app-id", "2021000000000000", "--key", str(files / "alipay.pem"))
    assert (refused.exit_code, "exists already" in refused.stderr) == (1, True)
    assert (files / "made.toml").read_text() == "mine"


def test_terminal_asks_again_until_an_answer_can_be_used(files: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    keys = str(files / "own.pem"), str(files / "alipay.pem")
    answers = ("Shop", "shop-hk", "wechat", "mapi", SELLER, "usd", "HKD", *keys)
    done = typed(files, monkeypatch, *answers)
    assert done.exit_code == 0, done.output
    account = accounts_file.read(files / "made.toml")["shop-hk"]
    assert (account.seller_id, account.currency) == (SELLER, "HKD")
    assert "private key" in done.stderr
    assert "PRIVATE" not in done.output


def test_wrong_option_ends_the_questions_on_a_terminal(files: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(init, "_is_terminal", lambda: True)
    refused = run_init(files, "--family", "openapi", "--app-id", "1", "--name", "A B")
    assert (refused.exit_code, "lower-case" in refused.stderr) == (2, True)


def test_key_can_be_pasted_and_the_usual_name_taken(files: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    done = typed(files, monkeypatch, "", "openapi", "2021000000000000", "missing.pem", BASE64.decode())
    assert done.exit_code == 0, done.output
    assert "missing.pem: No such file" in done.stderr
    assert (files / "keys/shop.pem").read_bytes().strip() == BASE64
