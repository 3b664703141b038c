"""The steps as files: numbered, of a kind, and none removes something unless it is a `contract` step."""

import re

import pytest

from workers.migration_files import Migration
from workers.postgres import migrations

# Statements that break a program written before the step, or block all programs while they run.
REMOVES = re.compile(
    r"\b(DROP\s+(TABLE|COLUMN|INDEX|TYPE|VIEW|FUNCTION|TRIGGER|CONSTRAINT|DEFAULT|SCHEMA)|DROP\s+(?!NOT)\w+\s*[,;]|RENAME|"
    r"SET\s+NOT\s+NULL|SET\s+DATA\s+TYPE|ALTER\s+COLUMN\s+\w+\s+TYPE|TRUNCATE|DELETE\s+FROM)",
    re.IGNORECASE,
)
OWN_TRANSACTION = re.compile(r"^\s*(BEGIN|COMMIT|ROLLBACK|START TRANSACTION)\s*;|\bCONCURRENTLY\b", re.I | re.M)


def without_comments(step: Migration) -> str:
    return re.sub(r"--[^\n]*", "", step.sql)


def test_steps_are_numbered_from_one_without_gaps() -> None:
    steps = migrations.steps()
    assert [step.number for step in steps] == list(range(1, len(steps) + 1))
    assert steps[0].name == "0001_orders"


@pytest.mark.parametrize("step", migrations.steps(), ids=lambda step: step.name)
def test_step_names_its_kind_and_an_expanding_step_removes_nothing(step: Migration) -> None:
    assert step.kind in migrations.KINDS
    assert step.kind == "contract" or REMOVES.search(without_comments(step)) is None


@pytest.mark.parametrize("step", migrations.steps(), ids=lambda step: step.name)
def test_step_contains_no_transaction_commands(step: Migration) -> None:
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
def test_removing_statement_is_recognised(statement: str) -> None:
    assert REMOVES.search(statement)


@pytest.mark.parametrize(
    "statement",
    [
        "ALTER TABLE orders ADD COLUMN a text;",
        "ALTER TABLE orders ALTER COLUMN trade DROP NOT NULL;",
        "CREATE TABLE a ();",
    ],
)
def test_adding_statement_is_accepted(statement: str) -> None:
    assert REMOVES.search(statement) is None
