"""The options of `python -m deploy.local`, and its exit codes. The contract tests start servers with it."""

import builtins
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import typer
from msgspec import structs
from typer.testing import CliRunner, Result

from deploy.local import __main__ as command
from deploy.local import lifecycle, stack
from deploy.local.machine import Machine, Missing
from deploy.local.stack import StackSpec


def run(*arguments: str) -> Result:
    app = typer.Typer()
    app.command()(command.main)
    return CliRunner().invoke(app, arguments, env={"COLUMNS": "200", "NO_COLOR": "1"})


class Started:
    """Records the stack that would be started, or fails with `error`."""

    def __init__(self) -> None:
        self.spec: StackSpec | None = None
        self.machine: Machine | None = None
        self.error: Exception | None = None

    async def run_until_signal(self, _directory: Path, machine: Machine, spec: StackSpec, **_more: object) -> None:
        self.spec, self.machine = spec, machine
        if self.error is not None:
            raise self.error


@pytest.fixture
def started(monkeypatch: pytest.MonkeyPatch) -> Started:
    made = Started()
    monkeypatch.setattr(lifecycle, "run_until_signal", made.run_until_signal)
    return made


@pytest.mark.parametrize(
    ("arguments", "spec"),
    [
        (("--all",), stack.ALL),
        (("--all", "--kafka", "1"), structs.replace(stack.ALL, brokers=1)),
        (("--kafka", "3"), StackSpec(brokers=3)),
        (("--redis", "--postgres"), StackSpec(redis=True, postgres=True)),
    ],
)
def test_options_choose_the_servers(started: Started, arguments: Sequence[str], spec: StackSpec) -> None:
    assert run(*arguments).exit_code == 0
    assert started.spec == spec


def test_installation_can_be_forbidden(started: Started) -> None:
    run("--redis", "--no-install")
    assert started.machine is not None
    assert not started.machine.may_install


@pytest.mark.parametrize(
    ("arguments", "shown"),
    [((), "--all"), (("--kafka", "2"), "1 or 3 brokers"), (("--all", "--kafka", "0"), "1 or 3 brokers")],
)
def test_wrong_usage_exits_with_2(started: Started, arguments: Sequence[str], shown: str) -> None:
    done = run(*arguments)
    assert done.exit_code == 2
    assert shown in done.stderr
    assert started.spec is None


def test_failed_start_exits_with_1_and_its_reason(started: Started) -> None:
    started.error = Missing("Redis", ("apt-get install redis-server",))
    done = run("--redis")
    assert done.exit_code == 1
    assert "Redis is missing; install it with `apt-get install redis-server`" in done.stderr


def test_detached_start_passes_the_other_options_on(monkeypatch: pytest.MonkeyPatch) -> None:
    passed: list[str] = []

    def start_detached(arguments: Sequence[str]) -> int:
        passed.extend(arguments)
        return 7

    monkeypatch.setattr(lifecycle, "start_detached", start_detached)
    monkeypatch.setattr(sys, "argv", ["deploy.local", "--redis", "--detach", "--fresh"])
    assert run("--redis", "--detach", "--fresh").exit_code == 7
    assert passed == ["--redis", "--fresh"]


def test_status_of_a_missing_stack_exits_with_3(tmp_path: Path) -> None:
    done = run("--status", "--directory", str(tmp_path))
    assert done.exit_code == 3
    assert "no stack is ready" in done.stderr


def test_without_client_libraries_the_command_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    genuine = builtins.__import__

    def without(name: str, *rest: Any) -> Any:
        if name == "deploy.local" and rest[2] == ("lifecycle",):
            raise ModuleNotFoundError("No module named 'aiokafka'", name="aiokafka")
        return genuine(name, *rest)

    monkeypatch.setattr(builtins, "__import__", without)
    done = run("--redis")
    assert done.exit_code == 1
    assert "pip install 'alipay-notify[cluster]'" in done.stderr
