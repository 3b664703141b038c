"""Notifications at a steady pace to an engine in a process of its own, and what each answer was."""

import asyncio
import re
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple

import aiohttp

from deploy.sandbox.world import World
from tests.acceptance import dumps
from tests.support import flood_corpus, tally
from tests.support.flood_corpus import Item
from tests.support.processes import Engine, eventually

# Three seconds are promised; half of one for the way, on a machine with other work.
ANSWER_WITHIN_S = 3.5


class Answer(NamedTuple):
    """The answer to one notification."""

    item: Item
    status: int
    took_s: float


def genuine(world: World, *, orders: int, seed: int = 19) -> list[Item]:
    """Notifications that are to be accepted, about three an order."""
    made = flood_corpus.generate(world, seed=seed, orders=orders, now=datetime.now(UTC), accounts=("demo-cn",))
    return [item for item in made if not item.refused]


async def send(engine: Engine, items: Sequence[Item], *, spread_s: float) -> list[Answer]:
    """Send the notifications evenly over that long; return their answers in the same order."""
    connector = aiohttp.TCPConnector(limit=0)  # no request waits for a connection before its clock starts
    async with aiohttp.ClientSession(connector=connector, timeout=aiohttp.ClientTimeout(total=30)) as session:
        sends = []
        for item in items:
            sends.append(asyncio.create_task(_post(session, engine, item)))
            await asyncio.sleep(spread_s / len(items))
        return await asyncio.gather(*sends)


async def _post(session: aiohttp.ClientSession, engine: Engine, item: Item) -> Answer:
    began = time.monotonic()
    async with session.post(engine.public + item.path, data=item.body, headers=dict(item.headers)) as answer:
        await answer.read()
        return Answer(item, answer.status, time.monotonic() - began)


def is_kept(engine: Engine, directory: Path, answers: list[Answer]) -> bool:
    """Stop the engine; return whether the journal has everything that it accepted, and each record its disposition."""
    assert engine.stop() == 0
    left = dumps.of_files(directory / "engine")
    tally.add(len(answers))
    promised = {answer.item.body for answer in answers if answer.status == 200}
    held = {row["disposition"] for row in left.deliveries} - {"applied", "duplicate", "stale"}
    return promised <= set(left.bodies.values()) and not held


def until_settled(engine: Engine) -> None:
    """Return when the worker has everything that was accepted behind it."""

    def is_settled() -> bool:
        samples = engine.metrics().items()
        return [value for name, value in samples if name.startswith("alipay_notify_consumer_lag_messages")] == [0]

    eventually(is_settled, within_s=60)


def peak_bytes(pid: int) -> int:
    """Return the most memory that the process has had."""
    found = re.search(r"VmHWM:\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text(encoding="ascii"))
    assert found is not None
    return int(found[1]) << 10
