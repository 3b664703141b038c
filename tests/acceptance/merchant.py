"""The merchant's program: it registers expected payments and its refunds, while processes are killed."""

import asyncio
import random
from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import Any

import aiohttp

from tests.support.flood_corpus import Item

AT_ONCE = 4
PAUSE_S = 0.2
REGISTERED = (200, 201)
TEMPORARY = (409, 500, 502, 503, 504)  # a version conflict, or an unavailable server

Entry = tuple[str, str, dict[str, Any]]  # account, order, registration
Registered = dict[str, dict[str, dict[str, Any]]]


async def register(
    console: str, entries: Sequence[Entry], *, gate: Callable[[int], Awaitable[None]] | None = None
) -> None:
    """Register all entries at the console. The gate is awaited before each, with its place.

    Raises:
        AssertionError: the console refused an entry for good.
    """
    left = iter(enumerate(entries))

    async def one_after_the_other(session: aiohttp.ClientSession) -> None:
        for place, (account, order, registration) in left:
            if gate is not None:
                await gate(place)
            await _register(session, f"{console}/api/orders/{account}/{order}", registration)

    async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=15)) as session, asyncio.TaskGroup() as group:
        for _ in range(AT_ONCE):
            group.create_task(one_after_the_other(session))


async def _register(session: aiohttp.ClientSession, url: str, registration: dict[str, Any]) -> None:
    while True:
        try:
            async with session.put(url, json=registration) as answer:
                if answer.status in REGISTERED:
                    return
                assert answer.status in TEMPORARY, f"{url} answers {answer.status}: {await answer.text()}"
        except (aiohttp.ClientError, TimeoutError):
            pass
        await asyncio.sleep(PAUSE_S)


def entries(registered: Registered) -> list[Entry]:
    """Return the registrations in an order that is independent of the notifications' order."""
    found = [(account, order, each) for account, orders in registered.items() for order, each in orders.items()]
    random.Random(7).shuffle(found)
    return found


def registered(entries: Iterable[Entry]) -> Registered:
    """Return the registrations by account and order."""
    found: Registered = {}
    for account, order, registration in entries:
        found.setdefault(account, {})[order] = registration
    return found


def wrongly_expected(items: Iterable[Item], accounts: Sequence[str], *, every: int) -> list[Entry]:
    """Return registrations of some orders with a wrong amount: their notifications are authentic, but do not match."""
    amounts = {
        (item.account, item.order): {"amount_minor": item.facts.amount_minor + 1, "currency": item.facts.currency}
        for item in items
        if item.account in accounts and not item.refused
    }
    return [(account, order, amount) for (account, order), amount in list(amounts.items())[::every]]
