"""Every scenario, for every account that it suits, through a real engine: it ends as its file promises."""

import asyncio
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from typer.testing import CliRunner

from deploy.cli import main
from deploy.sandbox import scenario_files, server
from deploy.sandbox.server import SandboxServer
from deploy.sandbox.world import IDENTITIES, World
from ingest.checkout import requests
from tests.support.paths import ROOT
from tests.support.processes import Engine

SCENARIOS = scenario_files.load_all()
# One scenario of many orders is enough for one account.
CASES = [
    (name, one.name)
    for name, scenario in SCENARIOS.items()
    for one in IDENTITIES
    if scenario.suits_identity(one) and (scenario.orders == 1 or one.name == "demo-cn")
]


class Gateway(threading.Thread):
    """The simulated Alipay in a thread, because `notify_verify` is asked while a command plays."""

    def __init__(self, sandbox: SandboxServer) -> None:
        super().__init__(daemon=True)
        self._sandbox = sandbox
        self._loop = asyncio.new_event_loop()
        self._stopping = asyncio.Event()
        self.ready = threading.Event()

    def run(self) -> None:
        self._loop.run_until_complete(self._serve())
        self._loop.close()

    async def _serve(self) -> None:
        async with self._sandbox:
            self.ready.set()
            await self._stopping.wait()

    def end(self) -> None:
        self._loop.call_soon_threadsafe(self._stopping.set)
        self.join(10)


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Engine, World]]:
    home = tmp_path_factory.mktemp("scenarios")
    sock = server.listening("127.0.0.1", 0)
    url = server.url_of(sock)
    world = World.create(home / "world", gateway_url=url, notify_base="http://127.0.0.1:1")
    engine = Engine(world.accounts_file, home / "data")
    engine.start()
    world = World.create(home / "world", gateway_url=url, notify_base=engine.public)
    gateway = Gateway(SandboxServer(world, sock=sock, admin_url=engine.admin, request_url=requests.redirect_url))
    gateway.start()
    assert gateway.ready.wait(10)
    try:
        yield engine, world
    finally:
        gateway.end()
        engine.end()


def play(engine: tuple[Engine, World], *arguments: str) -> None:
    running, world = engine
    command = ["trigger", *arguments, "--dir", str(world.directory), "--admin", running.admin, "--check"]
    played = CliRunner().invoke(main.application(), command)
    assert played.exit_code == 0, played.output
    assert "(it is so)" in played.output


@pytest.mark.parametrize(("name", "account"), CASES)
def test_scenario_ends_as_it_promises(engine: tuple[Engine, World], name: str, account: str) -> None:
    play(engine, name, "--account", account)


def test_scenario_in_the_docs_ends_as_it_promises(engine: tuple[Engine, World], tmp_path: Path) -> None:
    text = (ROOT / "deploy/docs/sandbox.md").read_text()
    file = tmp_path / "my.toml"
    file.write_text(text.split("```toml\n")[1].split("```")[0])
    play(engine, "--file", str(file))


@pytest.mark.parametrize("name", sorted(SCENARIOS))
def test_every_scenario_promises_an_end_for_each_account(name: str) -> None:
    scenario = SCENARIOS[name]
    assert all(scenario.end(one) is not None for one in IDENTITIES if scenario.suits_identity(one))
