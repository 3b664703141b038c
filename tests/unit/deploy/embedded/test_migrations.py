"""Schemas of the engine's files: whole scripts, in order, and never on a file of another program."""

import os
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from deploy.embedded import migrations
from deploy.embedded.migrations import FileNotUsable, Schema
from tests.support.paths import ROOT

ONE = "CREATE TABLE one (a INTEGER);"
TWO = "CREATE TABLE two (a INTEGER);"
KIND = 0x1234


@pytest.fixture
def connection(tmp_path: Path) -> Iterator[sqlite3.Connection]:
    opened = sqlite3.connect(tmp_path / "x.sqlite3", isolation_level=None)
    yield opened
    opened.close()


def tables(connection: sqlite3.Connection) -> list[str]:
    return [name for (name,) in connection.execute("SELECT name FROM sqlite_schema WHERE type = 'table' ORDER BY 1")]


def test_empty_file_gets_every_script_once(connection: sqlite3.Connection) -> None:
    schema = Schema(application_id=KIND, scripts=(ONE, TWO))
    assert migrations.is_empty(connection)
    assert migrations.migrate(connection, schema)
    assert tables(connection) == ["one", "two"]
    assert not migrations.is_empty(connection)
    assert not migrations.migrate(connection, schema)


def test_older_file_gets_the_scripts_it_lacks(connection: sqlite3.Connection) -> None:
    migrations.migrate(connection, Schema(application_id=KIND, scripts=(ONE,)))
    connection.execute("INSERT INTO one VALUES (7)")
    assert migrations.migrate(connection, Schema(application_id=KIND, scripts=(ONE, TWO)))
    assert tables(connection) == ["one", "two"]
    assert connection.execute("SELECT a FROM one").fetchall() == [(7,)]


def test_failed_script_leaves_the_file_as_it_was(connection: sqlite3.Connection) -> None:
    migrations.migrate(connection, Schema(application_id=KIND, scripts=(ONE,)))
    with pytest.raises(sqlite3.OperationalError):
        migrations.migrate(connection, Schema(application_id=KIND, scripts=(ONE, TWO, "CREATE NONSENSE;")))
    assert tables(connection) == ["one"]
    assert migrations.migrate(connection, Schema(application_id=KIND, scripts=(ONE, TWO)))


def test_file_of_a_later_release_is_refused(connection: sqlite3.Connection) -> None:
    migrations.migrate(connection, Schema(application_id=KIND, scripts=(ONE, TWO)))
    with pytest.raises(FileNotUsable, match="has schema 2, and this program knows up to 1"):
        migrations.migrate(connection, Schema(application_id=KIND, scripts=(ONE,)))


def test_file_of_another_kind_is_refused(connection: sqlite3.Connection) -> None:
    migrations.migrate(connection, Schema(application_id=KIND, scripts=(ONE,)))
    with pytest.raises(FileNotUsable, match="another kind"):
        migrations.migrate(connection, Schema(application_id=KIND + 1, scripts=(ONE,)))


def test_database_of_another_program_is_refused_and_left_alone(connection: sqlite3.Connection) -> None:
    connection.execute("CREATE TABLE theirs (a)")
    with pytest.raises(FileNotUsable, match="of another program"):
        migrations.migrate(connection, Schema(application_id=KIND, scripts=(ONE,)))
    assert tables(connection) == ["theirs"]


KILLED = """
import os, signal, sqlite3, sys
from deploy.embedded import migrations
from deploy.embedded.migrations import Schema
connection = sqlite3.connect(sys.argv[1], isolation_level=None)
connection.execute("PRAGMA journal_mode = WAL")
connection.create_function("die", 0, lambda: os.kill(os.getpid(), signal.SIGKILL))
migrations.migrate(connection, Schema(application_id=1, scripts=("CREATE TABLE one (a);",)))
migrations.migrate(connection, Schema(application_id=1, scripts=("", "CREATE TABLE two (a);", "SELECT die();")))
"""


def test_kill_during_the_upgrade_leaves_the_old_schema(tmp_path: Path) -> None:
    path = tmp_path / "x.sqlite3"
    killed = subprocess.run([sys.executable, "-c", KILLED, str(path)], check=False, cwd=ROOT)
    assert killed.returncode == -signal.SIGKILL
    connection = sqlite3.connect(path, isolation_level=None)
    assert tables(connection) == ["one"]
    assert migrations.migrate(connection, Schema(application_id=1, scripts=(ONE, TWO)))
    connection.close()


@pytest.mark.parametrize("folder", ["journal", "store"])
def test_each_folder_of_scripts_loads_whole(folder: str) -> None:
    files = os.listdir(Path(migrations.__file__).parent / "migrations" / folder)
    assert len(files) > 0
    assert len(migrations.load(folder, application_id=1).scripts) == len(files)
