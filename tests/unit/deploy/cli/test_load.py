"""`load` before it sends anything: arguments, output, exit codes. For runs see `tests/acceptance/test_load_runs.py`."""

import builtins
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import typer
from typer.testing import CliRunner, Result

from deploy.cli import load
from deploy.sandbox.world import World


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("world")
    World.create(path, gateway_url="http://127.0.0.1:9", notify_base="http://127.0.0.1:9")
    return path


def run(*arguments: str, env: Mapping[str, str] | None = None) -> Result:
    app = typer.Typer()
    load.register(app)
    return CliRunner().invoke(app, arguments, env={"COLUMNS": "200", "NO_COLOR": "1", **(env or {})})


def test_prepare_creates_accounts_and_keys(tmp_path: Path) -> None:
    done = run("--prepare", str(tmp_path / "new"))
    assert done.exit_code == 0
    assert World.load(tmp_path / "new").accounts_file.exists()
    assert str(World.load(tmp_path / "new").accounts_file) in done.stdout


@pytest.mark.parametrize(
    ("arguments", "shown"),
    [
        (("--rate", "0"), "above 0"),
        (("--rate", "-5"), "above 0"),
        (("--rate", "nan"), "above 0"),
        (("--duration", "soon"), "not a duration"),
        (("--duration", "-5s"), "not a duration"),
        (("--duration", "0s"), "not a duration"),
        (("--rate", "100000", "--duration", "1d"), "do not fit into memory"),
        (("--timeout", "5"), "not a duration"),
        (("--duplicates", "0.6", "--forgeries", "0.4"), "must be below 1"),
        (("--duplicates", "1.1"), "less than or equal to 1"),
        (("--processes", "0"), "greater than or equal to 1"),
        (("--to", "shop.example"), "not an http or https URL"),
        (("--to", "http://127.0.0.1:port/"), "not an http or https URL"),
        (("--admin", "127.0.0.1:9464"), "not an http or https URL"),
        (("--kafka", "127.0.0.1:9092"), "give --admin too"),
        (("--key", "key.pem"), "go together"),
        (("--accounts", "accounts.toml"), "go together"),
        (("--key", "key.pem", "--accounts", "accounts.toml", "--account", "a"), "exclude each other"),
        (("--to", "http://h/notify/a", "--account", "a", "--account", "b"), "one notify URL"),
        (("--output", "xml"), "xml"),
    ],
)
def test_wrong_usage_ends_with_exit_code_2_and_names_the_mistake(
    directory: Path, arguments: tuple[str, ...], shown: str
) -> None:
    done = run("--sandbox", str(directory), *arguments)
    assert done.exit_code == 2, done.output
    assert shown in done.stderr


def test_account_that_is_unknown_or_cannot_be_loaded_is_a_failure(directory: Path, tmp_path: Path) -> None:
    for arguments, shown in (
        (("--sandbox", str(directory), "--account", "nobody"), "no account"),
        (("--sandbox", str(directory), "--account", "demo-web"), "notify_verify"),
        (("--sandbox", str(tmp_path)), "no sandbox"),
    ):
        done = run(*arguments)
        assert done.exit_code == 1
        assert shown in done.stderr


def test_without_the_extra_the_command_names_what_to_install(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    genuine = builtins.__import__

    def without(name: str, *rest: Any) -> Any:
        if name == "deploy.load.corpus":
            raise ModuleNotFoundError("No module named 'hdrh'", name="hdrh")
        return genuine(name, *rest)

    monkeypatch.setattr(builtins, "__import__", without)
    done = run("--sandbox", str(directory))
    assert done.exit_code == 1
    assert "pip install 'alipay-notify[load]'" in done.stderr
