"""The address of Alertmanager, and its configuration. The acceptance tests run a real one."""

from pathlib import Path

from deploy.local import alertmanager
from deploy.local.alertmanager import Alertmanager
from deploy.local.processes import Process
from tests.unit.deploy.local import samples


async def healthy() -> bool:
    return True


def test_address_is_what_prometheus_gets(tmp_path: Path) -> None:
    process = Process(samples.directory(tmp_path), samples.spec(""), healthy=healthy)
    server = Alertmanager(port=9093, process=process)
    assert (server.address, server.url) == ("127.0.0.1:9093", "http://127.0.0.1:9093")


def test_shipped_configuration_is_there() -> None:
    assert alertmanager.CONFIGURATION.is_file()
