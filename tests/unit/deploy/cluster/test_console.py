"""The console's start is refused without a store; it publishes nothing."""

from io import StringIO
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry

from deploy.cluster import console, settings
from deploy.cluster.settings import UnreadableFile
from deploy.logs import LogWriter
from workers.admin.guard import OpenAdmin
from workers.errors import InfrastructureDown


async def test_start_is_refused_without_store_or_with_an_open_admin_port(accounts: Path, log: StringIO) -> None:
    for values, error in (
        ({}, UnreadableFile),
        ({"postgres": "postgresql://u@127.0.0.1:1/db"}, InfrastructureDown),
        ({"admin_host": "0.0.0.0"}, OpenAdmin),
        ({"postgres": "postgresql://u@127.0.0.1:1/db", "peers": "ingest-1"}, UnreadableFile),
    ):
        configured = settings.load({}, accounts=accounts, **values)
        with pytest.raises(error):
            async with console.running(configured, LogWriter(log), CollectorRegistry()):
                pass


async def test_console_publishes_nothing() -> None:
    with pytest.raises(NotImplementedError):
        await console.NoTopics().publish([])
