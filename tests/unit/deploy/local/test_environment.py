"""The file that a shell sources to find the stack."""

import shutil
import subprocess
from pathlib import Path

import pytest

from deploy.cluster import servers, settings
from deploy.local import environment
from deploy.local.directory import Directory
from deploy.local.postgres import Postgres
from deploy.local.processes import Process
from tests.unit.deploy.local import samples

ADDRESSES = {
    "kafka": "127.0.0.1:1",
    "redis": "redis://127.0.0.1:2/0",
    "console": "http://127.0.0.1:9464",
    "public": "http://127.0.0.1:8080",
    "prometheus": "http://127.0.0.1:9090",
    "accounts": "/with a blank/accounts.toml",
    "world": "/with a blank",
}


async def healthy() -> bool:
    return True


@pytest.fixture
def directory(tmp_path: Path) -> Directory:
    return samples.directory(tmp_path)


@pytest.fixture
def database(directory: Directory) -> Postgres:
    return Postgres(
        port=3, password="hunter2", process=Process(directory, samples.spec("", name="postgres"), healthy=healthy)
    )


def test_sourced_file_names_the_stack_and_no_password(directory: Directory, database: Postgres) -> None:
    with environment.published(directory, ADDRESSES, brokers=3, database=database) as file:
        assert file.stat().st_mode & 0o077 == 0
        assert "hunter2" not in file.read_text(encoding="utf-8")
        found = sourced(file)
    assert not file.exists()
    assert found["ALIPAY_NOTIFY_ADMIN"] == "http://127.0.0.1:9464"
    assert found["ALIPAY_NOTIFY_ACCOUNTS"] == "/with a blank/accounts.toml"
    assert (found["ALIPAY_NOTIFY_PORT"], found["ALIPAY_NOTIFY_ADMIN_PORT"]) == ("8080", "9464")
    assert "ALIPAY_NOTIFY_DEVELOPMENT" not in found
    # The commands find the servers by it, and psql its password.
    there = servers.find(found)
    assert there is not None
    assert settings.postgres_address(there.settings) == database.dsn
    passwords = Path(found["PGPASSFILE"])
    assert passwords.stat().st_mode & 0o077 == 0
    assert passwords.read_text(encoding="utf-8") == "127.0.0.1:3:*:alipay_notify:hunter2\n"


def sourced(file: Path) -> dict[str, str]:
    """The environment of a shell that has sourced the file."""
    shell = shutil.which("sh")
    assert shell is not None
    done = subprocess.run(
        [shell, "-c", '. "$0"; env', file], capture_output=True, text=True, env={"PATH": "/usr/bin:/bin"}, check=True
    )
    return dict(each.partition("=")[::2] for each in done.stdout.splitlines())


def test_our_program_is_found_in_a_sourced_shell(directory: Directory) -> None:
    with environment.published(directory, {}, brokers=0, database=None) as file:
        found = sourced(file)
    assert shutil.which("alipay-notify", path=found["PATH"]) is not None
    assert not {"ALIPAY_NOTIFY_KAFKA", "ALIPAY_NOTIFY_POSTGRES_FILE", "PGHOST"} & found.keys()


def test_one_broker_is_for_development(directory: Directory) -> None:
    found = environment.variables(directory, ADDRESSES, brokers=1, database=None)
    assert found["ALIPAY_NOTIFY_DEVELOPMENT"] == "true"
