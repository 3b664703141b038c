"""`doctor` on whole configurations: each problem is found, has advice, and shows no secret."""

import os
import shutil
import socket
import sqlite3
import time
from pathlib import Path

import pytest

from deploy import doctor
from deploy.cli import doctor as command
from tests.support import open_directory
from tests.unit.deploy.cli.admin_server import Server
from tests.unit.deploy.cli.commands import parsed, run
from workers.admin.probes import Check


def wrong(environ: dict[str, str]) -> list[tuple[str, str]]:
    """The names and details of all problems that the command finds; each must have advice."""
    result = run(environ, "doctor", "--output", "json")
    found = [each for each in parsed(result)["findings"] if each["state"] == "wrong"]
    assert all(each["advice"] for each in found)
    assert (result.exit_code, parsed(result)["ok"]) == ((3, False) if found else (0, True))
    return [(each["name"], each["detail"]) for each in found]


def test_no_problem_is_found_before_the_first_start(environ: dict[str, str]) -> None:
    assert wrong(environ) == []
    names = {each["name"] for each in parsed(run(environ, "doctor", "--output", "json"))["findings"]}
    assert names >= {"accounts", "keys of shop", "data directory", "disk space", "clock", "public port", "engine"}


def test_wrong_settings_accounts_and_keys_are_named(environ: dict[str, str], tmp_path: Path, md5_secret: str) -> None:
    assert wrong(environ | {"ALIPAY_NOTIFY_PORT": "http"})[0][0] == "settings"
    (tmp_path / "md5.key").chmod(0o644)
    (tmp_path / "alipay.pem").write_text("no key")
    with open_directory.opened() as directory:
        shutil.copytree(tmp_path, directory / "here")
        (directory / "here").chmod(0o755)
        there = environ | {"ALIPAY_NOTIFY_ACCOUNTS": str(directory / "here" / "accounts.toml")}
        assert [name for name, _ in wrong(there)] == ["keys of shop", "keys of old"]
        (directory / "here").chmod(0o700)
        assert [name for name, _ in wrong(there)] == ["keys of shop"]
    (tmp_path / "accounts.toml").write_text("[accounts.shop]\nfamily = 'other'\n")
    assert [name for name, _ in wrong(environ)] == ["accounts"]
    table = run(environ, "doctor")
    assert (table.exit_code, "accounts" in table.stdout) == (3, True)
    assert md5_secret not in table.output


def test_options_override_the_environment(environ: dict[str, str], tmp_path: Path) -> None:
    missing = run(environ, "doctor", "--accounts", str(tmp_path / "none"), "--output", "json")
    assert [each["name"] for each in parsed(missing)["findings"] if each["state"] == "wrong"] == ["accounts"]


def test_prometheus_that_does_not_answer_is_wrong(environ: dict[str, str]) -> None:
    asked = run(environ, "doctor", "--prometheus", "http://127.0.0.1:1", "--output", "json")
    (finding,) = [each for each in parsed(asked)["findings"] if each["state"] == "wrong"]
    assert (finding["name"], asked.exit_code) == ("Prometheus", 3)
    assert finding["advice"]


def test_admin_port_that_is_open_without_a_token_is_wrong(environ: dict[str, str]) -> None:
    assert [name for name, _ in wrong(environ | {"ALIPAY_NOTIFY_ADMIN_HOST": "0.0.0.0"})] == ["admin token"]


def test_damaged_and_missing_databases_and_a_late_clock_are_wrong(environ: dict[str, str], tmp_path: Path) -> None:
    data = tmp_path / "data"
    data.mkdir()
    for name in doctor.DATABASES:
        with sqlite3.connect(data / name) as connection:
            connection.execute("CREATE TABLE orders (number TEXT)")
            connection.executemany("INSERT INTO orders VALUES (?)", [("x" * 500,)] * 200)
        connection.close()
    assert wrong(environ) == []
    sound = (data / "orders.sqlite3").read_bytes()
    (data / "orders.sqlite3").write_bytes(sound[:4096] + b"\xff" * 4096 + sound[8192:])
    assert [name for name, _ in wrong(environ)] == ["orders.sqlite3"]
    (data / "orders.sqlite3").unlink()
    assert [name for name, _ in wrong(environ)] == ["data files"]
    (data / "orders.sqlite3").write_bytes(sound)
    later = time.time() + 86_400
    os.utime(data / "orders.sqlite3", (later, later))
    assert [name for name, _ in wrong(environ)] == ["clock"]


def test_address_of_another_machine_is_wrong(environ: dict[str, str]) -> None:
    ((name, detail),) = wrong(environ | {"ALIPAY_NOTIFY_HOST": "192.0.2.1"})
    assert (name, "192.0.2.1" in detail) == ("public port", True)


def test_port_taken_by_another_program_is_wrong(environ: dict[str, str]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as foreign:
        foreign.settimeout(0.01)
        port = foreign.getsockname()[1]
        ((name, detail),) = wrong(environ | {"ALIPAY_NOTIFY_PORT": str(port)})
    assert (name, f"127.0.0.1:{port}" in detail) == ("public port", True)


def test_ports_of_a_running_engine_are_right_and_its_failing_checks_wrong(
    environ: dict[str, str], server: Server
) -> None:
    running = environ | {"ALIPAY_NOTIFY_ADMIN_PORT": server.url.rpartition(":")[2]}
    assert wrong(running) == []
    server.world.checks = [Check(name="journal", ok=False, detail="disk full")]
    assert wrong(running) == [("engine", "journal: disk full")]


def test_missing_cluster_client_is_wrong(environ: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(command, "CLIENTS", ("no_such_module",))
    ((name, detail),) = wrong(environ | {"ALIPAY_NOTIFY_KAFKA": "127.0.0.1:1"})
    assert (name, "no_such_module" in detail) == ("cluster", True)
