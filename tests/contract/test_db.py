"""`alipay-notify db` on a real server: status, upgrade, and the printed statements."""

import asyncio
import json
import secrets
from collections.abc import Iterator
from pathlib import Path

import asyncpg
import pytest
from typer.testing import CliRunner, Result

from deploy.cli.main import application
from workers.migration_files import Migration
from workers.postgres import migrations

STEPS = [step.name for step in migrations.steps()]


async def run(dsn: str, statement: str) -> None:
    connection = await asyncpg.connect(dsn)
    await connection.execute(statement)
    await connection.close()


@pytest.fixture
def empty(postgres_dsn: str) -> Iterator[str]:
    """The address of an empty schema."""
    name = f"t{secrets.token_hex(6)}"
    asyncio.run(run(postgres_dsn, f"CREATE SCHEMA {name}"))
    yield f"{postgres_dsn}?search_path={name}"
    asyncio.run(run(postgres_dsn, f"DROP SCHEMA {name} CASCADE"))


def command(*arguments: str, **environ: str) -> Result:
    unset = dict.fromkeys(("ALIPAY_NOTIFY_POSTGRES", "ALIPAY_NOTIFY_POSTGRES_FILE"))
    return CliRunner().invoke(application(), ["db", *arguments], env={**unset, **environ})


def test_upgrade_of_an_empty_schema_applies_every_step(empty: str) -> None:
    missing = command("status", "--postgres", empty, "--output", "json")
    assert missing.exit_code == 3
    assert json.loads(missing.stdout)["schema"] == 0

    applied = command("upgrade", "--postgres", empty, "--output", "json")
    assert applied.exit_code == 0
    assert json.loads(applied.stdout) == {"ok": True, "applied": STEPS, "failure": None}

    there = command("status", "--postgres", empty)
    assert there.exit_code == 0
    assert "applied" in there.stdout
    again = command("upgrade", "--postgres", empty)
    assert (again.exit_code, again.stdout.strip()) == (0, "Nothing to do: no step is missing.")


def test_sql_option_prints_the_statements_and_changes_nothing(empty: str) -> None:
    printed = command("upgrade", "--sql", "--postgres", empty)
    assert printed.exit_code == 0
    assert command("status", "--postgres", empty).exit_code == 3
    asyncio.run(run(empty, printed.stdout))
    assert command("status", "--postgres", empty).exit_code == 0
    assert command("upgrade", "--sql", "--postgres", empty).stdout == ""


def test_address_may_be_in_a_file(empty: str, tmp_path: Path) -> None:
    file = tmp_path / "postgres"
    file.write_text(f"{empty}\n")
    assert command("upgrade", "--postgres-file", str(file)).exit_code == 0
    assert command("status", ALIPAY_NOTIFY_POSTGRES_FILE=str(file)).exit_code == 0


def test_failed_step_is_reported_with_the_steps_before_it(empty: str, monkeypatch: pytest.MonkeyPatch) -> None:
    steps = [
        Migration(1, "0001_one", "-- expand\nCREATE TABLE one ();"),
        Migration(2, "0002_two", "-- expand\nNONSENSE;"),
    ]
    monkeypatch.setattr(migrations, "steps", lambda: steps)
    failed = command("upgrade", "--postgres", empty)
    assert failed.exit_code == 1
    assert "0001_one" in failed.stdout
    assert "0002_two could not be applied" in failed.stderr
    status = command("status", "--postgres", empty, "--output", "json")
    assert [step["state"] for step in json.loads(status.stdout)["steps"]] == ["applied", "missing"]


def test_database_ahead_of_the_program_is_accepted(empty: str, monkeypatch: pytest.MonkeyPatch) -> None:
    assert command("upgrade", "--postgres", empty).exit_code == 0
    asyncio.run(run(empty, f"UPDATE {migrations.VERSION_TABLE} SET version_num = '0999'"))
    status = command("status", "--postgres", empty)
    assert status.exit_code == 0
    assert "a later release has upgraded it" in status.stdout
    assert command("upgrade", "--postgres", empty).exit_code == 0


@pytest.mark.parametrize("name", ["status", "upgrade"])
@pytest.mark.parametrize(
    ("address", "code", "text"),
    [
        ("postgresql://a@127.0.0.1:1/b", 1, "ConnectionRefusedError"),
        ("mysql://a", 2, "does not begin with postgresql://"),
        ("", 2, "ALIPAY_NOTIFY_POSTGRES is not set"),
    ],
)
def test_unusable_address_is_reported(name: str, address: str, code: int, text: str) -> None:
    failed = command(name, "--postgres", address)
    assert failed.exit_code == code
    assert text in failed.stderr
