"""The steps as files: numbered, of a kind, and none takes away without saying so."""

import re
import subprocess
import sys

import pytest

from workers.postgres import migrations
from workers.postgres.migrations import Migration, upgrading

# What breaks a program that was written before the step, or stops everybody while it runs.
TAKES_AWAY = re.compile(
    r"\b(DROP\s+(TABLE|COLUMN|INDEX|TYPE|VIEW|FUNCTION|TRIGGER|CONSTRAINT|DEFAULT|SCHEMA)|DROP\s+(?!NOT)\w+\s*[,;]|RENAME|"
    r"SET\s+NOT\s+NULL|SET\s+DATA\s+TYPE|ALTER\s+COLUMN\s+\w+\s+TYPE|TRUNCATE|DELETE\s+FROM)",
    re.IGNORECASE,
)
OWN_TRANSACTION = re.compile(r"^\s*(BEGIN|COMMIT|ROLLBACK|START TRANSACTION)\s*;|\bCONCURRENTLY\b", re.I | re.M)


def without_comments(step: Migration) -> str:
    return re.sub(r"--[^\n]*", "", step.sql)


def test_the_steps_are_numbered_from_one_without_gaps() -> None:
    steps = migrations.steps()
    assert [step.number for step in steps] == list(range(1, len(steps) + 1))
    assert steps[0].name == "0001_orders"


@pytest.mark.parametrize("step", migrations.steps(), ids=lambda step: step.name)
def test_a_step_says_whether_it_expands_or_contracts_and_an_expanding_one_takes_nothing_away(step: Migration) -> None:
    assert step.kind in migrations.KINDS
    assert step.kind == "contract" or TAKES_AWAY.search(without_comments(step)) is None


@pytest.mark.parametrize("step", migrations.steps(), ids=lambda step: step.name)
def test_a_step_leaves_the_transaction_to_whoever_runs_it(step: Migration) -> None:
    assert OWN_TRANSACTION.search(without_comments(step)) is None


@pytest.mark.parametrize(
    "statement",
    [
        "ALTER TABLE orders DROP COLUMN trade;",
        "ALTER TABLE orders DROP trade;",
        "alter table orders rename to o;",
        "ALTER TABLE orders ALTER COLUMN trade SET NOT NULL;",
        "ALTER TABLE orders ALTER COLUMN trade TYPE bytea;",
        "DROP TABLE\n orders;",
        "DELETE FROM orders;",
    ],
)
def test_what_takes_away_is_recognised(statement: str) -> None:
    assert TAKES_AWAY.search(statement)


@pytest.mark.parametrize(
    "statement",
    [
        "ALTER TABLE orders ADD COLUMN a text;",
        "ALTER TABLE orders ALTER COLUMN trade DROP NOT NULL;",
        "CREATE TABLE a ();",
    ],
)
def test_what_adds_is_let_through(statement: str) -> None:
    assert TAKES_AWAY.search(statement) is None


def test_the_statements_of_an_empty_database_are_all_steps_each_in_a_transaction() -> None:
    text = upgrading.statements(migrations.EMPTY)
    steps = migrations.steps()
    assert all(step.sql.strip() in text for step in steps)
    assert text.count("BEGIN;") == text.count("COMMIT;") == len(steps)
    assert f"CREATE TABLE {migrations.VERSION_TABLE}" in text
    assert upgrading.statements(steps[-1].number) == ""


def test_a_worker_that_checks_its_schema_has_neither_alembic_nor_sqlalchemy_loaded() -> None:
    looks = "import sys; from workers.postgres import store; print({'alembic', 'sqlalchemy'} & set(sys.modules))"
    told = subprocess.run([sys.executable, "-c", looks], capture_output=True, text=True, check=True)
    assert told.stdout.strip() == "set()"
