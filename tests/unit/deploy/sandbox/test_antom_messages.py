"""Business keys of Antom's messages, as the receiver makes them, also of edited ones."""

from __future__ import annotations

from datetime import UTC, datetime
from random import Random

import pytest

from deploy.sandbox import scenario_files
from deploy.sandbox.notifications import MessageKind
from deploy.sandbox.planning import Planner
from deploy.sandbox.world import World
from tests.unit.deploy.sandbox.samples import fields_of_antom, interpreted, made

NOW = datetime(2026, 3, 18, 6, 30, tzinfo=UTC)
ANTOM = [name for name, each in scenario_files.load_all().items() if each.families == ("antom",)]


@pytest.mark.parametrize("name", [name for name in ANTOM if name != "other_news"])
def test_every_message_has_the_key_that_the_receiver_makes(world: World, name: str) -> None:
    scenario = scenario_files.load_all()[name]
    account = next(each for each in world.accounts.values() if scenario.suits(each))
    (course,) = Planner(Random(1)).plan(scenario, account, now=NOW, base_url="http://h")
    for step in course.steps:
        assert interpreted(world, step.job.notification).id == step.job.notification.notify_id


def test_periodic_payment_names_neither_type_nor_request(world: World) -> None:
    message = fields_of_antom(made(world, "demo-antom", MessageKind.SUBSCRIPTION_PAYMENT))
    assert set(message) == {
        "result", "paymentId", "paymentAmount", "paymentTime", "subscriptionRequestId", "subscriptionId",
        "periodStartTime", "periodEndTime", "phaseNo",
    }  # fmt: skip
