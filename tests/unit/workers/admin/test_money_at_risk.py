"""Money at risk as a gauge: what counts, by which age, in which process, and what stays when it cannot be read."""

import asyncio
from collections.abc import Mapping

import pytest
from prometheus_client import CollectorRegistry

from schemas.times import DAY_MS, HOUR_MS
from tests.support.admin import NOW_MS, World, form
from tests.support.waiting import until
from workers.admin import held_amounts, money_at_risk
from workers.admin.held_amounts import HeldAmounts
from workers.admin.money_at_risk import MoneyAtRisk
from workers.errors import InfrastructureDown, ReadTooSlow

NAME = "alipay_notify_money_at_risk_minor_units"


class Exported:
    """The gauges of one process, with a clock and a lease that a test can turn."""

    def __init__(self, world: World) -> None:
        self.now_ms = NOW_MS
        self.leads = True
        self.registry = CollectorRegistry()
        self.gauges = MoneyAtRisk(
            amounts=HeldAmounts(accounts=world.accounts, held=world.store, time_limit=world.time_limit),
            accounts=world.accounts,
            registry=self.registry,
            now_ms=lambda: self.now_ms,
            leads=lambda: self.leads,
        )

    def told(self) -> Mapping[tuple[str, str, str], float]:
        return {
            (sample.labels["account"], sample.labels["currency"], sample.labels["age"]): sample.value
            for family in self.registry.collect()
            for sample in family.samples
            if sample.name == NAME
        }

    def is_complete(self) -> bool:
        return self.registry.get_sample_value("alipay_notify_money_at_risk_complete") == 1


async def test_paid_and_held_counts_once_for_each_payment() -> None:
    world = World()
    await world.deliver(form("A1"))
    for status in ("TRADE_SUCCESS", "TRADE_FINISHED"):
        await world.deliver(form("B1", status), "strict")
    await world.deliver(form("B2", total_fee="0.20"), "strict")
    await world.deliver(form("B3", currency="JPY", total_fee="500"), "strict")
    await world.deliver(form("B4", "WAIT_BUYER_PAY"), "strict")
    exported = Exported(world)
    await exported.gauges.refresh()
    assert exported.told() == {("strict", "USD", "1h"): 1300, ("strict", "JPY", "1h"): 500}
    assert exported.is_complete()


@pytest.mark.parametrize(
    ("age_ms", "label"),
    [(-1, "1h"), (0, "1h"), (HOUR_MS - 1, "1h"), (HOUR_MS, "24h"), (DAY_MS - 1, "24h"), (DAY_MS, "older")],
)
async def test_money_grows_older_and_leaves_no_series_behind(age_ms: int, label: str) -> None:
    world = World()
    await world.deliver(form("B1"), "strict")
    exported = Exported(world)
    await exported.gauges.refresh()
    exported.now_ms += age_ms
    await exported.gauges.refresh()
    assert exported.told() == {("strict", "USD", label): 1280}


async def test_money_that_is_applied_is_no_longer_shown() -> None:
    world = World()
    await world.deliver(form("B1"), "strict")
    exported = Exported(world)
    await exported.gauges.refresh()
    (page,) = world.store.pages.values()
    await world.decisions.discard(page, by="me", why="a test payment")
    await exported.gauges.refresh()
    assert exported.told() == {}


async def test_account_that_is_no_longer_configured_is_unknown() -> None:
    world = World()
    await world.deliver(form("B1"), "strict")
    exported = Exported(world)
    await exported.gauges.refresh()  # its amount is read while the account is known
    del world.accounts["strict"]
    await exported.gauges.refresh()
    assert exported.told() == {("unknown", "USD", "1h"): 1280}


async def test_process_that_does_not_lead_shows_nothing() -> None:
    world = World()
    await world.deliver(form("B1"), "strict")
    exported = Exported(world)
    await exported.gauges.refresh()
    exported.leads = False
    await exported.gauges.refresh()
    assert exported.told() == {}
    assert exported.is_complete()


@pytest.mark.parametrize("trouble", [ReadTooSlow("too slow"), InfrastructureDown("no store")])
async def test_sum_that_cannot_be_read_stays_and_is_not_complete(
    trouble: Exception, monkeypatch: pytest.MonkeyPatch
) -> None:
    world = World()
    await world.deliver(form("B1"), "strict")
    exported = Exported(world)
    await exported.gauges.refresh()

    async def failing(_: object) -> None:
        raise trouble

    with monkeypatch.context() as patched:
        patched.setattr(world.store, "held_list", failing)
        await exported.gauges.refresh()
    assert (exported.told(), exported.is_complete()) == ({("strict", "USD", "1h"): 1280}, False)
    await exported.gauges.refresh()
    assert exported.is_complete()


async def test_only_the_oldest_of_very_many_are_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(held_amounts, "SUMMED_MAX", 2)
    world = World()
    for number in range(3):
        await world.deliver(form(f"B{number}"), "strict")
    exported = Exported(world)
    await exported.gauges.refresh()
    assert (exported.told(), exported.is_complete()) == ({("strict", "USD", "1h"): 2560}, False)


async def test_gauges_are_refreshed_again_and_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(money_at_risk, "REST_PER_REFRESH", 0)
    world = World()
    exported = Exported(world)
    running = asyncio.create_task(exported.gauges.run(interval_s=0.01))
    try:
        await world.deliver(form("B1"), "strict")
        await until(lambda: exported.told() != {})
        exported.leads = False
        await until(lambda: exported.told() == {})
    finally:
        running.cancel()
