"""The simulated town of the sandbox's unit tests, and the console over each engine's store, for a real browser."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from deploy.embedded.audit_list import SqliteAudit
from deploy.embedded.bills import SqliteBills
from deploy.embedded.erasure import SqliteErasure
from deploy.embedded.recent import LatestRows
from deploy.embedded.snoozes import SqliteSnoozes
from deploy.embedded.store import SqliteOrderStore
from tests.contract.engines import Cluster, Embedded, Engine
from tests.support.admin import World
from tests.support.log_records import Time
from tests.unit.deploy.sandbox.conftest import own_directory, town, world
from workers.postgres.audit_list import PostgresAudit
from workers.postgres.bills import PostgresBills
from workers.postgres.erasure import PostgresErasure
from workers.postgres.recent import RecentRows
from workers.postgres.snoozes import PostgresSnoozes

__all__ = ["own_directory", "town", "world"]


@pytest.fixture(params=["embedded", "cluster"])
async def console(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[World]:
    """An application over a real order store: a file, or a schema of its own in PostgreSQL."""
    time, engine = Time(), None
    if request.param == "cluster":
        engine = Cluster(request.getfixturevalue("local_postgres"), None, time)
    opened: Engine = engine or Embedded(tmp_path, time)
    async with opened.store() as store:
        of_store: Any = store
        console: Any = World(store=of_store)
        if isinstance(store, SqliteOrderStore):
            console.audit = SqliteAudit(store.database, store.reads)
            console.bills = SqliteBills(store.database, store.reads)
            console.erasure = SqliteErasure(store.database)
            console.snoozes, console.recent = SqliteSnoozes(store.database), LatestRows(store.reads)
        else:
            console.audit = PostgresAudit(of_store.database, of_store.reads)
            console.bills = PostgresBills(of_store.database, of_store.reads)
            console.erasure = PostgresErasure(of_store.database)
            console.snoozes, console.recent = PostgresSnoozes(of_store.database), RecentRows(of_store.reads)
        yield console
    await opened.close()
