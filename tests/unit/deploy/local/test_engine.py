"""The ports, settings and addresses of an engine before it starts. The contract tests start one."""

from pathlib import Path

import pytest

from deploy.local import engine, ports
from deploy.local.directory import Directory
from deploy.local.engine import ClusterEngine, EngineServers, EngineSpec
from deploy.local.machine import Machine
from deploy.local.roles import Program
from deploy.sandbox.world import World
from tests.unit.deploy.local import samples

MACHINE = Machine(environ={"PATH": "/bin"})
SERVERS = EngineServers(
    kafka="127.0.0.1:1", brokers=3, redis="redis://127.0.0.1:2/0", postgres="postgresql://a:hunter2@127.0.0.1:3/a"
)
SOME = EngineSpec(receivers=2, workers=1, console=True, balancer=True)


@pytest.fixture
def directory(tmp_path: Path) -> Directory:
    return samples.directory(tmp_path)


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    place = tmp_path_factory.mktemp("world")
    return World.create(place, gateway_url="http://127.0.0.1:1", notify_base="http://127.0.0.1:1")


def unstarted(directory: Directory, world: World, spec: EngineSpec) -> ClusterEngine:
    chosen = engine._ports(spec)
    return engine._unstarted(directory, MACHINE, Program(settings={}), spec, chosen, world)


def test_every_process_has_ports_of_its_own() -> None:
    chosen = engine._ports(SOME)
    used = [*chosen.receivers, *chosen.receivers_admin, *chosen.workers, chosen.public, chosen.console, chosen.stats]
    assert (len(chosen.receivers), len(chosen.receivers_admin), len(chosen.workers)) == (2, 2, 1)
    assert len(set(used)) == len(used)


def test_first_receiver_has_the_public_port_without_haproxy() -> None:
    chosen = engine._ports(EngineSpec(receivers=2))
    assert chosen.receivers[0] == chosen.public
    behind = engine._ports(EngineSpec(receivers=2, balancer=True))
    assert behind.public not in behind.receivers


def test_well_known_ports_are_used_if_they_are_free(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ports, "preferred", list)
    chosen = engine._ports(EngineSpec(receivers=1, balancer=True, well_known=True))
    assert (chosen.public, chosen.console, chosen.sandbox, chosen.prometheus) == (8080, 9464, 8089, 9090)
    assert chosen.alertmanager == 9093


def test_secrets_are_in_private_files_and_not_in_the_environment(directory: Directory, world: World) -> None:
    settings = engine._settings(directory, SERVERS, SOME, world)
    assert not [value for value in settings.values() if "hunter2" in value]
    for name in ("postgres_file", "receipt_key_file"):
        assert Path(settings[name]).stat().st_mode & 0o077 == 0
    assert Path(settings["postgres_file"]).read_text() == SERVERS.postgres


def test_receipt_key_is_kept_between_starts(directory: Directory, world: World) -> None:
    first = Path(engine._settings(directory, SERVERS, SOME, world)["receipt_key_file"]).read_text()
    again = Path(engine._settings(directory, SERVERS, SOME, world)["receipt_key_file"]).read_text()
    assert first == again
    assert len(first) == 64


@pytest.mark.parametrize(("brokers", "development"), [(1, "true"), (3, "false")])
def test_fewer_than_three_brokers_are_a_development_cluster(
    directory: Directory, world: World, brokers: int, development: str
) -> None:
    servers = EngineServers(kafka="127.0.0.1:1", brokers=brokers)
    settings = engine._settings(directory, servers, SOME, world)
    assert settings["development"] == development
    assert not {"redis", "postgres_file"} & settings.keys()


def test_receivers_wait_before_a_stop_only_behind_haproxy(directory: Directory, world: World) -> None:
    behind = engine._settings(directory, SERVERS, SOME, world)
    alone = engine._settings(directory, SERVERS, EngineSpec(receivers=1), world)
    assert (behind["drain_delay_s"], alone["drain_delay_s"]) == (str(engine.DRAIN_DELAY_S), "0.0")


def test_addresses_name_only_the_processes_of_the_spec(directory: Directory, world: World) -> None:
    made = unstarted(directory, world, EngineSpec(receivers=2, workers=1))
    addresses = made.addresses()
    assert set(addresses) == {"public", "receivers", "receivers_admin", "workers", "world", "accounts"}
    assert addresses["receivers"].split(",")[0] == addresses["public"] == made.public_url
    assert [process.name for process in made.processes()] == ["ingest-1", "ingest-2", "worker-1"]


def test_prometheus_scrapes_the_admin_ports_by_job(directory: Directory, world: World) -> None:
    made = unstarted(directory, world, EngineSpec(receivers=2, console=True))
    assert made.console is not None
    assert engine._jobs(made) == {
        "ingest": [role.admin_address for role in made.receivers],
        "console": [made.console.admin_address],
    }


def test_console_is_given_the_admin_ports_of_receivers_and_workers() -> None:
    chosen = engine._ports(SOME)
    wanted = [*chosen.receivers_admin, *chosen.workers]
    assert engine._peers(chosen) == {"peers": ",".join(f"127.0.0.1:{port}" for port in wanted)}


def test_spec_without_processes_is_nothing() -> None:
    assert EngineSpec().is_nothing
    assert EngineSpec(balancer=True).is_nothing, "HAProxy alone has no receivers"
    assert not EngineSpec(sandbox=True).is_nothing
