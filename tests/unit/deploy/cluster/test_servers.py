"""The cluster that a command uses: the configured one, otherwise the local stack."""

import asyncio
from pathlib import Path

import pytest

from deploy.cluster import servers
from deploy.local import addresses
from deploy.local import directory as directories
from ingest.settings import BadSettings

ACCOUNTS = {"ALIPAY_NOTIFY_ACCOUNTS": "accounts.toml"}
STACK = {"kafka": "127.0.0.1:9", "redis": "redis://127.0.0.1:9/0"}


def test_no_cluster_is_found_without_configuration_and_stack(tmp_path: Path) -> None:
    assert servers.find(ACCOUNTS, stack=tmp_path) is None
    assert servers.find({**ACCOUNTS, "ALIPAY_NOTIFY_KAFKA": ""}, stack=tmp_path) is None


async def test_running_stack_is_found_and_may_have_one_broker(tmp_path: Path) -> None:
    async with directories.held(tmp_path) as held:
        with addresses.published(held.path, STACK):
            found = await asyncio.to_thread(servers.find, ACCOUNTS, stack=tmp_path)
    assert found is not None
    assert (found.settings.kafka, found.settings.redis, found.settings.postgres) == (STACK["kafka"], STACK["redis"], "")
    assert found.is_local
    assert found.development


@pytest.mark.parametrize("name", servers.NAMED_BY)
async def test_configured_server_takes_precedence_over_the_stack(tmp_path: Path, name: str) -> None:
    async with directories.held(tmp_path) as held:
        with addresses.published(held.path, STACK):
            found = servers.find({**ACCOUNTS, name: "somewhere"}, stack=tmp_path)
    assert found is not None
    assert not found.is_local
    assert not found.development
    assert found.settings.kafka in ("", "somewhere")


def test_faults_of_the_settings_are_raised(tmp_path: Path) -> None:
    environ = {**ACCOUNTS, "ALIPAY_NOTIFY_KAFKA": "a:1", "ALIPAY_NOTIFY_TOPIC_PREFIX": "A_b"}
    with pytest.raises(BadSettings, match="TOPIC_PREFIX"):
        servers.find(environ, stack=tmp_path)
