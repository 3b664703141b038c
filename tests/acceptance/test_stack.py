"""The cluster engine as `make stack` starts it, with one broker: payments go all the way, and nothing stays behind."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit
from urllib.request import urlopen

import psutil
import pytest

from deploy.cluster import servers
from deploy.local import leftovers
from deploy.monitoring import alerts
from deploy.monitoring.rules import PREFIX
from tests.support.paths import ROOT

PROCESSES = {
    *("redis", "postgres", "kafka-1", "ingest-1", "ingest-2", "worker-1", "worker-2", "console", "sandbox"),
    *("haproxy", "prometheus", "alertmanager"),
}
PLACES = (
    "public",
    "console",
    "sandbox",
    "haproxy",
    "prometheus",
    "alertmanager",
    "receivers",
    "receivers_admin",
    "workers",
)


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    argv = [sys.executable, "-m", *arguments]
    return subprocess.run(argv, capture_output=True, text=True, cwd=ROOT, timeout=180, check=False)


def local(directory: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return run("deploy.local", "--directory", str(directory), *arguments)


def command(*arguments: str) -> Any:
    done = run("deploy.cli.main", *arguments, "--output", "json")
    assert done.returncode == 0, done.stderr + done.stdout
    return json.loads(done.stdout)


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    directory = tmp_path_factory.mktemp("stack") / "it"
    try:
        started = local(directory, "--all", "--kafka", "1", "--detach", "--fresh")
        assert started.returncode == 0, started.stderr
        assert json.loads(started.stdout)["event"] == "ready"
        assert "The stack is ready." in started.stderr
        addresses = servers.of_stack(directory)
        assert addresses is not None
        password = urlsplit(addresses["postgres"]).password
        assert password
        assert password not in started.stdout + started.stderr
        yield directory
    finally:
        local(directory, "--down")


@pytest.fixture(scope="module")
def found(directory: Path) -> dict[str, str]:
    told = servers.of_stack(directory)
    assert told is not None
    return told


def marks(directory: Path) -> dict[str, leftovers.Mark]:
    read = {path.stem: leftovers.read(path) for path in (directory / "run").glob("*.json")}
    return {name: mark for name, mark in read.items() if mark is not None}


@pytest.mark.parametrize("account", ["demo-app", "demo-cn", "demo-web", "demo-antom"])
def test_payment_of_each_family_is_processed(account: str, directory: Path, found: dict[str, str]) -> None:
    """Also the one that Alipay is asked to confirm: the simulated one is there to be asked."""
    order = f"ORDER-{account}"
    console = ("--admin", found["console"])
    (sent,) = command("trigger", "paid", "--account", account, "--order", order, "--dir", found["world"], *console)
    assert sent["status"] == 200

    def paid() -> bool:
        return command("order", "show", order, "--account", account, *console)["status"] in ("PAID", "FINISHED")

    until(paid)


def test_every_requested_process_runs_and_is_reported(directory: Path, found: dict[str, str]) -> None:
    assert marks(directory).keys() == PROCESSES
    assert local(directory, "--status").returncode == 0
    assert set(PLACES) <= found.keys()
    with urlopen(f"{found['receivers_admin'].split(',')[0]}/readyz?verbose", timeout=5) as answer:
        assert answer.status == 200


def test_shell_that_sources_env_has_commands_that_find_the_stack(directory: Path) -> None:
    script = '. "$0" && alipay-notify held list && alipay-notify db status && alipay-notify doctor --output json'
    environ = {"PATH": "/usr/bin:/bin"}
    done = subprocess.run(
        ["sh", "-c", script, directory / "env"], capture_output=True, text=True, env=environ, timeout=120, check=False
    )
    assert "Nothing is held." in done.stderr, done.stderr
    findings = json.loads(done.stdout[done.stdout.index("{") :])["findings"]
    assert [each for each in findings if each["state"] == "wrong"] == [], done.stderr
    checked = {each["name"] for each in findings}
    assert {"Kafka", "group", "PostgreSQL", "clock skew", "Redis", "Prometheus", "alerts"} <= checked


def test_prometheus_sees_every_process(found: dict[str, str]) -> None:
    def all_up() -> bool:
        with urlopen(f"{found['prometheus']}/api/v1/query?query=up%20==%201", timeout=5) as answer:
            return len(json.load(answer)["data"]["result"]) == 6  # receivers, workers, console, HAProxy

    until(all_up)


def test_prometheus_has_the_shipped_rules_and_reaches_alertmanager(found: dict[str, str]) -> None:
    def asked(path: str) -> Any:
        with urlopen(f"{found['prometheus']}/api/v1/{path}", timeout=5) as answer:
            return json.load(answer)["data"]

    loaded = {rule["name"] for group in asked("rules")["groups"] for rule in group["rules"]}
    assert {f"{PREFIX}{alert.name}" for alert in alerts.table()} <= loaded
    until(lambda: [each["url"] for each in asked("alertmanagers")["activeAlertmanagers"]] != [])
    with urlopen(f"{found['alertmanager']}/api/v2/status", timeout=5) as answer:
        assert "receiver: pages" in json.load(answer)["config"]["original"]


def test_ended_process_is_reported_and_nothing_is_left_running(directory: Path) -> None:
    started = marks(directory)
    os.kill(started["worker-2"].pid, signal.SIGKILL)
    log = directory / "log" / "stack.log"
    until(lambda: "worker-2 ended with -9" in log.read_text(encoding="utf-8"))
    assert local(directory, "--status").returncode == 3
    assert local(directory, "--down").returncode == 0
    assert not [name for name, mark in started.items() if leftovers.is_alive(mark)]
    # The ports prove nothing: another test may take them at once. The stack's own process ends after its parts.
    until(lambda: not [each for each in psutil.process_iter(["cmdline"]) if names(directory, each.info["cmdline"])])


def names(directory: Path, command_line: list[str] | None) -> bool:
    return any(str(directory) in part for part in command_line or [])


def until(condition: Callable[[], bool], within_s: float = 30.0) -> None:
    deadline = time.monotonic() + within_s
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.2)
