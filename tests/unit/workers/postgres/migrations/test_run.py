"""The statements of an upgrade, without a server. On servers: tests/contract/test_migrations.py."""

import pytest

from tests.unit.workers.postgres.sql_connection import ScriptedConnection
from workers.migration_files import Migration
from workers.postgres import migrations
from workers.postgres.migrations import VERSION_TABLE, run

ONE = Migration(1, "0001_one", "-- expand\nCREATE TABLE one ();\n")
TWO = Migration(2, "0002_two", "-- expand\nCREATE TABLE two ();\n")


def test_statements_for_an_empty_database_are_all_steps_in_transactions() -> None:
    text = run.statements(migrations.EMPTY)
    steps = migrations.steps()
    assert all(step.sql.strip() in text for step in steps)
    assert text.count("BEGIN;") == text.count("COMMIT;") == len(steps)
    assert f"CREATE TABLE IF NOT EXISTS {VERSION_TABLE}" in text
    assert run.statements(steps[-1].number) == ""


def test_statements_begin_after_the_given_number(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(migrations, "steps", lambda: [ONE, TWO])
    text = run.statements(1)
    assert "one" not in text
    assert VERSION_TABLE in text
    assert f"CREATE TABLE IF NOT EXISTS {VERSION_TABLE}" not in text
    assert text.startswith("BEGIN;")
    assert text.endswith("SET version_num = '0002' WHERE version_num = '0001';\n\nCOMMIT;\n\n")
    assert run.statements(999) == ""


@pytest.mark.parametrize(("step", "before", "written"), [(ONE, 0, "INSERT 0 1"), (TWO, 1, "UPDATE 1")])
async def test_step_is_committed_with_its_number(step: Migration, before: int, written: str) -> None:
    connection = ScriptedConnection(lambda query, args: written)
    assert await run._apply(connection, step, before)
    queries = [query for query, _ in connection.statements]
    assert queries[0] == "BEGIN"
    assert queries[1] == "SET LOCAL lock_timeout = '5s'"
    assert step.sql in queries[2]
    assert f"'{step.number:04d}'" in queries[3]
    assert queries[4:] == ["COMMIT"]


@pytest.mark.parametrize(("step", "before", "written"), [(ONE, 0, "INSERT 0 0"), (TWO, 1, "UPDATE 0")])
async def test_step_is_not_committed_if_another_upgrade_wrote_its_number(
    step: Migration, before: int, written: str
) -> None:
    connection = ScriptedConnection(lambda query, args: written)
    assert not await run._apply(connection, step, before)
    assert "COMMIT" not in [query for query, _ in connection.statements]
