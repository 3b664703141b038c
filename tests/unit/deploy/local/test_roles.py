"""The environment and addresses of our processes."""

from pathlib import Path

from deploy.local import roles
from deploy.local.machine import Machine
from deploy.local.roles import Program
from tests.unit.deploy.local import samples

MACHINE = Machine(environ={"PATH": "/bin", "ALIPAY_NOTIFY_PORT": "1", "alipay_notify_host": "0.0.0.0"})


def test_settings_come_only_from_the_stack() -> None:
    environ = Program(settings={"kafka": "k:1", "drain_delay_s": "2"}).environ(MACHINE, drain_delay_s=0, admin_port=7)
    assert {name: value for name, value in environ.items() if name.upper().startswith("ALIPAY")} == {
        "ALIPAY_NOTIFY_KAFKA": "k:1",
        "ALIPAY_NOTIFY_DRAIN_DELAY_S": "0",
        "ALIPAY_NOTIFY_ADMIN_PORT": "7",
    }
    assert environ["PATH"] == "/bin"


def test_processes_run_the_code_that_starts_them() -> None:
    environ = Program(settings={}).environ(MACHINE)
    assert Path(environ["PYTHONPATH"], "deploy", "local", "roles.py") == Path(roles.__file__)


def test_receiver_has_a_public_and_an_admin_port(tmp_path: Path) -> None:
    role = roles.receiver(
        samples.directory(tmp_path), MACHINE, Program(settings={}), name="ingest-1", port=8081, admin=9465
    )
    assert (role.name, role.url, role.admin_url) == ("ingest-1", "http://127.0.0.1:8081", "http://127.0.0.1:9465")
