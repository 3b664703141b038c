"""Shadow mode over a recorded week: every planted difference is found, no other, and nothing else is touched."""

import asyncio
import hashlib
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from aiohttp import ClientSession
from typer.testing import Result

from deploy.embedded import directory as engine_directory
from deploy.sandbox.world import World
from deploy.shadow import server
from ingest.clock import SystemClock
from tests.acceptance import shadow_corpus
from tests.acceptance.shadow_corpus import Planted, RecordedWeek
from tests.support.fakes import MemoryLogger
from tests.unit.deploy.cli.commands import parsed, run

SEED = 11


class Outside:
    """Everything else that a payment system talks to: a port that notes each connection."""

    def __init__(self) -> None:
        self.connections = 0
        self.port = 0

    @asynccontextmanager
    async def listening(self) -> AsyncIterator["Outside"]:
        async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            self.connections += 1
            writer.close()

        listener = await asyncio.start_server(connected, "127.0.0.1", 0)
        self.port = listener.sockets[0].getsockname()[1]
        async with listener:
            yield self


class Merchant:
    """A merchant that has an engine too, and an environment that names all that an engine may talk to."""

    def __init__(self, home: Path, outside: Outside) -> None:
        self.home, self.shadow, self.engine = home, home / "shadow", home / "engine"
        url = f"http://127.0.0.1:{outside.port}"
        world = World.create(home / "world", gateway_url=url, notify_base=url, queries=True)
        self.accounts = world.directory / "merchant" / "accounts.toml"
        self.week = RecordedWeek(world, seed=SEED)
        (home / "books.csv").write_text(self.week.books())
        (home / "access.log").write_text(shadow_corpus.as_lines(self.week.log()))
        self._environ = {
            "ALIPAY_NOTIFY_ACCOUNTS": str(self.accounts),
            "ALIPAY_NOTIFY_DATA_DIR": str(self.engine),
            "ALIPAY_NOTIFY_KAFKA": f"127.0.0.1:{outside.port}",
            "ALIPAY_NOTIFY_REDIS": f"redis://127.0.0.1:{outside.port}",
            "ALIPAY_NOTIFY_POSTGRES": f"postgresql://127.0.0.1:{outside.port}/x",
            "ALIPAY_NOTIFY_ADMIN": url,
        }

    async def run(self, *arguments: str) -> Result:
        done = await asyncio.to_thread(run, self._environ, "shadow", *arguments, "--dir", str(self.shadow))
        if done.exception is not None and not isinstance(done.exception, SystemExit):
            raise done.exception
        return done

    def files(self) -> dict[str, str]:
        """All files but the shadow's, by their content."""
        paths = [path for path in self.home.rglob("*") if path.is_file() and self.shadow not in path.parents]
        return {str(path): hashlib.sha256(path.read_bytes()).hexdigest() for path in paths}


@pytest.fixture
async def outside() -> AsyncIterator[Outside]:
    async with Outside().listening() as listening:
        yield listening


@pytest.fixture
async def merchant(tmp_path: Path, outside: Outside) -> Merchant:
    merchant = Merchant(tmp_path, outside)
    async with engine_directory.open_files(merchant.engine, now_ms=SystemClock().epoch_ms):
        pass
    return merchant


async def test_mirrored_week_shows_every_planted_difference_and_no_other(merchant: Merchant, outside: Outside) -> None:
    before = merchant.files()
    await mirror(merchant)
    logged = await merchant.run("import", str(merchant.home / "access.log"))
    assert logged.exit_code == 0, logged.output
    assert f"{len(merchant.week.items) - len(merchant.week.never_logged)} answers to known ones" in logged.output
    assert (await merchant.run("orders", str(merchant.home / "books.csv"))).exit_code == 0
    report = await merchant.run("report", "--json", "--limit", "0")
    assert found(report) == merchant.week.planted
    assert report.exit_code == 3
    assert parsed(report)["notifications"] == len(merchant.week.items)
    assert (outside.connections, merchant.files()) == (0, before)


async def test_imported_week_shows_the_same_whatever_comes_first(merchant: Merchant, outside: Outside) -> None:
    before = merchant.files()
    assert (await merchant.run("import", str(merchant.home / "access.log"))).exit_code == 0
    assert (await merchant.run("orders", str(merchant.home / "books.csv"))).exit_code == 0
    expected = {each for each in merchant.week.planted if each[0] != "never_seen"}
    assert found(await merchant.run("report", "--json", "--limit", "0")) == expected
    again = await merchant.run("import", str(merchant.home / "access.log"))
    assert again.output.startswith("0 notifications, 0 answers to known ones, ")
    assert found(await merchant.run("report", "--json", "--limit", "0")) == expected
    assert (outside.connections, merchant.files()) == (0, before)


async def mirror(merchant: Merchant) -> None:
    """Send all notifications to the port of `shadow run`, and wait until it has decided them."""
    running = server.running(merchant.shadow, merchant.accounts, MemoryLogger(), host="127.0.0.1", port=0)
    async with running as port, ClientSession() as http:
        for index, item in enumerate(merchant.week.items):
            headers = dict(item.headers) | {"X-Request-ID": f"r-{index}"}
            address = f"http://127.0.0.1:{port}/notify/{item.account}"
            async with http.post(address, data=item.body, headers=headers) as answer:
                assert (answer.status, await answer.text()) == (202, server.ANSWER)
        # Beside the port, a report waits until everything is decided.
        report = await merchant.run("report", "--json")
        assert report.exit_code == 0, report.output
        assert parsed(report)["differences"] == 0


def found(report: Result) -> set[Planted]:
    """The differences that a report names."""
    assert report.exit_code in (0, 3), report.output
    differences: list[dict[str, Any]] = json.loads(report.stdout)["shown"]
    assert all(each["advice"] and each["reason"] for each in differences)
    return {(each["kind"], each["account"], each["order"]) for each in differences}
