"""`sandbox`: its addresses, its end by a signal, and errors at the start."""

import asyncio
import os
import signal
import socket
from pathlib import Path

import pytest
import typer

from deploy.cli import sandbox
from deploy.sandbox.world import World
from tests.unit.deploy.cli.commands import run


def test_taken_port_is_named_with_the_option_to_change_it(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        refused = run({}, "sandbox", "--port", str(port), "--dir", str(tmp_path / "world"))
    assert refused.exit_code == 1
    assert f"127.0.0.1:{port} is taken by another program" in refused.stderr
    assert "--port" in refused.stderr


def test_unknown_profile_is_wrong_usage_and_lists_all(tmp_path: Path) -> None:
    refused = run({}, "sandbox", "--profile", "no-such-profile", "--dir", str(tmp_path))
    assert (refused.exit_code, "cn-4m" in refused.stderr) == (2, True)
    with pytest.raises(typer.BadParameter):
        sandbox.profile_named("no-such-profile")


def test_folder_of_another_kind_exits_with_1(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    refused = run({}, "sandbox", "--port", "0", "--dir", str(tmp_path / "file"))
    assert (refused.exit_code, "cannot start" in refused.stderr) == (1, True)


def test_signal_stops_the_sandbox_after_its_addresses_are_printed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    printed = sandbox._addresses

    def stop_soon(running: object) -> str:
        asyncio.get_running_loop().call_soon(os.kill, os.getpid(), signal.SIGTERM)
        return printed(running)  # type: ignore[arg-type]

    monkeypatch.setattr(sandbox, "_addresses", stop_soon)
    done = run({}, "sandbox", "--port", "0", "--dir", str(tmp_path / "world"), "--notify", "http://127.0.0.1:9")
    assert done.exit_code == 0, done.output
    assert "/shop" in done.stdout
    assert "http://127.0.0.1:9/notify/ACCOUNT" in done.stdout
    assert World.load(tmp_path / "world").accounts_file.exists()


def test_sandbox_that_was_started_last_is_preferred(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert sandbox.started_last() == sandbox.DEFAULT_DIRECTORY
    for age, folder in enumerate((sandbox.DEMO_DIRECTORY, sandbox.DEFAULT_DIRECTORY)):
        folder.mkdir(parents=True)
        (folder / "world.json").write_text("{}")
        os.utime(folder / "world.json", (1_000_000_000 + age, 1_000_000_000 + age))
    assert sandbox.started_last() == sandbox.DEFAULT_DIRECTORY
    os.utime(sandbox.DEMO_DIRECTORY / "world.json")
    assert sandbox.started_last() == sandbox.DEMO_DIRECTORY
