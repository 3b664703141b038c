"""The merchant's program: it registers what it expects, and what it asked to be refunded, whoever dies meanwhile."""

import asyncio
import random
from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import Any

import aiohttp

from tests.support.flood_corpus import Item

AT_ONCE = 4
PAUSE_S = 0.2
REGISTERED = (200, 201)
PASSES_BY = (409, 500, 502, 503, 504)  # another writer was quicker, or something is away

Entry = tuple[str, str, dict[str, Any]]  # account, order, what is said of it
Registered = dict[str, dict[str, dict[str, Any]]]


async def register(
    console: str, entries: Sequence[Entry], *, gate: Callable[[int], Awaitable[None]] | None = None
) -> None:
    """Returns when the console has taken all of them; the gate is awaited before each, with its place.

    Raises:
        AssertionError: it refused one for good.
    """
    left = iter(enumerate(entries))

    async def one_after_the_other(session: aiohttp.ClientSession) -> None:
        for place, (account, order, told) in left:
            if gate is not None:
                await gate(place)
            await _registered(session, f"{console}/api/orders/{account}/{order}", told)

    async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=15)) as session, asyncio.TaskGroup() as group:
        for _ in range(AT_ONCE):
            group.create_task(one_after_the_other(session))


async def _registered(session: aiohttp.ClientSession, url: str, told: dict[str, Any]) -> None:
    while True:
        try:
            async with session.put(url, json=told) as answer:
                if answer.status in REGISTERED:
                    return
                assert answer.status in PASSES_BY, f"{url} answers {answer.status}: {await answer.text()}"
        except (aiohttp.ClientError, TimeoutError):
            pass
        await asyncio.sleep(PAUSE_S)


def entries(registered: Registered) -> list[Entry]:
    """In an order that has nothing to do with that of the notifications."""
    found = [(account, order, told) for account, orders in registered.items() for order, told in orders.items()]
    random.Random(7).shuffle(found)
    return found


def registered(entries: Iterable[Entry]) -> Registered:
    """The same by account and order."""
    found: Registered = {}
    for account, order, told in entries:
        found.setdefault(account, {})[order] = told
    return found


def wrongly_expected(items: Iterable[Item], accounts: Sequence[str], *, every: int) -> list[Entry]:
    """Some orders for which the merchant expects more than is paid: all news of them is authentic, and wrong."""
    amounts = {
        (item.account, item.order): {"amount_minor": item.facts.amount_minor + 1, "currency": item.facts.currency}
        for item in items
        if item.account in accounts and not item.refused
    }
    return [(account, order, told) for (account, order), told in list(amounts.items())[::every]]
