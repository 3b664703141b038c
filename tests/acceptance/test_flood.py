"""A flood of notifications, with everything a bad week brings, through an engine that is killed again and again."""

import asyncio
import os
import random
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from math import ceil
from pathlib import Path

import pytest

from deploy.sandbox import corpus
from deploy.sandbox.corpus import Item
from deploy.sandbox.notifications import NAMELESS
from deploy.sandbox.world import World
from tests.acceptance import dumps, judge, sending
from tests.acceptance.sending import History
from tests.engine import Engine, eventually

ITEMS = int(os.environ.get("FLOOD_ITEMS", "100000"))
KILLS_AT = ((0.05, 0.25), (0.35, 0.55), (0.65, 0.9))  # which part of the items is behind it, from and to
ORDERS_PER_ITEM = 0.39  # some 2.7 items come of an order, see deploy.sandbox.corpus
ORDERS_MORE = 20  # so that the shortest flood too has all of that


@pytest.mark.slow
async def test_a_flood_with_kills_ends_where_the_model_says(
    world: World, engine: Engine, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    orders = ceil(ITEMS * ORDERS_PER_ITEM) + ORDERS_MORE
    seeded = corpus.generate(world, seed=20261124, orders=orders, now=datetime.now(UTC))
    items = await asyncio.to_thread(list, seeded)
    assert len(items) >= ITEMS
    engine.start()
    history = History()
    with capfd.disabled():
        async with _shown(history, len(items)):
            killing = asyncio.create_task(_kill_now_and_then(engine, history, len(items)))
            await sending.send_all(items, lambda: engine.public, history=history)
            await killing  # so that none dies after this, while it is told of refunds, or settles

    assert len(history.acknowledged) == sum(not item.refused for item in items)
    assert not {status for status in history.statuses if status >= 500} - {503}
    registered = await asyncio.to_thread(_register_refunds, engine, items)
    await asyncio.to_thread(_settle, engine)
    assert engine.stop() == 0
    left = dumps.of_files(tmp_path / "engine")
    faults = judge.verdict(left, world, sent=items, acknowledged=history.acknowledged, registered=registered)
    assert faults[:5] == []
    met = {row["disposition"] for row in left.deliveries}
    assert {"applied", "duplicate", "stale"} <= met, "a run that met nothing proves nothing"


async def _kill_now_and_then(engine: Engine, history: History, count: int) -> None:
    """Kill and start again as the flood goes by: by what is behind it, so that a short one is met as often."""
    chance = random.Random(7)
    for earliest, latest in KILLS_AT:
        behind = count * chance.uniform(earliest, latest)
        while history.over < behind:  # noqa: ASYNC110 - the history is only a count, and nobody is in a hurry
            await asyncio.sleep(0.005)
        engine.kill()
        await asyncio.to_thread(engine.start)


@asynccontextmanager
async def _shown(history: History, count: int) -> AsyncIterator[None]:
    """How far it is, where somebody watches."""

    async def show() -> None:
        while True:
            print(f"\r  {history.over:,} of {count:,} sent", end="", file=sys.stderr, flush=True)
            await asyncio.sleep(0.5)

    if not sys.stderr.isatty():
        yield
        return
    showing = asyncio.create_task(show())
    try:
        yield
    finally:
        showing.cancel()
        print("\r" + " " * 40 + "\r", end="", file=sys.stderr, flush=True)


def _register_refunds(engine: Engine, items: list[Item]) -> dict[str, dict[str, dict[str, list[str]]]]:
    """Antom's refunds name no payment: the merchant says which refund it asked for of which order."""
    registered: dict[str, dict[str, dict[str, list[str]]]] = {}
    for item in items:
        kind, refund = item.facts.kind, item.facts.refund
        if item.refused or refund is None or kind not in NAMELESS["antom"] or item.facts.names_order:
            continue
        entry = registered.setdefault(item.account, {}).setdefault(item.order, {"refunds": []})
        if refund.number not in entry["refunds"]:
            entry["refunds"].append(refund.number)
    for account, orders in registered.items():
        for order, entry in orders.items():
            status, answer = engine.put(f"/api/orders/{account}/{order}", entry)
            assert status in (200, 201), answer
    return registered


def _settle(engine: Engine) -> None:
    """Returns when nothing is behind, parked or unsent."""

    def is_quiet() -> bool:
        samples = engine.metrics()
        behind = next(
            value for name, value in samples.items() if name.startswith("alipay_notify_consumer_lag_messages")
        )
        parked = samples['alipay_notify_held_notifications{disposition="parked"}']
        return behind == 0 and parked == 0 and samples["alipay_notify_outbox_pending_events"] == 0

    eventually(is_quiet, within_s=180)
