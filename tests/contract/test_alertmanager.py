"""The shipped configuration of Alertmanager, with the real amtool: no fault, and each severity gets its receiver."""

import asyncio
import os
import subprocess
from pathlib import Path

import pytest

from deploy.local import programs
from deploy.local.machine import Machine, Missing
from deploy.monitoring import alerts, files
from deploy.monitoring.rules import PREFIX, Alert
from tests.support import real_servers

CONFIGURATION = files.DEPLOY / "alertmanager" / "alertmanager.yml"
RECEIVERS = {"critical": "pages", "warning": "tickets", "info": "notices"}


@pytest.fixture(scope="module")
def amtool() -> Path:
    machine = Machine(environ=dict(os.environ))
    try:
        return asyncio.run(machine.find(programs.ALERTMANAGER)).with_name("amtool")
    except Missing as missing:
        real_servers.absent(missing)


def run(*argv: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(argv, capture_output=True, text=True, timeout=120, check=False)


def test_configuration_has_no_fault(amtool: Path) -> None:
    done = run(amtool, "check-config", CONFIGURATION)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("alert", alerts.table(), ids=lambda alert: alert.name)
def test_alert_goes_to_the_receiver_of_its_severity(alert: Alert, amtool: Path) -> None:
    labels = (f"alertname={PREFIX}{alert.name}", f"severity={alert.severity}", "job=ingest")
    wanted = f"--verify.receivers={RECEIVERS[alert.severity]}"
    done = run(amtool, "config", "routes", "test", f"--config.file={CONFIGURATION}", wanted, *labels)
    assert done.returncode == 0, done.stdout + done.stderr
