"""The summary that the operator sees when a stack is ready."""

from pathlib import Path

import pytest

from deploy.local import lifecycle
from deploy.local.directory import Directory
from deploy.local.engine import ClusterEngine
from deploy.local.postgres import Postgres
from deploy.local.processes import Process
from deploy.local.redis import Redis
from deploy.local.roles import Role
from deploy.local.stack import Stack
from deploy.sandbox.world import World
from tests.unit.deploy.local import samples


async def healthy() -> bool:
    return True


@pytest.fixture
def directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Directory:
    monkeypatch.chdir(tmp_path)
    (tmp_path / ".stack").mkdir()
    return samples.directory(tmp_path / ".stack")


def role(directory: Directory, name: str, *, port: int, admin: int) -> Role:
    process = Process(directory, samples.spec("", name=name), healthy=healthy)
    return Role(port=port, admin_port=admin, process=process)


def test_summary_of_an_engine_has_commands_to_copy(directory: Directory) -> None:
    world = World.create(
        directory.home("world"), gateway_url="http://127.0.0.1:8089", notify_base="http://127.0.0.1:8080"
    )
    engine = ClusterEngine(
        world=world,
        receivers=(role(directory, "ingest-1", port=8080, admin=9465),),
        console=role(directory, "console", port=0, admin=9464),
    )
    summary = lifecycle.ready_summary(Stack(directory=directory, engine=engine), detached=True)
    assert "http://127.0.0.1:8080/notify/ACCOUNT" in summary
    assert "http://127.0.0.1:9464/" in summary
    assert "  source .stack/env\n  alipay-notify trigger paid\n  alipay-notify held list\n" in summary
    assert "  alipay-notify load --to http://127.0.0.1:8080 --admin http://127.0.0.1:9464 --duration 30s" in summary
    assert "Stop it with `make stack-down`" in summary
    assert ".stack/log/stack.log" in summary


def test_summary_of_servers_alone_has_no_commands(directory: Directory) -> None:
    process = Process(directory, samples.spec("", name="redis"), healthy=healthy)
    summary = lifecycle.ready_summary(Stack(directory=directory, redis=Redis(port=1, process=process)), detached=False)
    assert "redis://127.0.0.1:1/0" in summary
    assert "source .stack/env" in summary
    assert "trigger" not in summary
    assert "Stop it with Ctrl-C" in summary


def test_no_password_is_printed(directory: Directory) -> None:
    process = Process(directory, samples.spec("", name="postgres"), healthy=healthy)
    started = Stack(directory=directory, postgres=Postgres(port=2, password="hunter2", process=process))
    printed = lifecycle.ready_line(started) + lifecycle.ready_summary(started, detached=True)
    assert "127.0.0.1:2" in printed
    assert "hunter2" not in printed
