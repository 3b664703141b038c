"""Which orders a scenario registers, and with what."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from random import Random

import pytest

from deploy.sandbox import playing, scenario_files
from deploy.sandbox.planning import Planner, Wishes
from deploy.sandbox.world import World

NOW = datetime(2026, 3, 18, 6, 30, tzinfo=UTC)
Registered = list[tuple[str, str, Mapping[str, object]]]
MERCHANTS = ("2021999900001074", "2021999900001082")


class Registry:
    def __init__(self) -> None:
        self.orders: Registered = []

    async def register(
        self, account: str, order: str, expectation: Mapping[str, object], /, auth_app_id: str = ""
    ) -> None:
        self.orders.append((account, f"{auth_app_id}:{order}" if auth_app_id else order, expectation))


async def registered(world: World, name: str, account: str, *, asked: bool) -> Registered:
    scenario = scenario_files.load_all()[name]
    courses = Planner(Random(1)).plan(
        scenario, world.account(account), now=NOW, base_url="http://h", wishes=Wishes(order="O-1")
    )
    registry = Registry()
    await playing.register(scenario, courses, registry, asked=asked)
    return registry.orders


@pytest.mark.parametrize(
    ("name", "account", "asked", "registers"),
    [
        ("paid", "demo-cn", False, False),
        ("paid", "demo-cn", True, True),
        ("paid", "demo-web", False, True),  # accepts registered orders only
        ("wrong_amount", "demo-cn", False, True),
        ("overseas_unexpected", "demo-cn", True, False),
    ],
)
async def test_scenario_and_account_decide_what_is_registered(
    world: World, name: str, account: str, asked: bool, registers: bool
) -> None:
    assert bool(await registered(world, name, account, asked=asked)) is registers


@pytest.mark.parametrize(
    ("name", "expectation"),
    [
        ("paid", {"amount": "12.80", "currency": "USD"}),
        ("currency_kwd", {"amount": "12.800", "currency": "KWD"}),
        ("currency_clp", {"amount": "12", "currency": "CLP"}),
        ("currency_unlisted", {"amount_minor": 1280, "currency": "XYZ"}),
    ],
)
async def test_amount_is_registered_as_its_currency_demands(
    world: World, name: str, expectation: Mapping[str, object]
) -> None:
    assert await registered(world, name, "demo-antom", asked=True) == [("demo-antom", "O-1", expectation)]


async def test_refunds_of_antom_are_registered_with_their_order(world: World) -> None:
    ((_, _, expectation),) = await registered(world, "partial_refund", "demo-antom", asked=True)
    refunds = expectation["refunds"]
    assert isinstance(refunds, list)
    assert len(set(refunds)) == 2


async def test_order_is_registered_for_each_merchant_of_a_service_provider(world: World) -> None:
    expectation = {"amount": "12.80", "currency": "CNY"}
    found = await registered(world, "two_merchants", "demo-isv", asked=True)
    assert found == [("demo-isv", f"{merchant}:O-1", expectation) for merchant in MERCHANTS]
