"""Setting up a fresh machine, with an apt and a Maven that the test wrote."""

from pathlib import Path

import pytest
import typer
from msgspec import structs
from typer.testing import CliRunner

from deploy.local import install, programs
from deploy.local.kafka import jars
from deploy.local.machine import Machine
from deploy.local.programs import NeededProgram
from tests.unit.deploy.local import samples

JAVA = """echo 'openjdk version "21.0.1"' >&2"""
MAVEN = """
for word in "$@"; do case "$word" in -DoutputDirectory=*) into="${word#*=}";; esac; done
/bin/mkdir -p "$into"; : > "$into/kafka_2.13-4.3.0.jar"
"""
GROUPS = ("SERVERS", "FOR_KAFKA", "FOR_TESTS")


def bare(needed: NeededProgram) -> NeededProgram:
    """The program, neither found in this machine's own directories nor in an installed wheel."""
    return structs.replace(needed, places=(), wheel=None)


@pytest.fixture(autouse=True)
def table(monkeypatch: pytest.MonkeyPatch) -> None:
    for group in GROUPS:
        monkeypatch.setattr(programs, group, tuple(map(bare, getattr(programs, group))))
    monkeypatch.setattr(programs, "JAVA", bare(programs.JAVA))
    monkeypatch.setattr(programs, "ALL", tuple(map(bare, programs.ALL)))


def fresh(path: Path, *, provides: bool = True) -> Machine:
    """A machine on which we are root, with nothing but an apt that provides every package of the table, or fails."""
    stock = path / "stock"
    for each in programs.ALL:
        script = JAVA if each.what.startswith("Java") else MAVEN if each.what == "Maven" else ""
        samples.executable(stock / each.programs[0], script)
    copies = f"/bin/cp {stock}/* {path}/bin/" if provides else "/bin/echo 'E: no network' >&2; exit 100"
    log = f'/bin/echo "$RUNLEVEL $@" >> {path}/apt'
    samples.executable(path / "bin" / "apt-get", f"{log}\n{copies}")
    environ = {"PATH": str(path / "bin"), "XDG_CACHE_HOME": str(path / "cache")}
    return Machine(environ=environ, user=0)


async def test_one_call_of_apt_installs_every_missing_package_and_starts_no_service(tmp_path: Path) -> None:
    machine = fresh(tmp_path)
    samples.executable(tmp_path / "bin" / "strace", "")
    assert await install.install(machine)
    (call,) = (tmp_path / "apt").read_text().splitlines()
    assert call.startswith("1 install ")
    packages = {each.debian for each in programs.ALL if each.what != "strace"}
    assert packages == set(call.split()) & {each.debian for each in programs.ALL}


async def test_install_brings_the_jars_of_kafka(tmp_path: Path) -> None:
    machine = fresh(tmp_path)
    assert await install.install(machine)
    assert jars.is_kept(jars.cache(machine))


async def test_complete_machine_is_left_alone(tmp_path: Path) -> None:
    machine = fresh(tmp_path)
    assert await install.install(machine)
    (tmp_path / "apt").unlink()
    assert await install.install(machine)
    assert not (tmp_path / "apt").exists()


async def test_failed_installation_names_each_missing_program(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert not await install.install(fresh(tmp_path, provides=False))
    shown = capsys.readouterr().err
    for what in ("Redis", "PostgreSQL", "HAProxy", "Prometheus", "Java 17 or newer", "Chromium", "strace"):
        assert f"{what} is missing" in shown


async def test_programs_that_only_tests_need_do_not_fail_the_installation(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    machine = fresh(tmp_path)
    await install.install(machine)
    (tmp_path / "bin" / "strace").unlink()
    (tmp_path / "bin" / "apt-get").unlink()
    assert await install.install(machine)
    assert "strace is missing; install it with `apt-get install strace`" in capsys.readouterr().err


def test_dry_run_prints_missing_programs_and_changes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    machine = fresh(tmp_path)
    for name, value in machine.environ.items():
        monkeypatch.setenv(name, value)
    app = typer.Typer()
    app.command()(install.main)
    done = CliRunner().invoke(app, ["--dry-run"])
    assert done.exit_code == 0
    lines = done.stdout.splitlines()
    assert len(lines) == len(programs.ALL) + 1
    assert "Redis: apt-get install redis-server" in lines
    assert lines[-1] == f"Kafka {jars.version()}: with Maven, into {jars.cache(machine)}"
    assert not (tmp_path / "apt").exists()
    assert not jars.cache(machine).exists()
