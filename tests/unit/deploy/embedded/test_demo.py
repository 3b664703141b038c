"""The demo: its directory, its ports, and the commands that it prints."""

import io
import socket
from pathlib import Path

import pytest

from deploy import settings
from deploy.embedded import demo, directory
from deploy.embedded.migrations import FileNotUsable
from deploy.embedded.up import EmbeddedEngine
from deploy.logs import LogWriter
from tests.support import log_records
from tests.support.log_records import Time


async def test_demo_refuses_the_files_of_a_real_engine(tmp_path: Path) -> None:
    async with directory.open_files(tmp_path, now_ms=Time()) as files:
        await files.journal.append(log_records.record("N1"))
    demo_settings = settings.load({}, accounts=tmp_path / "accounts.toml", data_dir=tmp_path, port=0, admin_port=0)
    with pytest.raises(FileNotUsable, match="no demo made"):
        await demo.run_until_signal(demo_settings, LogWriter(io.StringIO()), tmp_path)
    assert not (tmp_path / "world").exists()


def test_wanted_port_is_taken_if_it_is_free_else_another() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        wanted = taken.getsockname()[1]
        assert demo.free_port("127.0.0.1", wanted) not in (0, wanted)
    assert demo.free_port("127.0.0.1", wanted) == wanted


def test_welcome_names_the_addresses_and_commands_with_the_options_they_need() -> None:
    usual = EmbeddedEngine("http://127.0.0.1:8080", demo.DEFAULT_ADMIN)
    text = demo.welcome(usual, "http://127.0.0.1:8089", demo.DEMO_WORLD)
    assert "http://127.0.0.1:8089/shop" in text
    assert "held list\n" in text
    assert f"trigger wrong_amount --admin {demo.DEFAULT_ADMIN}\n" in text
    other = EmbeddedEngine("http://127.0.0.1:8080", "http://127.0.0.1:1234")
    text = demo.welcome(other, "http://127.0.0.1:8089", Path("elsewhere"))
    assert "held list --admin http://127.0.0.1:1234\n" in text
    assert "trigger wrong_amount --dir elsewhere --admin http://127.0.0.1:1234\n" in text


def test_program_is_named_by_its_path_unless_the_shell_finds_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program = tmp_path / "bin" / demo.NAME
    program.parent.mkdir()
    program.touch(mode=0o755)
    monkeypatch.setenv("PATH", str(tmp_path / "none"))
    assert demo.command_name(program) == str(program)
    monkeypatch.chdir(tmp_path)
    assert demo.command_name(program) == f"bin/{demo.NAME}"
    monkeypatch.setenv("PATH", str(program.parent))
    assert demo.command_name(program) == demo.NAME
    assert demo.command_name(tmp_path / "__main__.py") == demo.NAME
