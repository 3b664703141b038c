"""Scenario files: planned for every account that they suit, with the events that their titles announce."""

from __future__ import annotations

from datetime import UTC, datetime
from random import Random
from urllib.parse import parse_qsl

import pytest

from deploy.sandbox import scenario_files
from deploy.sandbox.identities import IDENTITIES
from deploy.sandbox.notifications import Edits, MessageKind, UnplayableError
from deploy.sandbox.planning import Course, PlannedStep, Planner, Wishes
from deploy.sandbox.world import World

NOW = datetime(2026, 3, 18, 6, 30, tzinfo=UTC)
SCENARIOS = scenario_files.load_all()


def plan(world: World, name: str, account: str, wishes: Wishes | None = None, *, seed: int = 1) -> tuple[Course, ...]:
    return Planner(Random(seed)).plan(
        SCENARIOS[name], world.account(account), now=NOW, base_url="http://h", wishes=wishes
    )


def only(courses: tuple[Course, ...]) -> tuple[PlannedStep, ...]:
    (course,) = courses
    return course.steps


def test_all_standard_scenarios_exist() -> None:
    assert set(SCENARIOS) >= {
        "paid", "paid_then_finished", "partial_refund", "full_refund", "closed_unpaid", "duplicate_x8",
        "out_of_order", "late_by_a_day", "finished_a_year_later", "gbk_text", "unknown_field", "wrong_amount",
        "foreign_seller", "forged_signature", "burst",
    }  # fmt: skip


@pytest.mark.parametrize("account", [one.name for one in IDENTITIES])
@pytest.mark.parametrize("name", sorted(SCENARIOS))
def test_scenario_is_planned_or_refused_with_a_reason(world: World, name: str, account: str) -> None:
    if not SCENARIOS[name].suits(world.account(account)):
        with pytest.raises(UnplayableError, match=account):
            plan(world, name, account)
        return
    courses = plan(world, name, account)
    assert len(courses) == SCENARIOS[name].orders
    for course in courses:
        assert {key.number for key in course.orders} == {course.order} or name == "subscription"
        for step in course.steps:
            assert step.job.notification.delivery(step.job.at).body
            assert step.job.url == f"http://h/notify/{account}"


@pytest.mark.parametrize("name", sorted(SCENARIOS))
def test_every_scenario_suits_at_least_one_account(world: World, name: str) -> None:
    assert any(SCENARIOS[name].suits(account) for account in world.accounts.values())


def test_same_seed_plans_the_same_notifications(world: World) -> None:
    one, other = (plan(world, "full_refund", "demo-cn") for _ in range(2))
    assert one == other


def test_out_of_order_sends_the_last_event_first(world: World) -> None:
    course = only(plan(world, "out_of_order", "demo-cn"))
    kinds = [step.job.notification.facts.kind for step in course]
    assert kinds == [MessageKind.REFUND, MessageKind.PAID, MessageKind.WAITING]
    happened = [step.job.notification.facts.happened for step in course]
    assert happened == sorted(happened, reverse=True)
    assert len({step.job.at for step in course}) == 1


def test_late_by_a_day_has_yesterdays_payment_time(world: World) -> None:
    (step,) = only(plan(world, "late_by_a_day", "demo-cn"))
    fields = dict(parse_qsl(step.job.notification.delivery(step.job.at).body.decode()))
    assert fields["gmt_payment"] == "2026-03-17 14:05:00"
    assert fields["notify_time"] == "2026-03-18 14:29:00"


def test_refund_totals_add_up_in_the_order_of_events(world: World) -> None:
    course = only(plan(world, "partial_refund", "demo-cn"))
    refunds = [step.job.notification.facts.refund for step in course[1:]]
    assert [(one.amount_minor, one.total_minor) for one in refunds if one] == [(384, 384), (256, 640)]


def test_burst_has_fifty_orders(world: World) -> None:
    courses = plan(world, "burst", "demo-app")
    assert len({course.order for course in courses}) == 50


def test_foreign_seller_changes_the_merchant_id_of_each_product(world: World) -> None:
    for account, name in (("demo-app", "seller_id"), ("demo-cn", "app_id")):
        (step,) = only(plan(world, "foreign_seller", account))
        theirs = dict(step.job.notification.fields)[name]
        assert theirs != getattr(world.account(account).identity, name)
        assert step.job.expected == "refused"
        assert not step.job.forged
    (step,) = only(plan(world, "foreign_seller", "demo-antom"))
    headers = dict(step.job.notification.delivery(NOW).headers)
    assert headers["client-id"] != world.account("demo-antom").identity.client_id


def test_gbk_text_suits_only_accounts_that_decode_it(world: World) -> None:
    assert SCENARIOS["gbk_text"].suits(world.account("demo-md5"))
    assert not SCENARIOS["gbk_text"].suits(world.account("demo-app"))
    (step,) = only(plan(world, "gbk_text", "demo-cn"))
    assert "港".encode("gbk").hex("%").upper().encode() in step.job.notification.delivery(NOW).body
    assert dict(step.job.notification.fields)["charset"] == "gbk"


def test_wishes_apply_to_the_notifications_that_have_the_field(world: World) -> None:
    wishes = Wishes(
        order="MINE-1", amount="20.00", edits=Edits(override=(("refund_fee", "1.00"),), add=(("promo", "yes"),))
    )
    course = only(plan(world, "full_refund", "demo-cn", wishes))
    fields = [dict(step.job.notification.fields) for step in course]
    assert [one.get("refund_fee") for one in fields] == [None, "1.00"]
    assert all(one["out_trade_no"] == "MINE-1" and one["promo"] == "yes" for one in fields)
    assert all(one["total_amount"] == "20.00" for one in fields)


@pytest.mark.parametrize("edits", [Edits(override=(("totl", "1"),)), Edits(remove=("nothing",))])
def test_wish_that_fits_no_notification_is_refused(world: World, edits: Edits) -> None:
    with pytest.raises(UnplayableError, match="has a field"):
        plan(world, "paid", "demo-cn", Wishes(edits=edits))


def test_fields_are_filled_with_the_numbers_of_the_play(world: World) -> None:
    fields = [dict(step.job.notification.fields) for step in only(plan(world, "mandate", "demo-app"))]
    assert len({one["agreement_no"] for one in fields}) == 1
    assert fields[0]["external_agreement_no"] == f"MANDATE-{fields[0]['agreement_no']}"


def test_cut_field_ends_inside_its_last_character(world: World) -> None:
    (step,) = only(plan(world, "cut_character", "demo-cn"))
    subject = "维多利亚港游船".encode()[:-1].hex("%").upper().encode()
    assert b"subject=%" + subject + b"&" in step.job.notification.delivery(NOW).body + b"&"


def test_second_trade_of_an_order_has_a_number_of_its_own(world: World) -> None:
    steps = only(plan(world, "second_trade", "demo-cn"))
    fields = [dict(step.job.notification.fields) for step in steps]
    assert len({one["trade_no"] for one in fields}) == 2
    assert len({one["out_trade_no"] for one in fields}) == 1


@pytest.mark.parametrize(
    ("name", "value"), [("currency_kwd", "12800"), ("currency_clp", "12"), ("currency_brl", "1280")]
)
def test_amount_takes_the_decimals_of_the_currency(world: World, name: str, value: str) -> None:
    (step,) = only(plan(world, name, "demo-antom"))
    assert dict(step.job.notification.fields)["paymentAmount.value"] == value
