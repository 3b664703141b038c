"""Which failures of a write are races with another worker. The statements: tests/contract/test_store.py."""

import pytest
from msgspec import structs

from schemas import topics
from schemas.events import Outgoing
from schemas.orders import Order
from tests.support import plans
from workers.postgres import settling
from workers.settlement.plan import LoadRequest, Position, WritePlan

NEEDS = LoadRequest(
    positions=frozenset({Position(0, 1), Position(0, 2)}),
    ids=frozenset({("shop-sg", "n1")}),
    orders=frozenset({("shop-sg", "N1")}),
    trades=frozenset(),
    refunds=frozenset(),
)
NEW = plans.order_write(Order(account="shop-sg", number="N1", version=1), None)
CHANGED = plans.order_write(Order(account="shop-sg", number="N1", version=2), 1)


def test_previous_id_is_that_of_the_version_before() -> None:
    assert settling.previous_id(plans.event("N:1", 10)) == "shop-sg:N:1:9"
    assert settling.previous_id(plans.event("N1", 1)) is None
    notice = Outgoing(id="held:0-1:parked", topic=topics.HELD, key=b"", value=b"", headers=())
    assert settling.previous_id(notice) is None


@pytest.mark.parametrize(
    ("table", "plan"),
    [
        ("deliveries", plans.plan(deliveries=[plans.delivery(1), plans.delivery(2)])),
        ("outbox", plans.plan(orders=[NEW], events=[plans.event("N1", 1)])),
        ("orders", plans.plan(orders=[NEW])),
    ],
)
def test_key_taken_since_the_snapshot_is_a_race(table: str, plan: WritePlan) -> None:
    assert settling._is_race(table, plan, NEEDS, ())


@pytest.mark.parametrize(
    ("table", "plan"),
    [
        ("deliveries", plans.plan(deliveries=[plans.delivery(1), plans.delivery(1)])),
        ("deliveries", plans.plan(deliveries=[plans.delivery(1), plans.delivery(3)])),
        ("outbox", plans.plan(orders=[NEW], events=[plans.event("N1", 1), plans.event("N1", 1)])),
        ("outbox", plans.plan(orders=[CHANGED], events=[plans.event("N1", 2)])),
        ("orders", plans.plan(orders=[NEW, NEW])),
        ("refund_links", plans.plan()),
        (None, plans.plan(orders=[NEW])),
    ],
)
def test_key_written_twice_or_never_loaded_is_the_plans_own_fault(table: str | None, plan: WritePlan) -> None:
    assert not settling._is_race(table, plan, NEEDS, {("shop-sg", "N1")} if plan.orders == [CHANGED] else ())


def test_notification_is_a_race_only_if_its_id_was_loaded() -> None:
    entry = plans.ledger_row("n1")
    assert settling._is_race("notifications", plans.plan(ledger=[entry]), NEEDS, ())
    assert not settling._is_race("notifications", plans.plan(ledger=[entry, entry]), NEEDS, ())
    unknown = structs.replace(entry, notification_id="n2")
    assert not settling._is_race("notifications", plans.plan(ledger=[unknown]), NEEDS, ())
