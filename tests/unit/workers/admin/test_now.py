"""The first facts: money at risk, the oldest held, the last notification, the lag, readiness."""

import pytest
from msgspec import structs

from schemas import times
from tests.support.admin import NOW_MS, World, form
from tests.support.paths import ROOT
from workers.admin.held_amounts import HeldAmounts
from workers.admin.now import LAG_MAX_S, LATE_S, FirstFacts, Now
from workers.admin.probes import Check
from workers.errors import ReadTooSlow


async def facts(world: World, *, now_ms: int = NOW_MS) -> FirstFacts:
    async def readiness() -> list[Check]:
        return world.checks

    amounts = HeldAmounts(accounts=world.accounts, held=world.store, time_limit=world.time_limit)
    now = Now(held=world.store, amounts=amounts, readiness=readiness, registry=world.registry)
    return await now.facts(now_ms=now_ms)


async def test_money_at_risk_is_what_is_paid_and_held() -> None:
    world = World()
    await world.deliver(form("A1"))
    await world.deliver(form("B1"), "strict")
    await world.deliver(form("B2", "WAIT_BUYER_PAY"), "strict")
    found = await facts(world)
    assert found.at_risk is not None
    assert [(each.amount, each.currency, each.count) for each in found.at_risk] == [("12.80", "USD", 1)]
    assert (found.held, found.oldest_ms, found.is_whole) == (2, NOW_MS, True)
    assert (found.received_ms, found.is_late) == (NOW_MS, False)


async def test_store_without_anything_has_no_moments() -> None:
    found = await facts(World())
    assert (found.at_risk, found.held, found.oldest_ms, found.received_ms) == ((), 0, None, None)
    assert (found.is_late, found.is_ready, found.failing) == (False, True, ())


async def test_last_notification_is_late_after_a_quarter_of_an_hour() -> None:
    world = World()
    await world.deliver(form("A1"))
    assert not (await facts(world, now_ms=NOW_MS + LATE_S * 1000)).is_late
    assert (await facts(world, now_ms=NOW_MS + LATE_S * 1000 + 1)).is_late


async def test_failing_check_that_is_not_needed_leaves_it_ready() -> None:
    world = World()
    world.checks = [Check(name="store", ok=True), Check(name="redis", ok=False, is_needed=False)]
    found = await facts(world)
    assert (found.is_ready, [check.name for check in found.failing]) == (True, ["redis"])
    world.checks = [Check(name="store", ok=False)]
    assert not (await facts(world)).is_ready


async def test_sum_that_takes_too_long_is_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    world = World()

    async def slow(_: object) -> None:
        raise ReadTooSlow("too slow")

    monkeypatch.setattr(world.store, "held_list", slow)
    assert (await facts(world)).at_risk is None


async def test_lag_is_that_of_the_partition_which_is_furthest_behind() -> None:
    world = World()
    assert (await facts(world)).lag_s is None
    for partition, seconds in ((0, 1.5), (1, LAG_MAX_S + 1.0), (2, 0.0)):
        world.metrics.lag(partition=partition, group="g", messages=1, seconds=seconds)
    found = await facts(world)
    assert (found.lag_s, found.is_behind) == (LAG_MAX_S + 1, True)
    world.metrics.lag_ended(partition=1, group="g")
    found = await facts(world)
    assert (found.lag_s, found.is_behind) == (1.5, False)


async def test_what_is_not_good_names_its_runbook() -> None:
    world = World()
    assert (await facts(world)).runbooks == []
    await world.deliver(form("B1"), "strict")
    assert (await facts(world)).runbooks == ["MoneyAtRiskOld"]
    world.checks = [Check(name="store", ok=False)]
    world.metrics.lag(partition=0, group="g", messages=1, seconds=LAG_MAX_S + 1.0)
    found = await facts(world, now_ms=NOW_MS + times.DAY_MS + 1)
    assert found.runbooks == [
        "ProcessNotReady",
        "MoneyAtRiskOld",
        "ConsumerLagSeconds",
        "NotificationsStopped",
        "HeldOld",
    ]
    unsummed = structs.replace(found, at_risk=None)
    assert unsummed.runbooks[1] == "MoneyAtRiskUnknown"
    for name in {*found.runbooks, *unsummed.runbooks}:
        assert (ROOT / f"deploy/runbooks/{name}.md").exists()
