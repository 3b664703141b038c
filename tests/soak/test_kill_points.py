"""Break the engine at every step between a record and its effects, then judge its files.

Alipay goes on sending: notifications without a `success` are retried against the restarted engine.
"""

import asyncio
import json
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, closing
from datetime import UTC, datetime
from pathlib import Path

import pytest

from deploy.embedded.directory import JOURNAL, STORE
from deploy.embedded.housekeeping import LOOK_EVERY_S
from deploy.sandbox.world import World
from tests.acceptance import dumps, judge, sending
from tests.acceptance.sending import History
from tests.faults import breaking
from tests.support import flood_corpus, tally
from tests.support.flood_corpus import Item
from tests.support.paths import ROOT
from tests.support.processes import Engine, eventually

ORDERS = 50
PASSES = 3  # so that a few batches are behind it, and many before
STANDS_S = 4.0  # longer than any request may take
WANTED = os.environ.get("BREAK_HOW", "kill").split(",")
ACCOUNTS = ("demo-cn", "demo-md5", "demo-app")


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    """One Alipay for all the deaths."""
    place = tmp_path_factory.mktemp("world")
    return World.create(place, gateway_url="http://127.0.0.1:1", notify_base="http://127.0.0.1:1")


@pytest.fixture(scope="module")
def items(world: World) -> list[Item]:
    return list(flood_corpus.generate(world, seed=20251009, orders=ORDERS, now=datetime.now(UTC), accounts=ACCOUNTS))


@pytest.fixture
def engine(world: World, tmp_path: Path) -> Iterator[Engine]:
    engine = Engine(world.accounts_file, tmp_path / "engine")
    yield engine
    engine.end()


def broken(how: str) -> list[str]:
    """The steps at which the engine can be broken so, if this run wants it."""
    if how not in WANTED:
        return []
    return [point for point in breaking.POINTS if how != "cancel" or point not in breaking.WITHOUT_TASK]


@pytest.mark.parametrize("point", broken("kill"))
async def test_kill_at_each_step_loses_nothing_and_repeats_nothing(
    world: World, items: list[Item], engine: Engine, tmp_path: Path, point: str
) -> None:
    async with _sending(engine, items, BREAK_AT=point, BREAK_AFTER=str(PASSES)) as (history, sent):
        assert await asyncio.to_thread(engine.died, 20) == -9
        _is_whole(tmp_path, list(history.acknowledged))
        await asyncio.to_thread(engine.start)
        await sent
        await asyncio.to_thread(eventually, lambda: _is_quiet(engine))
    _is_judged(world, items, engine, tmp_path, history)


@pytest.mark.parametrize(
    ("how", "point"), [(how, point) for how in ("stop", "raise", "cancel") for point in broken(how)]
)
async def test_engine_that_breaks_at_a_step_and_goes_on_loses_nothing(
    world: World, items: list[Item], engine: Engine, tmp_path: Path, how: str, point: str
) -> None:
    fault = {"BREAK_AT": point, "BREAK_HOW": how, "BREAK_AFTER": str(PASSES)}
    async with _sending(engine, items, **fault) as (history, sent):
        await asyncio.to_thread(eventually, lambda: "planted: " in engine.log.read_text(), within_s=60)
        if how == "stop":
            await asyncio.sleep(STANDS_S)
            os.kill(engine.pid, signal.SIGCONT)
        await sent
        await asyncio.sleep(2 * LOOK_EVERY_S)  # the lag is looked at so often, and may be of before the fault
        await asyncio.to_thread(eventually, lambda: _is_quiet(engine), within_s=120)
        if how == "raise":
            await asyncio.to_thread(_replay_dead_letters, engine)
    _is_judged(world, items, engine, tmp_path, history)


def _replay_dead_letters(engine: Engine) -> None:
    """Do as an operator does after a fault of ours is mended: a record whose batch raised alone is a dead letter."""
    what = ("--reason", "our_fault", "--yes", "--why", "mended")
    subprocess.run(
        [sys.executable, "-m", "deploy.cli.main", "held", "replay", *what, "--admin", engine.admin],
        check=True,
        capture_output=True,
        timeout=120,
        cwd=ROOT,
    )


def _is_judged(world: World, items: list[Item], engine: Engine, directory: Path, history: History) -> None:
    """Stop the engine, and judge its files."""
    assert engine.stop() == 0
    assert {status for status in history.statuses if status >= 500} <= {503}
    left = dumps.of_files(directory / "engine")
    assert judge.verdict(left, world, sent=items, acknowledged=history.acknowledged, registered={}) == []
    tally.add(history.over)


@pytest.mark.parametrize(
    ("mutant", "point", "noticed"), [("M01", "R4", "promised, and not there"), ("M07", "K3", "without a disposition")]
)
async def test_engine_that_acknowledges_too_early_is_detected(
    items: list[Item], engine: Engine, tmp_path: Path, mutant: str, point: str, noticed: str
) -> None:
    """A control: the kills above prove something only if they detect such a defect."""
    async with _sending(engine, items, BREAK_AT=point, BREAK_AFTER="2", MUTANT=mutant) as (history, _):
        assert await asyncio.to_thread(engine.died, 20) == -9
        await asyncio.sleep(0.1)  # the last answers may still be on their way to their senders
        with pytest.raises(AssertionError, match=noticed):
            _is_whole(tmp_path, list(history.acknowledged))


@asynccontextmanager
async def _sending(
    engine: Engine, items: list[Item], **fault: str
) -> AsyncIterator[tuple[History, asyncio.Task[History]]]:
    """The engine with this fault, and everything being sent to it."""
    await asyncio.to_thread(engine.start, "tests.faults.breaking", **{"BREAK_HOW": "kill"} | fault)
    history = History()
    sent = asyncio.create_task(sending.send_all(items, lambda: engine.public, history=history))
    try:
        yield history, sent
    finally:
        sent.cancel()
        await asyncio.gather(sent, return_exceptions=True)


def _is_whole(directory: Path, promised: list[Item]) -> None:
    """Assert that the dead engine's files are sound and hold every acknowledged record and only whole batches.

    A copy is looked at: opening a file mends it.
    """
    shutil.copytree(directory / "engine", directory / "corpse")
    with closing(sqlite3.connect(directory / "corpse" / JOURNAL)) as journal:
        assert journal.execute("PRAGMA quick_check").fetchall() == [("ok",)]
        logged = dict(journal.execute("SELECT value, log_offset FROM records"))
        assert sorted(_offsets(journal, "records")) == list(range(1, len(_offsets(journal, "records")) + 1))
        assert {item.body for item in promised} <= logged.keys(), "promised, and not there"
    with closing(sqlite3.connect(directory / "corpse" / STORE)) as store:
        assert store.execute("PRAGMA quick_check").fetchall() == [("ok",)]
        assert store.execute("PRAGMA foreign_key_check").fetchall() == []
        ((cursor,),) = store.execute("SELECT coalesce(max(log_offset), 0) FROM cursors").fetchall()
        assert sorted(_offsets(store, "deliveries")) == list(range(1, cursor + 1)), "settled, and without a disposition"
        versions = dict(store.execute("SELECT account || ':' || order_number, version FROM orders"))
        for key, value in store.execute("SELECT key, value FROM outbox WHERE version IS NOT NULL ORDER BY number DESC"):
            told = json.loads(value)["version"]
            assert told == versions[key.decode()], "a version without its event, or an event without its version"
            versions[key.decode()] -= 1
        assert set(versions.values()) <= {0}


def _offsets(connection: sqlite3.Connection, table: str) -> list[int]:
    return [offset for (offset,) in connection.execute(f"SELECT log_offset FROM {table}")]


def _is_quiet(engine: Engine) -> bool:
    samples = engine.metrics()
    lag = [value for name, value in samples.items() if name.startswith("alipay_notify_consumer_lag_messages")]
    return lag == [0] and samples["alipay_notify_outbox_pending_events"] == 0
