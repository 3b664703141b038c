"""In every order of arrival, the store of each engine ends in the state of the model.

`tests/unit/workers/settlement/test_any_order.py` tries all orders of arrival. Here a few of each history go through
bytes, transactions, held rows and wakes of the real store.
"""

import random
from typing import Any

import pytest

from schemas.accounts import Account
from tests.contract.engines import AnyStore, Engine
from tests.support import facts, log_records, model, world
from tests.support.fakes import MemoryTopics, Offsets, PlanObserver
from tests.support.histories import HISTORIES
from tests.support.log_records import Time
from workers.processing import Processing
from workers.settlement import decision, movements
from workers.settlement.plan import LogRecord, Registration


def over(store: AnyStore, time: Time) -> Processing:
    return Processing(
        accounts=facts.ACCOUNTS,
        authenticate=log_records.anybody_signed_this,
        store=store,
        events=MemoryTopics(),
        observer=PlanObserver(),
        now_ms=time,
        chance=lambda: 0.5,
    )


async def register(store: AnyStore, account: Account, entry: dict[str, Any], *, now_ms: int) -> None:
    registration = Registration(amounts=facts.amounts(entry), refunds=tuple(entry.get("refunds", ())))
    await store.register(
        account.name,
        "A",
        registration.refunds,
        lambda order: decision.register(order, account.name, "A", registration, now_ms=now_ms),
        by="tests",
        why="the history says so",
    )


async def sweep(store: AnyStore, processing: Processing, time: Time) -> None:
    while due := await store.due(now_ms=time(), limit=100):
        await processing.retry(due)


async def seen(store: AnyStore, account: Account) -> dict[str, dict[str, Any]]:
    page = await store.order_page(account.name, "A")
    if page is None or page.order is None or page.view is None or page.order.is_note:
        return {}
    return {"A": world.members(page.view)}


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("name", HISTORIES)
async def test_store_ends_in_the_state_of_the_model(
    name: str, seed: int, engine: Engine, time: Time, monkeypatch: pytest.MonkeyPatch
) -> None:
    if seed > 1:  # the second half, with refunds and captures as rows of their own
        monkeypatch.setattr(movements, "INLINE_MAX", 0)
    history, chance = HISTORIES[name], random.Random(f"{name} {seed}")
    account = facts.account(history.family, ("any", "registered")[seed % 2])
    registered = history.registered if history.registered is not None or seed % 2 == 0 else {}
    deliveries = [*history.facts, *chance.choices(history.facts, k=len(history.facts))]
    chance.shuffle(deliveries)
    log, registered_at = Offsets(), chance.randrange(len(deliveries)) if seed % 2 else 0
    records = [facts.record(facts.body(fact, resend=chance.randrange(60)), account) for fact in deliveries]
    async with engine.store() as store:
        processing = over(store, time)
        for index, record in enumerate(records):
            if index == registered_at and registered is not None:
                await register(store, account, registered, now_ms=time())
            await processing.process([LogRecord(log.position(), record)])
            if chance.random() < 0.5:
                await sweep(store, processing, time)
        time.now_ms += 60_000  # a payment that waits for its registration is not woken by its other number
        await sweep(store, processing, time)
        truth = model.final(history.facts, facts.settings(account), {} if registered is None else {"A": registered})
        assert await seen(store, account) == truth
