"""The services' units: systemd reads them, they agree with the program's settings, and leave little open."""

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest
import typer

from deploy.cli import main
from deploy.cluster.settings import ClusterSettings
from deploy.settings import EmbeddedSettings, EngineSettings
from ingest import settings
from ingest.settings import PREFIX, ReceiverSettings
from tests.support.paths import ROOT

UNITS = ROOT / "deploy/systemd"
ROLES: dict[str, list[tuple[str, str, type[EngineSettings]]]] = {
    "alipay-notify.service": [("alipay-notify.service", "up", EmbeddedSettings)],
    "alipay-notify@.service": [
        (f"alipay-notify@{role}.service", role, ClusterSettings) for role in ("ingest", "worker", "console")
    ],
}
ANALYZE = shutil.which("systemd-analyze")
EXPOSURE_MAX = 20  # tenths; of 100 that an unprotected service has
needs_systemd = pytest.mark.skipif(ANALYZE is None, reason="NO SYSTEMD: the unit is only read, not verified")


@pytest.fixture(params=sorted(ROLES))
def unit(request: pytest.FixtureRequest) -> Path:
    return UNITS / str(request.param)


def test_each_unit_is_tested() -> None:
    assert {each.name for each in UNITS.iterdir()} == ROLES.keys()


def service(unit: Path, name: str) -> list[str]:
    """The values of this option in the unit's main section; one option may come several times."""
    values: list[str] = []
    section = ""
    for line in unit.read_text().splitlines():
        if line.startswith("["):
            section = line
        elif section == "[Service]" and line.startswith(f"{name}="):
            values.append(line.partition("=")[2])
    return values


def defaults() -> ReceiverSettings:
    return settings.load({f"{PREFIX}ACCOUNTS": "accounts.toml"})


def test_started_commands_exist(unit: Path) -> None:
    (start,) = service(unit, "ExecStart")
    commands = typer.main.get_command(main.application()).commands  # type: ignore[attr-defined]  # it is a group
    for _, role, _ in ROLES[unit.name]:
        program, command = start.replace("%i", role).split()
        assert (Path(program).name, command in commands) == ("alipay-notify", True)


def test_every_variable_is_a_setting(unit: Path) -> None:
    names = [value.partition("=")[0] for value in service(unit, "Environment")]
    assert names
    for _, _, known in ROLES[unit.name]:
        assert {name.removeprefix(PREFIX).lower() for name in names} <= known.model_fields.keys()


def test_every_named_credential_is_loaded(unit: Path) -> None:
    loaded = {value.partition(":")[0] for value in service(unit, "LoadCredential")}
    named = {found[1] for value in service(unit, "Environment") if (found := re.search(r"%d/(\S+)", value))}
    assert named == loaded


def test_accounts_are_in_a_mounted_directory_so_that_they_can_change(unit: Path) -> None:
    """A credential is a copy that is made at the start."""
    (mount,) = service(unit, "BindReadOnlyPaths")
    source, _, target = mount.partition(":")
    accounts = next(value for value in service(unit, "Environment") if value.startswith(f"{PREFIX}ACCOUNTS="))
    assert accounts == f"{PREFIX}ACCOUNTS={target}/accounts.toml"
    assert source in unit.read_text().partition("[Unit]")[0], "the head says how to make it"
    assert service(unit, "ExecReload") == ["/bin/kill -HUP $MAINPID"]


def test_stop_has_time_for_the_drain_and_for_open_requests(unit: Path) -> None:
    settings = defaults()
    assert service(unit, "KillSignal") == ["SIGTERM"]
    (seconds,) = service(unit, "TimeoutStopSec")
    assert int(seconds) > 2 * (settings.drain_delay_s + settings.shutdown_timeout_s)


def test_there_are_descriptors_for_all_connections(unit: Path) -> None:
    (descriptors,) = service(unit, "LimitNOFILE")
    assert int(descriptors) > 2 * defaults().connections_max


@needs_systemd
def test_systemd_finds_no_fault(unit: Path, tmp_path: Path) -> None:
    """The unit is verified with a program that exists here, because ours may not be installed."""
    program = tmp_path / "alipay-notify"
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    for name, _, _ in ROLES[unit.name]:
        copy = tmp_path / name
        copy.write_text(re.sub(r"ExecStart=\S+", f"ExecStart={program}", unit.read_text()))
        assert ANALYZE is not None
        verified = subprocess.run(
            [ANALYZE, "verify", "--man=no", copy], capture_output=True, text=True, check=False, env=os.environ
        )
        complaints = [line for line in verified.stderr.splitlines() if name in line]
        assert (complaints, verified.returncode) == ([], 0)


@needs_systemd
def test_unit_leaves_little_open(unit: Path) -> None:
    assert ANALYZE is not None
    judged = subprocess.run(
        [ANALYZE, "security", "--offline=yes", f"--threshold={EXPOSURE_MAX}", "--no-pager", unit],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert judged.returncode == 0, judged.stdout[-3000:]


def test_process_that_ends_by_itself_is_restarted_with_any_exit_code(unit: Path) -> None:
    assert service(unit, "Restart") == ["always"]
    assert service(unit, "RestartPreventExitStatus") == service(unit, "SuccessExitStatus") == []
    assert "StartLimitIntervalSec=0" in unit.read_text()
