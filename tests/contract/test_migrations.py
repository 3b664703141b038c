"""Steps of the cluster's schema: each once, in order, whole, and by whoever comes first."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import asyncpg
import pytest

from tests.contract.engines import Cluster
from workers.errors import InfrastructureDown
from workers.postgres import migrations
from workers.postgres.database import Database, DatabaseLimits, DatabaseNotUsable
from workers.postgres.migrations import Migration, upgrading
from workers.postgres.migrations.upgrading import NotUpgraded

VERSIONS = migrations.VERSION_TABLE
ONE = Migration(1, "0001_one", "CREATE TABLE one (a integer);")
TWO = Migration(
    2,
    "0002_two",
    "CREATE TABLE two (a text DEFAULT ':b %s'); CREATE FUNCTION f() RETURNS int LANGUAGE sql AS $$ SELECT 1; $$;",
)
THREE = Migration(3, "0003_three", "CREATE TABLE three (a integer);")
FAULTY = Migration(3, "0003_faulty", "CREATE TABLE three (a integer); CREATE NONSENSE;")


@pytest.fixture
async def database(cluster: Cluster) -> AsyncIterator[Database]:
    """An empty schema."""
    database = await Database.open(cluster.url, limits=DatabaseLimits())
    await database.write(lambda connection: connection.execute(f"CREATE SCHEMA {cluster.name}"))
    yield database
    await database.close()


def known(monkeypatch: pytest.MonkeyPatch, *steps: Migration) -> None:
    monkeypatch.setattr(migrations, "steps", lambda: list(steps))


async def tables(database: Database) -> list[str]:
    found: list[Any] = await database.read(
        lambda connection: connection.fetch(
            "SELECT tablename FROM pg_tables WHERE schemaname = current_schema ORDER BY 1"
        )
    )
    return [name for (name,) in found]


async def run(database: Database, statement: str) -> None:
    await database.write(lambda connection: connection.execute(statement))


async def test_an_empty_database_gets_every_step_once(
    database: Database, cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    known(monkeypatch, ONE, TWO)
    assert await migrations.seen(cluster.url) == migrations.EMPTY
    assert await upgrading.upgrade(cluster.url) == ["0001_one", "0002_two"]
    assert await tables(database) == ["one", VERSIONS, "two"]
    assert await upgrading.upgrade(cluster.url) == []
    assert await migrations.seen(cluster.url) == 2


async def test_an_older_database_gets_the_steps_it_lacks(
    database: Database, cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    known(monkeypatch, ONE)
    await upgrading.upgrade(cluster.url)
    known(monkeypatch, ONE, TWO)
    with pytest.raises(DatabaseNotUsable, match="has schema 1, and this program needs 2"):
        await database.read(migrations.check)
    assert await upgrading.upgrade(cluster.url) == ["0002_two"]
    await database.read(migrations.check)


async def test_an_empty_database_is_not_taken_for_an_old_one(database: Database) -> None:
    with pytest.raises(DatabaseNotUsable, match="has schema 0, and this program needs"):
        await database.read(migrations.check)


async def test_a_step_that_fails_leaves_the_steps_before_it(
    database: Database, cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    known(monkeypatch, ONE, TWO, FAULTY)
    with pytest.raises(NotUpgraded, match=r"0003_faulty could not be applied: .*NONSENSE") as ended:
        await upgrading.upgrade(cluster.url)
    assert ended.value.done == ["0001_one", "0002_two"]
    assert await tables(database) == ["one", VERSIONS, "two"]
    assert await database.read(migrations.applied) == 2


async def test_a_step_and_its_number_are_one_transaction(
    database: Database, cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The step itself succeeds, and writing the number down is refused; in the first of a run, and in a later one."""
    known(monkeypatch, ONE)
    await upgrading.upgrade(cluster.url)
    await run(database, f"ALTER TABLE {VERSIONS} ADD CONSTRAINT refusing CHECK (version_num < '0002')")
    known(monkeypatch, ONE, TWO, THREE)
    with pytest.raises(NotUpgraded, match=r"0002_two could not be applied: .*check constraint"):
        await upgrading.upgrade(cluster.url)
    assert await tables(database) == ["one", VERSIONS]
    await run(database, f"ALTER TABLE {VERSIONS} DROP CONSTRAINT refusing, ADD CHECK (version_num < '0003')")
    with pytest.raises(NotUpgraded, match=r"0003_three could not be applied: .*check constraint"):
        await upgrading.upgrade(cluster.url)
    assert await tables(database) == ["one", VERSIONS, "two"]
    assert await database.read(migrations.applied) == 2


async def test_a_connection_that_dies_in_a_step_leaves_nothing_of_it(
    database: Database, cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    killed = "CREATE TABLE two (a integer); SELECT pg_terminate_backend(pg_backend_pid());"
    known(monkeypatch, ONE, Migration(2, "0002_killed", killed))
    with pytest.raises(NotUpgraded, match="0002_killed could not be applied") as ended:
        await upgrading.upgrade(cluster.url)
    assert ended.value.done == ["0001_one"]
    assert await tables(database) == ["one", VERSIONS]
    known(monkeypatch, ONE, TWO)
    assert await upgrading.upgrade(cluster.url) == ["0002_two"]


async def test_a_step_does_not_wait_long_for_a_table_that_is_in_use(
    database: Database, cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    known(monkeypatch, ONE)
    await upgrading.upgrade(cluster.url)
    known(monkeypatch, ONE, Migration(2, "0002_column", "ALTER TABLE one ADD b integer;"))
    monkeypatch.setattr(upgrading, "WAIT_FOR_TABLE_S", 0.2)
    user = await asyncpg.connect(cluster.url)
    async with user.transaction():
        await user.execute("SELECT * FROM one")
        with pytest.raises(NotUpgraded, match="lock timeout"):
            await upgrading.upgrade(cluster.url)
    await user.close()
    assert await upgrading.upgrade(cluster.url) == ["0002_column"]


async def test_a_program_works_on_a_schema_that_is_ahead_of_it(
    database: Database, cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    known(monkeypatch, ONE, TWO)
    await upgrading.upgrade(cluster.url)
    known(monkeypatch, ONE)
    assert await upgrading.upgrade(cluster.url) == []
    assert await migrations.seen(cluster.url) == 2
    await database.read(migrations.check)


async def test_those_who_upgrade_at_once_do_it_once(
    database: Database, cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    slow = "SELECT pg_sleep(0.3); CREATE TABLE one (a integer);"
    known(monkeypatch, Migration(1, "0001_one", slow), TWO)
    done = await asyncio.gather(*(upgrading.upgrade(cluster.url) for _ in range(4)))
    assert sorted(done) == [[], [], [], ["0001_one", "0002_two"]]


async def test_without_the_lock_the_second_is_stopped_and_nothing_is_done_twice(
    database: Database, cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As behind a pooler, where a session's lock is somebody else's."""
    slow = Migration(
        2, "0002_slow", "CREATE TABLE IF NOT EXISTS two (a integer); INSERT INTO one SELECT 1 FROM pg_sleep(0.3);"
    )
    known(monkeypatch, ONE)
    await upgrading.upgrade(cluster.url)
    known(monkeypatch, ONE, slow)
    monkeypatch.setattr(upgrading._Run, "upgrade", lambda run, connection: run.migrate(connection))
    ends = await asyncio.gather(*(upgrading.upgrade(cluster.url) for _ in range(2)), return_exceptions=True)
    assert [end for end in ends if end == ["0002_slow"]] == [["0002_slow"]]
    assert [type(end) for end in ends if isinstance(end, BaseException)] == [NotUpgraded]
    assert await database.read(lambda connection: connection.fetchval("SELECT count(*) FROM one")) == 1


async def test_the_statements_do_the_same_when_somebody_else_runs_them(
    database: Database, cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    connection = await asyncpg.connect(cluster.url)
    known(monkeypatch, ONE)
    await connection.execute(upgrading.statements(await migrations.seen(cluster.url)))
    assert await migrations.seen(cluster.url) == 1
    known(monkeypatch, ONE, TWO)
    text = upgrading.statements(1)
    assert "CREATE TABLE one" not in text
    await connection.execute(text)
    assert (
        await connection.fetchval(
            "SELECT column_default FROM information_schema.columns WHERE table_name = 'two' "
            "AND table_schema = current_schema"
        )
        == "':b %s'::text"
    )
    await connection.close()
    assert await upgrading.upgrade(cluster.url) == []
    assert upgrading.statements(2) == ""


async def test_a_database_that_is_not_there_is_told() -> None:
    nowhere = "postgresql://nobody@127.0.0.1:1/none"
    with pytest.raises(NotUpgraded, match="PostgreSQL: ConnectionRefusedError"):
        await upgrading.upgrade(nowhere)
    with pytest.raises(InfrastructureDown):
        await migrations.seen(nowhere)
    with pytest.raises(DatabaseNotUsable):
        await migrations.seen("nonsense")
    with pytest.raises(NotUpgraded):
        await upgrading.upgrade("nonsense")
