"""The account, environment and command of PostgreSQL before it runs. The contract tests run it."""

from pathlib import Path

import pytest

from deploy.local import postgres
from deploy.local.machine import Machine, Missing
from tests.unit.deploy.local import samples


def test_directory_is_passable_only_if_all_above_it_are(tmp_path: Path) -> None:
    inner = tmp_path / "outer" / "inner"
    inner.mkdir(parents=True)
    inner.parent.chmod(0o700)
    assert not postgres.passable(inner)
    assert postgres.passable(Path("/usr/bin"))


def test_variables_of_postgres_clients_are_not_passed_on(tmp_path: Path) -> None:
    machine = Machine(environ={"PATH": "/bin", "PGDATA": "/srv/real", "PGHOST": "real", "HOME": "/home/me"})
    environ = postgres._environ(machine, tmp_path)
    assert environ["PATH"] == "/bin"
    assert environ["HOME"] == str(tmp_path)
    assert not [name for name in environ if name.startswith("PG")]


def test_ordinary_user_runs_postgres_as_that_user(tmp_path: Path) -> None:
    program = samples.executable(tmp_path / "bin" / "postgres", "")
    assert postgres._account(Machine(environ={}, user=1000), program) is None


def test_root_runs_postgres_as_an_unprivileged_account() -> None:
    account = postgres._account(Machine(environ={}, user=0), Path("/bin/sh"))
    assert account is not None
    assert account.user != 0
    assert account.group != 0


def test_error_names_a_program_that_the_account_cannot_reach(tmp_path: Path) -> None:
    program = samples.executable(tmp_path / "private" / "postgres", "")
    program.parent.chmod(0o700)
    with pytest.raises(Missing, match="cannot be run by"):
        postgres._account(Machine(environ={}, user=0), program)


def test_postgres_listens_only_on_loopback_and_keeps_fsync_on(tmp_path: Path) -> None:
    command = postgres._command(Path("/bin/sh"), tmp_path, 5432, {"max_connections": "7"})
    assert "listen_addresses=127.0.0.1" in command
    assert "unix_socket_directories=" in command
    assert "max_connections=7" in command
    assert not [word for word in command if word.startswith(("fsync", "synchronous_commit", "full_page_writes"))]
