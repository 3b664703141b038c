"""Steps of the cluster's schema: each once, in order, whole, and by whoever comes first."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest

from tests.contract.engines import Cluster
from workers.postgres import migrations
from workers.postgres.database import Database, Limits, NotUsable
from workers.postgres.migrations import Step
from workers.processing import Broken

pytestmark = pytest.mark.slow

ONE = Step(1, "0001_one", "CREATE TABLE one (a integer);")
TWO = Step(
    2, "0002_two", "CREATE TABLE two (a integer); CREATE FUNCTION f() RETURNS int LANGUAGE sql AS $$ SELECT 1 $$;"
)
FAULTY = Step(3, "0003_faulty", "CREATE TABLE three (a integer); CREATE NONSENSE;")


@pytest.fixture
async def database(cluster: Cluster) -> AsyncIterator[Database]:
    """An empty schema."""
    database = await Database.open(cluster.url, limits=Limits())
    await database.write(lambda connection: connection.execute(f"CREATE SCHEMA {cluster.name}"))
    yield database
    await database.close()


def known(monkeypatch: pytest.MonkeyPatch, *steps: Step) -> None:
    monkeypatch.setattr(migrations, "steps", lambda: list(steps))


async def tables(database: Database) -> list[str]:
    found: list[Any] = await database.read(
        lambda connection: connection.fetch(
            "SELECT tablename FROM pg_tables WHERE schemaname = current_schema ORDER BY 1"
        )
    )
    return [name for (name,) in found]


async def test_an_empty_database_gets_every_step_once(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    known(monkeypatch, ONE, TWO)
    assert await migrations.upgrade(database) == ["0001_one", "0002_two"]
    assert await tables(database) == ["migrations", "one", "two"]
    assert await migrations.upgrade(database) == []


async def test_an_older_database_gets_the_steps_it_lacks(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    known(monkeypatch, ONE)
    await migrations.upgrade(database)
    known(monkeypatch, ONE, TWO)
    with pytest.raises(NotUsable, match="has schema 1, and this program needs 2"):
        await database.read(migrations.check)
    assert await migrations.upgrade(database) == ["0002_two"]
    await database.read(migrations.check)


async def test_a_step_that_fails_leaves_the_steps_before_it(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    known(monkeypatch, ONE, TWO, FAULTY)
    with pytest.raises(Broken):
        await migrations.upgrade(database)
    assert await tables(database) == ["migrations", "one", "two"]
    assert await database.read(migrations.applied) == 2


async def test_a_program_works_on_a_schema_that_is_ahead_of_it(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    known(monkeypatch, ONE, TWO)
    await migrations.upgrade(database)
    known(monkeypatch, ONE)
    assert await migrations.upgrade(database) == []
    await database.read(migrations.check)


async def test_two_who_upgrade_at_once_do_it_once(
    database: Database, cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    known(monkeypatch, ONE, TWO)
    other = await Database.open(cluster.url, limits=Limits())
    done = await asyncio.gather(migrations.upgrade(database), migrations.upgrade(other))
    await other.close()
    assert sorted(name for names in done for name in names) == ["0001_one", "0002_two"]


def test_the_steps_are_numbered_from_one_without_gaps() -> None:
    steps = migrations.steps()
    assert [step.number for step in steps] == list(range(1, len(steps) + 1))
    assert steps[0].name == "0001_orders"
