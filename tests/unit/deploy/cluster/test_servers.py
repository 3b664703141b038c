"""Which cluster a command looks at: the one that is named, else the stack that runs here."""

import asyncio
from pathlib import Path

import pytest

from deploy.cluster import servers
from deploy.local import addresses
from deploy.local import directory as directories
from ingest.settings import BadSettings

ACCOUNTS = {"ALIPAY_NOTIFY_ACCOUNTS": "accounts.toml"}
STACK = {"kafka": "127.0.0.1:9", "redis": "redis://127.0.0.1:9/0"}


def test_without_a_name_and_a_stack_there_is_none(tmp_path: Path) -> None:
    assert servers.find(ACCOUNTS, stack=tmp_path) is None
    assert servers.find({**ACCOUNTS, "ALIPAY_NOTIFY_KAFKA": ""}, stack=tmp_path) is None


async def test_a_stack_that_runs_here_is_found_and_may_be_a_single_broker(tmp_path: Path) -> None:
    async with directories.held(tmp_path) as held:
        with addresses.published(held.path, STACK):
            found = await asyncio.to_thread(servers.find, ACCOUNTS, stack=tmp_path)
    assert found is not None
    assert (found.settings.kafka, found.settings.redis, found.settings.postgres) == (STACK["kafka"], STACK["redis"], "")
    assert found.is_local
    assert found.development


@pytest.mark.parametrize("name", servers.NAMED_BY)
async def test_what_is_named_goes_before_the_stack(tmp_path: Path, name: str) -> None:
    async with directories.held(tmp_path) as held:
        with addresses.published(held.path, STACK):
            found = servers.find({**ACCOUNTS, name: "somewhere"}, stack=tmp_path)
    assert found is not None
    assert not found.is_local
    assert not found.development
    assert found.settings.kafka in ("", "somewhere")


def test_faults_of_the_settings_are_told(tmp_path: Path) -> None:
    environ = {**ACCOUNTS, "ALIPAY_NOTIFY_KAFKA": "a:1", "ALIPAY_NOTIFY_TOPIC_PREFIX": "A_b"}
    with pytest.raises(BadSettings, match="TOPIC_PREFIX"):
        servers.find(environ, stack=tmp_path)
