"""Sending a recent notification again from the sandbox's page: as it was, changed, or with a broken signature."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import UTC, datetime
from random import Random

import pytest
from msgspec import structs

from deploy.sandbox import planning, resending, scenario_files
from deploy.sandbox.delivery import Attempt, DeliveryJob
from deploy.sandbox.notifications import UnplayableError
from deploy.sandbox.resending import RecentDeliveries, RecentDelivery
from deploy.sandbox.world import World
from tests.unit.deploy.sandbox.town import Town

NOW = datetime(2026, 3, 18, 6, 30, tzinfo=UTC)


async def shown(town: Town, fits: Callable[[list[RecentDelivery]], bool]) -> list[RecentDelivery]:
    """The recent deliveries, as soon as they fit."""
    async with asyncio.timeout(30):
        while not fits(found := town.sandbox._recent.newest()):  # noqa: ASYNC110 - it happens behind a socket
            await asyncio.sleep(0.01)
    return found


async def paid(town: Town) -> RecentDelivery:
    """The delivery of a payment at the cashier, which the merchant has accepted."""
    await town.pay()
    (one,) = await shown(town, bool)
    assert one.attempt.outcome == "ok"
    return one


async def again(town: Town, one: RecentDelivery, **form: str) -> int:
    async with town.buyer.http.post(f"{town.buyer.base}/deliveries/{one.serial}", data=form) as response:
        town.buyer.page = await response.text()
        return response.status


async def test_unchanged_it_is_the_same_notification_with_a_later_time(town: Town) -> None:
    one = await paid(town)
    page = await town.buyer.go("/recent")
    assert f'href="/deliveries/{one.serial}"' in page
    page = await town.buyer.go(f"/deliveries/{one.serial}")
    assert '<input name="amount" value="12.80"' in page
    assert await again(town, one, amount="12.80", status="TRADE_FINISHED", signature="") == 200
    second, _ = await shown(town, lambda found: len(found) == 2)
    assert (second.attempt.number, second.attempt.notify_id) == (2, one.attempt.notify_id)
    assert second.attempt.as_expected
    first_form, second_form = town.merchant.forms
    assert {name for name in first_form if first_form[name] != second_form[name]} == {"notify_time", "sign"}
    assert town.merchant.confirmed == ["true", "true"]


async def test_changed_it_is_another_notification_of_the_order(town: Town) -> None:
    one = await paid(town)
    assert await again(town, one, amount="0.01", status="TRADE_CLOSED") == 200
    second, _ = await shown(town, lambda found: len(found) == 2)
    assert (second.attempt.number, second.attempt.order) == (1, one.attempt.order)
    assert second.attempt.notify_id != one.attempt.notify_id
    sent = town.merchant.forms[-1]
    assert (sent["total_fee"], sent["trade_status"]) == ("0.01", "TRADE_CLOSED")
    assert sent["notify_id"] == second.attempt.notify_id


@pytest.mark.parametrize("way", ["changed", "placeholder", "other-key"])
async def test_broken_signature_is_refused_and_not_sent_again(town: Town, way: str) -> None:
    one = await paid(town)
    assert await again(town, one, signature=way) == 200
    second, _ = await shown(town, lambda found: len(found) == 2)
    assert (second.attempt.status, second.attempt.again_in_s) == (401, None)
    assert second.attempt.as_expected
    assert len(town.merchant.forms) == 1


@pytest.mark.parametrize("form", [{"amount": " "}, {"status": "X" * 201}, {"signature": "sometimes"}])
async def test_what_cannot_be_sent_is_said_on_the_page(town: Town, form: dict[str, str]) -> None:
    one = await paid(town)
    status = await again(town, one, **form)
    assert (status, 'role="alert"' in town.buyer.page) == (400, True)
    assert len(town.sandbox._recent.newest()) == 1


async def test_delivery_that_is_not_recent_is_404(town: Town) -> None:
    assert "too old" in await town.buyer.go("/deliveries/1")
    assert town.buyer.status == 404
    await town.buyer.go("/deliveries/1", press=True)
    assert town.buyer.status == 404


def job(world: World, account: str) -> DeliveryJob:
    plan = planning.Planner(Random(1)).plan(
        scenario_files.load_all()["paid"], world.account(account), now=NOW, base_url="http://merchant"
    )
    return plan[0].steps[0].job


def refused(one: DeliveryJob, number: int, again_in_s: float | None) -> Attempt:
    return Attempt(
        account="demo-cn", order=one.notification.order, notify_id=one.notification.notify_id, kind="paid",
        number=number, sent_at=NOW, outcome="refused", expected="success", status=500, answer="", why="status 500",
        elapsed_ms=1.0, again_in_s=again_in_s,
    )  # fmt: skip


def test_list_tells_when_the_schedule_sends_it_again(world: World) -> None:
    now = [100.0]
    recent = RecentDeliveries(time_scale=2.0, clock=lambda: now[0])
    one = job(world, "demo-cn")
    recent.note(refused(one, 1, 240.0), one)
    (first,) = recent.newest()
    now[0] = 110.0
    assert recent.next_in_s(first) == 110
    extra = structs.replace(one, is_extra=True)
    recent.note(refused(extra, 2, None), extra)
    assert recent.next_in_s(first) == 110, "the schedule goes on beside a delivery that a person asked for"
    assert recent.next_number(first) == 3
    recent.note(refused(one, 2, 600.0), one)
    assert recent.next_in_s(first) is None
    row = resending.row(recent.newest()[0], recent, "http://console")
    assert (row["next_in_s"], row["number"]) == (300, "2")
    now[0] = 1000.0
    assert recent.next_in_s(recent.newest()[0]) == 0
    for _ in range(60):
        recent.note(refused(one, 3, None), one)
    assert (len(recent.newest()), recent.of(1), recent.newest()[0].serial) == (60, None, 63)


@pytest.mark.parametrize(
    ("account", "fields"),
    [
        ("demo-cn", {"amount": "total_amount", "seller": "seller_id", "status": "trade_status"}),
        ("demo-app", {"amount": "total_fee", "seller": "seller_id", "status": "trade_status"}),
        ("demo-antom", {"amount": "paymentAmount.value", "status": "result.resultCode"}),
    ],
)
def test_each_family_s_fields_can_be_changed(world: World, account: str, fields: dict[str, str]) -> None:
    one = job(world, account)
    delivered = RecentDelivery(serial=1, attempt=refused(one, 1, None), job=one, ended_s=0.0)
    assert resending._names(delivered) == fields
    assert resending._changes(delivered, {"amount": "5"}) == {fields["amount"]: "5"}
    assert resending._changes(delivered, {}) == {}


def test_value_that_the_charset_cannot_encode_is_refused(world: World) -> None:
    one = job(world, "demo-md5")
    delivered = RecentDelivery(serial=1, attempt=refused(one, 1, None), job=one, ended_s=0.0)
    with pytest.raises(UnplayableError, match="total_fee cannot be encoded in gbk"):
        resending._changes(delivered, {"amount": "🎫"})
