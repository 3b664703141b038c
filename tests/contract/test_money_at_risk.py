"""Money at risk, read from every order store; among several workers only the one that leads exports it."""

from collections.abc import Callable
from functools import partial

from prometheus_client import CollectorRegistry

from schemas.times import HOUR_MS
from tests.contract.engines import AnyStore
from tests.contract.several_workers import Opener
from tests.contract.shortcuts import parked, register
from tests.support import log_records
from tests.support.log_records import REGISTERED, Time
from workers.admin.held_amounts import HeldAmounts
from workers.admin.money_at_risk import MoneyAtRisk
from workers.postgres.store import PostgresOrderStore
from workers.processing import LIMIT_S, Processing
from workers.queries import HeldPort
from workers.time_limit import TimeLimit

ACCOUNTS = {REGISTERED.name: REGISTERED}


async def exported(
    store: HeldPort, time: Time, leads: Callable[[], bool] = lambda: True
) -> dict[tuple[str, str, str], float]:
    """Return the sums that a process exports."""
    registry = CollectorRegistry()
    amounts = HeldAmounts(accounts=ACCOUNTS, held=store, time_limit=TimeLimit(LIMIT_S))
    at_risk = MoneyAtRisk(amounts=amounts, accounts=ACCOUNTS, registry=registry, now_ms=time, leads=leads)
    await at_risk.refresh()
    samples = [sample for family in registry.collect() for sample in family.samples if "account" in sample.labels]
    return {(each.labels["account"], each.labels["currency"], each.labels["age"]): each.value for each in samples}


async def test_money_is_at_risk_until_it_is_applied(work: Processing, store: AnyStore, time: Time) -> None:
    await work.process(log_records.logged([parked("P1"), parked("P2"), parked("P1", id_="again")]))
    assert await exported(store, time) == {("shop-reg", "USD", "1h"): 2560}
    time.now_ms += HOUR_MS
    assert await exported(store, time) == {("shop-reg", "USD", "24h"): 2560}
    await register(store, "P1")
    await work.retry(await store.due(now_ms=time.now_ms, limit=10))
    assert await exported(store, time) == {("shop-reg", "USD", "24h"): 1280}


async def test_money_at_risk_is_exported_by_one_worker(workers: Opener, time: Time) -> None:
    first, second = await workers(2)
    await log_records.processing(first, time).process(log_records.logged([parked("P1")]))
    assert await first.leadership.leads()
    assert not await second.leadership.leads()
    told = [await exported(store, time, partial(_is_leading, store)) for store in (first, second)]
    assert told == [{("shop-reg", "USD", "1h"): 1280}, {}]
    await first.leadership.resign()
    assert await exported(first, time, partial(_is_leading, first)) == {}


def _is_leading(store: PostgresOrderStore) -> bool:
    return store.leadership.is_leading
