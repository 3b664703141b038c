"""callbacks.toml with its secrets' files, read again while a process runs."""

# ruff: noqa: ASYNC240 - the files are small

import asyncio
import base64
from pathlib import Path

import pytest

from deploy import callbacks_file
from deploy.callbacks_file import CallbacksFile
from tests.support import waiting
from tests.support.fakes import MemoryLogger
from workers.callbacks.endpoints import BadCallbacks

TABLE = '[callbacks.shop]\nurl = "https://shop.example/callbacks"\nsecret_files = ["shop.secret"]\n'


def secret(letter: bytes) -> str:
    return "whsec_" + base64.b64encode(letter * 24).decode() + "\n"


@pytest.fixture
def path(tmp_path: Path) -> Path:
    (tmp_path / "shop.secret").write_text(secret(b"a"))
    (tmp_path / "callbacks.toml").write_text(TABLE)
    return tmp_path / "callbacks.toml"


def test_secrets_lie_beside_the_file(path: Path) -> None:
    (shop,) = CallbacksFile(path).endpoints.values()
    assert shop.secrets == (b"a" * 24,)


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("[callbacks", "callbacks.toml: "),
        (TABLE.replace("shop.secret", "other.secret"), "secret file other.secret: cannot be read: No such file"),
        (TABLE.replace("shop.secret", "callbacks.toml"), "a secret begins with whsec_"),
        ("\udcff", "is not UTF-8"),
    ],
)
def test_start_with_a_faulty_file_is_refused(path: Path, text: str, fault: str) -> None:
    path.write_bytes(text.encode("utf-8", "surrogateescape"))
    with pytest.raises(BadCallbacks, match=fault):
        CallbacksFile(path)


def test_missing_and_huge_files_are_refused(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(BadCallbacks, match="cannot be read"):
        callbacks_file.read(path.with_name("none.toml"))
    monkeypatch.setattr(callbacks_file, "FILE_BYTES_MAX", 10)
    with pytest.raises(BadCallbacks, match="is larger than"):
        callbacks_file.read(path)


async def test_changes_are_taken_and_faults_keep_the_old_endpoints(path: Path) -> None:
    file, log = CallbacksFile(path), MemoryLogger()
    await file.look(log)
    assert log.lines == []
    path.with_name("new.secret").write_text(secret(b"b"))
    path.write_text(TABLE.replace('["shop.secret"]', '["new.secret", "shop.secret"]'))
    await file.look(log)
    assert file.endpoints["shop"].secrets == (b"b" * 24, b"a" * 24)
    path.with_name("new.secret").write_text("nonsense")
    for _ in range(2):
        await file.look(log)
    assert file.endpoints["shop"].secrets == (b"b" * 24, b"a" * 24)
    assert "new.secret" in file.trouble
    path.write_text("")
    await file.look(log)
    assert (file.endpoints, file.trouble) == ({}, "")
    assert [event for event, _ in log.lines] == [
        "callbacks reloaded", "callbacks not reloaded, the old ones stay in use", "callbacks reloaded",
    ]  # fmt: skip


async def test_file_is_looked_at_again_and_again(path: Path) -> None:
    file, log = CallbacksFile(path), MemoryLogger()
    running = asyncio.create_task(file.run(log, interval_s=0.01))
    path.write_text("")
    await waiting.until(lambda: not file.endpoints, within_s=30)
    running.cancel()
