"""Steps of the cluster's schema: each is applied once, in order, and whole, also by two upgrades at once."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import asyncpg
import pytest

from tests.contract.engines import Cluster
from workers.errors import InfrastructureDown
from workers.migration_files import Migration
from workers.postgres import migrations
from workers.postgres.database import Database, DatabaseLimits, DatabaseNotUsable, SqlConnection
from workers.postgres.migrations import run
from workers.postgres.migrations.run import NotUpgraded

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


def know(monkeypatch: pytest.MonkeyPatch, *steps: Migration) -> None:
    monkeypatch.setattr(migrations, "steps", lambda: list(steps))


async def tables(database: Database) -> list[str]:
    found: list[Any] = await database.read(
        lambda connection: connection.fetch(
            "SELECT tablename FROM pg_tables WHERE schemaname = current_schema ORDER BY 1"
        )
    )
    return [name for (name,) in found]


async def execute(database: Database, statement: str) -> None:
    await database.write(lambda connection: connection.execute(statement))


async def test_empty_database_gets_every_step_once(
    database: Database, cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    know(monkeypatch, ONE, TWO)
    assert await migrations.applied_at(cluster.url) == migrations.EMPTY
    assert await run.upgrade(cluster.url) == ["0001_one", "0002_two"]
    assert await tables(database) == ["one", VERSIONS, "two"]
    assert await run.upgrade(cluster.url) == []
    assert await migrations.applied_at(cluster.url) == 2


async def test_older_database_gets_the_steps_it_lacks(
    database: Database, cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    know(monkeypatch, ONE)
    await run.upgrade(cluster.url)
    know(monkeypatch, ONE, TWO)
    with pytest.raises(DatabaseNotUsable, match="has schema 1, and this program needs 2"):
        await database.read(migrations.check)
    assert await run.upgrade(cluster.url) == ["0002_two"]
    await database.read(migrations.check)


async def test_empty_database_is_not_mistaken_for_an_older_one(database: Database) -> None:
    with pytest.raises(DatabaseNotUsable, match="has schema 0, and this program needs"):
        await database.read(migrations.check)


async def test_failed_step_leaves_the_steps_before_it(
    database: Database, cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    know(monkeypatch, ONE, TWO, FAULTY)
    with pytest.raises(NotUpgraded, match=r"0003_faulty could not be applied: .*NONSENSE") as ended:
        await run.upgrade(cluster.url)
    assert ended.value.done == ["0001_one", "0002_two"]
    assert await tables(database) == ["one", VERSIONS, "two"]
    assert await database.read(migrations.applied) == 2


async def test_step_and_its_number_are_one_transaction(
    database: Database, cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The step itself succeeds and writing its number fails: in the first step of a run, and in a later one."""
    know(monkeypatch, ONE)
    await run.upgrade(cluster.url)
    await execute(database, f"ALTER TABLE {VERSIONS} ADD CONSTRAINT refusing CHECK (version_num < '0002')")
    know(monkeypatch, ONE, TWO, THREE)
    with pytest.raises(NotUpgraded, match=r"0002_two could not be applied: .*check constraint"):
        await run.upgrade(cluster.url)
    assert await tables(database) == ["one", VERSIONS]
    await execute(database, f"ALTER TABLE {VERSIONS} DROP CONSTRAINT refusing, ADD CHECK (version_num < '0003')")
    with pytest.raises(NotUpgraded, match=r"0003_three could not be applied: .*check constraint"):
        await run.upgrade(cluster.url)
    assert await tables(database) == ["one", VERSIONS, "two"]
    assert await database.read(migrations.applied) == 2


async def test_connection_lost_in_a_step_leaves_nothing_of_it(
    database: Database, cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    killed = "CREATE TABLE two (a integer); SELECT pg_terminate_backend(pg_backend_pid());"
    know(monkeypatch, ONE, Migration(2, "0002_killed", killed))
    with pytest.raises(NotUpgraded, match="0002_killed could not be applied") as ended:
        await run.upgrade(cluster.url)
    assert ended.value.done == ["0001_one"]
    assert await tables(database) == ["one", VERSIONS]
    know(monkeypatch, ONE, TWO)
    assert await run.upgrade(cluster.url) == ["0002_two"]


async def test_step_gives_up_soon_on_a_table_that_is_in_use(
    database: Database, cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    know(monkeypatch, ONE)
    await run.upgrade(cluster.url)
    know(monkeypatch, ONE, Migration(2, "0002_column", "ALTER TABLE one ADD b integer;"))
    monkeypatch.setattr(run, "WAIT_FOR_TABLE_S", 0.2)
    user = await asyncpg.connect(cluster.url)
    async with user.transaction():
        await user.execute("SELECT * FROM one")
        with pytest.raises(NotUpgraded, match="lock timeout"):
            await run.upgrade(cluster.url)
    await user.close()
    assert await run.upgrade(cluster.url) == ["0002_column"]


async def test_step_that_meets_a_transaction_with_the_tables_in_another_order_is_repeated(
    database: Database, cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The server ends one of the two: here the step, because it waits for less time before it looks for a deadlock."""
    know(monkeypatch, ONE, Migration(2, "0002_two", "CREATE TABLE two (a integer);"))
    await run.upgrade(cluster.url)
    name = f"{cluster.url}&deadlock_timeout=60s"
    crossing = Migration(3, "0003_crossing", "ALTER TABLE one ADD b integer; ALTER TABLE two ADD b integer;")
    know(monkeypatch, ONE, TWO, crossing)
    user = await asyncpg.connect(name)
    transaction = user.transaction()
    await transaction.start()
    await user.execute("INSERT INTO two VALUES (1)")
    upgrading = asyncio.create_task(run.upgrade(cluster.url))
    blocked = "SELECT count(*) > 0 FROM pg_locks WHERE NOT granted AND relation = 'two'::regclass"
    async with asyncio.timeout(30):
        while not await database.read(lambda connection: connection.fetchval(blocked)):
            await asyncio.sleep(0.01)
    await user.execute("INSERT INTO one VALUES (1)")  # waits for the step, which waits for us
    await transaction.commit()
    await user.close()
    assert await upgrading == ["0003_crossing"]
    assert await migrations.applied_at(cluster.url) == 3


async def test_program_accepts_a_schema_that_is_ahead_of_it(
    database: Database, cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    know(monkeypatch, ONE, TWO)
    await run.upgrade(cluster.url)
    know(monkeypatch, ONE)
    assert await run.upgrade(cluster.url) == []
    assert await migrations.applied_at(cluster.url) == 2
    await database.read(migrations.check)


async def test_concurrent_upgrades_apply_each_step_once(
    database: Database, cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    slow = "SELECT pg_sleep(0.3); CREATE TABLE one (a integer);"
    know(monkeypatch, Migration(1, "0001_one", slow), TWO)
    done = await asyncio.gather(*(run.upgrade(cluster.url) for _ in range(4)))
    assert sorted(done) == [[], [], [], ["0001_one", "0002_two"]]


async def no_lock(connection: SqlConnection) -> None:
    """Instead of the lock of the session."""


async def test_second_upgrade_without_the_lock_fails_and_repeats_nothing(
    database: Database, cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As behind a pooler that shares the session and its lock."""
    slow = Migration(
        2, "0002_slow", "CREATE TABLE IF NOT EXISTS two (a integer); INSERT INTO one SELECT 1 FROM pg_sleep(0.3);"
    )
    know(monkeypatch, ONE)
    await run.upgrade(cluster.url)
    know(monkeypatch, ONE, slow)
    monkeypatch.setattr(run, "_lock", no_lock)
    ends = await asyncio.gather(*(run.upgrade(cluster.url) for _ in range(2)), return_exceptions=True)
    assert [end for end in ends if end == ["0002_slow"]] == [["0002_slow"]]
    assert [type(end) for end in ends if isinstance(end, BaseException)] == [NotUpgraded]
    assert await database.read(lambda connection: connection.fetchval("SELECT count(*) FROM one")) == 1


async def test_printed_statements_upgrade_the_database_too(
    database: Database, cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    connection = await asyncpg.connect(cluster.url)
    know(monkeypatch, ONE)
    await connection.execute(run.statements(await migrations.applied_at(cluster.url)))
    assert await migrations.applied_at(cluster.url) == 1
    know(monkeypatch, ONE, TWO)
    text = run.statements(1)
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
    assert await run.upgrade(cluster.url) == []
    assert run.statements(2) == ""


# The statements that Alembic ran for steps 1 and 2, in the releases that upgraded with it.
BY_ALEMBIC = (
    f"CREATE TABLE {VERSIONS} (version_num VARCHAR(32) NOT NULL, CONSTRAINT {VERSIONS}_pkc PRIMARY KEY (version_num))",
    f"INSERT INTO {VERSIONS} (version_num) VALUES ('0001') RETURNING {VERSIONS}.version_num",
    f"UPDATE {VERSIONS} SET version_num='0002' WHERE {VERSIONS}.version_num = '0001'",
)


@pytest.mark.parametrize("by_alembic", [1, 2, 3], ids=["table only", "step 1", "step 2"])
async def test_database_upgraded_by_alembic_is_continued(
    database: Database, cluster: Cluster, monkeypatch: pytest.MonkeyPatch, by_alembic: int
) -> None:
    for statement in BY_ALEMBIC[:by_alembic]:
        await execute(database, statement)
    know(monkeypatch, ONE, TWO, THREE)
    assert await migrations.applied_at(cluster.url) == by_alembic - 1
    assert await run.upgrade(cluster.url) == ["0001_one", "0002_two", "0003_three"][by_alembic - 1 :]
    assert await migrations.applied_at(cluster.url) == 3


async def test_database_upgraded_here_looks_as_if_alembic_had_done_it(
    database: Database, cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    layout = (
        "SELECT column_name, data_type, character_maximum_length, is_nullable, constraint_name, version_num "
        f"FROM information_schema.columns JOIN information_schema.key_column_usage USING (table_schema, table_name, "
        f"column_name), {VERSIONS} WHERE table_schema = current_schema AND table_name = '{VERSIONS}'"
    )
    know(monkeypatch, ONE, TWO)
    await run.upgrade(cluster.url)
    (found,) = await database.read(lambda connection: connection.fetch(layout))
    assert tuple(found) == ("version_num", "character varying", 32, "NO", f"{VERSIONS}_pkc", "0002")


async def test_unreachable_database_is_reported() -> None:
    nowhere = "postgresql://nobody@127.0.0.1:1/none"
    with pytest.raises(NotUpgraded, match="PostgreSQL: ConnectionRefusedError"):
        await run.upgrade(nowhere)
    with pytest.raises(InfrastructureDown):
        await migrations.applied_at(nowhere)
    with pytest.raises(DatabaseNotUsable):
        await migrations.applied_at("nonsense")
    with pytest.raises(NotUpgraded):
        await run.upgrade("nonsense")
