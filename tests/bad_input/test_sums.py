"""Row B12: a hundred thousand refunds of 0.10 and 0.20, whose sums no binary fraction would get right."""

from tests.support import facts
from tests.support.world import World

REFUNDS = 100_000
PRICE = "20000.00"
BATCH = 500


def minor(number: int) -> int:
    """The amount of this refund in cents: twenty and ten in turn."""
    return 10 if number % 2 else 20


def text(cents: int) -> str:
    return f"{cents // 100}.{cents % 100:02}"


def test_floats_would_be_wrong() -> None:
    """A control: these sums are wrong in floating point."""
    assert sum(minor(number) / 100 for number in range(REFUNDS)) != 15_000.0


def test_b12_hundred_thousand_running_totals_add_up_exactly() -> None:
    world = World(facts.account("openapi"))
    world.deliver(facts.notification(facts.form("paid", "TRADE_SUCCESS", PRICE), world.account))
    so_far, refunds = 0, []
    for number in range(REFUNDS):
        so_far += minor(number)
        refunds.append(facts.refunded(f"r{number}", text(so_far), amount=PRICE))
    for first in range(0, REFUNDS, BATCH):
        world.deliver(*(facts.notification(fact, world.account) for fact in refunds[first : first + BATCH]))
    order = world.seen()["A"]
    assert (order["refunded_minor"], order["amount_minor"], order["flags"]) == (1_500_000, 2_000_000, set())
    assert world.order().version == REFUNDS + 1


def test_b12_hundred_thousand_single_refunds_add_up_exactly() -> None:
    """Of five thousand orders, twenty each, as many in one notification as its longest value has room for."""
    world, orders = World(facts.account("mapi")), range(5000)
    for number in orders:
        paid = facts.form(f"p{number}", "TRADE_SUCCESS", PRICE, order=f"O{number}", trade=f"T{number}", **facts.PAID_AT)
        world.deliver(facts.notification(paid, world.account))
    for round_ in range(REFUNDS // len(orders)):
        for first in range(0, len(orders), BATCH):
            some = orders[first : first + BATCH]
            details = "#".join(f"T{number}^{text(minor(number + round_))}^SUCCESS" for number in some)
            world.deliver(facts.notification(facts.batch(f"b{round_}-{first}", details), world.account))
    refunded = [order["refunded_minor"] for order in world.seen().values()]
    assert refunded == [300] * len(orders)
    assert sum(refunded) == 1_500_000
