"""`up`: its settings, with and without `--demo`, and the hint for a first try."""

from pathlib import Path
from typing import Any

import pytest

from deploy.cli import launch, up
from deploy.logs import LogWriter
from deploy.settings import EmbeddedSettings
from tests.unit.deploy.cli.commands import run

UNSET = {"ALIPAY_NOTIFY_ACCOUNTS": None}


@pytest.fixture
def started(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, EmbeddedSettings]]:
    """Which engine the command starts with which settings, without starting it."""
    calls: list[tuple[str, EmbeddedSettings]] = []

    def note(name: str) -> Any:
        return lambda settings, log_writer: calls.append((name, settings))

    monkeypatch.setattr(up, "_engine", note("engine"))
    monkeypatch.setattr(up, "_demo", note("demo"))
    monkeypatch.setattr(launch, "run", lambda process, **options: process(LogWriter))
    return calls


def test_missing_accounts_suggest_the_demo() -> None:
    refused = run(UNSET, "up")
    assert refused.exit_code == 2
    assert "ALIPAY_NOTIFY_ACCOUNTS" in refused.stderr
    assert "alipay-notify up --demo" in refused.stderr


def test_wrong_setting_with_accounts_suggests_no_demo() -> None:
    refused = run({"ALIPAY_NOTIFY_ACCOUNTS": "a.toml", "ALIPAY_NOTIFY_BODY_DEADLINE_S": "x"}, "up")
    assert (refused.exit_code, "--demo" in refused.stderr) == (2, False)
    assert "BODY_DEADLINE_S" in refused.stderr


def test_options_override_the_environment(started: list[tuple[str, EmbeddedSettings]]) -> None:
    environ = {"ALIPAY_NOTIFY_ACCOUNTS": "a.toml", "ALIPAY_NOTIFY_PORT": "1", "ALIPAY_NOTIFY_ADMIN_PORT": "2"}
    assert run(environ, "up", "--port", "0").exit_code == 0
    ((name, settings),) = started
    assert (name, settings.port, settings.admin_port, settings.accounts) == ("engine", 0, 2, Path("a.toml"))


def test_demo_needs_no_accounts_and_keeps_its_data_apart(started: list[tuple[str, EmbeddedSettings]]) -> None:
    assert run(UNSET, "up", "--demo").exit_code == 0
    ((name, settings),) = started
    assert (name, settings.data_dir) == ("demo", up.DEMO_DIR / "engine")
