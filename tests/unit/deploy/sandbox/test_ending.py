"""The end of a scenario, compared with what the admin API answers."""

from __future__ import annotations

from datetime import UTC, datetime
from random import Random
from typing import Any

import pytest

from deploy.sandbox import ending, scenario_files
from deploy.sandbox.planning import Course, Planner, Wishes
from deploy.sandbox.world import World

NOW = datetime(2026, 3, 18, 6, 30, tzinfo=UTC)
PAID: dict[str, Any] = {
    "status": "PAID", "closed_because": None, "amount_minor": 1280, "currency": "CNY", "refunded_minor": 0, "flags": [],
    "timeline": [],
}  # fmt: skip


class Answers:
    """An admin API with these answers."""

    def __init__(self, page: dict[str, Any], *rows: dict[str, Any]) -> None:
        self.page = page
        self.rows = list(rows)
        self.asked: list[str] = []

    async def order(self, account: str, order: str, /, auth_app_id: str = "") -> dict[str, Any]:
        self.asked.append(" ".join(part for part in (account, auth_app_id, order) if part))
        return self.page

    async def held(self, account: str, reason: str, /) -> list[dict[str, Any]]:
        return self.rows

    async def find(self, number: str, /) -> dict[str, Any]:
        self.asked.append(number)
        return {"notifications": self.rows, "matches": self.rows}


def planned(world: World, name: str, account: str) -> tuple[Course, ...]:
    scenario = scenario_files.load_all()[name]
    return Planner(Random(1)).plan(
        scenario, world.account(account), now=NOW, base_url="http://h", wishes=Wishes(order="O-1")
    )


async def differences(courses: tuple[Course, ...], answers: Answers) -> list[str]:
    return await ending.differences(courses, answers, within_s=0.0)


async def test_right_end_has_no_differences(world: World) -> None:
    answers = Answers(PAID)
    assert await differences(planned(world, "paid", "demo-cn"), answers) == []
    assert answers.asked == ["demo-cn O-1"]


async def test_each_wrong_property_is_named(world: World) -> None:
    answers = Answers(PAID | {"status": "WAITING", "flags": ["second_trade"]})
    assert await differences(planned(world, "paid", "demo-cn"), answers) == [
        "order O-1: status is WAITING, should be PAID",
        "order O-1: flags is ['second_trade'], should be []",
    ]


async def test_website_reports_a_payment_as_finished(world: World) -> None:
    answers = Answers(PAID | {"status": "FINISHED", "currency": "USD"})
    assert await differences(planned(world, "paid", "demo-web"), answers) == []


async def test_each_period_of_a_subscription_is_an_order(world: World) -> None:
    courses = planned(world, "subscription", "demo-antom")
    answers = Answers(PAID | {"currency": "USD"}, {"order": courses[0].orders[1].number})
    assert await differences(courses, answers) == []
    assert len({each for each in answers.asked if each.startswith("demo-antom ")}) == 3
    assert {"SUB-O-1", "SUBID-O-1", *(key.number for key in courses[0].orders)} <= set(answers.asked)
    lost = await differences(courses, Answers(PAID | {"currency": "USD"}))
    assert "no order is found by subscriptionId SUBID-O-1" in lost


async def test_numbers_inside_biz_content_are_looked_for(world: World) -> None:
    missing = await differences(planned(world, "transfer_message", "demo-cn"), Answers({}))
    assert any(each.startswith("no notification is found by out_biz_no TRANSFER-") for each in missing)


@pytest.mark.parametrize("page", [{}, PAID | {"status": None, "timeline": [{"reason": "names_nobody"}]}])
async def test_forgery_may_not_move_its_order(world: World, page: dict[str, Any]) -> None:
    courses = planned(world, "forged_signature", "demo-cn")
    assert await differences(courses, Answers(page)) == []
    moved = Answers(PAID | {"timeline": [{"reason": "changed"}]})
    assert await differences(courses, moved) == ["order O-1: moved is True, should be False"]


@pytest.mark.parametrize(
    ("order", "at", "right"), [("", NOW, True), ("O-2", NOW, False), ("", datetime(2026, 3, 17, tzinfo=UTC), False)]
)
async def test_held_form_without_believable_numbers_counts_by_its_time(
    world: World, order: str, at: datetime, right: bool
) -> None:
    row = {"notification_id": "sign-1", "order": order, "first_at": at.isoformat()}
    found = await differences(planned(world, "ambiguous", "demo-cn"), Answers({}, row))
    assert found == ([] if right else ["nothing is held as ambiguous"])


async def test_noted_notification_has_to_be_found_by_its_number(world: World) -> None:
    courses = planned(world, "vaulting", "demo-antom")
    (step,) = courses[0].steps
    row = {"notification_id": step.job.notification.notify_id}
    answers = Answers({}, row)
    assert await differences(courses, answers) == []
    assert "VLT-O-1" in answers.asked
    missing = await differences(courses, Answers({}))
    assert "no notification is found by vaultingRequestId VLT-O-1" in missing


async def test_each_merchant_of_a_service_provider_has_an_order_of_its_own(world: World) -> None:
    courses = planned(world, "two_merchants", "demo-isv")
    answers = Answers(PAID | {"flags": ["second_trade"]})
    found = await differences(courses, answers)
    merchants = [key.auth_app_id for key in courses[0].orders]
    assert len(merchants) == 2
    for merchant in merchants:
        assert f"demo-isv {merchant} O-1" in answers.asked
        assert f"order O-1 of {merchant}: flags is ['second_trade'], should be []" in found
