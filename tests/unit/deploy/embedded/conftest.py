"""An engine's two files in a directory of their own, for the tests of the modules that use both."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from deploy.embedded import directory
from deploy.embedded.directory import EngineFiles
from tests.support.log_records import Time


@pytest.fixture
def time() -> Time:
    return Time()


@pytest.fixture
async def files(tmp_path: Path, time: Time) -> AsyncIterator[EngineFiles]:
    async with directory.open_files(tmp_path, now_ms=time) as opened:
        yield opened
