"""The demonstration keeps away from what is real."""

import io
from pathlib import Path

import pytest

from deploy import settings
from deploy.embedded import demo, directory
from deploy.embedded.migrations import FileNotUsable
from deploy.logs import LogWriter
from tests.support import log_records
from tests.support.log_records import Time


async def test_a_demo_does_not_play_into_the_files_of_an_engine_that_it_did_not_make(tmp_path: Path) -> None:
    async with directory.opened(tmp_path, now_ms=Time()) as files:
        await files.journal.append(log_records.record("N1"))
    told = settings.load({}, accounts=tmp_path / "accounts.toml", data_dir=tmp_path, port=0, admin_port=0)
    with pytest.raises(FileNotUsable, match="no demo made"):
        await demo.until_told(told, LogWriter(io.StringIO()), tmp_path)
    assert not (tmp_path / "world").exists()
