"""Every scenario, for every account that it suits, through a real engine: it ends as its file promises.

And the way round: the program signs a Request, the buyer pays at the cashier, and the program checks what comes back.
"""

import asyncio
import html
import json
import re
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.error import HTTPError
from urllib.parse import urlencode, urlsplit
from urllib.request import urlopen

import pytest
from typer.testing import CliRunner

from deploy.cli import main
from deploy.sandbox import scenario_files, server
from deploy.sandbox.server import SandboxServer
from deploy.sandbox.world import IDENTITIES, World
from ingest.checkout import requests
from tests.support.paths import ROOT
from tests.support.processes import Engine, eventually

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


def signed(world: World, product: str, account: str, order: str, *more: str) -> dict[str, Any]:
    """Return the Request that the program signs for the account's merchant."""
    command = ["request", product, "--account", account, "--order", order, "--subject", "Tea", "--amount", "12.80"]
    command += ["--accounts", str(world.accounts_file), "--output", "json", *more]
    done = CliRunner().invoke(main.application(), command)
    assert done.exit_code == 0, done.output
    answer: dict[str, Any] = json.loads(done.stdout)
    return answer


def visited(url: str, **form: str) -> tuple[str, str]:
    """Return where a browser ends, and the page; a shop that does not exist answers too."""
    try:
        with urlopen(url, urlencode(form).encode() if form else None, timeout=10) as answer:
            return answer.url, answer.read().decode()
    except HTTPError as error:
        return str(error.url), error.read().decode()


def paid(engine: Engine, account: str, order: str) -> dict[str, Any]:
    def page() -> dict[str, Any] | None:
        status, answer = engine.get(f"/api/orders/{account}/{order}")
        return answer if status == 200 and answer["status"] in ("PAID", "FINISHED") else None

    found: dict[str, Any] = eventually(page)
    return found


@pytest.mark.parametrize(
    ("account", "product"), [("demo-web", "h5"), ("demo-web", "page"), ("demo-cn", "page"), ("demo-cn", "wap")]
)
def test_signed_request_is_paid_and_its_return_is_authentic(
    engine: tuple[Engine, World], account: str, product: str
) -> None:
    running, world = engine
    order = f"R-{account}-{product}"
    assert running.put(f"/api/orders/{account}/{order}", {"amount": "12.80"})[0] == 201
    shop = urlsplit(world.gateway_url)._replace(path="/no/shop").geturl()
    cashier, page = visited(signed(world, product, account, order, "--return-url", shop)["url"])
    assert order in page, page
    back, _ = visited(f"{cashier}/end", ending="notified_first")
    assert back.startswith(shop)
    status, answer = running.post(f"/api/returns/{account}", {"query": urlsplit(back).query})
    assert (status, answer["authentic"], answer["claims"]["out_trade_no"]) == (200, True, order), answer
    assert paid(running, account, order)["amount"] == "12.80"


def test_native_request_is_paid_and_the_app_s_result_is_authentic(engine: tuple[Engine, World]) -> None:
    running, world = engine
    order = "R-native"
    text = signed(world, "native", "demo-app", order)["order_string"]
    cashier, _ = visited(f"{world.gateway_url}/app", order_string=text)
    _, page = visited(f"{cashier}/end", ending="notified_first")
    found = re.search(r'<pre class="text" id="result">(.*?)</pre>', page, re.DOTALL)
    assert found is not None, page
    status, answer = running.post("/api/returns/demo-app", {"result": html.unescape(found[1])})
    assert (status, answer["authentic"], answer["result_status"]) == (200, True, "9000"), answer
    assert paid(running, "demo-app", order)["amount"] == "12.80"


def test_request_that_was_changed_is_refused_by_the_gateway(engine: tuple[Engine, World]) -> None:
    _, world = engine
    shop = "http://127.0.0.1:1/"
    url = signed(world, "wap", "demo-cn", "R-changed", "--return-url", shop)["url"]
    assert "ILLEGAL_SIGN" in visited(url.replace("12.80", "0.80"))[1]
    text = signed(world, "native", "demo-app", "R-changed")["order_string"]
    for changed in (text.replace("12.80", "0.80"), "nonsense", text.partition("&sign=")[0]):
        assert "ILLEGAL_" in visited(f"{world.gateway_url}/app", order_string=changed)[1]
