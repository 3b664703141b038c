"""The local stack with real servers: each is started, used through its ordinary client, and gone afterwards."""

import asyncio
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

import asyncpg
import msgspec
import pytest
from aiohttp import ClientSession
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer
from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from redis.asyncio import Redis as Client
from redis.exceptions import RedisError

from deploy import directory_lock
from deploy.cluster import kafka_admin, servers
from deploy.local import directory as directories
from deploy.local import haproxy, leftovers, lifecycle, ports, postgres, programs, prometheus, redis
from deploy.local.directory import Directory
from deploy.local.kafka import cluster
from deploy.local.kafka.cluster import Kafka
from deploy.local.leftovers import Mark
from deploy.local.machine import Machine, Missing
from deploy.local.processes import DidNotStart
from deploy.local.programs import NeededProgram
from tests.support import real_servers
from tests.support.paths import ROOT

TOPIC = "tests.local.stack.v1"
# A killed broker cannot start again before its session is over. The default of nine seconds would only be waited for.
SHORT_SESSIONS = {"broker.session.timeout.ms": "3000", "broker.heartbeat.interval.ms": "500"}


@pytest.fixture
async def directory(tmp_path: Path) -> AsyncIterator[Directory]:
    """A private directory: an unprivileged account cannot pass through it."""
    async with directories.held(tmp_path / "stack", fresh=True) as held:
        yield held
        assert running(held) == [], "something was left running"


@pytest.fixture
def machine() -> Machine:
    return Machine(environ=dict(os.environ))


def running(directory: Directory) -> list[Mark]:
    marks = [leftovers.read(path) for path in (directory.path / "run").glob("*.json")]
    return [mark for mark in marks if mark is not None and leftovers.is_alive(mark)]


async def test_record_that_one_broker_acknowledged_is_read_by_a_group(kafka: str) -> None:
    await create_topic(kafka, copies=1)
    await produce(kafka, b"one")
    assert await consume(kafka, "readers") == [b"one"]


async def test_redis_keeps_a_value(redis_url: str) -> None:
    async with client(redis_url) as connected:
        await connected.set("key", "value", px=60_000)
        assert await connected.get("key") == b"value"


async def test_postgres_has_our_database_and_fsync(postgres_dsn: str) -> None:
    async with connection(postgres_dsn) as connected:
        assert await connected.fetchval("SELECT current_database()") == "alipay_notify"
        assert await connected.fetchval("SHOW fsync") == "on"
        assert await connected.fetchval("SHOW server_encoding") == "UTF8"


async def test_postgres_requires_its_password(postgres_dsn: str) -> None:
    before, _, after = postgres_dsn.partition("@")
    with pytest.raises(asyncpg.InvalidPasswordError):
        await asyncpg.connect(f"{before}x@{after}", timeout=5)


async def test_three_brokers_go_on_when_one_is_killed_and_take_it_back(directory: Directory, machine: Machine) -> None:
    async with real_servers.had(cluster.running(directory, machine, brokers=3, more=SHORT_SESSIONS)) as kafka:
        await create_topic(kafka.bootstrap, copies=3)
        await produce(kafka.bootstrap, b"by three")
        killed = kafka.brokers[0].process
        await killed.kill()
        await produce(kafka.bootstrap, b"by two")
        await until_behind(kafka, (1,))
        await killed.start()
        await kafka.ready()
        await until_behind(kafka, ())
        assert await consume(kafka.bootstrap, "readers", records=2) == [b"by three", b"by two"]


async def until_behind(kafka: Kafka, brokers: tuple[int, ...]) -> None:
    """Return when these brokers have copies that are not in sync, and no others."""
    async with asyncio.timeout(60):
        while (await kafka_admin.look({"bootstrap_servers": kafka.bootstrap}, [TOPIC]))[TOPIC].behind != brokers:
            await asyncio.sleep(0.2)


async def test_one_broker_keeps_its_records_over_a_kill(directory: Directory, machine: Machine) -> None:
    async with real_servers.had(cluster.running(directory, machine, more=SHORT_SESSIONS)) as kafka:
        await create_topic(kafka.bootstrap, copies=1)
        await produce(kafka.bootstrap, b"before")
        await kafka.brokers[0].process.kill()
        await kafka.brokers[0].process.start()
        await kafka.ready()
        assert await consume(kafka.bootstrap, "readers") == [b"before"]


async def test_running_cluster_is_used_and_left_running(kafka: str, local_kafka: Kafka, directory: Directory) -> None:
    machine = Machine(environ={cluster.RUNNING_CLUSTER: kafka})
    async with real_servers.had(cluster.running(directory, machine)) as used:
        assert used.bootstrap == kafka
        assert used.brokers == ()
    await local_kafka.ready()


async def test_cluster_of_a_sourced_stack_is_not_used(directory: Directory, tmp_path: Path) -> None:
    named = {cluster.RUNNING_CLUSTER: "127.0.0.1:1", cluster.OF_STACK: ".stack", "KAFKA_HOME": str(tmp_path)}
    machine = Machine(environ={**os.environ, **named})
    with pytest.raises(Missing, match="KAFKA_HOME"):  # it would have started one of its own
        async with cluster.running(directory, machine):
            pass


async def test_cluster_that_does_not_answer_is_an_error(directory: Directory, monkeypatch: pytest.MonkeyPatch) -> None:
    (port,) = ports.free(1)
    machine = Machine(environ={cluster.RUNNING_CLUSTER: f"127.0.0.1:{port}"})
    monkeypatch.setattr(cluster, "ASK_WITHIN_S", 0.2)
    with pytest.raises(DidNotStart, match=f"127.0.0.1:{port} was not ready"):
        async with real_servers.had(cluster.running(directory, machine)):
            pass


async def test_postgres_has_its_port_and_rows_after_a_kill(directory: Directory, machine: Machine) -> None:
    async with real_servers.had(postgres.running(directory, machine)) as server:
        async with connection(server.dsn) as connected:
            await connected.execute("CREATE TABLE kept (it int); INSERT INTO kept VALUES (7)")
            await server.process.kill()
        await server.start_again()
        async with connection(server.dsn) as connected:
            assert await connected.fetchval("SELECT it FROM kept") == 7


async def test_redis_has_its_port_and_no_data_after_a_kill(directory: Directory, machine: Machine) -> None:
    async with (
        real_servers.had(redis.running(directory, machine, more={"maxmemory": "10mb"})) as server,
        client(server.url) as to,
    ):
        assert await to.config_get("maxmemory") == {"maxmemory": str(10 << 20)}
        await to.set("key", "value")
        await server.process.kill()
        with pytest.raises(RedisError):
            await to.get("key")
        await server.process.start()
        assert await to.get("key") is None


@pytest.mark.parametrize(("server", "program"), [(redis, "REDIS"), (postgres, "POSTGRES")])
async def test_server_of_a_python_wheel_works_as_well(
    server: Any, program: str, directory: Directory, machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    wanted: NeededProgram = getattr(programs, program)
    assert wanted.wheel is not None
    only_wheel = msgspec.structs.replace(wanted, programs=("not-installed",), places=(), debian="")
    monkeypatch.setattr(programs, program, only_wheel)
    async with real_servers.had(server.running(directory, msgspec.structs.replace(machine, may_install=False))):
        assert len(running(directory)) == 1


async def test_haproxy_fills_variables_into_its_configuration(
    directory: Directory, machine: Machine, tmp_path: Path
) -> None:
    (port,) = ports.free(1)
    configuration = tmp_path / "haproxy.cfg"
    configuration.write_text(
        "defaults\n  mode http\n  timeout client 5s\n  timeout server 5s\n  timeout connect 1s\n"
        'frontend public\n  bind "127.0.0.1:${PUBLIC}"\n'
        '  http-request return status 200 content-type text/plain string "from ${WHO}"\n'
    )
    variables = {"PUBLIC": str(port), "WHO": "haproxy"}
    async with (
        haproxy.running(directory, machine, configuration=configuration, listening=[port], variables=variables),
        ClientSession() as session,
        session.get(f"http://127.0.0.1:{port}/") as answer,
    ):
        assert (answer.status, await answer.text()) == (200, "from haproxy")


async def test_wrong_haproxy_configuration_is_reported_before_the_start(
    directory: Directory, machine: Machine, tmp_path: Path
) -> None:
    configuration = tmp_path / "haproxy.cfg"
    configuration.write_text("frontend public\n  bnid :80\n")
    with pytest.raises(DidNotStart, match="bnid"):
        async with real_servers.had(haproxy.running(directory, machine, configuration=configuration, listening=[1])):
            pass


async def test_prometheus_scrapes_targets_that_are_set_later(directory: Directory, machine: Machine) -> None:
    async with (
        real_servers.had(prometheus.running(directory, machine, jobs={})) as server,
        ClientSession() as session,
    ):
        server.scrape({"itself": [f"127.0.0.1:{server.port}"]})
        async with asyncio.timeout(30):
            while await scraped(session, server.url) != ["itself"]:
                await asyncio.sleep(0.2)


async def scraped(session: ClientSession, url: str) -> list[str]:
    """Return the jobs whose last scrape succeeded."""
    async with session.get(f"{url}/api/v1/query", params={"query": "up == 1"}) as answer:
        found = (await answer.json())["data"]["result"]
    return [sample["metric"]["job"] for sample in found]


def test_command_prints_the_addresses_and_takes_the_servers_down(tmp_path: Path) -> None:
    with command(tmp_path, "--redis", "--postgres", "--fresh") as process:
        assert process.stdout is not None
        ready = json.loads(process.stdout.readline() or "{}")
        assert ready["event"] == "ready"
        assert ready["redis"].startswith("redis://127.0.0.1:")
        assert ready["postgres"].startswith("postgresql://")
        marks = running(Directory(tmp_path / "stack"))
        assert len(marks) == 2
        with command(tmp_path, "--down") as down:
            assert down.wait(30) == 0
        assert process.wait(30) == 0
    assert not [mark for mark in marks if leftovers.is_alive(mark)]


def test_servers_left_by_a_killed_command_are_ended_by_the_next(tmp_path: Path) -> None:
    with command(tmp_path, "--redis") as killed:
        assert killed.stdout is not None
        assert killed.stdout.readline()
        (left,) = running(Directory(tmp_path / "stack"))
        killed.kill()
    assert leftovers.is_alive(left)
    with command(tmp_path, "--redis") as second:
        assert second.stdout is not None
        assert second.stdout.readline()
        assert not leftovers.is_alive(left)
        second.send_signal(signal.SIGINT)
        assert second.wait(30) == 0


def test_detached_stack_runs_until_it_is_taken_down(tmp_path: Path) -> None:
    with command(tmp_path, "--redis", "--detach", "--fresh") as starting:
        assert starting.wait(30) == 0
    (redis_mark,) = running(Directory(tmp_path / "stack"))
    found = servers.of_stack(tmp_path / "stack")
    assert found is not None
    assert outcome(tmp_path, "--status") == (0, found)
    with command(tmp_path, "--redis", "--detach") as second:
        assert second.wait(30) == 1
        assert second.stderr is not None
        assert "is in use by process" in second.stderr.read()
    os.kill(redis_mark.pid, signal.SIGKILL)
    log = tmp_path / "stack" / "log" / "stack.log"
    until(lambda: "redis ended with -9" in log.read_text())
    assert outcome(tmp_path, "--status") == (3, found)
    assert outcome(tmp_path, "--down") == (0, None)
    assert servers.of_stack(tmp_path / "stack") is None
    assert ports.is_free(int(found["redis"].rpartition(":")[2].partition("/")[0]))


def test_signal_to_a_detaching_command_ends_its_servers(tmp_path: Path) -> None:
    with command(tmp_path, "--postgres", "--detach") as starting:
        until(lambda: any((tmp_path / "stack" / "run").glob("*.json")))
        starting.send_signal(signal.SIGINT)
        assert starting.wait(30) == 1
    assert running(Directory(tmp_path / "stack")) == []
    assert directory_lock.holder(tmp_path / "stack") is None


def test_taking_down_ends_servers_that_a_killed_keeper_left(tmp_path: Path) -> None:
    with command(tmp_path, "--redis", "--detach") as starting:
        assert starting.wait(30) == 0
    (left,) = running(Directory(tmp_path / "stack"))
    keeper = directory_lock.holder(tmp_path / "stack")
    assert keeper is not None
    os.kill(keeper, signal.SIGKILL)
    until(lambda: directory_lock.holder(tmp_path / "stack") is None)
    assert leftovers.is_alive(left)
    assert outcome(tmp_path, "--down") == (0, None)
    assert not leftovers.is_alive(left)


def test_frozen_keeper_is_killed_and_nothing_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lifecycle, "DOWN_WITHIN_S", 1.0)
    with command(tmp_path, "--redis", "--detach") as starting:
        assert starting.wait(30) == 0
    keeper = directory_lock.holder(tmp_path / "stack")
    assert keeper is not None
    os.kill(keeper, signal.SIGSTOP)
    lifecycle.take_down(tmp_path / "stack")
    assert running(Directory(tmp_path / "stack")) == []


def outcome(tmp_path: Path, option: str) -> tuple[int, object]:
    """Run the command and return its exit code and its JSON output."""
    with command(tmp_path, option) as process:
        out, _ = process.communicate(timeout=30)
        return process.returncode, json.loads(out) if out else None


def until(condition: Callable[[], bool], within_s: float = 10.0) -> None:
    deadline = time.monotonic() + within_s
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_command_without_options_names_them(tmp_path: Path) -> None:
    with command(tmp_path) as process:
        assert process.wait(30) == 2
        assert process.stderr is not None
        assert "--kafka" in process.stderr.read()


@contextmanager
def command(tmp_path: Path, *arguments: str) -> Iterator["subprocess.Popen[str]"]:
    argv = [sys.executable, "-m", "deploy.local", "--directory", str(tmp_path / "stack"), *arguments]
    with subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=ROOT) as process:
        try:
            yield process
        finally:
            if process.poll() is None:
                process.terminate()


@asynccontextmanager
async def connection(dsn: str) -> AsyncIterator["asyncpg.Connection[asyncpg.Record]"]:
    connected = await asyncpg.connect(dsn, timeout=10)
    try:
        yield connected
    finally:
        if not connected.is_closed():
            await connected.close(timeout=5)


@asynccontextmanager
async def client(url: str) -> AsyncIterator[Client]:
    connected = Client.from_url(url, socket_timeout=2, socket_connect_timeout=2)
    try:
        yield connected
    finally:
        await connected.aclose()


async def create_topic(bootstrap: str, *, copies: int) -> None:
    admin = AIOKafkaAdminClient(bootstrap_servers=bootstrap, request_timeout_ms=10_000)
    await admin.start()
    try:
        await admin.create_topics([NewTopic(TOPIC, num_partitions=1, replication_factor=copies)])
    finally:
        await admin.close()


async def produce(bootstrap: str, value: bytes) -> None:
    producer = AIOKafkaProducer(bootstrap_servers=bootstrap, acks="all", request_timeout_ms=90_000)
    async with asyncio.timeout(120), producer:
        await producer.send_and_wait(TOPIC, value)


async def consume(bootstrap: str, group: str, *, records: int = 1) -> list[bytes]:
    """Return the values of the first records, read by a group that commits its offset."""
    consumer = AIOKafkaConsumer(
        TOPIC, bootstrap_servers=bootstrap, group_id=group, auto_offset_reset="earliest", enable_auto_commit=False
    )
    async with asyncio.timeout(60), consumer:
        values = [(await consumer.getone()).value for _ in range(records)]
        await consumer.commit()
    return values
