"""The service's unit: systemd reads it, it agrees with the program's settings, and leaves little open."""

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from deploy.cli.main import COMMANDS
from ingest import settings
from ingest.settings import PREFIX, Settings

UNIT = Path(__file__).parents[2] / "deploy/systemd/alipay-notify.service"
ANALYZE = shutil.which("systemd-analyze")
EXPOSURE_MAX = 20  # tenths; of 100 that an unprotected service has
needs_systemd = pytest.mark.skipif(ANALYZE is None, reason="NO SYSTEMD: the unit is only read, not verified")

Option = tuple[str, str]


def options() -> dict[str, list[Option]]:
    """The options of each section, in order; the same one may come several times."""
    sections: dict[str, list[Option]] = {}
    for line in UNIT.read_text().splitlines():
        if not line or line.startswith("#"):
            continue
        if line.startswith("["):
            section = sections.setdefault(line.strip("[]"), [])
        else:
            name, _, value = line.partition("=")
            section.append((name, value))
    return sections


def service(name: str) -> list[str]:
    return [value for key, value in options()["Service"] if key == name]


def defaults() -> Settings:
    return settings.load({f"{PREFIX}ACCOUNTS": "accounts.toml"})


def test_it_starts_a_command_that_there_is() -> None:
    (start,) = service("ExecStart")
    program, command = start.split()
    assert (Path(program).name, command in COMMANDS) == ("alipay-notify", True)


def test_every_variable_that_it_sets_is_a_setting() -> None:
    names = [value.partition("=")[0] for value in service("Environment")]
    assert names
    assert {name.removeprefix(PREFIX).lower() for name in names} <= Settings.model_fields.keys()


def test_every_file_that_it_names_in_the_credentials_is_loaded_as_one() -> None:
    loaded = {value.partition(":")[0] for value in service("LoadCredential")}
    named = {found[1] for value in service("Environment") if (found := re.search(r"%d/(\S+)", value))}
    assert named <= loaded
    assert loaded - named, "a key at least"


def test_a_stop_has_time_for_the_drain_and_for_what_was_begun() -> None:
    told = defaults()
    assert service("KillSignal") == ["SIGTERM"]
    (seconds,) = service("TimeoutStopSec")
    assert int(seconds) > 2 * (told.drain_delay_s + told.shutdown_timeout_s)


def test_there_are_descriptors_for_all_connections() -> None:
    (descriptors,) = service("LimitNOFILE")
    assert int(descriptors) > 2 * defaults().connections_max


@needs_systemd
def test_systemd_finds_no_fault_in_it(tmp_path: Path) -> None:
    """With a program that exists, since only where it is installed is there the one that is named."""
    program = tmp_path / "alipay-notify"
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    copy = tmp_path / UNIT.name
    copy.write_text(re.sub(r"ExecStart=\S+", f"ExecStart={program}", UNIT.read_text()))
    assert ANALYZE is not None
    verified = subprocess.run(
        [ANALYZE, "verify", "--man=no", copy], capture_output=True, text=True, check=False, env=os.environ
    )
    complaints = [line for line in verified.stderr.splitlines() if UNIT.name in line]
    assert (complaints, verified.returncode) == ([], 0)


@needs_systemd
def test_what_it_leaves_open_is_little() -> None:
    assert ANALYZE is not None
    judged = subprocess.run(
        [ANALYZE, "security", "--offline=yes", f"--threshold={EXPOSURE_MAX}", "--no-pager", UNIT],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert judged.returncode == 0, judged.stdout[-3000:]
