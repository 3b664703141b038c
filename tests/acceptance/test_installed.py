"""The installed wheel, as its user has it: in a folder and an environment where others have packages of our names."""

import json
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.paths import ROOT
from tests.support.processes import eventually
from tests.support.wheels import HOSTILE, Environment, clean
from tests.unit.deploy.test_first_account import PEM

STARTED_WITHIN_S = 120.0


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of another program, with packages of the names of ours in it."""
    made = tmp_path_factory.mktemp("elsewhere")
    for name in ("schemas", "workers"):
        (made / name).mkdir()
        (made / name / "__init__.py").write_text(HOSTILE)
    return made


@pytest.fixture(scope="module")
def demo(installed: Environment, folder: Path) -> Iterator[dict[str, str]]:
    """The addresses of `up --demo`, on free ports."""
    log = folder / "demo.log"
    with log.open("wb") as errors:
        process = subprocess.Popen(
            [installed.program("alipay-notify"), "up", "--demo", "--port", "0", "--admin-port", "0"],
            env=clean() | {"PYTHONPATH": "."}, cwd=folder, stdout=subprocess.PIPE, stderr=errors, text=True,
        )  # fmt: skip
    assert process.stdout is not None
    try:
        line = process.stdout.readline()
        assert line, log.read_text(errors="replace")[-4000:]
        yield json.loads(line)
        process.send_signal(signal.SIGINT)
        assert process.wait(STARTED_WITHIN_S) == 0
    finally:
        process.kill()
        process.wait()
        process.stdout.close()


def command(installed: Environment, folder: Path, *arguments: str) -> str:
    """Run the program; return what it prints."""
    done = installed.run("alipay-notify", *arguments, cwd=folder, environment={"PYTHONPATH": "."})
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_first_account_and_exported_files_come_from_the_wheel(
    installed: Environment, folder: Path, tmp_path: Path
) -> None:
    (tmp_path / "alipay.pem").write_bytes(PEM)
    options = ("--family", "mapi", "--seller-id", "2088101122136241", "--currency", "USD", "--key", "alipay.pem")
    command(installed, tmp_path, "init", *options)
    told = json.loads(command(installed, tmp_path, "keys", "check", "--output", "json"))
    assert [key["account"] for key in told["keys"]] == ["shop"]
    command(installed, tmp_path, "export", "files")
    assert (tmp_path / "files/prometheus/rules/alerts.yml").read_bytes() == (
        ROOT / "deploy/prometheus/rules/alerts.yml"
    ).read_bytes()


def test_demo_trigger_and_held_list_work_beside_packages_of_others(
    installed: Environment, folder: Path, demo: dict[str, str]
) -> None:
    admin = ("--admin", demo["admin"])
    command(installed, folder, "trigger", "wrong_amount", "--dir", ".demo/world", *admin, "--order", "W-1")

    def held() -> list[dict[str, Any]]:
        rows = json.loads(command(installed, folder, "held", "list", *admin, "--output", "json"))["held"]
        return [row for row in rows if row["order"] == "W-1"]

    (row,) = eventually(held, within_s=STARTED_WITHIN_S)
    assert row["reason"] == "amount_mismatch"
    assert "W-1" in command(installed, folder, "held", "list", *admin)
