"""What is decided about a PostgreSQL before it runs. That it runs is shown by the contract tests."""

from pathlib import Path

import pytest

from deploy.local import postgres
from deploy.local.machine import Machine, Missing
from tests.unit.deploy.local import samples


def test_a_directory_is_passable_only_when_all_above_it_are(tmp_path: Path) -> None:
    inner = tmp_path / "outer" / "inner"
    inner.mkdir(parents=True)
    inner.parent.chmod(0o700)
    assert not postgres.passable(inner)
    assert postgres.passable(Path("/usr/bin"))


def test_variables_that_could_lead_to_somebodys_real_database_are_not_passed_on(tmp_path: Path) -> None:
    machine = Machine(environ={"PATH": "/bin", "PGDATA": "/srv/real", "PGHOST": "real", "HOME": "/home/me"})
    environ = postgres._environ(machine, tmp_path)
    assert environ["PATH"] == "/bin"
    assert environ["HOME"] == str(tmp_path)
    assert not [name for name in environ if name.startswith("PG")]


def test_somebody_who_is_not_root_runs_it_as_oneself(tmp_path: Path) -> None:
    program = samples.executable(tmp_path / "bin" / "postgres", "")
    assert postgres._account(Machine(environ={}, user=1000), program) is None


def test_root_runs_it_as_an_account_without_privileges() -> None:
    account = postgres._account(Machine(environ={}, user=0), Path("/bin/sh"))
    assert account is not None
    assert account.user != 0
    assert account.group != 0


def test_root_is_told_where_that_account_cannot_reach_the_program(tmp_path: Path) -> None:
    program = samples.executable(tmp_path / "private" / "postgres", "")
    program.parent.chmod(0o700)
    with pytest.raises(Missing, match="cannot be run by"):
        postgres._account(Machine(environ={}, user=0), program)


def test_it_listens_on_loopback_alone_and_keeps_fsync_on(tmp_path: Path) -> None:
    command = postgres._command(Path("/bin/sh"), tmp_path, 5432, {"max_connections": "7"})
    assert "listen_addresses=127.0.0.1" in command
    assert "unix_socket_directories=" in command
    assert "max_connections=7" in command
    assert not [word for word in command if word.startswith(("fsync", "synchronous_commit", "full_page_writes"))]
