"""The flood for both engines: its size, the refunds to register for it, and its progress on a terminal."""

import asyncio
import os
import sys
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from math import ceil

from deploy.sandbox.notifications import NAMELESS
from deploy.sandbox.world import World
from tests.acceptance.merchant import Registered
from tests.acceptance.sending import History
from tests.support import flood_corpus
from tests.support.flood_corpus import Item

ITEMS = int(os.environ.get("FLOOD_ITEMS", "2000"))
ORDERS_PER_ITEM = 0.39  # an order has about 2.7 items, see tests.support.flood_corpus
STRANGE = 0.3  # of the orders have a life of tests.support.flood_lives
ORDERS_MORE = 20  # so that the shortest flood also has at least ITEMS


def items(world: World) -> list[Item]:
    """Return the signed items, no fewer than `ITEMS`."""
    orders = ceil(ITEMS * ORDERS_PER_ITEM) + ORDERS_MORE
    made = list(flood_corpus.generate(world, seed=20261124, orders=orders, now=datetime.now(UTC), strange=STRANGE))
    assert len(made) >= ITEMS
    return made


def refunds(made: Iterable[Item]) -> Registered:
    """Return the refunds to register: Antom's refunds name no payment, so the merchant registers them by order."""
    registered: Registered = {}
    for item in made:
        kind, refund = item.facts.kind, item.facts.refund
        if item.refused or refund is None or kind not in NAMELESS["antom"] or item.facts.names_order:
            continue
        entry = registered.setdefault(item.account, {}).setdefault(item.order, {"refunds": []})
        if refund.number not in entry["refunds"]:
            entry["refunds"].append(refund.number)
    return registered


@asynccontextmanager
async def shown(history: History, count: int) -> AsyncIterator[None]:
    """Show the progress if stderr is a terminal."""

    async def show() -> None:
        while True:
            broken = f", {history.began[-1]}" if len(history.began) > len(history.ended) else ""
            print(f"\r  {history.over:,} of {count:,} sent{broken:<60}", end="", file=sys.stderr, flush=True)
            await asyncio.sleep(0.5)

    if not sys.stderr.isatty():
        yield
        return
    showing = asyncio.create_task(show())
    try:
        yield
    finally:
        showing.cancel()
        print("\r" + " " * 100 + "\r", end="", file=sys.stderr, flush=True)
