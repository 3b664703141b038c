"""The console's start is refused without a store; it publishes nothing and remembers no refusals."""

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
    ):
        configured = settings.load({}, accounts=accounts, **values)
        with pytest.raises(error):
            async with console.running(configured, LogWriter(log), CollectorRegistry()):
                pass


async def test_console_publishes_nothing_and_has_no_refusals() -> None:
    assert console.NoRefusals().of_order("shop", "N-1") == ()
    with pytest.raises(NotImplementedError):
        await console.NoTopics().publish([])
