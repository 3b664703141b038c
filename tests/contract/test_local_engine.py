"""The local engine with real HAProxy and Prometheus, in their shipped configurations, when processes come and go.

Our own processes are stand-ins: these tests are about their addresses, settings, scraping, restarts and stops.
"""

import asyncio
import os
import subprocess
import sys
from collections import Counter
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from aiohttp import ClientError, ClientSession, ClientTimeout, TCPConnector

from deploy.cluster.servers import of_stack
from deploy.local import engine, haproxy, leftovers, ports, programs, prometheus, stack
from deploy.local.directory import Directory
from deploy.local.engine import ClusterEngine, EngineServers, EngineSpec
from deploy.local.machine import Machine, Missing
from deploy.local.processes import DidNotStart
from deploy.local.programs import NeededProgram
from deploy.local.stack import StackSpec
from tests.support import real_servers as shared
from tests.support.paths import ROOT

STANDIN = (sys.executable, str(ROOT / "tests" / "contract" / "stand_in.py"))
BEHIND_HAPROXY = EngineSpec(receivers=2, balancer=True)
PER_S = 200
NOTICED_WITHIN_S = 3.0  # HAProxy takes a receiver out after two checks


@pytest.fixture
def machine() -> Machine:
    return Machine(environ=dict(os.environ))


@pytest.fixture
async def directory() -> AsyncIterator[Directory]:
    async with shared.first_free() as held:
        yield held
        marks = [leftovers.read(path) for path in (held.path / "run").glob("*.json")]
        assert not [mark for mark in marks if mark is not None and leftovers.is_alive(mark)], "left running"


@asynccontextmanager
async def running(
    directory: Directory, machine: Machine, wished: EngineSpec, servers: EngineServers | None = None, **settings: str
) -> AsyncIterator[ClusterEngine]:
    started = engine.running(directory, machine, servers or EngineServers(), wished, argv=STANDIN, settings=settings)
    async with shared.had(started) as ours:
        yield ours


class Sender:
    """Sends requests at a constant rate, whatever their answers."""

    def __init__(self, url: str) -> None:
        self._url = f"{url}/notify/demo-app"
        self.answers: Counter[str] = Counter()
        self.worst_s = 0.0

    @asynccontextmanager
    async def sending(self) -> AsyncIterator[None]:
        async with ClientSession(connector=TCPConnector(limit=200), timeout=ClientTimeout(total=15)) as session:
            going = asyncio.Event()
            work = asyncio.create_task(self._send(session, going))
            try:
                yield
            finally:
                going.set()
                await work

    async def _send(self, session: ClientSession, over: asyncio.Event) -> None:
        loop = asyncio.get_running_loop()
        due, sent = loop.time(), []
        while not over.is_set():
            sent.append(asyncio.create_task(self._one(session)))
            due += 1 / PER_S
            await asyncio.sleep(max(0.0, due - loop.time()))
        await asyncio.gather(*sent)

    async def _one(self, session: ClientSession) -> None:
        begun = asyncio.get_running_loop().time()
        try:
            async with session.post(self._url, data=b"notify_id=1&sign=x") as answer:
                self.answers[f"{answer.status} {await answer.text()}"] += 1
        except (ClientError, TimeoutError) as error:
            self.answers[type(error).__name__] += 1
        self.worst_s = max(self.worst_s, asyncio.get_running_loop().time() - begun)


async def test_receivers_restarted_one_after_the_other_lose_no_request(directory: Directory, machine: Machine) -> None:
    async with running(directory, machine, BEHIND_HAPROXY) as ours:
        sender = Sender(ours.public_url)
        async with sender.sending():
            for role in ours.receivers:
                await asyncio.sleep(1)
                await role.process.stop()
                assert role.process.code == 0
                await role.process.start()
                await asyncio.sleep(NOTICED_WITHIN_S / 2)
    assert set(sender.answers) == {"200 success"}
    assert sender.answers.total() > 5 * PER_S
    assert sender.worst_s < 2


async def test_killed_receiver_loses_no_request_and_is_taken_back(directory: Directory, machine: Machine) -> None:
    async with running(directory, machine, BEHIND_HAPROXY) as ours:
        sender = Sender(ours.public_url)
        async with sender.sending():
            await asyncio.sleep(1)
            await ours.receivers[0].process.kill()
            await asyncio.sleep(NOTICED_WITHIN_S)
            await ours.receivers[0].process.start()
        assert set(sender.answers) == {"200 success"}
        async with asyncio.timeout(10):
            while len({await pid(ours.public_url) for _ in range(8)}) < 2:
                await asyncio.sleep(0.1)


async def pid(url: str) -> str:
    """Return the process id of the receiver that answers."""
    async with ClientSession() as session, session.post(f"{url}/notify/demo-app", data=b"x") as answer:
        return answer.headers["Pid"]


async def test_answers_of_503_take_no_receiver_out(directory: Directory, machine: Machine) -> None:
    """All receivers answer 503 at once while Kafka is unavailable."""
    full = Machine(environ={**machine.environ, "STANDIN_ANSWER": "503"})
    async with running(directory, full, BEHIND_HAPROXY) as ours:
        sender = Sender(ours.public_url)
        async with sender.sending():
            await asyncio.sleep(2)
        assert set(sender.answers) == {"503 fail"}
        status = await text(f"http://{balancer(ours).stats_address}/metrics")
        up = [
            line for line in status.splitlines() if line.startswith("haproxy_server_status{") and 'state="UP"' in line
        ]
        assert len(up) == 2
        assert all(line.endswith(" 1") for line in up)


async def test_without_a_receiver_haproxy_answers_503_fail_at_once(directory: Directory, machine: Machine) -> None:
    async with running(directory, machine, EngineSpec(receivers=1, balancer=True)) as ours:
        await ours.receivers[0].process.kill()
        await asyncio.sleep(NOTICED_WITHIN_S)
        async with ClientSession() as session, session.post(f"{ours.public_url}/notify/x", data=b"x") as answer:
            assert (answer.status, await answer.text(), answer.headers["Retry-After"]) == (503, "fail", "5")


async def test_body_that_never_ends_is_refused_by_haproxy(directory: Directory, machine: Machine) -> None:
    async with running(directory, machine, EngineSpec(receivers=1, balancer=True)) as ours:
        reader, writer = await asyncio.open_connection("127.0.0.1", balancer(ours).port)
        writer.write(b"POST /notify/x HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\nabc")
        async with asyncio.timeout(8):
            answer = await reader.read()
        writer.close()
        assert answer.startswith(b"HTTP/1.1 408 ")
        assert answer.endswith(b"fail")


def balancer(ours: ClusterEngine) -> haproxy.Balancer:
    assert ours.balancer is not None
    return ours.balancer


async def text(url: str) -> str:
    async with ClientSession() as session, session.get(url) as answer:
        return await answer.text()


async def test_prometheus_scrapes_each_kind_of_process(directory: Directory, machine: Machine) -> None:
    wished = EngineSpec(receivers=1, workers=1, console=True, balancer=True, prometheus=True)
    async with running(directory, machine, wished) as ours, ClientSession() as session:
        assert ours.prometheus is not None
        async with asyncio.timeout(30):
            while await up(session, ours.prometheus.url) != {"ingest", "worker", "console", "haproxy"}:
                await asyncio.sleep(0.2)


async def up(session: ClientSession, url: str) -> set[str]:
    """Return the jobs whose last scrape succeeded."""
    async with session.get(f"{url}/api/v1/query", params={"query": "up == 1"}) as answer:
        found: list[dict[str, Any]] = (await answer.json())["data"]["result"]
    return {sample["metric"]["job"] for sample in found}


async def test_processes_get_the_servers_addresses_and_no_variables_of_the_user(
    directory: Directory, machine: Machine
) -> None:
    users = Machine(environ={**machine.environ, "ALIPAY_NOTIFY_EXPOSED": "true", "ALIPAY_NOTIFY_GROUP": "mine"})
    servers = EngineServers(
        kafka="127.0.0.1:1", redis="redis://127.0.0.1:2/0", postgres="postgresql://x:hunter2@127.0.0.1:3/x"
    )
    async with running(directory, users, EngineSpec(workers=1, console=True), servers, topic_prefix="tests") as ours:
        environment = await text(f"{ours.workers[0].admin_url}/environment")
    assert "127.0.0.1:1" in environment
    assert "redis://127.0.0.1:2/0" in environment
    assert '"ALIPAY_NOTIFY_TOPIC_PREFIX": "tests"' in environment
    assert "EXPOSED" not in environment
    assert "GROUP" not in environment
    assert "hunter2" not in environment
    prepared = (directory.log("topics").read_text(), directory.log("migrate").read_text())
    assert prepared[0] == "topics apply --kafka 127.0.0.1:1 --topic-prefix tests --development --yes\n"
    assert prepared[1].startswith("db upgrade --postgres-file ")
    assert "hunter2" not in prepared[1]
    secret = directory.path / "secrets" / "postgres"
    assert secret.stat().st_mode & 0o077 == 0


async def test_failed_preparation_starts_no_process(directory: Directory, machine: Machine) -> None:
    failing = Machine(environ={**machine.environ, "STANDIN_FAILS": "topics"})
    with pytest.raises(DidNotStart, match="topics failed with 1"):
        async with running(directory, failing, EngineSpec(workers=1), EngineServers(kafka="127.0.0.1:1")):
            pass


async def test_stack_with_some_servers_and_processes_has_their_addresses(tmp_path: Path, machine: Machine) -> None:
    asked = StackSpec(redis=True, ours=EngineSpec(receivers=2, workers=1, sandbox=True))
    async with shared.had(stack.running(tmp_path, machine, asked, fresh=True, argv=STANDIN)) as started:
        addresses = started.addresses()
        assert of_stack(tmp_path) == addresses
        assert set(addresses) == {
            "redis",
            "public",
            "receivers",
            "receivers_admin",
            "workers",
            "sandbox",
            "world",
            "accounts",
        }
        assert addresses["receivers"].split(",")[0] == addresses["public"]
        assert Path(addresses["accounts"]).exists()
        assert [process.name for process in started.processes()] == [
            "redis", "ingest-1", "ingest-2", "worker-1", "sandbox",
        ]  # fmt: skip
        assert all(process.runs for process in started.processes())
    assert not any(process.runs for process in started.processes())


async def test_haproxy_finds_no_fault_in_the_shipped_file(machine: Machine) -> None:
    program = await found(machine, programs.HAPROXY)
    two = [haproxy.Backend(public=f"127.0.0.1:{port}", admin=f"127.0.0.1:{port + 1}") for port in (1, 3)]
    for receivers in (two[:1], two, two * 2):
        variables = haproxy.variables(receivers, port=ports.free(1)[0], stats_port=ports.free(1)[0])
        done = await run(program, "-c", "-f", haproxy.CONFIGURATION, env=variables)
        assert done.returncode == 0, done.stderr
        assert "WARNING" not in done.stderr


async def test_promtool_finds_no_fault_in_the_shipped_files(tmp_path: Path, machine: Machine) -> None:
    promtool = (await found(machine, programs.PROMETHEUS)).with_name("promtool")
    file, targets = prometheus._lay_out(tmp_path, prometheus.CONFIGURATION)
    targets.write_bytes((prometheus.CONFIGURATION.parent / "targets.example.json").read_bytes())
    (tmp_path / prometheus.ALERTMANAGERS / "stack.json").write_text('[{"targets": ["127.0.0.1:9093"]}]')
    done = await run(promtool, "check", "config", file)
    assert done.returncode == 0, done.stderr
    assert "WARNING" not in done.stderr + done.stdout


async def found(machine: Machine, wanted: NeededProgram) -> Path:
    try:
        return await machine.find(wanted)
    except Missing as missing:
        shared.absent(missing)


async def run(*argv: str | Path, env: Mapping[str, str] | None = None) -> subprocess.CompletedProcess[str]:
    return await asyncio.to_thread(subprocess.run, argv, env=env, capture_output=True, text=True, check=False)
